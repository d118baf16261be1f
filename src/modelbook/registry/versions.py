"""Versions: everything that a model needs to be used, judged and watched, registered as one; aliases on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle
import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

from modelbook.contract import Contract
from modelbook.errors import ProofError, StoreError
from modelbook.registry import files, pointer
from modelbook.registry.files import digest
from modelbook.registry.place import artifacts, is_local
from modelbook.registry.pointer import CHAMPION, DIGEST
from modelbook.registry.prove import compare_golden
from modelbook.registry.requirements import requirements
from modelbook.registry.signature import signature
from modelbook.registry.store import client, connected
from modelbook.scoring.compile import compile

OBJECT_STORES = ("boto3", "botocore", "s3transfer")


@dataclass(frozen=True)
class Version:
    """A registered version and the folder of its parts."""

    name: str
    number: int
    tags: dict[str, str]
    folder: Path

    @property
    def contract(self) -> Contract:
        return Contract.load(self.folder / "contract.yaml")

    @property
    def reference(self) -> pd.DataFrame:
        """Holdout rows with the scores (``Task.recalled``) that the version gave them before it was refit on all."""
        return self._frame("reference")

    @property
    def golden(self) -> pd.DataFrame:
        """Rows with the answers, columns ``Task.outputs``, that the version must give."""
        return self._frame("golden")

    @property
    def metrics(self) -> dict[str, Any]:
        """What the holdout said: metrics with intervals, importance, threshold."""
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))

    def evaluated(self) -> Any:
        """The pipeline as it was when the holdout judged it: fitted on train rows only."""
        with (self.folder / "evaluated.pkl").open("rb") as file:
            return cloudpickle.load(file)

    def _frame(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.parquet"
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise StoreError(
                f"the {name} of version {self.number} cannot be read: {error}", expected=f"the file {path}",
                next="put the version's folder back from a copy, or promote another version: modelbook promote V",
            ) from None  # fmt: skip


def register(
    root: Path,
    name: str,
    run_id: str,
    *,
    parts: dict[str, Any],
    contract: Contract,
    threshold: float | None,
    tags: dict[str, Any],
) -> Version:
    """Log a model with all its parts, prove it on its golden rows, and only then register it.

    Parameters
    ----------
    parts : dict
        ``model`` and ``evaluated`` (fitted pipelines), ``golden`` and ``reference`` (frames), ``metrics`` (plain data).
    threshold : float or None
        Probability from which the prediction is yes; None but for two classes.

    Raises
    ------
    ProofError
        When the logged model does not give its golden rows' answers back.
    """
    connected(root)
    with TemporaryDirectory() as folder, _active(run_id), _stored(root):
        rows = pd.concat([parts["golden"], parts["reference"]], ignore_index=True)[contract.inputs_]
        scorer = compile(parts["model"], contract, threshold, rows, Path(folder) / "scorer")
        parts = {**parts, "metrics": {**parts["metrics"], "scorer": scorer.to_dict()}}
        kept = _keep(Path(folder), parts, contract)
        tags = {**tags, "run_id": run_id, "scorer": scorer, DIGEST: digest(Path(folder))}
        example = contract.inputs(parts["golden"]).head(2)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=_source("modelbook.registry.served"),
            artifacts={path.stem: str(path) for path in kept},
            code_paths=[str(Path(__file__).parents[1])],
            signature=signature(contract, threshold),
            input_example=example,
            pip_requirements=requirements(parts["model"]),
        )
    _, difference = compare_golden(info.model_uri)
    if difference != 0:
        raise ProofError(
            f"the logged model differs from the fitted one by {difference:g} on its golden rows",
            expected="the same answers exactly",
            next="nothing was registered; look for a random or stateful step in the pipeline",
        )
    return _numbered(root, name, info, run_id, tags)


def _numbered(root: Path, name: str, info: Any, run_id: str, tags: dict[str, Any]) -> Version:
    store = client(root)
    with contextlib.suppress(MlflowException):  # it is there already
        store.create_registered_model(name)
    told = {key: str(value) for key, value in tags.items()}
    made = store.create_model_version(name, info.model_uri, run_id, tags=told, model_id=info.model_id)
    return version(root, name, int(made.version))


@contextlib.contextmanager
def _active(run_id: str) -> Iterator[None]:
    """Make a run that is already open the active one, without ending it."""
    mlflow.start_run(run_id=run_id)
    try:
        yield
    finally:
        mlflow.end_run("RUNNING")


@contextlib.contextmanager
def _stored(root: Path) -> Iterator[None]:
    """An error of the object store, told as one."""
    try:
        yield
    except Exception as error:
        ours = type(error).__module__.partition(".")[0] in OBJECT_STORES or "while uploading" in str(error)
        if is_local(root) or not ours:
            raise
        with files.told(artifacts(root)):
            raise


def version(root: Path, name: str, number: int) -> Version:
    """A registered version.

    Raises
    ------
    StoreError
        When there is no such version.
    """
    try:
        found = client(root).get_model_version(name, str(number))
    except MlflowException:
        raise StoreError(
            f"model {name!r} has no version {number}",
            next="run the stage that registers it: ploomber build --partially finalize",
        ) from None
    return _opened(root, found)


def champion(root: Path, name: str) -> Version | None:
    """The version that bears the alias ``champion``, or None."""
    try:
        found = client(root).get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):  # no such model, no such alias
            raise
        return None
    return _opened(root, found)


def _opened(root: Path, found: Any) -> Version:
    return Version(found.name, int(found.version), dict(found.tags), _folder(root, found))


def _folder(root: Path, found: Any) -> Path:
    """The folder of a version's parts on this machine."""
    pointed = pointer.version(root, found.name, int(found.version))
    if pointed and pointed.source:
        pointed.check()
        return pointed.folder
    connected(root)
    model = f"models:/{found.name}/{found.version}"
    try:
        return Path(mlflow.artifacts.download_artifacts(model)) / "artifacts"
    except (MlflowException, OSError) as error:
        raise StoreError(
            f"the files of {model} cannot be read: {error}", expected=f"its folder below {artifacts(root)}",
            next="put the folder back from a copy, or move the store away and build anew",
        ) from None  # fmt: skip


def load(root: Path, chosen: Version) -> Any:
    """A version as an MLflow model: ``predict(frame)`` gives the columns that its task answers with."""
    return connected(root).pyfunc.load_model(f"models:/{chosen.name}/{chosen.number}")


def _keep(folder: Path, parts: dict[str, Any], contract: Contract) -> list[Path]:
    for name in ("model", "evaluated"):
        (folder / f"{name}.pkl").write_bytes(cloudpickle.dumps(parts[name]))
    for name in ("golden", "reference"):
        parts[name].to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "metrics.json").write_text(json.dumps(parts["metrics"], indent=1), encoding="utf-8")
    (folder / "contract.yaml").write_text(contract.dump(), encoding="utf-8")
    return sorted(folder.iterdir())


def _source(module: str) -> str:
    """The file of a module that must not be imported: importing this one would set a model."""
    spec = find_spec(module)
    assert spec is not None
    return str(spec.origin)

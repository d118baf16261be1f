"""Model versions: a model, registered with all that serving and monitoring need."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle
import pandas as pd

from modelbook.contract import Contract
from modelbook.errors import ReproductionError, StoreError
from modelbook.formatting import format_ci, format_metric, render_html_table
from modelbook.registry import aliases, artifact_storage, connection, history_log, version_code
from modelbook.registry.aliases import CHAMPION, DIGEST_TAG, RegisteredVersion
from modelbook.registry.artifact_storage import compute_folder_digest
from modelbook.registry.golden_check import compare_golden_rows
from modelbook.registry.libraries import LIBRARIES_TAG, list_libraries
from modelbook.registry.location import get_artifact_uri, has_local_artifacts, require_store
from modelbook.registry.requirements import pip_requirements
from modelbook.registry.signature import build_signature
from modelbook.registry.store import configure_mlflow
from modelbook.scoring.compilation import compile_pipeline
from modelbook.scoring.drift_reference import write_drift_reference
from modelbook.tasks.metric_format import metric_label

MADE_AT_TAG = "made_at"  # first registration, kept on import: all training rows are earlier
OBJECT_STORE_PACKAGES = ("boto3", "botocore", "s3transfer")


class ModelVersion(RegisteredVersion):
    """A registered version whose files are on this machine, so that they can be read."""

    @property
    def contract(self) -> Contract:
        return Contract.load(self.artifact_folder / "contract.yaml")

    @property
    def reference(self) -> pd.DataFrame:
        """Holdout rows with the scores of the model before it was refitted on all rows."""
        return self._read_frame("reference")

    @property
    def golden_rows(self) -> pd.DataFrame:
        """Rows with the predictions that the version must reproduce."""
        return self._read_frame("golden")

    def _repr_html_(self) -> str:
        """Render the holdout metrics with intervals, and the tags of the version, for notebooks."""
        metrics = self.metrics
        rows = [
            (
                metric_label(row["metric"]),
                format_metric(row["value"]),
                format_ci(row["low"], row["high"]).removeprefix("95% CI "),
            )
            for row in metrics["evaluation"]
        ]
        caption = f"Version {self.number} of {self.name}, {metrics.get('name', '')}, on the holdout"
        tags = render_html_table(("tag", "value"), sorted(self.tags.items()))
        return render_html_table(("metric", "value", "95% CI"), rows, caption=caption) + tags

    def load_evaluated_pipeline(self) -> Any:
        """Load the pipeline that was evaluated on the holdout, fitted on training rows only."""
        return self.load_pipeline("evaluated")

    def _read_frame(self, name: str) -> pd.DataFrame:
        path = self.artifact_folder / f"{name}.parquet"
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise StoreError(
                f"{path.name} of version {self.number} cannot be read: {error}",
                expected=f"the file {path}",
                next=(
                    "restore the version's folder from a backup, or promote another version: "
                    "modelbook promote V"
                ),
            ) from None


@dataclass(frozen=True)
class PackedModel:
    """A model with all that serving and monitoring need, ready to be logged.

    Attributes
    ----------
    arguments : dict
        Arguments of ``mlflow.pyfunc.log_model``.
    tags : dict
        Tags of the version: its scorer, the digest of its files, the versions of libraries.
    """

    arguments: dict[str, Any]
    tags: dict[str, Any]


@contextlib.contextmanager
def pack_model(
    root: Path, artifacts: dict[str, Any], contract: Contract, threshold: float | None
) -> Iterator[PackedModel]:
    """Yield a model packed with its artifacts, whose files exist until the block ends.

    Parameters
    ----------
    artifacts : dict
        ``model`` and ``evaluated`` (fitted pipelines), ``golden`` and ``reference`` (frames),
        ``metrics`` (a JSON-serialisable dict).
    threshold : float or None
        Decision threshold of a binary classification; None for other tasks.
    """
    configure_mlflow(root)
    with TemporaryDirectory() as folder, TemporaryDirectory() as code, _explain_upload_errors(root):
        rows = pd.concat([artifacts["golden"], artifacts["reference"]], ignore_index=True)[
            contract.input_names
        ]
        scorer = compile_pipeline(
            artifacts["model"], contract, threshold, rows, Path(folder) / "scorer"
        )
        artifacts = {**artifacts, "metrics": {**artifacts["metrics"], "scorer": scorer.to_dict()}}
        artifact_paths = _write_artifacts(Path(folder), artifacts, contract)
        package = version_code.copy_modules(Path(code), Path(folder).glob("*.pkl"))
        arguments = {
            "python_model": str(version_code.find_model_file()),
            "artifacts": {path.stem: str(path) for path in artifact_paths},
            "code_paths": [str(package)],
            "signature": build_signature(contract, threshold),
            "input_example": contract.select_inputs(artifacts["golden"]).head(2),
            "pip_requirements": pip_requirements(artifacts["model"]),
        }
        yield PackedModel(
            arguments,
            {
                "scorer": scorer,
                DIGEST_TAG: compute_folder_digest(Path(folder)),
                LIBRARIES_TAG: json.dumps(list_libraries()),
            },
        )


def create_version(
    root: Path, model_name: str, model_info: Any, run_id: str, tags: dict[str, Any]
) -> ModelVersion:
    """Check that a logged model reproduces its golden rows, and register it.

    Raises
    ------
    ReproductionError
        When it does not; nothing is registered then.
    """
    _, difference = compare_golden_rows(model_info.model_uri)
    if difference != 0:
        raise ReproductionError(
            f"the logged model differs from the fitted one by {difference:g} on its golden rows",
            expected="exactly the same predictions",
            next="nothing was registered; check the pipeline for a random or stateful step",
        )
    with connection.convert_errors(root):
        log = history_log.open_log(
            root, model_name, create=True
        )  # creates the registered model, too
        assert log is not None
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        all_tags = {**tags, "run_id": run_id, MADE_AT_TAG: made_at}
        new_version = log.client.create_model_version(
            model_name,
            model_info.model_uri,
            run_id,
            tags={key: str(value) for key, value in all_tags.items()},
            model_id=model_info.model_id,
        )
    return get_version(root, model_name, int(new_version.version))


@contextlib.contextmanager
def _explain_upload_errors(root: Path) -> Iterator[None]:
    """Convert upload errors of an object store to StoreErrors."""
    try:
        yield
    except Exception as error:
        is_storage_error = type(error).__module__.partition(".")[
            0
        ] in OBJECT_STORE_PACKAGES or "while uploading" in str(error)
        if has_local_artifacts(root) or not is_storage_error:
            raise
        with artifact_storage.explain_storage_errors(get_artifact_uri(root)):
            raise


def get_version(root: Path, model_name: str, version: int) -> ModelVersion:
    """Return a registered version; download its files if needed.

    Raises
    ------
    StoreError
        When there is no such version, or its files cannot be read.
    """
    return _fetch_files(aliases.require_version(root, model_name, version))


def get_champion(root: Path, model_name: str) -> ModelVersion | None:
    """Return the version with the alias ``champion``, or None."""
    require_store(root)
    champion = aliases.read_aliases(root, model_name).get(CHAMPION)
    return _fetch_files(champion) if champion else None


def _fetch_files(registered: RegisteredVersion) -> ModelVersion:
    if registered.source_uri:
        registered.verify_files()
    registered.require_folder()
    return ModelVersion(**vars(registered))


def load_pyfunc(root: Path, version: ModelVersion) -> Any:
    """Load a version as an MLflow model; its ``predict`` returns the task's prediction columns."""
    version.require_libraries()
    # Comparing all installed packages for warnings takes seconds; require_libraries has checked.
    return configure_mlflow(root).pyfunc.load_model(version.model_uri, suppress_warnings=True)


def _write_artifacts(folder: Path, artifacts: dict[str, Any], contract: Contract) -> list[Path]:
    for name in ("model", "evaluated"):
        (folder / f"{name}.pkl").write_bytes(cloudpickle.dumps(artifacts[name]))
    for name in ("golden", "reference"):
        artifacts[name].to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "metrics.json").write_text(
        json.dumps(artifacts["metrics"], indent=1), encoding="utf-8"
    )
    (folder / "contract.yaml").write_text(contract.to_yaml(), encoding="utf-8")
    write_drift_reference(folder, artifacts["reference"], contract)
    return sorted(folder.iterdir())

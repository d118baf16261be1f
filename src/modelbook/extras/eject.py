"""Eject a version: write a plain notebook that reproduces its training without Modelbook.

The notebook spells the fitted pipeline out as constructors of PyCaret, scikit-learn and the
libraries below them, fits it on the rows that the version was fitted on, and compares its
predictions with the version's golden rows. Classes of this package and of ``custom/`` are copied
into it as source.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any, Protocol, runtime_checkable

import nbformat
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator

from modelbook import dataset, tasks
from modelbook.atomic import atomic_write, write_text
from modelbook.contract import Contract
from modelbook.contract.parsing import may_contain_text
from modelbook.dataset import bundled
from modelbook.dataset.split_strategy import SPLIT_STRATEGIES
from modelbook.errors import ModelbookError, WorkbenchError
from modelbook.pages import templating
from modelbook.registry import versions
from modelbook.stage import files, project
from modelbook.training import stacking
from modelbook.training.preprocessing import CheckedTransformer
from modelbook.training.pycaret import is_pycaret_pipeline

MAX_WIDTH = 100
BASE_IMPORTS = ("import numpy as np", "import pandas as pd")
_SPLIT = """
# Which rows are the holdout was decided by ingest.
folder = Path("{root}/data/{book}")
parts = [pd.read_parquet(folder / f"{{part}}.parquet")["{entity}"] for part in ("train", "holdout")]
rows = pd.concat([rows[rows["{entity}"].isin(part)] for part in parts], ignore_index=True)
"""


def eject(root: Path, book: str, number: int, out: Path) -> Path:
    """Write the notebook of a version, and return its path.

    If ``data/<book>`` has other rows now, those of the version are written next to it, as Parquet.

    Raises
    ------
    StoreError
        If there is no such version.
    WorkbenchError
        If the rows that it was fitted on are gone, or a class of it has no source.
    """
    version = versions.get_version(root, book, number)
    pipeline = version.load_pipeline("model")
    parameters = project.read_parameters(root, project.find_env_file(root, book))["ingest"]
    rows = None
    rows_path = out.with_suffix(".parquet")
    if not _has_rows(root, book, version):
        rows = collect_rows(root, book, version, parameters)
    notebook = make_notebook(
        root, book, version, pipeline, parameters, rows_path if rows is not None else None
    )
    if rows is not None:
        with atomic_write(rows_path) as temporary_path:
            rows.to_parquet(temporary_path)
    write_text(out, nbformat.writes(notebook) + "\n")
    return out


def _has_rows(root: Path, book: str, version: Any) -> bool:
    """Whether ``data/<book>`` has the rows that a version was fitted on."""
    receipt = root / "models" / book / "ingest.json"
    if not receipt.is_file():
        return False
    current = files.read(receipt)["details"]["fingerprint"]
    return current == version.tags["fingerprint"] and all(
        pq.read_metadata(root / "data" / book / f"{part}.parquet").num_rows == n_rows
        for part, n_rows in version.metrics["rows"].items()
    )


def collect_rows(
    root: Path, book: str, version: Any, parameters: Mapping[str, Any]
) -> pd.DataFrame:
    """Return the rows that a version was fitted on, from the current table: train, then holdout.

    Rows of later periods may have been added since; the holdout must be the version's.

    Raises
    ------
    WorkbenchError
        If the table has other rows.
    """
    contract: Contract = version.contract
    periods = version.metrics["periods"]
    try:
        raw = dataset.read_table(parameters["table"], root, contract)
        frame = contract.conform(contract.select_training_rows(raw))
        frame = dataset.sort_rows(frame, contract)
        split = dataset.split_table(
            dataset.sample_table(frame, contract, parameters["sample"], parameters["seed"]),
            contract,
            holdout_share=parameters["holdout"],
            train_until=max(periods) if periods else None,
            seed=parameters["seed"],
            strategy_name=version.metrics["split"],
        )
        columns = [*contract.feature_names, contract.target]
        pd.testing.assert_frame_equal(  # pandas 3 reads text of a file as str, not as object
            split.holdout[columns], version.reference[columns], check_dtype=False
        )
        is_same = len(split.train) == version.metrics["rows"]["train"]
    except (ModelbookError, AssertionError):
        is_same = False
    if not is_same:
        raise WorkbenchError(
            f"version {version.number} of {book} was fitted on rows that {parameters['table']} no "
            f"longer has: fingerprint {version.tags['fingerprint'][:12]}, data version "
            f"{version.tags.get('data_version', 'none')}",
            expected="the table that the version was fitted on, or one with later periods added",
            next="restore that table (under DVC: dvc checkout of its version), or correct table, "
            "holdout, sample and seed in the book's env file",
        )
    return pd.concat([split.train, split.holdout], ignore_index=True)


def make_notebook(
    root: Path,
    book: str,
    version: Any,
    pipeline: Any,
    parameters: Mapping[str, Any] | None = None,
    rows_path: Path | None = None,
) -> nbformat.NotebookNode:
    """Make the notebook that constructs the pipeline and fits it on the version's rows.

    Parameters
    ----------
    parameters : mapping, optional
        Parameters of ingest: the notebook reads the raw table, if pandas can.
    rows_path : Path, optional
        A file with the version's rows, which the notebook reads instead.
    """
    contract: Contract = version.contract
    task = tasks.get_task(contract)
    writer = CodeWriter(root)
    estimator = writer.write_value(pipeline, 0)
    rows_code = ""
    if parameters and not rows_path:
        rows_code = write_rows_code(root, book, contract, parameters, writer)
    weights = describe_weights(contract, pipeline, version.metrics)
    if weights:
        writer.imports.add(
            f"from sklearn.model_selection import {weights['splitter']}, cross_val_predict"
        )
    target_type = contract.columns[contract.target].type
    facts = {
        "book": book,
        "rows_code": rows_code,
        "rows_path": rows_path.resolve().as_posix() if rows_path else "",
        "number": version.number,
        "root": root.resolve().as_posix(),
        "features": _write_list(contract.feature_names),
        "target": contract.target,
        "classes": list(contract.classes) if target_type == "category" else [],
        "target_type": "int64" if contract.classes else "float64",
        "rows": sum(version.metrics["rows"].values()),
        "model": version.metrics["name"],
        "question": contract.question,
        "threshold": version.metrics["threshold"],
        "is_stacked": writer.has_learned_values,
        "weights": weights,
        "entity": contract.entity,
        "imports": "\n".join(sorted({*writer.imports, *BASE_IMPORTS})),
        "sources": "\n\n\n".join(writer.sources),
        "estimator": estimator,
        "method": task.response_method,
        **_collect_golden_facts(contract, task, version.golden_rows),
    }
    return _parse_notebook(templating.render_template("ejected_notebook.md.j2", **facts))


def _parse_notebook(text: str) -> nbformat.NotebookNode:
    """Parse cells in the percent format: ``# %%`` begins each, with ``[markdown]`` or not."""
    cells = []
    for cell in text.split("\n# %%"):
        kind, _, source = cell.partition("\n")
        if source.strip():
            is_markdown = kind.endswith("[markdown]")
            make: Callable[..., Any] = new_markdown_cell if is_markdown else new_code_cell
            cells.append(make(source.strip()))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel)


def describe_weights(
    contract: Contract, pipeline: Any, metrics: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return facts for the code that computes an ensemble's greedy weights; None without them.

    Also None with forward folds, which predict only a part of the rows.
    """
    is_stacked = isinstance(pipeline, stacking.StackedModel)
    calibrators = tuple(stacking.CALIBRATORS.values())
    is_calibrated = is_stacked and isinstance(pipeline.meta_model, calibrators)
    ensemble = pipeline.members[0] if is_calibrated else pipeline
    has_weights = isinstance(getattr(ensemble, "meta_model", None), stacking.GreedyBlender)
    split = metrics["split"]
    if not has_weights or SPLIT_STRATEGIES[split].is_forward:
        return None
    is_grouped = split == "group" and contract.entity is not None
    return {
        "ensemble": "pipeline.members[0]" if is_calibrated else "pipeline",
        "has_sigmoid": is_calibrated
        and isinstance(pipeline.meta_model, stacking.SigmoidCalibrator),
        "is_grouped": is_grouped,
        "splitter": f"{'Stratified' * bool(contract.classes)}{'Group' * is_grouped}KFold",
        "n_train": metrics["rows"]["train"],
        "columns": {0: "[:, :, None]", 2: "[:, :, 1:]"}.get(len(contract.classes or []), ""),
    }


def write_rows_code(
    root: Path, book: str, contract: Contract, parameters: Mapping[str, Any], writer: CodeWriter
) -> str:
    """Return code that makes the version's rows from the raw table; empty if pandas cannot.

    The code is run here, and used only if its rows are exactly those that ingest has read.
    """
    imports, sources = set(writer.imports), list(writer.sources)
    code = _write_reading(root, parameters["table"], writer)
    if code and contract.entity:
        namespace: dict[str, Any] = {"pd": pd, "Path": Path}
        namespace |= {load.__name__: load for load in bundled.TABLE_LOADERS.values()}
        split_tables = [
            pd.read_parquet(root / "data" / book / f"{part}.parquet")
            for part in ("train", "holdout")
        ]
        expected = pd.concat(split_tables, ignore_index=True)[
            [*contract.feature_names, contract.target]
        ]
        try:
            exec(code, namespace)
            table = namespace["table"]
            code += _write_conversions(table, expected, contract, parameters["train_until"])
            code += _SPLIT.format(root=root.resolve().as_posix(), book=book, entity=contract.entity)
            exec(code, namespace)
            pd.testing.assert_frame_equal(namespace["rows"][list(expected)], expected)
            return code
        except Exception:  # a rule of the contract that pandas alone does not have
            pass
    writer.imports = imports
    writer.sources = sources
    return ""


def _write_reading(root: Path, table: str, writer: CodeWriter) -> str:
    """Return code that reads a bundled table, CSV or Parquet by pandas; else empty."""
    path = root / table
    if table in bundled.TABLE_LOADERS:
        return f"table = {writer.write_name(bundled.TABLE_LOADERS[table])}()\n"
    readers = {".csv": "read_csv", ".parquet": "read_parquet"}
    if not path.is_file() or path.suffix not in readers:
        return ""
    return f'table = pd.{readers[path.suffix]}("{path.resolve().as_posix()}")\n'


def _write_conversions(
    table: pd.DataFrame, expected: pd.DataFrame, contract: Contract, train_until: Any
) -> str:
    """Return code that takes the periods of training, in order, and converts the columns."""
    source = "table"
    if contract.time and train_until is not None:
        source = f'table[table["{contract.time}"] <= {train_until!r}]'
    order = f".sort_values({contract.key!r}, ignore_index=True)" if contract.key else ".copy()"
    lines = [f"rows = {source}{order}"]
    texts = [name for name in expected if may_contain_text(expected[name])]
    codes = [name for name in texts if is_numeric_dtype(table[name])]
    if codes:
        lines += [
            f"for name in {_write_list(codes)}:  # codes, not numbers",
            '    rows[name] = rows[name].map("{:.15g}".format, na_action="ignore")',
        ]
    kinds = expected.drop(columns=texts).dtypes.map(str)
    for kind in sorted(set(kinds)):
        names = [name for name in kinds[kinds == kind].index if table[name].dtype != kind]
        if names:
            lines.append(f'rows = rows.astype(dict.fromkeys({_write_list(names)}, "{kind}"))')
    return "\n".join(lines) + "\n"


def _collect_golden_facts(contract: Contract, task: Any, golden: pd.DataFrame) -> dict[str, str]:
    """Return the golden rows' features and scores as code."""
    rows = contract.select_features(golden)
    columns = ",\n".join(f"    {name!r}: {_write_column(rows[name])}" for name in rows)
    scores = np.asarray(task.scores_from_predictions(golden), dtype=float)
    return {"golden": f"{{\n{columns},\n}}", "scores": _write_list(scores.tolist())}


def _write_column(values: pd.Series) -> str:
    return _write_list([None if pd.isna(value) else value for value in values.tolist()], "    ")


def _write_list(values: list[Any], indent: str = "") -> str:
    """Write a list in lines of at most ``MAX_WIDTH`` columns."""
    lines = []
    line = ""
    for value in values:
        item = f"{value!r},"
        if line and len(indent) + 5 + len(line) + len(item) > MAX_WIDTH:
            lines.append(line)
            line = ""
        line = f"{line} {item}" if line else item
    lines.append(line)
    body = "\n".join(f"{indent}    {text}" for text in lines)
    return f"[\n{body}\n{indent}]"


@runtime_checkable
class EstimatorLike(Protocol):
    """An estimator of a library without scikit-learn's base class, such as CatBoost."""

    def fit(self, X: Any, y: Any) -> Any: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


class CodeWriter:
    """Writes values as the code that makes them; collects imports and sources of classes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.imports: set[str] = set()
        self.sources: list[str] = []
        self._written: list[Any] = []
        self.has_learned_values = False

    def write_value(self, value: Any, depth: int) -> str:
        """Return the code that makes a value.

        Raises
        ------
        WorkbenchError
            If a value has no code.
        """
        if isinstance(value, float | np.floating) and not np.isfinite(value):
            return f'float("{float(value)}")'
        if isinstance(value, np.generic):
            return repr(value.item())
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return repr(value)
        for kind, write in self._list_writers().items():
            if isinstance(value, kind):
                return write(value, depth)
        if type(value).__name__ == "Memory":  # joblib's, without a folder
            return "None"
        if type(value).__module__ == stacking.__name__:
            return self._write_learned(value, depth)
        raise WorkbenchError(
            f"a parameter of the pipeline is a {type(value).__name__}, which has no code: {value}",
            expected="numbers, texts, lists and estimators",
            next="load the version itself: modelbook.champion, or mlflow.pyfunc.load_model",
        )

    def _list_writers(self) -> dict[Any, Callable[[Any, int], str]]:
        return {
            CheckedTransformer: lambda value, depth: self.write_value(value.transformer, depth),
            BaseEstimator: self._write_estimator,
            list | tuple: self._write_sequence,
            Mapping: self._write_mapping,
            np.ndarray: lambda value, depth: (
                f"np.array({self._write_sequence(value.tolist(), depth)})"
            ),
            type | FunctionType: lambda value, depth: self.write_name(value),
            EstimatorLike: self._write_estimator,
        }

    def _write_estimator(self, estimator: Any, depth: int) -> str:
        if is_pycaret_pipeline(estimator):
            arguments = {"steps": list(estimator.steps)}
        else:
            defaults = {
                name: parameter.default
                for name, parameter in inspect.signature(type(estimator)).parameters.items()
            }
            arguments = {
                name: value
                for name, value in estimator.get_params(deep=False).items()
                if name not in defaults or not _is_equal(value, defaults[name])
            }
        return self._write_call(self.write_name(type(estimator)), arguments, depth)

    def _write_learned(self, value: Any, depth: int) -> str:
        """Write a meta-model, which is not fitted with its members: its learned values."""
        self.has_learned_values = True
        name = self.write_name(type(value))
        state = self._write_mapping(
            {key: self._write_fitted(item, depth + 2) for key, item in vars(value).items()},
            depth + 1,
            are_codes=True,
        )
        self._add_source(_RESTORE)
        return f"restore({name}, {state})"

    def _write_fitted(self, item: Any, depth: int) -> str:
        if isinstance(item, list):
            return f"[{', '.join(self._write_fitted(element, depth) for element in item)}]"
        if not isinstance(item, BaseEstimator):
            return self.write_value(item, depth)
        learned = {
            name: value
            for name, value in vars(item).items()
            if name not in item.get_params(deep=False) and not callable(value)
        }
        if type(item).__name__ == "IsotonicRegression":
            learned.pop("f_", None)
        state = self._write_mapping({**item.get_params(deep=False), **learned}, depth + 1)
        restore = "restore"
        if type(item).__name__ == "IsotonicRegression":
            self._add_source(_RESTORE)
            self._add_source(_RESTORE_ISOTONIC)
            restore = "restore_isotonic"
        return f"{restore}({self.write_name(type(item))}, {state})"

    def _write_call(self, name: str, arguments: Mapping[str, Any], depth: int) -> str:
        codes = [f"{key}={self.write_value(value, depth + 1)}" for key, value in arguments.items()]
        return _lay_out(f"{name}(", codes, ")", depth)

    def _write_sequence(self, values: Any, depth: int) -> str:
        codes = [self.write_value(value, depth + 1) for value in values]
        if isinstance(values, tuple):
            return _lay_out("(", codes, ")", depth, single="," if len(codes) == 1 else "")
        return _lay_out("[", codes, "]", depth)

    def _write_mapping(
        self, values: Mapping[Any, Any], depth: int, *, are_codes: bool = False
    ) -> str:
        pad = "    " * (depth + 1)
        lines = [
            f"{pad}{key!r}: {value if are_codes else self.write_value(value, depth + 1)},\n"
            for key, value in values.items()
        ]
        return f"{{\n{''.join(lines)}{'    ' * depth}}}"

    def write_name(self, value: Any) -> str:
        """Return the name of a class or function; collect its import, or its source."""
        module = value.__module__
        package = module.partition(".")[0]
        if package == "builtins":
            return value.__name__
        is_local = package in ("modelbook", "__main__") or not _is_installed(package)
        if not is_local:
            self.imports.add(f"from {_find_public_module(value)} import {value.__name__}")
            return value.__name__
        if value not in self._written:
            self._written.append(value)
            source = _read_source(value, self._root)
            self._write_dependencies(source, _find_globals(value))
            self._add_source(source)
        return value.__name__

    def _write_dependencies(self, source: str, namespace: Mapping[str, Any]) -> None:
        """Collect what the source of a class or function uses of its module."""
        nodes = ast.walk(ast.parse(source))
        names = {node.id for node in nodes if isinstance(node, ast.Name)} & namespace.keys()
        for name in sorted(names):
            global_value = namespace[name]
            if inspect.ismodule(global_value) and global_value.__name__.startswith("modelbook"):
                raise _make_source_error(global_value.__name__, "modelbook")
            if inspect.ismodule(global_value):
                self.imports.add(f"import {global_value.__name__} as {name}")
            elif isinstance(global_value, type | FunctionType):
                self.write_name(global_value)
            elif isinstance(global_value, bool | int | float | str | list | tuple):
                self._add_source(f"{name} = {global_value!r}")

    def _add_source(self, source: str) -> None:
        if source not in self.sources:
            self.sources.append(source)


def _lay_out(start: str, codes: list[str], end: str, depth: int, single: str = "") -> str:
    """Write codes on one line, followed by ``single``, if they fit; else one per line."""
    line = f"{start}{', '.join(codes)}{single}{end}"
    if "\n" not in line and len(line) + 4 * depth <= MAX_WIDTH - 24:
        return line
    body = "".join(f"{'    ' * (depth + 1)}{code},\n" for code in codes)
    return f"{start}\n{body}{'    ' * depth}{end}"


_RESTORE = '''def restore(kind, state):
    """An object with these attributes, as they were learned."""
    value = kind.__new__(kind)
    vars(value).update(state)
    return value'''
_RESTORE_ISOTONIC = '''def restore_isotonic(kind, state):
    """An isotonic regression through the points that it has learned."""
    value = restore(kind, state)
    value._build_f(value.X_thresholds_, value.y_thresholds_)
    return value'''


def _read_source(value: Any, root: Path) -> str:
    """Return the source of a class or function: of its module, or of its file in the project.

    What is pickled by value, as the classes of ``custom/`` are, has no module after loading.
    """
    try:
        return inspect.getsource(value).strip()
    except (OSError, TypeError):
        path = root.joinpath(*value.__module__.split(".")).with_suffix(".py")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for node in ast.parse(text).body:
        if getattr(node, "name", "") == value.__name__:
            return ast.get_source_segment(text, node) or ""
    raise _make_source_error(value.__name__, value.__module__)


def _make_source_error(name: str, module: str) -> WorkbenchError:
    return WorkbenchError(
        f"{name} of {module} has no source that could be written into a notebook",
        expected="a class that can be imported, or one of custom/",
        next="load the version itself: modelbook.champion, or mlflow.pyfunc.load_model",
    )


def _find_globals(value: Any) -> dict[str, Any]:
    """Return the global names that a class or function can use."""
    module = sys.modules.get(value.__module__)
    if module is not None:
        return vars(module)
    functions = [
        function
        for function in [value, *vars(value).values()]
        if isinstance(function, FunctionType)
    ]
    bases = {base.__name__: base for base in getattr(value, "__bases__", ())}
    return {
        key: item for function in functions for key, item in function.__globals__.items()
    } | bases


def _find_public_module(value: Any) -> str:
    """Return the module to import a class or function from: a public parent that has it, if any."""
    module: str = value.__module__
    while "._" in module:
        parent = module.rpartition(".")[0]
        if getattr(import_module(parent), value.__name__, None) is not value:
            break
        module = parent
    return module


def _is_installed(package: str) -> bool:
    """Whether a package comes from the environment, not from the project."""
    module = sys.modules.get(package)
    return "site-packages" in str(getattr(module, "__file__", "") or "") or package in (
        sys.stdlib_module_names
    )


def _is_equal(value: Any, default: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(default, np.ndarray):
        return False
    if type(value) is not type(default):
        return False
    is_nan = value != value and default != default  # noqa: PLR0124
    return value is default or value == default or is_nan

"""Check that notebooks, parameter models and the tasks in ``pipeline.yaml`` are consistent."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from modelbook import config
from modelbook.errors import PipelineSpecError
from modelbook.formatting import format_count
from modelbook.stage import project
from modelbook.yaml_reading import load_yaml

# Variables that are not parameters: the pipeline sets the first two, which are None in the
# parameters cell; the last begins a sandbox in a run by hand.
PIPELINE_VARIABLES = {"upstream", "product"}
SANDBOX_VARIABLE = "sandbox"
PUBLISH_HOOK = "modelbook.pages.stage_report.publish"  # writes the report of the executed notebook
PRODUCT_PATH = re.compile(r"(data|models|reports)/\{\{book\}\}/.+\.(parquet|json|yaml|pkl)")
PARAMETERS_TAG = "parameters"


def check_pipeline(root: Path, book: str | None = None) -> None:
    """Check that each task in ``pipeline.yaml`` matches its notebook and parameter model.

    With a book, its own notebooks of ``notebooks/<book>/`` are checked as well: they must have the
    parameters of the stages that they take the place of.

    A parameter model without a task is allowed, because a project may omit a stage.

    Raises
    ------
    PipelineSpecError
        If they do not match; the message lists every mismatch and how to correct it.
    """
    tasks = _read_tasks(root / "pipeline.yaml")
    problems = [
        f"{task.get('name', 'a task')}: {problem}"
        for task in tasks
        for problem in _check_stage_files(root, task, tasks, book)
    ]
    problems += [
        f"{name}: occurs {times} times in pipeline.yaml; keep one"
        for name, times in Counter(task.get("name") for task in tasks).items()
        if name and times > 1
    ]
    _raise_problems([*problems, *_find_cycle(tasks)])


def check_stage(root: Path, stage: str) -> None:
    """Check what one stage needs to be opened from its notebook.

    A notebook saved with an injected parameters cell is rejected: the cell would override edits of
    the parameters cell.

    Raises
    ------
    PipelineSpecError
        If the stage has no matching task in ``pipeline.yaml``, or its notebook has such a cell.
    """
    tasks = _read_tasks(root / "pipeline.yaml")
    stage_tasks = [task for task in tasks if task.get("name") == stage]
    problems = [problem for task in stage_tasks for problem in _check_task(task, tasks)]
    path = root / "notebooks" / f"{config.stage_stem(stage)}.ipynb"
    if not stage_tasks:
        problems.append(
            f"pipeline.yaml has no task of that name; add one with the source notebooks/{path.name}"
        )
    problems += [
        problem
        for problem in _check_notebook(root, path, stage)
        if problem == _make_injected_cell_message(f"notebooks/{path.name}")
    ]
    _raise_problems([f"{stage}: {problem}" for problem in problems])


def check_notebook(root: Path, path: Path, notebook: dict[str, Any], stage: str) -> None:
    """Check the content of a notebook that is to be written to ``path``.

    Raises
    ------
    PipelineSpecError
        If it does not match the stage's parameter model.
    """
    name = path.relative_to(root).as_posix()
    _raise_problems([f"{stage}: {problem}" for problem in _check_content(notebook, name, stage)])


def list_stages(root: Path) -> list[str]:
    """Return the stages of config/stages.py that have a task in ``pipeline.yaml``, in order."""
    task_names = {task.get("name") for task in _read_tasks(root / "pipeline.yaml")}
    return [name for name in config.STAGES if name in task_names]


def read_assignments(source: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a cell assigns: literals from its source, others by namespace."""
    tree = _parse_code(source)
    values = {}
    for node in tree.body if tree else []:
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in names:
                try:
                    values[name] = ast.literal_eval(node.value)
                except ValueError:  # an expression, such as 5 * 60
                    values[name] = namespace.get(name)
    return values


def _raise_problems(problems: list[str]) -> None:
    if problems:
        places = format_count(len(problems), "place")
        raise PipelineSpecError(
            "\n    ".join(
                [
                    f"notebooks, pipeline.yaml and config/stages.py do not agree in {places}",
                    *problems,
                ]
            ),
            expected="for each stage a notebook, a model of parameters and a task that name the "
            "same things",
            next="correct what is listed; 'Add a stage' in docs/notebooks.md explains how the "
            "three must match",
        )


def _read_tasks(path: Path) -> list[dict[str, Any]]:
    try:
        document = load_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise PipelineSpecError(
            f"pipeline.yaml is not valid YAML: {error}", next="correct it at the place named above"
        ) from None
    tasks = document.get("tasks") if isinstance(document, dict) else None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise PipelineSpecError(
            "pipeline.yaml has no list of tasks",
            expected="tasks:, and below it a `- name:` per stage",
        )
    return tasks


def _find_cycle(tasks: list[dict[str, Any]]) -> list[str]:
    upstream = {task.get("name"): task.get("upstream") for task in tasks}
    graph = {name: names if isinstance(names, list) else [] for name, names in upstream.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        *path, last = error.args[1]
        cycle = " → ".join([*path, last])
        return [f"{last}: depends on itself ({cycle}); remove one of them from `upstream`"]
    return []


def _check_stage_files(
    root: Path, task: dict[str, Any], tasks: list[dict[str, Any]], book: str | None
) -> Iterator[str]:
    name = task.get("name")
    if name not in config.STAGES:
        yield _make_missing_model_message(name)
        return
    yield from _check_task(task, tasks)
    paths = {root / "notebooks" / f"{config.stage_stem(name)}.ipynb"}
    for path in sorted(paths | ({project.get_notebook_path(root, book, name)} if book else set())):
        yield from _check_notebook(root, path, name)


def _check_task(task: dict[str, Any], tasks: list[dict[str, Any]]) -> Iterator[str]:
    yield from _check_source(task)
    yield from _check_upstream(task, [str(other_task.get("name")) for other_task in tasks])
    yield from _check_product(task, tasks)
    yield from _check_params(task)
    if task.get("on_finish") != PUBLISH_HOOK:
        yield f"nothing writes its report; add `on_finish: {PUBLISH_HOOK}` to its task"


def _make_injected_cell_message(notebook_name: str) -> str:
    where = f"{notebook_name} holds a parameters cell that a tool has injected"
    return f"{where}; delete the cell tagged injected-parameters, or restore the notebook from git"


def _make_missing_model_message(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
        return f"its name is {name!r}; a stage's name has lowercase letters, and `_` between words"
    class_name = "".join(word.capitalize() for word in name.split("_"))
    suggestion = config.suggest_name(name, config.STAGES)
    return (
        f"config/stages.py has no class {class_name}(Parameters); write it, or correct the name: "
        f"{suggestion}"
    )


def _check_source(task: dict[str, Any]) -> Iterator[str]:
    name = task["name"]
    source = task.get("source")
    expected = f"notebooks/{config.stage_stem(name)}.ipynb"
    if source != expected:
        position = list(config.STAGES).index(name) + 1
        yield (
            f"its source is {source}, not {expected}; the number is the position of its class in "
            f"config/stages.py, {position}"
        )


def _check_upstream(task: dict[str, Any], task_names: list[str]) -> Iterator[str]:
    upstream = task.get("upstream") or []
    if not isinstance(upstream, list):
        yield f"its upstream is {upstream!r}; write a list: [{upstream}]"
        return
    for upstream_name in upstream:
        if upstream_name not in task_names:
            yield (
                f"its upstream names {upstream_name!r}, which is not a task in pipeline.yaml; "
                f"{config.suggest_name(str(upstream_name), task_names)}"
            )


def _check_product(task: dict[str, Any], tasks: list[dict[str, Any]]) -> Iterator[str]:
    name = task["name"]
    product = _as_mapping(task.get("product"))
    expected_paths = {
        "nb": f"reports/{{{{book}}}}/{config.stage_stem(name)}.ipynb",
        "report": f"reports/{{{{book}}}}/{config.stage_stem(name)}.html",
        "receipt": f"models/{{{{book}}}}/{name}.json",
    }
    for key, path in expected_paths.items():
        if product.get(key) != path:
            yield f"its product {key} is {product.get(key, 'missing')}; write `{key}: {path}`"
    other_paths = [
        path
        for other_task in tasks
        if other_task.get("name") != name
        for path in _as_mapping(other_task.get("product")).values()
    ]
    for key in product.keys() - expected_paths.keys():
        path = str(product[key])
        if not PRODUCT_PATH.fullmatch(path):
            yield (
                f"its product {key} is {path}; write data/{{{{book}}}}/NAME, ending in .parquet, "
                ".json, .yaml or .pkl"
            )
        elif path in other_paths:
            yield f"its product {key} is {path}, which another stage writes; give it another name"


def _check_params(task: dict[str, Any]) -> Iterator[str]:
    name = task["name"]
    params = _as_mapping(task.get("params"))
    fields = config.STAGES[name].model_fields
    for parameter in _find_missing_names(fields, params):
        yield (
            f"its params in pipeline.yaml lack {parameter}; add `{parameter}: "
            f"{_get_default_value(name, parameter)}`"
        )
    for parameter in _find_missing_names(params, fields):
        yield (
            f"its params in pipeline.yaml have {parameter}, which {_class_name(name)} does not "
            f"have; {config.suggest_name(parameter, fields)}"
        )


def _check_notebook(root: Path, path: Path, stage: str) -> Iterator[str]:
    notebook_name = path.relative_to(root).as_posix()
    if not path.is_file():
        yield f"there is no {notebook_name}; copy the notebook of a similar stage"
        return
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"{notebook_name} is not a valid notebook: {error}"
        return
    yield from _check_content(notebook, notebook_name, stage)


def _check_content(notebook: dict[str, Any], notebook_name: str, stage: str) -> Iterator[str]:
    try:
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (KeyError, TypeError) as error:
        yield f"{notebook_name} is not a valid notebook: {error}"
        return
    if "kernelspec" not in notebook.get("metadata", {}):
        yield (
            f"{notebook_name} names no kernel; open it in JupyterLab, choose Python 3, and save it"
        )
    if any("injected-parameters" in _get_cell_tags(cell) for cell in cells):
        yield _make_injected_cell_message(notebook_name)
    parameters_cells = [
        _get_cell_source(cell) for cell in cells if PARAMETERS_TAG in _get_cell_tags(cell)
    ]
    if len(parameters_cells) != 1:
        yield (
            f"{notebook_name} has {len(parameters_cells)} cells tagged `{PARAMETERS_TAG}`; tag "
            "the one that holds the parameters, and no other"
        )
    else:
        yield from _check_parameters_cell(parameters_cells[0], notebook_name, stage)
    yield from _check_opened_stage([_get_cell_source(cell) for cell in cells], notebook_name, stage)


def _check_parameters_cell(source: str, notebook_name: str, stage: str) -> Iterator[str]:
    """Check the parameters cell of a notebook."""
    if _parse_code(source) is None:
        yield (
            f"the parameters cell of {notebook_name} is not valid Python; write one `name = "
            "value  # meaning` per line"
        )
        return
    assigned = read_assignments(source, {})
    fields = config.STAGES[stage].model_fields
    for parameter in _find_missing_names([*sorted(PIPELINE_VARIABLES), *fields], assigned):
        value = None if parameter in PIPELINE_VARIABLES else _get_default_value(stage, parameter)
        yield (
            f"the parameters cell of {notebook_name} lacks {parameter}; add `{parameter} = "
            f"{value!r}`"
        )
    if SANDBOX_VARIABLE in assigned:
        yield (
            f"{notebook_name} is in a sandbox; modelbook take {notebook_name} takes its cells to "
            f"batch, and deleting the line `{SANDBOX_VARIABLE} = ...` ends it"
        )
    folder = Path(notebook_name).parent.name
    book = assigned.get("book")
    if folder != "notebooks" and book not in (None, folder):
        yield (
            f"{notebook_name} has book = {book!r}, which a run by hand would open; write `book = "
            f"{json.dumps(folder)}`"
        )
    for parameter in _find_missing_names(
        assigned, [*PIPELINE_VARIABLES, SANDBOX_VARIABLE, *fields]
    ):
        yield (
            f"the parameters cell of {notebook_name} sets {parameter}, which "
            f"{_class_name(stage)} does not have; declare it there, "
            f"or remove it ({config.suggest_name(parameter, fields)})"
        )


def find_opened_stages(sources: list[str]) -> list[str]:
    """Return the names of the stages that cells open by ``stage.open``."""
    trees = [_parse_code(text) for text in sources]
    nodes = [node for tree in trees if tree for node in ast.walk(tree)]
    calls = [
        node
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stage.open"
    ]
    return [
        str(call.args[0].value)
        for call in calls
        if call.args and isinstance(call.args[0], ast.Constant)
    ]


def _check_opened_stage(sources: list[str], notebook_name: str, stage: str) -> Iterator[str]:
    """Check that the notebook opens its own stage, not that of a notebook it was copied from."""
    names = find_opened_stages(sources)
    is_unparsable = None in map(_parse_code, sources)  # such a cell may open the stage
    if names != [stage] and (names or not is_unparsable):
        opened_stages = " and ".join(map(repr, names)) or "no stage"
        yield (
            f"{notebook_name} opens {opened_stages}; write "
            f'`context = stage.open("{stage}", globals())` once'
        )


def _parse_code(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:  # Ploomber's own code check reports it, with the line
        return None


def _get_cell_source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _get_cell_tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _find_missing_names(required: Iterable[str], present: Iterable[str]) -> list[str]:
    present_names = set(present)
    return [name for name in required if name not in present_names]


def _get_default_value(stage: str, name: str) -> Any:
    field = config.STAGES[stage].model_fields[name]
    return "VALUE" if field.is_required() else field.default


def _class_name(stage: str) -> str:
    return f"class {config.STAGES[stage].__name__}"


def _as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

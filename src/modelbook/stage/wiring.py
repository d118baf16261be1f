"""How a stage is put together: its notebook, its model of parameters and its entry in ``pipeline.yaml`` must agree."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from modelbook import config
from modelbook.errors import WiringError

FILLED = {"upstream", "product"}  # what the pipeline fills in; never parameters, and None in the parameters cell
PUBLISH = "modelbook.report.page.publish"  # writes the report of the executed notebook
PLACE = re.compile(r"(data|models|reports)/\{\{book\}\}/.+\.(parquet|json|yaml)")
TAG = "parameters"


def check(root: Path) -> None:
    """Check that each task of ``pipeline.yaml`` has its notebook and its model of parameters, and that the three agree.

    A model of parameters without a task is no mistake: a project may leave a stage out.

    Raises
    ------
    WiringError
        Listing everything that does not agree, with what to do about it.
    """
    tasks = _tasks(root / "pipeline.yaml")
    wrong = [f"{task.get('name', 'a task')}: {problem}" for task in tasks for problem in _problems(root, task, tasks)]
    wrong += [f"{name}: stands {times} times in pipeline.yaml; keep one" for name, times in _repeated(tasks)]
    _tell([*wrong, *_circle(tasks)])


def check_stage(root: Path, stage: str) -> None:
    """Check what one stage needs to be opened from its notebook, however that was started.

    A notebook whose saved source holds a cell of parameters that a tool has put in would write the pipeline's products
    when it is run by hand.

    Raises
    ------
    WiringError
        When the stage has no task in ``pipeline.yaml``, or one that does not agree with it, or has such a cell.
    """
    tasks = _tasks(root / "pipeline.yaml")
    mine = [task for task in tasks if task.get("name") == stage]
    wrong = [problem for task in mine for problem in _task(task, tasks)] if mine else [_no_task(stage)]
    path = root / "notebooks" / f"{config.stem(stage)}.ipynb"
    wrong += [problem for problem in _notebook(path, stage) if problem == _injected(path)]
    _tell([f"{stage}: {problem}" for problem in wrong])


def stages(root: Path) -> list[str]:
    """The stages of the project, in order: those of config/stages.py that ``pipeline.yaml`` has a task for."""
    named = {task.get("name") for task in _tasks(root / "pipeline.yaml")}
    return [name for name in config.STAGES if name in named]


def assigned(source: str) -> list[str]:
    """The names that a cell assigns; none where it is no Python."""
    tree = _parsed(source)
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets] if tree else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _tell(wrong: list[str]) -> None:
    if wrong:
        places = "1 place" if len(wrong) == 1 else f"{len(wrong)} places"
        raise WiringError(
            "\n    ".join([f"notebooks, pipeline.yaml and config/stages.py do not agree in {places}", *wrong]),
            expected="for each stage a notebook, a model of parameters and a task that name the same things",
            next="mend what is listed; docs/notebooks.md shows under 'Add a stage' how the three belong together",
        )


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise WiringError(f"pipeline.yaml is no YAML: {error}", next="mend it at the place named above") from None
    tasks = described.get("tasks") if isinstance(described, dict) else None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise WiringError("pipeline.yaml has no list of tasks", expected="tasks:, and below it a `- name:` per stage")
    return tasks


def _repeated(tasks: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(name, times) for name, times in Counter(task.get("name") for task in tasks).items() if name and times > 1]


def _circle(tasks: list[dict[str, Any]]) -> list[str]:
    try:
        TopologicalSorter({task.get("name"): _list(task.get("upstream")) for task in tasks}).prepare()
    except CycleError as error:
        *path, last = error.args[1]
        return [f"{last}: waits for itself ({' → '.join([*path, last])}); take one of them out of `upstream`"]
    return []


def _problems(root: Path, task: dict[str, Any], tasks: list[dict[str, Any]]) -> Iterator[str]:
    name = task.get("name")
    if name not in config.STAGES:
        yield _no_model(name)
        return
    yield from _task(task, tasks)
    yield from _notebook(root / "notebooks" / f"{config.stem(name)}.ipynb", name)


def _task(task: dict[str, Any], tasks: list[dict[str, Any]]) -> Iterator[str]:
    yield from _source(task)
    yield from _upstream(task, [str(other.get("name")) for other in tasks])
    yield from _product(task, tasks)
    yield from _params(task)
    if task.get("on_finish") != PUBLISH:
        yield f"nothing writes its report; add `on_finish: {PUBLISH}` to its task"


def _no_task(stage: str) -> str:
    return f"pipeline.yaml has no task of that name; add one with the source notebooks/{config.stem(stage)}.ipynb"


def _injected(path: Path) -> str:
    where = f"notebooks/{path.name} holds a cell of parameters that a tool has put in"
    return f"{where}; delete the cell tagged injected-parameters, or take the notebook back from git"


def _no_model(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
        return f"its name is {name!r}; a stage's name has small letters, and `_` between words"
    wanted, meant = "".join(word.capitalize() for word in name.split("_")), config.nearest(name, config.STAGES)
    return f"config/stages.py has no class {wanted}(Parameters); write it, or correct the name: {meant}"


def _source(task: dict[str, Any]) -> Iterator[str]:
    name, source = task["name"], task.get("source")
    wanted = f"notebooks/{config.stem(name)}.ipynb"
    if source != wanted:
        place = list(config.STAGES).index(name) + 1
        yield f"its source is {source}, not {wanted}; the number is the place of its class in config/stages.py, {place}"


def _upstream(task: dict[str, Any], known: list[str]) -> Iterator[str]:
    upstream = task.get("upstream") or []
    if not isinstance(upstream, list):
        yield f"its upstream is {upstream!r}; write a list: [{upstream}]"
        return
    for up in upstream:
        if up not in known:
            yield f"its upstream names {up!r}, which is no task of pipeline.yaml; {config.nearest(str(up), known)}"


def _product(task: dict[str, Any], tasks: list[dict[str, Any]]) -> Iterator[str]:
    name, product = task["name"], _mapping(task.get("product"))
    wanted = {
        "nb": f"reports/{{{{book}}}}/{config.stem(name)}.ipynb",
        "report": f"reports/{{{{book}}}}/{config.stem(name)}.html",
        "receipt": f"models/{{{{book}}}}/{name}.json",
    }
    for key, path in wanted.items():
        if product.get(key) != path:
            yield f"its product {key} is {product.get(key, 'missing')}; write `{key}: {path}`"
    others = [path for other in tasks if other.get("name") != name for path in _mapping(other.get("product")).values()]
    for key in product.keys() - wanted.keys():
        path = str(product[key])
        if not PLACE.fullmatch(path):
            yield f"its product {key} is {path}; write data/{{{{book}}}}/NAME, ending in .parquet, .json or .yaml"
        elif path in others:
            yield f"its product {key} is {path}, which another stage writes; give it another name"


def _params(task: dict[str, Any]) -> Iterator[str]:
    name, given = task["name"], _mapping(task.get("params"))
    fields = config.STAGES[name].model_fields
    for one in _missing(fields, given):
        yield f"its params in pipeline.yaml lack {one}; add `{one}: {_default(name, one)}`"
    for one in _missing(given, fields):
        yield f"its params in pipeline.yaml have {one}, which {_class(name)} has not; {config.nearest(one, fields)}"


def _notebook(path: Path, stage: str) -> Iterator[str]:
    short = f"notebooks/{path.name}"
    if not path.is_file():
        yield f"there is no {short}; copy the notebook of a stage that is like it"
        return
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        yield f"{short} is no notebook: {error}"
        return
    if "kernelspec" not in notebook.get("metadata", {}):
        yield f"{short} names no kernel; open it in JupyterLab, choose Python 3, and save it"
    if any("injected-parameters" in _tags(cell) for cell in cells):
        yield _injected(path)
    tagged = [_source_of(cell) for cell in cells if TAG in _tags(cell)]
    if len(tagged) != 1:
        yield f"{short} has {len(tagged)} cells tagged `{TAG}`; tag the one that holds the parameters, and no other"
    else:
        yield from _cell(tagged[0], short, stage)
    yield from _opens([_source_of(cell) for cell in cells], short, stage)


def _cell(source: str, short: str, stage: str) -> Iterator[str]:
    """What is wrong with the parameters cell."""
    if _parsed(source) is None:
        yield f"the parameters cell of {short} is no Python; write a `name = value  # meaning` per line"
        return
    given, fields = assigned(source), config.STAGES[stage].model_fields
    for one in _missing([*sorted(FILLED), *fields], given):
        value = None if one in FILLED else _default(stage, one)
        yield f"the parameters cell of {short} lacks {one}; add `{one} = {value!r}`"
    for one in _missing(given, [*FILLED, *fields]):
        yield (
            f"the parameters cell of {short} sets {one}, which {_class(stage)} has not; declare it there, "
            f"or take it out ({config.nearest(one, fields)})"
        )


def _opens(sources: list[str], short: str, stage: str) -> Iterator[str]:
    """Whether the notebook opens its own stage, and not that of the notebook it was copied from."""
    trees = [_parsed(text) for text in sources]
    nodes = [node for tree in trees if tree for node in ast.walk(tree)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "stage.open"]
    names = [call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)]
    if names != [stage] and (names or None not in trees):  # what cannot be read may open it
        opened = " and ".join(map(repr, names)) or "no stage"
        yield f'{short} opens {opened}; write `this = stage.open("{stage}", globals())` once'


def _parsed(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:  # Ploomber's own check of the code says so, with the line
        return None


def _source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _missing(wanted: Iterable[str], given: Iterable[str]) -> list[str]:
    there = set(given)
    return [name for name in wanted if name not in there]


def _default(stage: str, name: str) -> Any:
    field = config.STAGES[stage].model_fields[name]
    return "VALUE" if field.is_required() else field.default


def _class(stage: str) -> str:
    return f"class {config.STAGES[stage].__name__}"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

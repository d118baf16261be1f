"""The page of a stage that failed: what went wrong, where, what to try next, and what that leaves undone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelbook import config, disk, errors
from modelbook.report import stopped, story, template
from modelbook.report.stopped import Stop, Words

MARK = "<!-- the page of a failure -->"  # nothing from data can bring it along: pages are escaped and cleaned
LAST_GOOD = "-last-good"
LOG_LINES = 15
NOTICE = (
    '<aside class="notice" aria-label="Older report">The last good run. The stage has failed since: '
    '<a href="{0}">read why</a>.</aside>\n'
)
MEMORY = "take fewer rows (sample) or families in the env file, set jobs: 1 in pipeline.yaml, or use a larger machine"
AGAIN = "Build again: this stage runs, and what waits for it; what stands is not run again."


@dataclass(frozen=True)
class Failure:
    """What a build knows of a stage that failed.

    Parameters
    ----------
    what : str
        What ended the stage, in words, as the build told it.
    report, notebook, log : pathlib.Path
        The stage's page, its executed notebook and its log.
    command : str
        What runs the build again.
    states : Mapping
        What became of each stage of the build: ``ran``, ``kept`` (was up to date), ``failed``, ``not run``.
    below : Sequence
        The stages that wait for this one, directly or through others.
    stages : Sequence
        All stages of the project.
    last : Mapping
        The receipt of the last good run; empty when there was none.
    facts : Mapping
        ``commit``, ``fingerprint``, ``parameters`` (name, value, origin, meaning) and ``versions``.
    """

    stage: str
    book: str
    what: str
    report: Path
    notebook: Path
    log: Path
    command: str
    states: Mapping[str, str]
    below: Sequence[str] = ()
    stages: Sequence[str] = ()
    last: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def write(failed: Failure) -> Path:
    """Write the page of a failure where the stage's report is; the last good report is kept beside it.

    Neither the notebook nor the log needs to be there, or whole.
    """
    _put_aside(failed.report)
    view = _view(failed)
    view["body"] = f"{MARK}\n{template.fill('failure.html.j2', **view)}"
    view["contents"] = story.contents(view["body"])
    template.write(failed.report, template.fill("stage.html.j2", **view))
    return failed.report


def is_failure(report: Path) -> bool:
    """Whether a page is there, and tells of a failure."""
    return report.is_file() and MARK in report.read_text(encoding="utf-8", errors="replace")


def last_good(report: Path) -> Path:
    """Where the last good report is kept while the stage's page tells of a failure."""
    return report.with_name(f"{report.stem}{LAST_GOOD}{report.suffix}")


def mended(report: Path) -> None:
    """The stage has ended well, and its page is a report again: the older one is not needed any more."""
    last_good(report).unlink(missing_ok=True)


def _put_aside(report: Path) -> None:
    if not report.is_file() or is_failure(report):
        return
    text, head = report.read_text(encoding="utf-8", errors="replace"), '<header class="head">'
    template.write(last_good(report), text.replace(head, NOTICE.format(report.name) + head, 1))


def _view(failed: Failure) -> dict[str, Any]:
    notebook, log = stopped.opened(failed.notebook), _log(failed.log)
    began = log[0]["at"] if log else 0.0
    # A kernel that never came up leaves the notebook of an earlier run where it was: that one tells nothing of this.
    ours = notebook is not None and failed.notebook.stat().st_mtime >= began
    at = stopped.stop(notebook, _died(failed.what)) if ours and notebook is not None else None
    title, question = story.opening(notebook) if notebook is not None else ("", "")
    told = _told(failed.what, at)
    seconds = round(log[-1]["at"] - began, 1) if log else None
    kept = last_good(failed.report)
    view = {
        "title": title or failed.stage.capitalize(), "question": question, "stage": failed.stage, "book": failed.book,
        "word": "failed", "level": "bad", "home": "../index.html", "numbers": _numbers(failed, at, seconds),
        "notebook": failed.notebook.name if ours else "", "at": at, "told": told, "name": _name(failed.what, at),
        "meaning": _meaning(_name(failed.what, at)), "next": _sentence(told.next or _kind(failed.what)[0]),
        "advice": _advice(failed, told), "log": _lines(log), "states": _states(failed), "last": failed.last,
        "last_good": kept.name if kept.is_file() else "", "command": failed.command,
        "stages": _bar(failed),
        "facts": {**_started(began), "seconds": seconds, **failed.facts},
    }  # fmt: skip
    return view | {"sentences": _sentences(failed, view)}


def _told(what: str, at: Stop | None) -> Words:
    """The error in its parts: as the notebook holds it, what to do also as the build told it."""
    if at is not None and at.name:
        told = stopped.words(at.message)
        return told if told.next else replace(told, next=stopped.words(what).next)
    name = _name(what, None)
    return stopped.words(what.partition("\n  in cell ")[0].removeprefix(f"{name}: " if name else ""))


def _died(what: str) -> bool:
    return what.startswith("the kernel died") or " s and was stopped" in what


def _name(what: str, at: Stop | None) -> str:
    if at is not None and at.name:
        return at.name
    word = what.partition(":")[0]
    return word if word.isidentifier() else ""


def _meaning(name: str) -> str:
    """What an error of ours stands for."""
    kind = getattr(errors, name, None) if name else None
    return (kind.__doc__ or "").partition("\n")[0] if isinstance(kind, type) else ""


def _sentences(failed: Failure, view: Mapping[str, Any]) -> list[str]:
    first = (view["told"].what.splitlines() or ["no message"])[0]
    name = view["name"]
    why = first if not name or first.startswith(name) else f"{name}: {first}"
    after = f" after {template.duration(view['facts']['seconds'])}" if view["facts"]["seconds"] is not None else ""
    told = [f"{failed.stage.capitalize()} failed{after}: {why.rstrip('.')}."]
    if view["at"] is not None:
        under = f", under “{view['at'].heading}”" if view["at"].heading else ""
        told.append(f"It stopped in code cell {view['at'].number} of {view['at'].of}{under}.")
    waiting = [name for name in failed.below if failed.states.get(name) == "not run"]
    if waiting:
        names, one = _listed(waiting), len(waiting) == 1
        told.append(f"{names} {'waits' if one else 'wait'} for it, and {'was' if one else 'were'} not run.")
    if view["last_good"]:
        told.append("The report of its last good run is kept: the link stands at the end of this page.")
    return told


def _numbers(failed: Failure, at: Stop | None, seconds: float | None) -> list[dict[str, str]]:
    cards = []
    if at is not None:
        cards.append({"name": "stopped in", "value": f"cell {at.number} of {at.of}", "beside": at.heading})
    if seconds is not None:
        before = failed.last.get("facts", {}).get("seconds")
        beside = f"the last good run took {template.duration(before)}" if before is not None else "no good run before"
        cards.append({"name": "failed after", "value": template.duration(seconds), "beside": beside})
    well = sum(state in ("ran", "kept") for state in failed.states.values())
    cards.append({"name": "stages that stand", "value": f"{well} of {len(failed.states)}", "beside": "in this build"})
    return cards


def _kind(what: str) -> tuple[str, str]:
    """What to do about a failure of this kind, and the section of docs/errors.md about it."""
    if what.startswith("out of memory"):
        return MEMORY, "A dead kernel"
    if what.startswith("the kernel died"):
        remedy = MEMORY if "memory" in what else "build again; if it dies again, run the notebook by hand"
        return remedy, "A dead kernel"
    if disk.FULL.search(what):
        return disk.MEND, "DiskError"
    return "read what went wrong, mend it, and build again", ""


def _advice(failed: Failure, told: Words) -> list[tuple[str, str]]:
    """What to try, one after the other: a sentence, and the command for it."""
    remedy, section = _kind(failed.what)
    name = _name(failed.what, None)
    section = section or (name if _meaning(name) else "")
    steps = [(_sentence(told.next or remedy), "")]
    if section:
        steps.append((f"Look it up: docs/errors.md, section “{section}”.", ""))
    by_hand = (
        f"Run it by hand: open notebooks/{config.stem(failed.stage)}.ipynb in JupyterLab and run all cells. It reads"
        " what the build read, and writes to by-hand folders only. After an error, %debug in a new cell looks inside."
    )
    if "did not start" not in failed.what:
        steps.append((by_hand, "make lab"))
    return [*steps, (AGAIN, failed.command)]


def _states(failed: Failure) -> list[dict[str, str]]:
    """Each stage of the project, and what became of it in this build."""
    words = {"ran": "ran", "kept": "was up to date", "failed": "failed", "not run": "was not run"}
    levels = {"ran": "good", "kept": "good", "failed": "bad"}
    rows = []
    for name in failed.stages or config.STAGES:
        state = failed.states.get(name, "").partition(":")[0]
        link = f"{config.stem(name)}.html"
        why = "it waits for this stage" if name in failed.below and state == "not run" else ""
        rows.append({
            "name": name, "word": words.get(state, "was not asked for"), "level": levels.get(state, "none"), "why": why,
            "link": link if name != failed.stage and (failed.report.parent / link).is_file() else "",
        })  # fmt: skip
    return rows


def _bar(failed: Failure) -> list[tuple[str, str]]:
    """The stages that have a page: a first build that failed has none of those below."""
    stems = [(name, config.stem(name)) for name in failed.stages or config.STAGES]
    return [
        (name, stem) for name, stem in stems
        if failed.states.get(name, "").startswith("failed") or (failed.report.parent / f"{stem}.html").is_file()
    ]  # fmt: skip


def _started(began: float) -> dict[str, str]:
    from datetime import UTC, datetime

    return {"started": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds")} if began else {}


def _log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log, but for lines that are none."""
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(text)
            found.append({"at": float(entry["at"]), **entry})
        except (ValueError, TypeError, KeyError):
            continue
    return found


def _lines(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The last of a log's lines: time since the stage began, and what it told."""
    told = []
    for entry in log[-LOG_LINES:]:
        minutes, seconds = divmod(round(entry["at"] - log[0]["at"]), 60)
        count = f"{entry['done']} of {entry.get('total')} · " if entry.get("done") is not None else ""
        passing = f" · {entry['passing']}" if entry.get("passing") else ""
        text = (str(entry.get("text", "")).splitlines() or [""])[0]  # a failure's other lines stand above
        told.append((f"{minutes}:{seconds:02d}", f"{count}{text}{passing}"))
    return told


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _listed(names: Sequence[str]) -> str:
    text = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{text[:1].upper()}{text[1:]}"

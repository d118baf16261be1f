"""The page for people: what the model is, a form to try one row, and the answer with its main reasons. No script."""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any
from urllib.parse import parse_qsl

import orjson

from modelbook.contract import Column
from modelbook.serving.fields import cell
from modelbook.serving.loaded import Loaded
from modelbook.serving.reasons import Reason, reasons
from modelbook.serving.refusals import Refusal
from modelbook.serving.rows import expectation

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#c5c9d0, #4a4f57); --soft: light-dark(#f3f5f8, #22262c);
  --mark: light-dark(#0b57a4, #8ab8f0); --bad: light-dark(#a11a1a, #ff9c94); }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem;
  background: light-dark(#fff, #121417); color: light-dark(#16181c, #e8eaed); }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; } a { color: var(--mark); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
form { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
label { font-weight: 600; display: block; } small { display: block; font-weight: 400; }
input, select, button { font: inherit; width: 100%; padding: .4rem; border-radius: .3rem;
  font-weight: 400; border: 1px solid var(--line); background: light-dark(#fff, #17191d);
  color: light-dark(#111, #f2f2f2); }
button { background: light-dark(#0b57a4, #8ab8f0); color: light-dark(#fff, #111); cursor: pointer; align-self: center; }
.answer, .refusal { background: var(--soft); border-left: .4rem solid var(--mark); padding: .5rem 1rem; }
.refusal { border-color: var(--bad); } .answer strong { font-size: 1.4rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


async def tried(one: Loaded, form: dict[str, str]) -> str:
    """The section with the answer to what was typed, or with what was wrong with it."""
    given = {name: cell(one.contract.columns[name], text) for name, text in form.items()}
    try:
        [row], _ = one.rows.read(orjson.dumps(given))
    except Refusal as refusal:
        told = "".join(
            f"<li><strong>{escape(_label(one, wrong.field))}</strong>: {escape(wrong.value)}, "
            f"expected {escape(wrong.expected)}</li>" for wrong in refusal.rejected
        )  # fmt: skip
        told = f"<ul>{told}</ul>" if told else f"<p>{escape(refusal.what)}</p>"
        return f'<section class="refusal" role="alert"><h2>Not answered</h2>{told}</section>'
    answer = await asyncio.to_thread(one.scorer.many, [row])
    why = await asyncio.to_thread(reasons, one, row, given)
    return _answer(one, answer[0], why)


def fields(body: bytes, one: Loaded) -> tuple[dict[str, str], str]:
    """What a form was filled with, by feature; and the key, if one was given."""
    pairs = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=2000))
    return {name: pairs[name] for name in one.contract.inputs_ if name in pairs}, pairs.get("api key", "")


def render(one: Loaded, form: dict[str, str] | None = None, told: str = "", wants_key: bool = False) -> str:
    """The page; ``told`` is the section above the form."""
    given = {name: _written(value) for name, value in one.typical.items()} if form is None else form
    inputs = "".join(_input(one, name, given.get(name, "")) for name in one.contract.inputs_)
    if wants_key:
        inputs += '<label>API key<input type="password" name="api key" autocomplete="off" required></label>'
    threshold = one.scorer.answering.threshold
    sure = "" if threshold is None else f"; {one.contract.classes[1]} from {threshold:g} on"
    facts = {
        "model": f"{one.name}, version {one.number}, {one.tags.get('model', '')}",
        "answers": one.contract.columns[one.contract.target].meaning + sure,
        "served by": one.tags.get("scorer", one.scorer.name), "data": one.tags.get("fingerprint", "")[:12],
        "source": one.contract.source,
    }  # fmt: skip
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    title = escape(one.contract.title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>
<header><h1>{title}</h1><p>{escape(one.contract.question)}</p></header>
<main><dl>{listed}</dl>
<p><a href="/docs">Try the API</a> · <a href="/redoc">Read its manual</a> · <a href="/model">What answers</a> ·
<a href="/health/ready">Health</a> · <a href="/metrics">Metrics</a></p>
{told}
<section><h2>Try a row</h2><p>The values are typical ones. A try is not journaled.</p>
<form method="post" action="/">{inputs}<button>Answer</button></form></section></main></body></html>"""


def _answer(one: Loaded, answer: Any, why: list[Reason]) -> str:
    share = answer.probabilities is not None
    named = one.named(answer.probabilities) or {}
    label = escape(one.contract.label(one.contract.target))
    chances = " · ".join(f"{escape(name)}: {value:.1%}" for name, value in named.items())
    rows = "".join(
        f"<tr><th scope='row'>{escape(_label(one, r.field))}</th><td>{escape(_written(r.value) or 'missing')}</td>"
        f"<td>{escape(_written(r.typical) or 'missing')}</td>"
        f"<td class='number'>{f'{r.moved * 100:+.1f} points' if share else f'{r.moved:+,.4g}'}</td></tr>" for r in why
    )  # fmt: skip
    table = (
        f"<table><caption>What moves this answer most</caption><thead><tr><th scope='col'>field</th><th scope='col'>"
        f"here</th><th scope='col'>typical</th><th scope='col'>moves it by</th></tr></thead><tbody>{rows}</tbody>"
        "</table>"
        "<p>Each field is set to its typical value, all else as it is. Nothing here is a cause.</p>"
        if why else "<p>Every value is the typical one.</p>"
    )  # fmt: skip
    said = escape(f"{answer.prediction:,.6g}" if isinstance(answer.prediction, float) else str(answer.prediction))
    told = f"<h2>Answer</h2><p>{label}: <strong>{said}</strong></p><p>{chances}</p>{table}"
    return f'<section class="answer">{told}</section>'


def _input(one: Loaded, name: str, value: str) -> str:
    column = one.contract.columns[name]
    label, about = escape(_label(one, name)), escape(f"{column.meaning} ({expectation(column)})")
    place = f'name="{escape(name, quote=True)}"'
    if kinds := _kinds(column):
        options = "".join(f"<option{' selected' if kind == value else ''}>{escape(kind)}</option>" for kind in kinds)
        return f"<label>{label}<select {place}>{options}</select><small>{about}</small></label>"
    mode = "decimal" if column.type in ("number", "integer") else "text"
    text = f'<input {place} inputmode="{mode}" value="{escape(value, quote=True)}">'
    return f"<label>{label}{text}<small>{about}</small></label>"


def _kinds(column: Column) -> list[str]:
    kinds = [] if column.unseen else column.categories or (["0", "1"] if column.type == "boolean" else [])
    return ["", *kinds] if kinds and column.nullable else kinds


def _label(one: Loaded, name: str) -> str:
    return one.contract.label(name) if name in one.contract.columns else name


def _written(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float | int) else str(value)

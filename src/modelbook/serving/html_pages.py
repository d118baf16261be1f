"""HTML pages: the form to try the model with its explanation, Swagger UI and ReDoc."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from html import escape
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from modelbook.contract import Column
from modelbook.formatting import format_number, format_share
from modelbook.serving.http_request import RequestError
from modelbook.serving.schemas import CellParser, describe_expectation
from modelbook.serving.served_models import ServedModel

MAX_EFFECTS = 5  # fields that the page lists


class FeatureEffect(NamedTuple):
    """Effect of one field: the change of the prediction against the field's typical value."""

    field: str
    value: Any
    typical_value: Any
    effect: float


def explain_prediction(
    model: ServedModel, row: dict[str, Any], request: dict[str, Any]
) -> list[FeatureEffect]:
    """Return the fields with the largest effect on the prediction, strongest first.

    The effect is the change of the predicted class's probability (or of the predicted value) when
    one field is set to its typical value and all others are kept. Interacting fields may share an
    effect or hide it; an effect is not a cause.

    Parameters
    ----------
    row, request : dict
        The row as model features, and as it was sent in the request.
    """
    typical = {name: _get_typical_features(model, name) for name in model.typical_row}
    names = [
        name
        for name, values in typical.items()
        if any(row.get(feature) != values[feature] for feature in values)
    ]
    prediction, *altered_predictions = model.scorer.predict_many(
        [row, *({**row, **typical[name]} for name in names)]
    )
    classes = list(model.scorer.decision_rule.classes)
    class_index = classes.index(prediction.prediction) if classes else 0
    effects = (
        FeatureEffect(
            name,
            request.get(name),
            model.typical_row[name],
            prediction.scores[class_index] - altered.scores[class_index],
        )
        for name, altered in zip(names, altered_predictions)
    )
    nonzero_effects = [effect for effect in effects if effect.effect]
    return sorted(nonzero_effects, key=lambda effect: -abs(effect.effect))[:MAX_EFFECTS]


def _get_typical_features(model: ServedModel, name: str) -> dict[str, Any]:
    """Return the typical value of a field as model features."""
    column = model.contract.columns[name]
    value = model.typical_row[name]
    features = list(column.model_features(name))
    if features == [name]:
        return {name: value}
    return dict(zip(features, column.parse_value(value) or [None] * len(features)))


STYLESHEET = """
:root { color-scheme: light dark; --line: light-dark(#c5c9d0, #4a4f57); \
--soft: light-dark(#f3f5f8, #22262c);
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
button { background: light-dark(#0b57a4, #8ab8f0); color: light-dark(#fff, #111); cursor: pointer; \
align-self: center; }
.prediction, .refusal { background: var(--soft); border-left: .4rem solid var(--mark); \
padding: .5rem 1rem; }
.refusal { border-color: var(--bad); } .prediction strong { font-size: 1.4rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid var(--line); } td.number { text-align: right; \
font-variant-numeric: tabular-nums; }
"""


async def predict_form(model: ServedModel, form: dict[str, str]) -> str:
    """Render the section with the prediction for a submitted form, or with its errors."""
    values = {name: CellParser(model.contract.columns[name])[text] for name, text in form.items()}
    try:
        [row], _ = model.row_reader.read_body(orjson.dumps(values))
    except RequestError as error:
        return _render_error(model, error)
    predictions = await asyncio.to_thread(model.scorer.predict_many, [row])
    effects = await asyncio.to_thread(explain_prediction, model, row, values)
    return _render_prediction(model, predictions[0], effects)


def _render_error(model: ServedModel, error: RequestError) -> str:
    items = "".join(
        f"<li><strong>{escape(_make_field_label(model, invalid.field))}</strong>: "
        f"{escape(invalid.value)}, expected {escape(invalid.expected)}</li>"
        for invalid in error.invalid_values
    )
    details = f"<ul>{items}</ul>" if items else f"<p>{escape(error.message)}</p>"
    return f'<section class="refusal" role="alert"><h2>Invalid input</h2>{details}</section>'


def parse_form(body: bytes, model: ServedModel) -> tuple[dict[str, str], str]:
    """Parse a submitted form into texts by feature, and the API key if there is one.

    Raises
    ------
    RequestError
        413 if it has more fields than the page's form.
    """
    names = model.contract.input_names
    field_count = body.count(b"&") + 1
    if field_count > len(names) + 1:
        raise RequestError(
            413, f"the form has {field_count:,} fields", expected=f"at most {len(names) + 1}"
        )
    pairs = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return {name: pairs[name] for name in names if name in pairs}, pairs.get("api key", "")


def render_page(
    model: ServedModel,
    form: dict[str, str] | None = None,
    result_section: str = "",
    requires_key: bool = False,
) -> str:
    """Render the page; ``result_section`` is shown above the form."""
    if form is None:
        form = {name: _make_form_text(value) for name, value in model.typical_row.items()}
    inputs = "".join(
        _render_input(model, name, form.get(name, "")) for name in model.contract.input_names
    )
    if requires_key:
        inputs += (
            '<label>API key<input type="password" name="api key" autocomplete="off" '
            "required></label>"
        )
    facts = "".join(
        f"<dt>{name}</dt><dd>{escape(text)}</dd>"
        for name, text in _describe_facts(model).items()
        if text
    )
    title = model.contract.title
    body = f"""<header><h1>{escape(title)}</h1><p>{escape(model.contract.question)}</p></header>
<main><dl>{facts}</dl>
<p><a href="/docs">Try the API</a> · <a href="/redoc">API reference</a> · \
<a href="/model">Model details</a> ·
<a href="/health/ready">Health</a> · <a href="/metrics">Metrics</a></p>
{result_section}
<section><h2>Try a row</h2><p>The form starts with typical values. \
Predictions made here are not journaled.</p>
<form method="post" action="/">{inputs}<button>Predict</button></form></section></main>"""
    return _render_page(title, f"<style>{STYLESHEET}</style>", body, icon="data:,")


def _describe_facts(model: ServedModel) -> dict[str, str]:
    contract = model.contract
    threshold = model.scorer.decision_rule.threshold
    target = contract.columns[contract.target].meaning
    if threshold is not None:
        target += f"; {contract.classes[1]} from a probability of {threshold:g}"
    return {
        "model": f"{model.name}, version {model.number}, {model.tags.get('model', '')}",
        "predicts": target,
        "scorer": model.tags.get("scorer", model.scorer.name),
        "data": model.tags.get("fingerprint", "")[:12],
        "source": contract.source,
    }


def _render_prediction(model: ServedModel, prediction: Any, effects: list[FeatureEffect]) -> str:
    probabilities = model.label_probabilities(prediction.probabilities) or {}
    probabilities_text = " · ".join(
        f"{name}: {format_share(value, 1)}" for name, value in probabilities.items()
    )
    value = prediction.prediction
    shown_value = f"{value:,.6g}" if isinstance(value, float) else str(value)
    label = model.contract.label(model.contract.target)
    return (
        f'<section class="prediction"><h2>Prediction</h2><p>{escape(label)}: '
        f"<strong>{escape(shown_value)}</strong></p><p>{escape(probabilities_text)}</p>"
        f"{_render_effects(model, effects, in_points=bool(probabilities))}</section>"
    )


def _render_effects(model: ServedModel, effects: list[FeatureEffect], *, in_points: bool) -> str:
    if not effects:
        return "<p>Setting any one field to its typical value changes nothing.</p>"
    rows = "".join(
        f"<tr><th scope='row'>{escape(_make_field_label(model, effect.field))}</th>"
        f"<td>{escape(_format_value(effect.value) or 'missing')}</td>"
        f"<td>{escape(_format_value(effect.typical_value) or 'missing')}</td>"
        f"<td class='number'>{_format_effect(effect.effect, in_points=in_points)}</td></tr>"
        for effect in effects
    )
    head = "".join(
        f"<th scope='col'>{name}</th>" for name in ("field", "value", "typical", "effect")
    )
    return (
        "<table><caption>Largest effects on this prediction</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        "<p>Effect: this prediction minus the one with the field at its typical value. "
        "Effects are not causes.</p>"
    )


def _format_effect(effect: float, *, in_points: bool) -> str:
    return f"{effect * 100:+.1f} points" if in_points else f"{effect:+,.4g}"


def _render_input(model: ServedModel, name: str, value: str) -> str:
    column = model.contract.columns[name]
    label = _make_field_label(model, name)
    help_text = f"{column.full_meaning} ({describe_expectation(column)})"
    name_attribute = f'name="{escape(name)}"'
    if choices := _select_options(column):
        options = "".join(
            f"<option{' selected' if choice == value else ''}>{escape(choice)}</option>"
            for choice in choices
        )
        control = f"<select {name_attribute}>{options}</select>"
    else:
        mode = "decimal" if column.type in ("number", "integer") else "text"
        suggestions = suggestions_attribute = ""
        if column.categories:  # any other category may be typed, too
            list_id = escape(f"categories-{name}".replace(" ", "-"))
            options = "".join(f"<option>{escape(choice)}</option>" for choice in column.categories)
            suggestions = f'<datalist id="{list_id}">{options}</datalist>'
            suggestions_attribute = f' list="{list_id}"'
        control = (
            f'<input {name_attribute}{suggestions_attribute} inputmode="{mode}" '
            f'value="{escape(value)}">{suggestions}'
        )
    return f"<label>{escape(label)}{control}<small>{escape(help_text)}</small></label>"


def _select_options(column: Column) -> list[str]:
    if column.allow_unseen:
        return []
    choices = column.categories or (["0", "1"] if column.type == "boolean" else [])
    return ["", *choices] if choices and column.nullable else choices


def _make_field_label(model: ServedModel, name: str) -> str:
    return model.contract.label(name) if name in model.contract.columns else name


def _make_form_text(value: Any) -> str:
    """Return a value as the form sends it: with all digits."""
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return "" if value is None else str(value)


def _format_value(value: Any) -> str:
    if isinstance(value, float | int):
        return format_number(value)
    return "" if value is None else str(value)


# No script but the service's own files runs, whatever text a contract has. Both programs write
# style sheets while they run.
DOCS_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
SWAGGER_SCRIPT_PATH = "/docs/swagger.js"
SWAGGER_SCRIPT = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def form_policy() -> str:
    """Return the policy of the form's page: no scripts, and no style sheet but its own."""
    digest = base64.b64encode(hashlib.sha256(STYLESHEET.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


def render_swagger_page(title: str) -> str:
    """Return the page to try the API."""
    return _render_page(
        title,
        '<link rel="stylesheet" href="/static/swagger-ui.css">',
        f"""<div id="swagger-ui"></div>
<script src="/static/swagger-ui-bundle.js"></script>
<script src="{SWAGGER_SCRIPT_PATH}"></script>""",
    )


def render_redoc_page(title: str) -> str:
    """Return the API reference; ``sanitize`` removes markup from descriptions."""
    return _render_page(
        title,
        "",
        """<redoc spec-url="/openapi.json" sanitize="true"></redoc>
<script src="/static/redoc.standalone.js"></script>""",
    )


def _render_page(title: str, head: str, body: str, icon: str = "/static/favicon.png") -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><link rel="icon" href="{icon}">{head}</head><body>
{body}
</body></html>"""

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
from modelbook.scoring import RowPrediction
from modelbook.serving.http_request import RequestError
from modelbook.serving.schemas import CellParser, describe_expectation
from modelbook.serving.served_models import ServedModel


class FeatureEffect(NamedTuple):
    """Effect of one field: the change of the prediction against the field's typical value."""

    field: str
    value: Any
    typical_value: Any
    effect: float


def explain_prediction(
    model: ServedModel, row: dict[str, Any], request: dict[str, Any], max_fields: int = 5
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
    typical = {name: _typical_features(model, name) for name in model.typical_row}
    names = [
        name
        for name, values in typical.items()
        if any(row.get(feature) != values[feature] for feature in values)
    ]
    prediction, *altered_predictions = model.scorer.predict_many(
        [row, *({**row, **typical[name]} for name in names)]
    )
    class_index = (
        0
        if prediction.probabilities is None
        else list(model.scorer.decision_rule.classes).index(prediction.prediction)
    )
    effects = [
        FeatureEffect(
            name,
            request.get(name),
            model.typical_row[name],
            _predicted_score(prediction, class_index) - _predicted_score(altered, class_index),
        )
        for name, altered in zip(names, altered_predictions)
    ]
    return sorted(
        (effect for effect in effects if effect.effect), key=lambda effect: -abs(effect.effect)
    )[:max_fields]


def _typical_features(model: ServedModel, name: str) -> dict[str, Any]:
    """Return the typical value of a field as model features."""
    column, value = model.contract.columns[name], model.typical_row[name]
    features = list(column.model_features(name))
    if features == [name]:
        return {name: value}
    return dict(zip(features, column.parse_value(value) or [None] * len(features)))


def _predicted_score(prediction: RowPrediction, class_index: int) -> float:
    return (
        prediction.prediction
        if prediction.probabilities is None
        else prediction.probabilities[class_index]
    )


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
.answer, .refusal { background: var(--soft); border-left: .4rem solid var(--mark); \
padding: .5rem 1rem; }
.refusal { border-color: var(--bad); } .answer strong { font-size: 1.4rem; }
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
        details = "".join(
            f"<li><strong>{escape(_field_label(model, invalid.field))}</strong>: "
            f"{escape(invalid.value)}, "
            f"expected {escape(invalid.expected)}</li>"
            for invalid in error.invalid_values
        )
        details = f"<ul>{details}</ul>" if details else f"<p>{escape(error.message)}</p>"
        return f'<section class="refusal" role="alert"><h2>Invalid input</h2>{details}</section>'
    predictions = await asyncio.to_thread(model.scorer.predict_many, [row])
    effects = await asyncio.to_thread(explain_prediction, model, row, values)
    return _render_prediction(model, predictions[0], effects)


def parse_form(body: bytes, model: ServedModel) -> tuple[dict[str, str], str]:
    """Parse a submitted form into texts by feature, and the API key if there is one.

    Raises
    ------
    RequestError
        413 if it has more fields than the page's form.
    """
    names, field_count = model.contract.input_names, body.count(b"&") + 1
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
    values = (
        {name: _format_value(value) for name, value in model.typical_row.items()}
        if form is None
        else form
    )
    inputs = "".join(
        _render_input(model, name, values.get(name, "")) for name in model.contract.input_names
    )
    if requires_key:
        inputs += (
            '<label>API key<input type="password" name="api key" autocomplete="off" '
            "required></label>"
        )
    threshold = model.scorer.decision_rule.threshold
    threshold_text = (
        ""
        if threshold is None
        else f"; {model.contract.classes[1]} from a probability of {threshold:g}"
    )
    facts = {
        "model": f"{model.name}, version {model.number}, {model.tags.get('model', '')}",
        "predicts": model.contract.columns[model.contract.target].meaning + threshold_text,
        "scorer": model.tags.get("scorer", model.scorer.name),
        "data": model.tags.get("fingerprint", "")[:12],
        "source": model.contract.source,
    }
    facts_html = "".join(
        f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text
    )
    title = escape(model.contract.title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,"><style>{STYLESHEET}</style></head><body>
<header><h1>{title}</h1><p>{escape(model.contract.question)}</p></header>
<main><dl>{facts_html}</dl>
<p><a href="/docs">Try the API</a> · <a href="/redoc">API reference</a> · \
<a href="/model">Model details</a> ·
<a href="/health/ready">Health</a> · <a href="/metrics">Metrics</a></p>
{result_section}
<section><h2>Try a row</h2><p>The form starts with typical values. \
Predictions made here are not journaled.</p>
<form method="post" action="/">{inputs}<button>Predict</button></form></section>\
</main></body></html>"""


def _render_prediction(model: ServedModel, prediction: Any, effects: list[FeatureEffect]) -> str:
    has_probabilities = prediction.probabilities is not None
    probabilities = model.label_probabilities(prediction.probabilities) or {}
    label = escape(model.contract.label(model.contract.target))
    probabilities_text = " · ".join(
        f"{escape(name)}: {value:.1%}" for name, value in probabilities.items()
    )
    rows = "".join(
        f"<tr><th scope='row'>{escape(_field_label(model, effect.field))}</th>"
        f"<td>{escape(_format_value(effect.value) or 'missing')}</td>"
        f"<td>{escape(_format_value(effect.typical_value) or 'missing')}</td>"
        f"<td class='number'>{_format_effect(effect.effect, in_points=has_probabilities)}</td></tr>"
        for effect in effects
    )
    table = (
        "<table><caption>Largest effects on this prediction</caption><thead><tr><th "
        "scope='col'>field</th><th scope='col'>"
        "value</th><th scope='col'>typical</th><th "
        f"scope='col'>effect</th></tr></thead><tbody>{rows}</tbody>"
        "</table>"
        "<p>Effect: this prediction minus the one with the field at its typical value. "
        "Effects are not causes.</p>"
        if effects
        else "<p>Setting any one field to its typical value changes nothing.</p>"
    )
    prediction_text = escape(
        f"{prediction.prediction:,.6g}"
        if isinstance(prediction.prediction, float)
        else str(prediction.prediction)
    )
    content = (
        f"<h2>Prediction</h2><p>{label}: "
        f"<strong>{prediction_text}</strong></p><p>{probabilities_text}</p>{table}"
    )
    return f'<section class="answer">{content}</section>'


def _format_effect(effect: float, *, in_points: bool) -> str:
    return f"{effect * 100:+.1f} points" if in_points else f"{effect:+,.4g}"


def _render_input(model: ServedModel, name: str, value: str) -> str:
    column = model.contract.columns[name]
    label, help_text = (
        escape(_field_label(model, name)),
        escape(f"{column.meaning} ({describe_expectation(column)})"),
    )
    name_attribute = f'name="{escape(name, quote=True)}"'
    if choices := _select_options(column):
        options = "".join(
            f"<option{' selected' if choice == value else ''}>{escape(choice)}</option>"
            for choice in choices
        )
        return (
            f"<label>{label}<select "
            f"{name_attribute}>{options}</select><small>{help_text}</small></label>"
        )
    mode = "decimal" if column.type in ("number", "integer") else "text"
    list_html, list_attribute = "", ""
    if column.categories:  # any other category may be typed, too
        list_id = escape(f"categories-{name}".replace(" ", "-"), quote=True)
        options = "".join(f"<option>{escape(choice)}</option>" for choice in column.categories)
        list_html = f'<datalist id="{list_id}">{options}</datalist>'
        list_attribute = f' list="{list_id}"'
    input_html = (
        f'<input {name_attribute}{list_attribute} inputmode="{mode}" '
        f'value="{escape(value, quote=True)}">{list_html}'
    )
    return f"<label>{label}{input_html}<small>{help_text}</small></label>"


def _select_options(column: Column) -> list[str]:
    choices = (
        []
        if column.unseen
        else column.categories or (["0", "1"] if column.type == "boolean" else [])
    )
    return ["", *choices] if choices and column.nullable else choices


def _field_label(model: ServedModel, name: str) -> str:
    return model.contract.label(name) if name in model.contract.columns else name


def _format_value(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float | int) else str(value)


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


def form_policy(stylesheet: str) -> str:
    """Return the policy of a page without scripts and with one inline style sheet."""
    digest = base64.b64encode(hashlib.sha256(stylesheet.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


def swagger_page(title: str) -> str:
    """Return the page to try the API."""
    return _page(
        title,
        '<link rel="stylesheet" href="/static/swagger-ui.css">',
        f"""<div id="swagger-ui"></div>
<script src="/static/swagger-ui-bundle.js"></script>
<script src="{SWAGGER_SCRIPT_PATH}"></script>""",
    )


def redoc_page(title: str) -> str:
    """Return the API reference; ``sanitize`` removes markup from descriptions."""
    return _page(
        title,
        "",
        """<redoc spec-url="/openapi.json" sanitize="true"></redoc>
<script src="/static/redoc.standalone.js"></script>""",
    )


def _page(title: str, head: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">\
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><link rel="icon" href="/static/favicon.png">{head}</head><body>
{body}
</body></html>"""

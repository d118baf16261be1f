"""Format values where they are shown: metrics, key numbers, cells of a table, sentences."""

from __future__ import annotations

import functools
import json
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from html import escape
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Format = str | Callable[[Any], str]

KeyNumber = dict[str, Any]

MISSING = "–"
MAX_JOINED_NAMES = 12  # sorted names, such as periods, that a sentence lists
IRREGULAR_PLURALS = {"person": "people", "child": "children", "man": "men", "woman": "women"}
DURATION_UNITS = (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def key_number(
    name: str,
    value: float | str | None,
    unit: str = "",
    *,
    interval: tuple[float, float] | None = None,
    compared_with: Mapping[str, float] | None = None,
    context: str = "",
) -> KeyNumber:
    """Return a key number of a verdict, as receipts store it: text is made where it is shown.

    Parameters
    ----------
    value : float, str or None
        The number; None if it is unknown. A text is returned unchanged.
    unit : str
        ``count``, ``share`` (of 1), ``s``, ``±`` or ``version``; empty for a metric.
    interval : pair of float, optional
        Its 95% confidence interval.
    compared_with : mapping, optional
        What it is compared with, by name, in the same unit.
    context : str
        Anything else that the reader needs.
    """
    number: KeyNumber = {"name": name, "value": value, "unit": unit, "context": context}
    if interval is not None:
        number["interval"] = list(interval)
    return number | ({"compared_with": dict(compared_with)} if compared_with else {})


def format_key_number(number: Mapping[str, Any]) -> str:
    """Format the value of a key number."""
    return format_quantity(number["value"], number.get("unit", ""))


def describe_key_number(number: Mapping[str, Any]) -> str:
    """Describe a key number's interval, what it is compared with, and its context."""
    unit = number.get("unit", "")
    low, high = number.get("interval", ("", ""))
    comparisons = number.get("compared_with", {})
    texts = [
        format_ci(low, high, lambda bound: format_quantity(bound, unit)) if low != "" else "",
        *(f"{name} {format_quantity(value, unit)}" for name, value in comparisons.items()),
        number.get("context", ""),
    ]
    return "; ".join(filter(None, texts))


def join_bounds(low: str, high: str) -> str:
    """Join the bounds of an interval; a dash beside a sign would read as another minus."""
    return f"{low} to {high}" if {low[:1], high[:1]} & {"-", "−", "+"} else f"{low}–{high}"


def format_ci(low: Any, high: Any, format_bound: Callable[[Any], str] | None = None) -> str:
    """Format a 95% confidence interval, by default as of a metric.

    Bounds that are not finite mean that there are too few entities for an interval.
    """
    if not all(_is_number(bound) and isfinite(bound) for bound in (low, high)):
        return "95% CI cannot be estimated: too few entities"
    return f"95% CI {join_bounds(*map(format_bound or format_metric, (low, high)))}"


def make_ci_filter(filters: Mapping[str, Callable[..., str]]) -> Callable[..., str]:
    """Make the filter ``low | ci(high, 'share', 1)``, which formats bounds by another filter."""

    def format_bounds(low: Any, high: Any, name: str = "metric", *args: Any) -> str:
        return format_ci(low, high, lambda bound: filters[name](bound, *args))

    return format_bounds


def format_quantity(value: float | str | None, unit: str) -> str:
    """Format a value with a unit of ``key_number``."""
    if value is None or isinstance(value, str):
        return MISSING if value is None else value
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "share":
        return format_share(value, 1)
    if unit == "version":
        return f"version {value}"
    if unit == "s":
        return f"{value:,.1f} s"
    return ("± " if unit == "±" else "") + format_metric(value)


def format_share(share: float, decimals: int = 0) -> str:
    """Format a share of 1 in percent; one that would be rounded to 0% reads ``<0.1%``."""
    smallest = 10.0 ** -(decimals + 2)
    if 0 < share < smallest and round(share, decimals + 2) == 0:
        return f"<{smallest:.{decimals}%}"
    return f"{share:.{decimals}%}"


def format_metric(value: float) -> str:
    """Format a metric's value: three decimals below ten, fewer for larger numbers."""
    text = f"{value:,.{choose_decimals(abs(value))}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def format_estimate(value: float) -> str:
    """Format an estimated quantity with the two or three digits that an estimate deserves."""
    if abs(value) < 10:
        return f"{value:.2g}"
    step = 10 ** max(len(f"{abs(value):.0f}") - 3, 0)
    return f"{round(value / step) * step:,.0f}"


def format_amount(value: float, decimals: int) -> str:
    """Format an amount with a fixed number of decimals."""
    return f"{value:z,.{decimals}f}"


def pluralize(noun: str) -> str:
    """Return the plural of an English noun, or of a phrase that ends with it: ``companies``."""
    first = noun[: noun.rfind(" ") + 1]
    last = noun[noun.rfind(" ") + 1 :]
    if last in IRREGULAR_PLURALS:
        return first + IRREGULAR_PLURALS[last]
    if re.search("[^aeiou]y$", last):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search("(s|x|z|ch|sh)$", last) else f"{noun}s"


def format_count(count: int, singular: str, plural: str = "") -> str:
    """Format a number with its noun, or noun and verb: ``1 row is``, ``3,000 rows are``."""
    return f"{count:,} {singular if count == 1 else plural or pluralize(singular)}"


def join_names(names: Iterable[Any]) -> str:
    """Join names as in a sentence: ``a, b and c``."""
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last


def join_sorted_names(names: Iterable[Any]) -> str:
    """Join a few sorted names as in a sentence; of more, the first and the last: ``1 to 365``."""
    name_list = list(names)
    if len(name_list) > MAX_JOINED_NAMES:
        return f"{name_list[0]} to {name_list[-1]}"
    return join_names(name_list)


def format_column_list(labels: Sequence[str]) -> str:
    """Format a list of columns by its first one: ``age and 2 more columns``."""
    n_more = len(labels) - 1
    return f"{labels[0]} and {format_count(n_more, 'more column')}" if n_more else labels[0]


def replace_non_finite_numbers(value: Any) -> Any:
    """Return a value as JSON data, with None for NaN and infinite numbers."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def dump_json(value: Any) -> str:
    """Return a value as indented JSON; NaN and infinite numbers, which JSON lacks, are null."""
    return json.dumps(replace_non_finite_numbers(value), indent=1, ensure_ascii=False)


def capitalize_first(text: str) -> str:
    """Capitalize the first letter only."""
    return text[:1].upper() + text[1:]


def render_sentences(template: Path, name: str, **values: Any) -> list[str]:
    """Render the macro ``name`` of a template as plain text; each of its lines is a sentence."""
    text = str(getattr(_load_macros(template), name)(**values))
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def render_html(template: Path, **values: Any) -> str:
    """Render a template as HTML, with its values escaped."""
    import jinja2

    text = template.read_text(encoding="utf-8")
    return jinja2.Template(text, autoescape=True, undefined=jinja2.StrictUndefined).render(values)


@functools.cache
def _load_macros(template: Path) -> Any:
    import jinja2

    from modelbook.template_cache import TemplateCache

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        bytecode_cache=TemplateCache(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": format_cell,
        "counted": format_count,
        "metric": format_metric,
        "most_frequent": lambda values: [
            value
            for value in dict.fromkeys(values)
            if values.count(value) == max(map(values.count, values))
        ],
        "number": format_number,
        "repr": repr,
        "bounds": join_bounds,
        "decimals": choose_decimals,
        "names": join_names,
        "plural": pluralize,
        "amount": format_amount,
        "estimate": format_estimate,
        "sentence_start": capitalize_first,
        "share": format_share,
        "signed": lambda value: f"{value:+z.3f}",
        "signed_estimate": lambda value: f"{'+' if value > 0 else ''}{format_estimate(value)}",
        "zip": zip,
    }
    environment.filters["ci"] = make_ci_filter(environment.filters)
    environment.tests["missing"] = is_missing
    return environment.get_template(template.name).module


def make_column_formatters(
    frame: pd.DataFrame, formats: Mapping[str, Format]
) -> list[Callable[[Any], str]]:
    """Return a formatter for each column, in order."""
    return [
        _make_column_formatter(frame.iloc[:, i], formats.get(name))
        for i, name in enumerate(frame.columns)
    ]


def is_numeric(column: pd.Series) -> bool:
    """Return whether a column holds only numbers and missing values, to align it right."""
    values = [value for value in column if not is_missing(value)]
    return bool(values) and all(_is_number(value) for value in values)


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or NA."""
    import pandas as pd

    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def choose_decimals(largest: float) -> int:
    """Choose decimals for about three significant digits, given a column's largest value."""
    return 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3


def format_value(value: Any, decimals: int = 3) -> str:
    """Format one value as text."""
    if is_missing(value):
        return MISSING
    if not _is_number(value):
        return _format_non_number(value)
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    number = float(value)
    if number and (round(number, decimals) == 0 or abs(number) >= 1e15):
        return f"{number:.2g}"  # 0.000 would read as zero
    return f"{number:,.{decimals}f}"


def format_duration(seconds: Any) -> str:
    """Format a duration: 4.2 s, 45 s, 12 min 5 s, 3 h 20 min, 7 d; a dash if it is unknown."""
    if not _is_number(seconds) or not isfinite(seconds):
        return MISSING
    whole_seconds = round(seconds)
    if whole_seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole_seconds} s"
    unit, unit_seconds, part, part_seconds = next(
        units for units in DURATION_UNITS if whole_seconds >= units[1]
    )
    count, remainder = divmod(whole_seconds, unit_seconds)
    n_parts = remainder // part_seconds
    return f"{count} {unit} {n_parts} {part}" if n_parts else f"{count} {unit}"


def format_time(value: Any) -> str:
    """Format a timestamp as day, hour and minute."""
    match = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?:[\d:.,]*)(.*)", str(value or ""))
    if not match:
        return str(value or MISSING)
    zone = "UTC" if match[3] in {"Z", "+00:00"} else match[3]
    return f"{match[1]} {match[2]} {zone}".strip()


def natural_sort_key(value: Any) -> tuple[float, str]:
    """Return a key that sorts texts that are numbers by value, before others: 2 before 11."""
    text = str(value)
    is_number = re.fullmatch(r"-?(\d+\.?\d*|\.\d+)", text)
    return (float(text) if is_number else float("inf"), text)


def _make_column_formatter(column: pd.Series, format_spec: Format | None) -> Callable[[Any], str]:
    if format_spec is not None:
        format_text = format_spec if callable(format_spec) else _make_formatter(format_spec)
        return lambda value: MISSING if is_missing(value) else str(format_text(value))
    values = [abs(float(value)) for value in column if not is_missing(value) and _is_number(value)]
    finite = [value for value in values if value != float("inf")]
    if column.isna().any() and all(value.is_integer() for value in finite):
        return lambda value: format_value(value, 0)  # integers, float because of missing values
    decimals = choose_decimals(max(finite, default=0.0))
    if any(0 < value < 10 ** (1 - decimals) and not value.is_integer() for value in finite):
        # Quantities of different size: with the decimals of the largest, 0.52 would read as 1.
        return lambda value: format_value(
            value, choose_decimals(abs(value)) if _is_number(value) else decimals
        )
    return lambda value: format_value(value, decimals)


def _make_formatter(format_spec: str) -> Callable[[Any], str]:
    """Return a formatter for a format specification; shares as ``format_share`` formats them."""
    if share := re.fullmatch(r"\.(\d)%", format_spec):
        return lambda value: format_share(value, int(share[1]))
    return lambda value: format(value, format_spec)


def _is_number(value: Any) -> bool:
    # numpy's bool is not a Real, and pandas' NA is handled earlier
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _format_non_number(value: Any) -> str:
    if str(value) in {"True", "False"}:
        return "yes" if str(value) == "True" else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="minutes").removesuffix(" 00:00")
    return value.isoformat() if isinstance(value, date) else str(value)


def format_cell(value: Any, unit: str = "") -> str:
    """Format a value: floats without a unit with four decimals, missing values as a dash."""
    if value is None or value == "" or (isinstance(value, float) and isnan(value)):
        return MISSING
    if unit:
        return format_quantity(value, unit)
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if _is_number(value) else str(value)


def format_code(value: Any) -> str:
    """Format the value of a column as the code that a contract has: ``1`` for 1.0."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def format_number(value: float) -> str:
    """Format a number with six significant digits, or with all digits if it is large."""
    return f"{value:.15g}" if abs(value) >= 1e5 else f"{value:g}"


def format_difference(value: float | None, unit: str = "") -> str:
    """Format a difference with its sign; empty if there is none."""
    if not value:
        return "" if value is None else "0"
    if unit == "share":
        return f"{100 * value:+z.1f} percentage points"
    if float(value).is_integer():
        return f"{value:+,.0f}"
    return f"{value:+.4f}".rstrip("0") if abs(value) >= 0.0001 else f"{value:+.0e}"


def render_html_table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", css_class: str = ""
) -> str:
    """A table as HTML, for the ``_repr_html_`` of an object; first cells head their rows."""
    left = "style='text-align:left'"  # JupyterLab aligns table cells right
    head = "".join(f"<th scope='col' {left}>{escape(name)}</th>" for name in header)
    body = "".join(
        f"<tr><th scope='row' {left}>{escape(str(first))}</th>"
        + "".join(f"<td {left}>{escape(format_cell(value))}</td>" for value in others)
        + "</tr>"
        for first, *others in rows
    )
    caption_html = f"<caption {left}>{escape(caption)}</caption>" if caption else ""
    class_html = f" class='{css_class}'" if css_class else ""
    return (
        f"<table{class_html}>{caption_html}<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )

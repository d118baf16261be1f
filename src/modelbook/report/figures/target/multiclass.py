"""Figures of a target of several classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from modelbook.contract.counts import count_values
from modelbook.report import marks, style
from modelbook.report.display import Figure, nothing
from modelbook.report.figures import explore
from modelbook.report.numbers import counting

ACROSS = 3
BINS = 5


@style.styled
def balance(frame: pd.DataFrame, target: str) -> Figure:
    """Share of each class, with its interval, in each period.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``class, period, rows, rate, low, high``.
    """
    data = marks.usable(frame, ["class", "period", "rows", "rate", "low", "high"], ["class", "rate"])
    if data is None:
        return nothing("Shares of the classes")
    several = data["period"].nunique() > 1
    names = [
        f"{row['class']}, {explore.period(row['period'])}" if several else row["class"] for _, row in data.iterrows()
    ]
    figure, ax = marks.canvas(marks.tall(len(data)))
    texts = [f"{rate:.1%}  of {rows:,.0f}" for rate, rows in zip(data["rate"], data["rows"], strict=True)]
    marks.dots(ax, names, data["rate"], low=data["low"], high=data["high"], colour=style.POSITIVE, texts=texts)
    ax.set_xlim(0, None)
    marks.percent(ax)
    ax.set_xlabel(f"share of each class of {target}, with its interval")
    shares = data.groupby("class", sort=False)["rate"].mean().sort_values(kind="stable")
    alt = f"The commonest class is {shares.index[-1]}, with {shares.iloc[-1]:.1%}; the rarest is {shares.index[0]}, "
    return Figure(
        figure,
        alt=f"{alt}with {shares.iloc[0]:.1%}.",
        data=frame,
        caption="At the right: the share, and the rows it is of.",
    )


@style.styled
def distributions(train: pd.DataFrame, columns: Sequence[str], target: str) -> Figure:
    """The mix of classes in each fifth of a number, or in each category."""
    known = [name for name in columns if name in train.columns and train[name].notna().any()]
    if not known or target not in train.columns or train.empty:
        return nothing("The classes by column")
    classes = sorted(train[target].unique(), key=counting)
    mixes = {name: _mix(train, name, target, classes) for name in known}
    across = 2 if len(classes) > 4 else ACROSS
    tallest = max(len(mix) for mix in mixes.values())
    figure, grid = marks.panels(len(known), across, 0.27 * tallest + 0.75, 0.2)
    for ax, (name, mix) in zip(grid.flat, mixes.items(), strict=False):
        marks.cells(ax, mix.to_numpy(), [[f"{share:.0%}" for share in row] for row in mix.to_numpy()])
        ax.set_yticks(range(len(mix)), [marks.brief(value, 14) for value in mix.index])
        ax.set_xticks(range(len(classes)), [marks.brief(value, 9) for value in classes])
        ax.set_title(marks.brief(name, 26))
    data = pd.concat([mix.rename_axis("value").reset_index().assign(column=name) for name, mix in mixes.items()])
    data = data[["column", "value", *classes]].reset_index(drop=True)
    apart = {name: (mix.max() - mix.min()).max() for name, mix in mixes.items()}
    most = max(apart, key=lambda name: apart[name])
    alt = f"The mix of {len(classes)} classes by {len(known)} columns differs most by {most}: a class's share moves by "
    caption = "Each row adds up to 100 %: the classes' shares among rows of this value, or this fifth of a number."
    return Figure(figure, alt=f"{alt}{apart[most]:.0%}.", data=data, caption=caption)


def _mix(train: pd.DataFrame, name: str, target: str, classes: list[Any]) -> pd.DataFrame:
    groups, number = explore.grouped(train[name], BINS, spans=True)
    mix = pd.crosstab(groups, train[target], normalize="index").reindex(columns=classes, fill_value=0.0)
    order = count_values(groups).index[: explore.MOST_VALUES]
    kept = mix if number else mix.loc[sorted(order, key=counting)]
    return kept.set_axis(kept.index.map(str))

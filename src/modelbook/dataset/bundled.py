"""Bundled dataset: the RAND Health Insurance Experiment, as shipped with statsmodels."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

TRAINING_YEARS = (1, 2, 3)
# A member's year is expensive at or above this quantile of the spending in the training years.
EXPENSIVE_QUANTILE = 0.8
LAGGED_COLUMNS = [
    "meddol", "outpdol", "drugdol", "inpdol", "mentdol", "mdvis", "notmdvis", "totadm",
]  # fmt: skip


def load_rand_hie() -> pd.DataFrame:
    """Load member-years with the previous year's utilisation and the target ``expensive``.

    Returns
    -------
    DataFrame
        20,190 rows ordered by member (``zper``) and ``year``. ``prev_*`` is missing where the
        member has no row for the previous year; ``black`` is missing where the source holds the
        site's mean instead of the member's own value.
    """
    source = files("statsmodels.datasets.randhie").joinpath("src/randhie.csv")
    with source.open() as lines:
        frame = pd.read_csv(lines)
    previous_year = frame[["zper", "year", *LAGGED_COLUMNS]].rename(
        columns={name: f"prev_{name}" for name in LAGGED_COLUMNS}
    )
    frame = frame.merge(
        previous_year.assign(year=previous_year["year"] + 1),
        on=["zper", "year"],
        how="left",
        validate="one_to_one",
    )
    # For 81 members the source holds the site's mean instead of 0 or 1, i.e. an imputed value.
    frame["black"] = frame["black"].where(frame["black"].isin([0, 1]))
    training_spending = frame.loc[frame["year"].isin(TRAINING_YEARS), "meddol"]
    is_expensive = frame["meddol"] >= training_spending.quantile(EXPENSIVE_QUANTILE)
    frame["expensive"] = is_expensive.astype("int64")
    return frame.sort_values(["zper", "year"], ignore_index=True)


TABLE_LOADERS = {"rand-hie": load_rand_hie}

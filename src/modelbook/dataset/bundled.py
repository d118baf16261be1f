"""The bundled book's table: the RAND Health Insurance Experiment, as shipped inside statsmodels."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

TRAINING_YEARS = (1, 2, 3)
QUANTILE = 0.8  # a member is expensive at or above this quantile of a training year's spending
LAGGED = ["meddol", "outpdol", "drugdol", "inpdol", "mentdol", "mdvis", "notmdvis", "totadm"]


def rand_hie() -> pd.DataFrame:
    """Member-years with the previous year's use of care and the target ``expensive``.

    Returns
    -------
    DataFrame
        20,190 rows ordered by member (``zper``) and ``year``. ``prev_*`` is missing where the member has no row of
        the year before; ``black`` where the source holds a site's mean instead of the member's answer.
    """
    source = files("statsmodels.datasets.randhie").joinpath("src/randhie.csv")
    with source.open() as lines:
        frame = pd.read_csv(lines)
    before = frame[["zper", "year", *LAGGED]].rename(columns={name: f"prev_{name}" for name in LAGGED})
    frame = frame.merge(before.assign(year=before["year"] + 1), on=["zper", "year"], how="left", validate="one_to_one")
    # For 81 members the source holds their site's mean instead of 0 or 1: an imputation, not an answer.
    frame["black"] = frame["black"].where(frame["black"].isin([0, 1]))
    spent = frame.loc[frame["year"].isin(TRAINING_YEARS), "meddol"]
    frame["expensive"] = (frame["meddol"] >= spent.quantile(QUANTILE)).astype("int64")
    return frame.sort_values(["zper", "year"], ignore_index=True)


TABLES = {"rand-hie": rand_hie}

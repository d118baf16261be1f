"""What a model saves against policies without a model."""

from __future__ import annotations

from typing import Any

FEATURE = "single feature"  # kind of a policy: rows ranked by one column, without any model


def list_savings(value: dict[str, Any]) -> list[dict[str, Any]]:
    """List what the model saves against policies without a model, the strongest of them first.

    Parameters
    ----------
    value : dict
        From ``evaluation.business_value``: ``policies`` and ``baseline``.

    Returns
    -------
    list of dict
        ``policy, saving, low, high``, per row: against a single feature, if that costs less than
        the cheapest constant decision, and against that decision.
    """
    model = value["policies"][0]
    against_constant = {
        "policy": value["baseline"],
        "saving": model["saving"],
        "low": model["saving_low"],
        "high": model["saving_high"],
    }
    against_feature = [
        {
            "policy": row["policy"],
            "saving": row["lead"],
            "low": row["lead_low"],
            "high": row["lead_high"],
        }
        for row in value["policies"]
        if row["kind"] == FEATURE and row["saving"] > 0
    ]
    return [*against_feature, against_constant]

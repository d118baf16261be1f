"""Small examples of a version's evidence: value, gaps and metrics."""

from __future__ import annotations

from typing import Any

GAP = {
    "slice": "group",
    "value": "1",
    "n": 30,
    "reference": "the others",
    "reference_n": 70,
    "group_metric": 0.4,
    "reference_metric": 0.7,
    "metric": "recall",
    "gap": -0.3,
    "low": -0.5,
    "high": -0.1,
    "n_gaps": 2,
    "relevant_gap": 0.1,
    "group": "the small group",
    "certain": 0.1,
}
UNKNOWN = {
    **GAP,
    "gap": 0.05,
    "low": -0.15,
    "high": 0.25,
    "group": "the new",
    "rows_needed": 4321.0,
}
SMALL = {**GAP, "gap": 0.01, "low": -0.02, "high": 0.04, "group": "the equal"}
HARM: dict[str, Any] = {"conclusive": [GAP], "inconclusive": [UNKNOWN], "small": [SMALL]}
MODEL = {
    "policy": "the model",
    "kind": "model",
    "selection_rate": 0.3,
    "true_positives": 0.2,
    "cost": 0.5,
    "low": 0.4,
    "high": 0.6,
    "saving": 0.123,
    "saving_low": 0.05,
    "saving_high": 0.2,
    **dict.fromkeys(("model_saving", "model_saving_low", "model_saving_high")),
}
EVERYBODY = {
    **{
        "policy": "flag everybody",
        "kind": "constant",
        "selection_rate": 1.0,
        "true_positives": 0.3,
        "cost": 0.623,
        "low": 0.6,
        "high": 0.7,
    },
    **dict.fromkeys(("saving", "saving_low", "saving_high"), 0.0),
    **dict.fromkeys(("model_saving", "model_saving_low", "model_saving_high")),
}
AT_CAPACITY = {
    "flagged": 100,
    "recall": 0.28,
    "recall_low": 0.21,
    "recall_high": 0.37,
    "precision": 0.6,
    "precision_low": 0.5,
    "precision_high": 0.7,
}
VALUE: dict[str, Any] = {
    "task": "binary",
    "unit": "EUR",
    "costs": {"cost_fn": 4, "cost_fp": 1, "cost_tp": 0, "cost_tn": 0},
    "period_rows": 1000,
    "period": "year",
    "period_span": "1 to 3",
    "period_counts": [900, 1100, 1000],
    "mix": {},
    "noun": "members",
    "target": "happened",
    "amount": "",
    "rows": 100,
    "threshold": 0.2,
    "decision_threshold": 0.2,
    "rate": 0.3,
    "capacity": 0.1,
    "capacity_is_set": True,
    "baseline": "flag everybody",
    "gains": {},
    "at_capacity": AT_CAPACITY,
    "policies": [MODEL, EVERYBODY],
}

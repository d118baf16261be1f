"""Renamed keys of env files."""

from __future__ import annotations

RENAMED_KEYS = {
    "cost_miss": "cost_fn",
    "cost_false_alarm": "cost_fp",
    "cost_hit": "cost_tp",
    "cost_rest": "cost_tn",
    "margin": "non_inferiority_margin",
    "slice_loss": "max_slice_drop",
    "fairness": "max_fairness_gap",
    "latency": "max_latency_ms",
    "size": "max_size_mb",
    "floor": "min_quality",
    "rare": "min_category_frequency",
}

"""Renamed keys of env files, parameters, settings and metrics: former name to new name."""

from __future__ import annotations

RENAMED_KEYS = {  # of env files
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
    "tune_rounds": "n_trials",
    "amount": "amount_column",
}

RENAMED_PARAMETERS = {  # of 1.0.0's pipeline.yaml and notebooks
    "leak_auc": "leak_threshold",
    "max_copied_share": "max_duplicate_share",
    "candidate_models": "log_candidate_models",
    "drift": "drift_threshold",
    **{name: RENAMED_KEYS[name] for name in ("tune_rounds", "amount")},
}

RENAMED_METRICS = {
    "calibration_error": "calibration_in_the_large",
    "flagged": "selection_rate",
    "half_within": "median_absolute_error",
    "most_within": "p90_absolute_error",
}

RENAMED_VERSION_KEYS = {  # of metrics.json of versions of 1.0.0
    "harm": "gaps_by_significance",
    "value": "business_value",
}

RENAMED_LEVELS = {"watch": "warning"}  # of verdicts of 1.0.0, accepted until 1.2

# By pattern of the file's name: the new names of settings, by their old names within their group.
RENAMED_SETTINGS = {
    "store.yaml": {"database": "tracking_uri"},
    "serving*.yaml": {
        "keys": "api_keys",
        "log": "log_level",
        "origins": "cors_origins",
        "traffic.share": "challenger_share",
        "traffic.least_users": "min_users",
        "traffic.least_hours": "min_hours",
        "journal.when_down": "on_failure",
        "journal.patience": "timeout_seconds",
        "journal.keep_days": "retention_days",
        "journal.redact": "redacted_columns",
        "limits.body": "max_body_bytes",
        "limits.rows": "max_rows",
        "limits.upload": "max_upload_bytes",
        "limits.seconds": "body_timeout_seconds",
        "limits.rate": "requests_per_second",
        "limits.concurrency": "max_concurrent_requests",
        "stream.rows": "input_stream",
        "stream.answers": "output_stream",
        "stream.group": "consumer_group",
        "stream.claim": "claim_seconds",
        "stream.keep": "max_stream_length",
    },
}

"""Arguments of PyCaret's ``setup`` that a book may set; the stage sets the others."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from modelbook.config import suggest_name
from modelbook.errors import ParameterError
from modelbook.training.class_balancing import get_resampling_arguments

DEFAULT_SETUP_OPTIONS = {
    "numeric_imputation": "median",
    "categorical_imputation": "mode",
    "normalize": True,
}
STAGE_ARGUMENTS = {  # argument of ``setup``: what decides it
    **dict.fromkeys(("data", "data_func", "index", "train_size", "test_data"), "ingest"),
    **dict.fromkeys(("target", "ignore_features", "ordinal_features"), "the contract"),
    **dict.fromkeys(("numeric_features", "categorical_features"), "the contract"),
    **dict.fromkeys(("date_features", "text_features"), "the contract"),
    **dict.fromkeys(("fold", "fold_strategy", "fold_groups", "fold_shuffle"), "`split`, `folds`"),
    **dict.fromkeys(("data_split_shuffle", "data_split_stratify"), "`split` of ingest"),
    "session_id": "`seed`",
    **dict.fromkeys(("n_jobs", "use_gpu", "memory", "verbose", "html", "system_log"), "the stage"),
    **dict.fromkeys(("log_experiment", "experiment_name", "log_plots"), "the stage"),
    **dict.fromkeys(("experiment_custom_tags", "log_profile", "log_data"), "the stage"),
    **dict.fromkeys(("engine", "profile", "profile_kwargs", "preprocess"), "the stage"),
    **dict.fromkeys(("transform_target", "transform_target_method"), "the stage"),
    **dict.fromkeys(("custom_pipeline", "custom_pipeline_position"), "`transformers`"),
}


def check_setup_options(
    experiment_class: Any, options: Mapping[str, Any] | None, imbalance: str
) -> dict[str, Any]:
    """The given options, or the defaults.

    Raises
    ------
    ParameterError
        If ``setup`` has no such argument, or something else decides it.
    """
    if options is None:
        return dict(DEFAULT_SETUP_OPTIONS)
    arguments = set(inspect.signature(experiment_class.setup).parameters) - {"self"}
    balancing = get_resampling_arguments(imbalance)
    for name in options:
        if name not in arguments:
            raise ParameterError(
                f"setup_options: PyCaret's setup has no argument {name!r}",
                expected=suggest_name(name, sorted(arguments - set(STAGE_ARGUMENTS))),
                next="correct `setup_options` in 03_compare",
            )
        decided_by = STAGE_ARGUMENTS.get(name) or ("`imbalance`" if name in balancing else "")
        if decided_by:
            raise ParameterError(
                f"setup_options: {name} = {options[name]!r}, but it is set by {decided_by}",
                expected=f"one of {', '.join(sorted(arguments - set(STAGE_ARGUMENTS)))}",
                next="remove it from `setup_options` in 03_compare",
            )
    return dict(options)

"""LightGBM's text format of a model: the parts that several packages write.

The format is that of ``Booster.save_model``, without what only training reads.
"""

from __future__ import annotations

IS_CATEGORY, MISSING_GO_LEFT, MISSING_IS_NAN = 1, 2, 8  # bits of a decision_type
TEXT_END = "\nend of trees\n"


def write_header(output_count: int, width: int) -> str:
    """Return what precedes the trees of a model with so many outputs and columns."""
    names = " ".join(f"column_{index}" for index in range(width))
    infos = " ".join(["none"] * width)
    return (
        f"tree\nversion=v4\nnum_class={output_count}\nnum_tree_per_iteration={output_count}\n"
        f"label_index=0\nmax_feature_idx={width - 1}\n"
        f"feature_names={names}\nfeature_infos={infos}\n"
    )

"""LightGBM's text format of a model: the parts that several packages write.

The format is that of ``Booster.save_model``, without what only training reads.
"""

from __future__ import annotations

from collections.abc import Iterable

IS_CATEGORY, MISSING_GO_LEFT, MISSING_IS_NAN = 1, 2, 8  # bits of a decision_type


def write_model(output_count: int, width: int, trees: Iterable[list[str]]) -> str:
    """Return a model with so many outputs and columns, from the fields of its trees.

    The trees are those of the first iteration, one for each output, then those of the next.
    """
    names = " ".join(f"column_{index}" for index in range(width))
    infos = " ".join(["none"] * width)
    blocks = [
        f"tree\nversion=v4\nnum_class={output_count}\nnum_tree_per_iteration={output_count}\n"
        f"label_index=0\nmax_feature_idx={width - 1}\n"
        f"feature_names={names}\nfeature_infos={infos}\n"
    ]
    for number, fields in enumerate(trees):
        blocks.append("\n".join([f"Tree={number}", *fields, "is_linear=0", "shrinkage=1", ""]))
    return "\n".join(blocks) + "\nend of trees\n"


def write_field(name: str, values: Iterable[float]) -> str:
    """Return a field of a tree."""
    return f"{name}={' '.join(map(repr, values))}"

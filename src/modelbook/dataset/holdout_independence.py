"""How independent the holdout is of the train rows, estimated before any model is fitted.

Duplicates are found on features alone. An exact one equals a train row in every feature. A near one
is much closer to its nearest train row than the train rows around it are to each other: the ratio
of the distances to the first and to the 50th neighbour is compared with the ratio that is expected
by chance at the local dimension (Levina & Bickel 2004, "Maximum likelihood estimation of intrinsic
dimension"), and with the share among rows that are resampled from the same neighbourhoods. Small
models test whether the rows around a row predict its outcome, and whether a column is an undeclared
entity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from modelbook import tasks
from modelbook.dataset.folds import assign_folds, predict_out_of_fold
from modelbook.dataset.split_strategy import hash_entities
from modelbook.errors import DataError
from modelbook.tasks.metric_format import metric_label
from modelbook.tasks.scored_rows import DIFFERENCE, ScoredRows, jackknife_ci

if TYPE_CHECKING:
    from modelbook.contract import Contract

MAX_ROWS = 1000  # holdout rows that are looked up
MAX_TRAIN_ROWS = 20_000  # train rows to look them up in
N_NEIGHBOURS = 50  # the neighbourhood; duplicates of one row are far fewer
N_NEAREST = 5  # neighbours that would be duplicates
ROWS_PER_CLUSTER = 25  # rows of a cluster of similar rows, which would hold whole groups
NEAR_RATIO = 0.05  # a near duplicate is nearer than this share of the neighbourhood's radius
MIN_GROUPS, MIN_ROWS_PER_GROUP = 20, 2  # minimum for a column that could be an entity
MAX_GROUP_SHARE = 0.5  # share of rows; with a larger group in a fold, too few remain to learn from
MAX_CANDIDATES, MAX_MODEL_ROWS = 5, 4000  # columns tried, rows of each
N_FOLDS, N_TREES = 4, 20  # folds and trees of the models of a column
N_CLUSTER_TREES = 50  # clusters lose less: fewer trees would raise more false alarms
CLUSTER_LOSS = 1 / 3  # share of the gain over chance that is lost when clusters are kept apart
MAX_QUALITY_LOSS = 0.05  # ROC AUC or R² that may be lost when groups are kept apart
N_RESAMPLES = 200
GROUPING_COLUMNS = [
    "column",
    "groups",
    "score_ungrouped",
    "score_grouped",
    "score_drop",
    "low",
    "high",
]


@dataclass(frozen=True)
class HoldoutIndependence:
    """Holdout rows that duplicate train rows.

    Attributes
    ----------
    exact_share, near_share : float
        Share of them that equal a train row in every feature, and that equal or nearly equal one.
    chance_share : float
        Share of such rows expected by chance.
    sampled_rows : int
        Rows from which ``near_share`` and ``chance_share`` are estimated.
    """

    rows: int
    exact_share: float
    near_share: float
    chance_share: float
    sampled_rows: int

    @property
    def duplicate_share(self) -> float:
        """Share of holdout rows that are exact or near duplicates, beyond chance."""
        return max(0.0, self.near_share - self.chance_share)

    def describe_duplicates(self) -> str:
        """State how many holdout rows are duplicates, and from how many that is estimated."""
        n_duplicates = round(self.rows * self.duplicate_share)
        subject = f"about {n_duplicates:,} of {self.rows:,}" if n_duplicates else "no"
        return f"{subject} holdout rows repeat a training row exactly or nearly, beyond chance" + (
            f" (estimated from {self.sampled_rows:,} rows)" if self.sampled_rows < self.rows else ""
        )

    def to_table(self) -> pd.DataFrame:
        """Columns ``measure, share of holdout rows`` for the report."""
        return pd.DataFrame(
            [
                ("exact duplicates of training rows", self.exact_share),
                ("exact or near duplicates", self.near_share),
                ("exact or near duplicates by chance", self.chance_share),
                ("duplicates beyond chance", self.duplicate_share),
            ],
            columns=["measure", "share of holdout rows"],
        )

    def require_independence(self, max_duplicate_share: float, contract: Contract) -> None:
        """Raise DataError if too many holdout rows repeat train rows (more than the share)."""
        if self.duplicate_share <= max_duplicate_share:
            return
        declared = (
            f"the entity {contract.entity} does not keep duplicates together"
            if contract.entity
            else "the contract declares no entity"
        )
        raise DataError(
            f"{self.duplicate_share:.0%} of the {self.rows:,} holdout rows repeat a training row "
            f"in their features, exactly or nearly, beyond the {self.chance_share:.0%} of chance; "
            f"{declared}",
            expected=f"at most {max_duplicate_share:.0%} (max_duplicate_share)",
            next="give the column that the duplicates have in common the role entity in the "
            "contract, or remove the duplicates from the table; max_duplicate_share: 1 accepts "
            "them",
        )


def measure_independence(
    train: pd.DataFrame, holdout: pd.DataFrame, contract: Contract, *, seed: int
) -> HoldoutIndependence:
    """Measure which holdout rows repeat train rows, on features alone."""
    from sklearn.neighbors import NearestNeighbors

    train_matrix, holdout_matrix = _standardize(contract, train, holdout)
    rng = np.random.default_rng(seed)
    train_matrix = _sample_rows(train_matrix, MAX_TRAIN_ROWS, rng)
    holdout_sample = _sample_rows(holdout_matrix, MAX_ROWS, rng)
    n_neighbours = min(N_NEIGHBOURS, len(train_matrix))
    index = NearestNeighbors(n_neighbors=n_neighbours).fit(train_matrix)
    distances, neighbours = index.kneighbors(holdout_sample)
    local_draws = _draw_from_neighbourhoods(train_matrix, neighbours, rng)
    draw_distances, _ = index.kneighbors(local_draws)
    is_near = _is_near_duplicate(distances)
    chance = max(
        _estimate_chance_by_dimension(distances), float(_is_near_duplicate(draw_distances).mean())
    )
    is_exact = contract.hash_features(holdout).isin(set(contract.hash_features(train)))
    return HoldoutIndependence(
        len(holdout),
        float(is_exact.mean()),
        float(is_near.mean()),
        min(chance, 1.0),
        len(holdout_sample),
    )


def find_undeclared_entities(
    train: pd.DataFrame, contract: Contract, groups: pd.Series, *, seed: int
) -> pd.DataFrame:
    """Try the columns that could be the entity, and the rows around each row.

    A small model is cross-validated twice: with the declared groups, and with folds that also keep
    the column's groups together. A significantly lower score shows that rows of one group reveal
    each other's outcome.

    Parameters
    ----------
    groups : Series
        Group of each train row, as the split keeps them together.

    Returns
    -------
    DataFrame
        Columns ``column`` (empty: the rows around a row), ``groups``, ``score_ungrouped,
        score_grouped`` (ROC AUC or R² by folds that ignore the groups, and that keep them
        together), ``score_drop, low, high`` and ``is_suspect``; largest drop first.
    """
    ungrouped_cache: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    rows = [
        {
            "column": name,
            "groups": train[name].nunique(),
            **_try_grouping(train, contract, groups, train[name], seed, ungrouped_cache),
        }
        for name in _find_candidate_entities(train, contract)
    ]
    neighbours = _try_neighbours(train, contract, groups, seed)
    if neighbours.get("low", np.nan) > MAX_QUALITY_LOSS:
        # The mean of the nearest rows is better for a target with high local variation, too.
        neighbours = _try_clusters(train, contract, groups, seed)
    rows += [{"column": "", "groups": None, **neighbours}]
    table = pd.DataFrame(rows, columns=GROUPING_COLUMNS).dropna(subset=["score_drop"])
    is_confirmed = [contract.is_confirmed(name or contract.target) for name in table["column"]]
    gain = table["score_ungrouped"] - tasks.get_task(contract).quality_chance_level
    # A target with high local variation loses a little, too, without whole clusters.
    is_large = (table["column"] != "") | (table["score_drop"] > CLUSTER_LOSS * gain)
    table["is_suspect"] = (
        (table["low"] > MAX_QUALITY_LOSS) & is_large & ~np.array(is_confirmed, dtype=bool)
    )
    return table.sort_values("score_drop", ascending=False, kind="stable", ignore_index=True)


def describe_scores(contract: Contract) -> str:
    """Caption of ``find_undeclared_entities``: the metric, and which drop is suspect."""
    measure = metric_label(tasks.get_task(contract).quality_metric)
    return (
        f"{measure} of small models, with groups shared between folds and grouped; suspect: a drop "
        f"whose interval lies above {MAX_QUALITY_LOSS:g}; without an interval (too few groups of a "
        "class) the scores are not interpretable"
    )


def make_groupings_table(groupings: pd.DataFrame) -> pd.DataFrame:
    """The groupings to show: those without an interval are neither suspect nor not."""
    return groupings.assign(
        column=groupings["column"].replace("", "nearest rows"),
        is_suspect=groupings["is_suspect"].astype(object).where(groupings["low"].notna(), None),
    )


def describe_suspicions(groupings: pd.DataFrame, contract: Contract) -> list[str]:
    """A sentence for each suspicious grouping of ``find_undeclared_entities``."""
    measure = metric_label(tasks.get_task(contract).quality_metric)
    return [
        f"The holdout may not be independent: a small model reaches {measure} "
        f"{row.score_ungrouped:.2f}, but {row.score_grouped:.2f} when "
        + (
            f"rows of one {contract.label(row.column)} are kept together. Give {row.column} the "
            "role entity in the contract, or confirm it with a reason."
            if row.column
            else "the nearest rows are left out. Give the column that such rows have in common "
            f"the role entity in the contract, or confirm {contract.target} with a reason."
        )
        for row in groupings[groupings["is_suspect"]].itertuples()
    ]


def _find_candidate_entities(train: pd.DataFrame, contract: Contract) -> list[str]:
    """The columns whose values repeat as an entity's would, most values first, a few at most."""
    roles = ("id", "dropped", "sensitive", "feature")
    n_values = {
        name: train[name].nunique()
        for name, column in contract.columns.items()
        if name in train and column.role in roles and column.type != "boolean"
        if column.type != "number" or column.role != "feature"
    }
    candidates = [
        name
        for name, n in n_values.items()
        if n >= MIN_GROUPS and len(train) / n >= MIN_ROWS_PER_GROUP
    ]
    return sorted(candidates, key=lambda name: -n_values[name])[:MAX_CANDIDATES]


def _try_grouping(
    train: pd.DataFrame,
    contract: Contract,
    groups: pd.Series,
    values: pd.Series,
    seed: int,
    ungrouped_cache: dict[bytes, tuple[np.ndarray, np.ndarray]],
    n_trees: int = N_TREES,
) -> dict[str, float]:
    """Scores of small models whose folds ignore a column's groups, and keep them together.

    Empty where too few groups are left when they are joined with the declared ones, or one of them
    holds most rows. ``ungrouped_cache`` holds the encoded features and the predictions with the
    declared groups, by sample of rows: all columns of a small table have the same sample.
    """
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    values = values.astype(object).where(values.notna(), None).map(repr)
    is_sampled = _sample_groups(values, MAX_MODEL_ROWS, seed)
    rows, values = train[is_sampled], values[is_sampled]
    declared_groups = groups[is_sampled].reset_index(drop=True)
    joined_groups = _join_groups(declared_groups, values.reset_index(drop=True))
    group_shares = joined_groups.value_counts(normalize=True)
    if len(group_shares) < N_FOLDS or group_shares.iloc[0] > MAX_GROUP_SHARE:
        return {}
    target = contract.encode_target(rows).to_numpy()
    n_classes = len(contract.classes)
    model_class = ExtraTreesClassifier if n_classes else ExtraTreesRegressor
    model = model_class(n_estimators=n_trees, min_samples_leaf=2, random_state=seed)

    def predict(matrix: np.ndarray, grouping: pd.Series) -> np.ndarray:
        folds = assign_folds(grouping, None, N_FOLDS)
        return predict_out_of_fold(model, matrix, target, folds, n_classes)

    sample_key = is_sampled.to_numpy().tobytes()
    if sample_key not in ungrouped_cache:
        [matrix] = _standardize(contract, rows)
        ungrouped_cache[sample_key] = matrix, predict(matrix, declared_groups)
    matrix, ungrouped_predictions = ungrouped_cache[sample_key]
    grouped_predictions = predict(matrix, joined_groups)
    return _compare_quality(
        ungrouped_predictions, grouped_predictions, target, joined_groups.to_numpy(), contract, seed
    )


def _try_neighbours(
    train: pd.DataFrame, contract: Contract, groups: pd.Series, seed: int
) -> dict[str, float]:
    """Quality of the nearest rows of other groups as predictions, and of those farther away."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(seed)
    n_neighbours = min(2 * N_NEIGHBOURS, len(train))
    [matrix] = _standardize(contract, train)
    target = contract.encode_target(train).to_numpy()
    group_codes = pd.factorize(groups)[0]
    sample_index = rng.permutation(len(train))[:MAX_ROWS]
    index = NearestNeighbors(n_neighbors=n_neighbours).fit(matrix)
    neighbours = index.kneighbors(matrix[sample_index], return_distance=False)
    shares_group = group_codes[neighbours] == group_codes[sample_index][:, None]
    order = np.argsort(shares_group, axis=1, kind="stable")
    neighbours = np.take_along_axis(neighbours, order, axis=1)
    if (~shares_group).sum(axis=1).min() < N_NEIGHBOURS:
        return {}
    nearest, distant = (
        _compute_mean_outcome(target[neighbours[:, part]], contract)
        for part in (slice(0, N_NEAREST), slice(N_NEIGHBOURS // 2, N_NEIGHBOURS))
    )
    return _compare_quality(
        nearest, distant, target[sample_index], group_codes[sample_index], contract, seed
    )


def _try_clusters(
    train: pd.DataFrame, contract: Contract, groups: pd.Series, seed: int
) -> dict[str, float]:
    """Scores of small models whose folds ignore clusters of similar rows, and keep them together.

    A model learns a function from other clusters as well; the outcomes of rows of a group it learns
    only from this group.
    """
    from sklearn.cluster import KMeans

    sample_index = np.random.default_rng(seed).permutation(len(train))[:MAX_MODEL_ROWS]
    rows = train.iloc[sample_index].reset_index(drop=True)
    groups = groups.iloc[sample_index]
    [matrix] = _standardize(contract, rows)
    n_clusters = max(len(rows) // ROWS_PER_CLUSTER, 2 * N_FOLDS)
    clusters = KMeans(n_clusters, n_init=1, random_state=seed).fit_predict(matrix)
    return _try_grouping(rows, contract, groups, pd.Series(clusters), seed, {}, N_CLUSTER_TREES)


def _compare_quality(
    ungrouped_predictions: np.ndarray,
    grouped_predictions: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    contract: Contract,
    seed: int,
) -> dict[str, float]:
    """Scores of both predictions and their difference, with its 95% interval by group."""
    task = tasks.get_task(contract)
    if not task.is_evaluable(target):
        return {}
    metric = task.metric_functions()[task.quality_metric]

    def compute_drop(weight: np.ndarray) -> np.ndarray:
        return metric(target, ungrouped_predictions, weight) - metric(
            target, grouped_predictions, weight
        )

    unit_weights = np.ones(len(target))
    scored = ScoredRows(target, ungrouped_predictions, groups)
    low, high = jackknife_ci(compute_drop, scored, DIFFERENCE, resamples=N_RESAMPLES, seed=seed)
    return {
        "score_ungrouped": metric(target, ungrouped_predictions, unit_weights),
        "score_grouped": metric(target, grouped_predictions, unit_weights),
        "score_drop": float(compute_drop(unit_weights)),
        "low": low,
        "high": high,
    }


def _compute_mean_outcome(outcomes: np.ndarray, contract: Contract) -> np.ndarray:
    """Mean outcome of each row's neighbours, in the form of ``ScoredRows.score``."""
    n_classes = len(contract.classes)
    if n_classes <= 2:
        return outcomes.mean(axis=1)
    return (outcomes[:, :, None] == np.arange(n_classes)).mean(axis=1)


def _sample_groups(values: pd.Series, max_rows: int, seed: int) -> pd.Series:
    """Mask of whole groups with about ``max_rows`` rows together."""
    share = max_rows / max(len(values), 1)
    return hash_entities(values, seed) < share


def _join_groups(first: pd.Series, second: pd.Series) -> pd.Series:
    """Groups that keep together what either grouping keeps together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    codes = [pd.factorize(groups)[0] for groups in (first, second)]
    n_first, n_second = (code.max() + 1 for code in codes)
    links = coo_array(
        (np.ones(len(first)), (codes[0], codes[1] + n_first)),
        shape=(n_first + n_second, n_first + n_second),
    )
    return pd.Series(connected_components(links, directed=False)[1][codes[0]])


def _is_near_duplicate(distances: np.ndarray) -> np.ndarray:
    """Whether the nearest neighbour is much closer than the neighbourhood's radius."""
    return (distances[:, 0] <= NEAR_RATIO * distances[:, -1]) & (distances[:, -1] > 0)


def _estimate_chance_by_dimension(distances: np.ndarray) -> float:
    """Share of near duplicates expected in a smooth density of the neighbourhoods' dimension.

    In ``m`` dimensions the ratio of two distances, to the power of ``m``, is the ratio of the
    numbers of neighbours. The dimension is taken from the farther half of the neighbours, which
    duplicates of single rows do not reach.
    """
    n_neighbours = distances.shape[1]
    middle = distances[:, n_neighbours // 2 - 1]
    has_size = middle > 0
    if not has_size.any():
        return 1.0
    growth = np.log(distances[has_size, -1] / middle[has_size])
    if not (growth > 0).any():
        return 1.0
    dimension = np.log(2) / growth.mean()
    return float(1 - (1 - NEAR_RATIO**dimension) ** (n_neighbours - 1))


def _draw_from_neighbourhoods(
    matrix: np.ndarray, neighbours: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Resampled rows: each value from one of the farther neighbours of a row.

    Values on a grid, and categories, coincide by chance as often as in the table itself.
    """
    farther = neighbours[:, neighbours.shape[1] // 2 :]
    n_rows = len(neighbours)
    n_columns = matrix.shape[1]
    columns_drawn = rng.integers(0, farther.shape[1], (n_rows, n_columns))
    donors = np.take_along_axis(farther, columns_drawn, axis=1)
    return matrix[donors, np.arange(n_columns)]


def _sample_rows(matrix: np.ndarray, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    if len(matrix) <= n_rows:
        return matrix
    return matrix[np.sort(rng.choice(len(matrix), n_rows, replace=False))]


def _standardize(
    contract: Contract, reference: pd.DataFrame, *others: pd.DataFrame
) -> list[np.ndarray]:
    """Features of each table as comparable numbers: deviations for numbers, codes for categories.

    Median and standard deviation are those of ``reference``, which is the first of the tables.
    """
    tables = [contract.select_features(table) for table in (reference, *others)]
    columns: list[list[np.ndarray]] = [[] for _ in tables]
    for name in contract.feature_names:
        values = pd.concat([table[name] for table in tables], ignore_index=True)
        if name in contract.categorical_features:
            values = values.astype(object)
            values = pd.Series(pd.factorize(values.where(values.notna(), None))[0])
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        of_reference = pd.Series(numbers[: len(reference)])
        sd = of_reference.std()
        if not np.isfinite(sd) or sd == 0:
            continue
        numbers = np.where(np.isnan(numbers), -3 * sd, numbers - of_reference.median()) / sd
        parts = np.split(numbers, np.cumsum([len(table) for table in tables])[:-1])
        for table_columns, part in zip(columns, parts, strict=True):
            table_columns.append(part)
    return [
        np.column_stack(table_columns or [np.zeros(len(table))])
        for table, table_columns in zip(tables, columns, strict=True)
    ]

"""Behaviour of the bundled book's model: invariance, direction, minimum functionality."""

from __future__ import annotations

import pandas as pd
import pytest

from modelbook.contract import Contract

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(built_project):
    """A function that returns the champion's probabilities for raw rows."""
    from modelbook.registry import versions

    champion = versions.get_champion(built_project.root, "tiny")
    loaded = versions.load_pyfunc(built_project.root, champion)
    names = loaded.metadata.get_input_schema().input_names()
    return lambda rows: loaded.predict(rows[names])["probability"]


@pytest.fixture(scope="module")
def rows(built_project) -> pd.DataFrame:
    return pd.read_parquet(built_project.root / "data/tiny/holdout.parquet")


class TestInvariance:
    def test_predictions_are_invariant_to_row_order(self, model, rows):
        shuffled = rows.sample(frac=1, random_state=0)
        pd.testing.assert_series_equal(model(shuffled).sort_index(), model(rows))

    def test_predictions_are_invariant_to_column_order(self, built_project, rows):
        from modelbook.registry import versions

        champion = versions.get_champion(built_project.root, "tiny")
        contract, pipeline = champion.contract, champion.load_evaluated_pipeline()
        reversed_columns = rows[rows.columns[::-1]]
        is_equal = pipeline.predict_proba(
            contract.select_features(reversed_columns)
        ) == pipeline.predict_proba(contract.select_features(rows))
        assert is_equal.all()

    def test_single_row_prediction_equals_batch_prediction(self, model, rows):
        assert model(rows.iloc[[7]]).iloc[0] == pytest.approx(model(rows).iloc[7], abs=1e-12)

    def test_sensitive_column_is_not_an_input(self, model, rows):
        pd.testing.assert_series_equal(model(rows.drop(columns="black")), model(rows))


class TestDirection:
    @pytest.mark.parametrize("column", ["prev_meddol", "prev_outpdol", "prev_drugdol", "disea"])
    def test_more_care_or_disease_does_not_lower_mean_prediction(self, model, rows, column):
        expected_values = rows.dropna(subset=[column])
        with_more_disease = expected_values.assign(
            **{column: expected_values[column] + expected_values[column].std()}
        )
        assert model(with_more_disease).mean() >= model(expected_values).mean() - 0.005

    def test_free_care_has_higher_mean_prediction_than_paid_care(self, model, rows):
        free = rows.assign(coins=0.0, plan="11", mdeoff=0.0)
        paid = rows.assign(coins=95.0, plan="16", mdeoff=1000.0)
        assert model(free).mean() > model(paid).mean()


class TestMinimumFunctionality:
    def test_clear_cases_are_separated(self, model, rows):
        base = rows.iloc[[0]]
        ill = base.assign(
            xage=60.0,
            child=0.0,
            prev_meddol=3000.0,
            prev_outpdol=600.0,
            prev_drugdol=300.0,
            disea=40.0,
        )
        well = base.assign(
            xage=8.0, child=1.0, prev_meddol=0.0, prev_outpdol=0.0, prev_drugdol=0.0, disea=5.0
        )
        assert model(ill).iloc[0] > 2 * model(well).iloc[0]

    def test_every_allowed_missing_value_is_predicted(self, built_project, model, rows):
        contract = Contract.load(built_project.root / "data/tiny/contract.yaml")
        nullable = [name for name in contract.feature_names if contract.columns[name].nullable]
        predictions = model(rows.assign(**dict.fromkeys(nullable, float("nan"))))
        assert predictions.between(0, 1).all()


class TestTrainServeSkew:
    def test_registered_model_matches_its_pipeline(self, built_project, rows):
        import cloudpickle

        from modelbook.registry import versions

        champion = versions.get_champion(built_project.root, "tiny")
        with (champion.artifact_folder / "model.pkl").open("rb") as file:
            trained = cloudpickle.load(file).predict_proba(champion.contract.select_features(rows))[
                :, 1
            ]
        predictions = versions.load_pyfunc(built_project.root, champion).predict(
            champion.contract.select_features(rows)
        )["probability"]
        assert (predictions.to_numpy() == trained).all()

    def test_reference_scores_match_evaluated_pipeline(self, built_project):
        from modelbook.registry import versions

        champion = versions.get_champion(built_project.root, "tiny")
        reference = champion.reference
        scores = champion.load_evaluated_pipeline().predict_proba(
            champion.contract.select_features(reference)
        )[:, 1]
        assert (scores == reference["score"].to_numpy()).all()

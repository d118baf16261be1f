"""The registered model behaves: invariance, direction, and the least it must be able to do, on the bundled book."""

from __future__ import annotations

import pandas as pd
import pytest

from modelbook.contract import Contract

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(built):
    """The champion's answers: a frame of raw rows in, probabilities out."""
    from modelbook.registry import versions

    champion = versions.get_champion(built.root, "tiny")
    loaded = versions.load_pyfunc(built.root, champion)
    names = loaded.metadata.get_input_schema().input_names()
    return lambda rows: loaded.predict(rows[names])["probability"]


@pytest.fixture(scope="module")
def rows(built) -> pd.DataFrame:
    return pd.read_parquet(built.root / "data/tiny/holdout.parquet")


class TestInvariance:
    def test_the_order_of_rows_does_not_matter(self, model, rows):
        shuffled = rows.sample(frac=1, random_state=0)
        pd.testing.assert_series_equal(model(shuffled).sort_index(), model(rows))

    def test_the_order_of_columns_does_not_matter(self, built, rows):
        from modelbook.registry import versions

        champion = versions.get_champion(built.root, "tiny")
        contract, pipeline = champion.contract, champion.load_holdout_pipeline()
        turned = rows[rows.columns[::-1]]
        same = pipeline.predict_proba(contract.select_features(turned)) == pipeline.predict_proba(
            contract.select_features(rows)
        )
        assert same.all()

    def test_one_row_alone_gets_the_answer_it_gets_among_others(self, model, rows):
        assert model(rows.iloc[[7]]).iloc[0] == pytest.approx(model(rows).iloc[7], abs=1e-12)

    def test_a_sensitive_column_is_not_even_asked_for(self, model, rows):
        pd.testing.assert_series_equal(model(rows.drop(columns="black")), model(rows))


class TestDirection:
    @pytest.mark.parametrize("column", ["prev_meddol", "prev_outpdol", "prev_drugdol", "disea"])
    def test_more_care_last_year_or_more_disease_is_no_lower_on_average(self, model, rows, column):
        expected_values = rows.dropna(subset=[column])
        more = expected_values.assign(
            **{column: expected_values[column] + expected_values[column].std()}
        )
        assert model(more).mean() >= model(expected_values).mean() - 0.005

    def test_free_care_is_used_more_than_care_that_is_paid_for(self, model, rows):
        free = rows.assign(coins=0.0, plan="11", mdeoff=0.0)
        paid = rows.assign(coins=95.0, plan="16", mdeoff=1000.0)
        assert model(free).mean() > model(paid).mean()


class TestLeast:
    def test_the_plainest_cases_are_told_apart(self, model, rows):
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

    def test_every_gap_that_the_contract_allows_gets_an_answer(self, built, model, rows):
        contract = Contract.load(built.root / "data/tiny/contract.yaml")
        nullable = [name for name in contract.feature_names if contract.columns[name].nullable]
        answers = model(rows.assign(**dict.fromkeys(nullable, float("nan"))))
        assert answers.between(0, 1).all()


class TestSkew:
    def test_the_registered_model_answers_as_the_pipeline_it_was_made_of(self, built, rows):
        import cloudpickle

        from modelbook.registry import versions

        champion = versions.get_champion(built.root, "tiny")
        with (champion.artifact_folder / "model.pkl").open("rb") as file:
            trained = cloudpickle.load(file).predict_proba(champion.contract.select_features(rows))[
                :, 1
            ]
        served = versions.load_pyfunc(built.root, champion).predict(
            champion.contract.select_features(rows)
        )["probability"]
        assert (served.to_numpy() == trained).all()

    def test_the_reference_holds_the_scores_of_the_model_that_the_holdout_judged(self, built):
        from modelbook.registry import versions

        champion = versions.get_champion(built.root, "tiny")
        reference = champion.reference
        answers = champion.load_holdout_pipeline().predict_proba(
            champion.contract.select_features(reference)
        )[:, 1]
        assert (answers == reference["score"].to_numpy()).all()

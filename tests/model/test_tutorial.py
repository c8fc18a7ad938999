"""On a random walk the usual tutorial claims success; the same forecasts lose to the last price."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from backsight_model.tutorial import Outcome, daily_closes, follow
from jinja2 import Environment, PackageLoader, StrictUndefined

DAY = np.timedelta64(1, "D")
DAYS = np.datetime64("2021-01-02T00:00:00", "us") + np.arange(420) * DAY
WALK = 20_000 * np.exp(np.cumsum(0.02 * np.random.default_rng(4).standard_normal(420)))


@pytest.fixture(scope="module")
def outcomes() -> tuple[Outcome, ...]:
    # Two days without a price, for the recipe that fills.
    kept = np.delete(np.arange(420), [50, 300])
    return follow(DAYS[kept], WALK[kept], first_test=DAYS[250], seed=1)


@pytest.mark.slow
def test_the_claim_looks_good_and_the_truth_does_not(outcomes: tuple[Outcome, ...]) -> None:
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert outcome.honest_rmse > 1.2 * outcome.persistence_rmse
        assert outcome.honest_mape > outcome.persistence_mape
        assert 0.35 < outcome.accuracy < 0.65
        assert "above the" in outcome.truth
    alone, filled, trained = outcomes
    assert alone.claim.endswith('% accurate"')
    assert 1 - alone.mape > 0.9
    assert 1 - filled.mape > 0.8
    assert min(alone.echo, trained.echo) > 0.2
    assert trained.training_loss < 0.01
    assert trained.r2 > 0.9


@pytest.mark.slow
def test_honest_days_were_not_learnt_from(outcomes: tuple[Outcome, ...]) -> None:
    alone, filled, trained = outcomes
    assert (alone.days, filled.days, trained.days) == (169, 170, 84)
    assert alone.first == filled.first == str(DAYS[250].astype("datetime64[D]"))
    # The tutorial that filled two days saw two moves of nothing, and its days are two more.
    assert alone.to_json()["claim"] == alone.claim


@pytest.mark.parametrize(("first_test", "count"), [(40, 420), (250, 270)])
def test_too_few_days_give_nothing(first_test: int, count: int) -> None:
    assert follow(DAYS[:count], WALK[:count], first_test=DAYS[first_test], seed=1) == ()


def test_a_day_closes_at_midnight_with_the_price_that_stands_now() -> None:
    at = [datetime(2024, 1, 1, 23, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)]
    known = [datetime(2024, 1, 3, hour, tzinfo=UTC) for hour in (1, 1, 2)]
    days, closes = daily_closes(pl.DataFrame({"observed_at": at, "available_at": known, "close": [1.0, 2.0, 3.0]}))
    assert days.tolist() == [datetime(2024, 1, 2)]  # noqa: DTZ001
    assert closes.tolist() == [3.0]


@pytest.mark.slow
def test_the_report_shows_claim_and_truth_and_leaves_out_what_there_is_not(outcomes: tuple[Outcome, ...]) -> None:
    environment = Environment(loader=PackageLoader("backsight_model", "templates"), undefined=StrictUndefined)
    section = environment.get_template("tutorial.html.j2")
    rows = [outcome.to_json() for outcome in outcomes]
    page = section.render(report={"cautionary": {"caption": "daily closes", "rows": rows}})
    for outcome in outcomes:
        assert outcome.claim in page
        assert f"{outcome.persistence_rmse:.4g}" in page
    assert section.render(report={"cautionary": {"caption": "daily closes", "rows": []}}).strip() == ""


@pytest.mark.slow
def test_the_same_seed_tells_the_same(outcomes: tuple[Outcome, ...]) -> None:
    kept = np.delete(np.arange(420), [50, 300])
    assert follow(DAYS[kept], WALK[kept], first_test=DAYS[250], seed=1) == outcomes

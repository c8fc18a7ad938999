"""Policies live through one tape: from the same model on, and from the past alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from backsight_features.errors import BadInput
from backsight_model import challenge, simulation_report
from backsight_model.manifest import Manifest
from backsight_model.policies import Policy
from backsight_model.settings import Settings
from backsight_model.simulation import Simulation, simulate
from backsight_model.training import TrainingSet

pytestmark = pytest.mark.slow

TINY = Settings(members=1, epochs=1, units=2, projection=2)
DAY = timedelta(hours=24)
World = Callable[..., TrainingSet]


def lived(data: TrainingSet, *policies: str) -> Simulation:
    return simulate(
        data,
        [Policy.parse(policy) for policy in policies],
        settings=TINY,
        embargo=DAY,
        seed=1,
        done=lambda line: None,
    )


@pytest.fixture(scope="module")
def short(world: World) -> TrainingSet:
    return world(0, hours=1900, turbulence=0.5, length=6)


@pytest.fixture(scope="module")
def over_short(short: TrainingSet) -> Simulation:
    return lived(short, "every:300", "never", "every:9999")


def test_each_policy_forecasts_the_same_instants_from_the_same_first_model(
    short: TrainingSet, over_short: Simulation
) -> None:
    never, often, idle = over_short.lives
    assert [life.policy.name for life in over_short.lives] == ["never", "every:300", "every:9999"]
    assert (never.refits, never.seconds) == ((), 0)
    np.testing.assert_array_equal(over_short.at, short.at[-len(over_short.at) :])
    for life in over_short.lives:
        for values in life.lost.values():
            assert values.shape == over_short.at.shape
            assert np.isfinite(values).all()
        for target, values in life.lost.items():  # the first week, before anybody can have trained again
            np.testing.assert_array_equal(values[:168], never.lost[target][:168])
    assert [len(life.refits) for life in (often, idle)] == [2, 0]
    assert often.refits[1].at - often.refits[0].at == np.timedelta64(336, "h")
    assert often.seconds > 0
    compared = often.refits[0].comparison
    assert compared.samples >= 72
    assert compared.champion.keys() == compared.challenger.keys() == never.lost.keys()


def test_a_challenger_learns_before_it_is_compared_and_is_compared_on_what_was_known(
    short: TrainingSet, over_short: Simulation
) -> None:
    label_at = dict(zip(short.at.tolist(), short.label_at.tolist(), strict=True))
    for life in over_short.lives:
        for refit in life.refits:
            assert label_at[refit.comparison.last.tolist()] <= refit.at.tolist()
            part = challenge.learnable(short.at, short.label_at, refit.comparison.first, embargo=DAY, window=None)
            assert (short.label_at[part.train] <= refit.comparison.first).all()


def test_nothing_that_became_known_later_changes_a_decision_a_fit_or_a_loss(
    short: TrainingSet, over_short: Simulation
) -> None:
    now = over_short.lives[1].refits[1].at
    late, unseen = short.label_at > now, short.at > now
    rows, log_rv, log_return = short.windows.rows.copy(), short.log_rv.copy(), short.log_return.copy()
    rows[:-1][short.windows.row_available_at > now] *= -7
    log_rv[late], log_return[late] = 99.0, -np.abs(log_return[late]) - 1
    changed = replace(short, windows=replace(short.windows, rows=rows), log_rv=log_rv, log_return=log_return)
    other = lived(changed, "every:300")
    known = np.searchsorted(over_short.at, short.at[late][0])
    assert unseen.sum() > 100
    for one, same in zip(over_short.lives[:2], other.lives, strict=True):
        before, again = ([refit for refit in life.refits if refit.at <= now] for life in (one, same))
        assert [(refit.at, refit.why, refit.comparison) for refit in before] == [
            (refit.at, refit.why, refit.comparison) for refit in again
        ]
        assert len(before) == (0 if one.policy.name == "never" else 2)
        for target, values in one.lost.items():
            np.testing.assert_array_equal(values[:known], same.lost[target][:known])
            assert (values[known:] != same.lost[target][known:]).any()


@pytest.mark.prove
def test_a_worse_challenger_does_not_take_over(short: TrainingSet) -> None:
    # What came between the first fit and the stretch is nonsense: who learns it is worse for it.
    start = short.at[0] + (short.at[-1] - short.at[0]) * 2 // 5
    nonsense = (short.label_at > start) & (short.at < start + np.timedelta64(200, "h"))
    log_rv = np.where(nonsense, short.log_rv + 6.0, short.log_rv)
    never, every = lived(replace(short, log_rv=log_rv), "every:504:cold").lives
    assert every.refits[0].comparison.won is False
    assert every.taken == 0
    assert "the challenger is worse" in every.refits[0].comparison.words
    for target, values in every.lost.items():
        np.testing.assert_array_equal(values, never.lost[target])


def test_what_differs_in_nothing_is_no_gain(over_short: Simulation) -> None:
    assert over_short.adjusted["every:9999"] == {"volatility": 1.0, "direction": 1.0}
    assert over_short.sentences[-1] == (
        "every:9999: 0 of 0 challengers took over, 0 s of CPU; gain on never: volatility +0.00 % (p = 1.0000), "
        "direction +0.00 % (p = 1.0000), corrected."
    )


def test_a_tape_needs_some_length(short: TrainingSet) -> None:
    with pytest.raises(BadInput, match="are too few for a tape; 96 are needed"):
        lived(short.first(120), "drift")


def test_the_report_holds_all_numbers_and_no_address(
    short: TrainingSet, over_short: Simulation, tmp_path: Path
) -> None:
    manifest = Manifest(
        series=["bitstamp:BTC-USD:1h"], service="forecast_1h", features_sha256="", length=6, horizon=24, seed=1,
        ingested_until="", first_at="", last_at="", lake_versions={}, feature_versions={}, scorer="words@1",
        code="0.1.0", samples=len(short), sha256=short.sha256(),
    )  # fmt: skip
    html, as_json = simulation_report.write(over_short, manifest, TINY, tmp_path)
    document = json.loads(as_json.read_text())
    assert [one["policy"] for one in document["policies"]] == ["never", "every:300", "every:9999"]
    warm = document["policies"][1]
    assert warm["challengers"] == len(over_short.lives[1].refits) == len(warm["refits"])
    assert warm["loss"]["volatility"] == pytest.approx(over_short.lives[1].lost["volatility"].mean())
    assert warm["against_never"]["volatility"]["adjusted"] == over_short.adjusted["every:300"]["volatility"]
    page = html.read_text()
    assert over_short.sentences[0] in page
    assert page.count("<img ") == 2
    assert "http" not in page.replace("http-equiv", "")

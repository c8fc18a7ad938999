"""The audit of a model: what it makes of its training set, and what convicts."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from backsight_model import audit_model, proof
from backsight_model.audit_model import audit
from backsight_model.settings import Settings
from backsight_model.splits import walk_forward
from backsight_model.training import TrainingSet
from backsight_model.verdict import Verdict
from backsight_model.walk import MODEL

World = Callable[..., TrainingSet]
DAY = timedelta(hours=24)
SMALL = Settings(members=1, epochs=1)
SEED = SimpleNamespace(seed=3)
BUNDLE: Any = SimpleNamespace(name="forecast_1h-1", service="forecast_1h", settings=SMALL, manifest=SEED)


@pytest.fixture(scope="module")
def data(world: World) -> TrainingSet:
    return world(5, hours=1500, length=4)


def tried(gain: float, p_value: float, **walked: Any) -> Any:
    """Return a walk with one and the same result in both targets."""
    one = proof.Comparison(
        model=MODEL, reference="HAR-X", count=900, loss=1 - gain, reference_loss=1.0, gain=gain, low=0, high=0,
        p_value=p_value, detectable=0.1,
    )  # fmt: skip
    claims = proof.judge({"volatility": (one,), "direction": (one,)})
    signs = proof.Directional(accuracy=0.5, statistic=0, p_value=1, detectable=0.1)
    verdict = Verdict(claims=claims, comparisons={"volatility": (), "direction": ()}, directional=signs)
    rng = np.random.default_rng(9)
    lost = {MODEL: 1 - gain + 0.1 * rng.standard_normal(900)}
    losses: Any = SimpleNamespace(of=lambda target: lost, lag=24)
    return audit_model._Try(walked=SimpleNamespace(**walked), lost=losses, verdict=verdict)  # type: ignore[arg-type]


def test_backwards_nothing_is_learnt_from_before_the_test_and_what_lies_between_is_purged(data: TrainingSet) -> None:
    parts = audit_model._backwards(data, folds=3, embargo=DAY)
    assert len(parts) == 3
    for part in parts:
        assert data.at[part.train].min() >= data.label_at[part.test].max() + np.timedelta64(24, "h")
        assert data.at[part.fit].min() >= data.label_at[part.valid].max() + np.timedelta64(24, "h")
        assert (np.diff(part.test) > 0).all()
    assert parts[0].test[-1] < parts[1].test[0]


def test_shuffled_labels_are_those_of_others_and_noise_stands_beside_what_was_there(data: TrainingSet) -> None:
    shuffled = audit_model._shuffled(data, 1)
    assert sorted(shuffled.log_rv) == sorted(data.log_rv)
    assert (shuffled.log_rv == data.log_rv).mean() < 0.01
    pairs = dict(zip(data.log_rv, data.log_return, strict=True))
    assert [pairs[value] for value in shuffled.log_rv] == list(shuffled.log_return)
    noise = audit_model._noise(data, 1).windows
    assert noise.features[: -audit_model.NOISE] == data.windows.features
    np.testing.assert_array_equal(noise.rows[:, : -audit_model.NOISE], data.windows.rows)
    assert abs(noise.rows[:-1, -audit_model.NOISE :].mean()) < 0.05
    assert np.isnan(noise.rows[-1]).all()


def test_what_is_fitted_on_the_test_block_is_named_with_the_fold(data: TrainingSet) -> None:
    honest = walk_forward(data.at, data.label_at, folds=2, embargo=DAY)
    assert not list(audit_model._fit_range(BUNDLE, data, honest))
    everything = np.arange(len(data))
    leaky = [replace(part, fit=everything, valid=everything[:0]) for part in honest]
    found = list(audit_model._fit_range(BUNDLE, data, leaky))
    assert {one.name for one in found} == {"scaler", "har", "harx"}
    assert found[0].instant == datetime.fromisoformat(f"{honest[0].start}+00:00")


def test_skill_where_there_can_be_none_convicts_by_name() -> None:
    found = list(audit_model._nothing_there(BUNDLE, tried(0.05, 0.001), "shuffled-labels", "so"))
    assert [(one.check, one.name, one.severity) for one in found] == [
        ("shuffled-labels", "volatility", "error"), ("shuffled-labels", "direction", "error")
    ]  # fmt: skip
    assert "gain of +5.00 % on HAR-X (p = 0.0020)" in found[0].datum
    assert not list(audit_model._nothing_there(BUNDLE, tried(0.05, 0.4), "shuffled-labels", "so"))
    helped = list(audit_model._helped_by_noise(BUNDLE, tried(0.05, 0.4), tried(0.06, 0.4)))
    assert {one.check for one in helped} == {"noise-features"}
    assert not list(audit_model._helped_by_noise(BUNDLE, tried(0.06, 0.4), tried(0.05, 0.4)))


def test_a_gain_that_needs_what_lies_right_before_the_test_convicts() -> None:
    plain = tried(0.06, 0.001)
    assert [one.name for one in audit_model._collapses(BUNDLE, plain, tried(0.01, 0.4))] == ["volatility", "direction"]
    assert not list(audit_model._collapses(BUNDLE, plain, tried(0.04, 0.1)))
    assert not list(audit_model._collapses(BUNDLE, tried(0.06, 0.3), tried(0.01, 0.4)))
    arrow = list(audit_model._arrow(BUNDLE, plain, tried(-0.02, 0.9)))
    assert {one.severity for one in arrow} == {"warning"}


def test_a_forecast_that_repeats_the_last_move_is_told_from_one_that_does_not(data: TrainingSet) -> None:
    samples = np.arange(200, 700)
    repeats = 1 / (1 + np.exp(-10 * data.newest("ret_log_24h")[samples]))
    [found] = audit_model._echo(BUNDLE, data, tried(0, 1, p_up={MODEL: repeats}, samples=samples))
    assert (found.check, found.name, found.severity) == ("echo", "ret_log_24h", "error")
    [excused] = audit_model._echo(BUNDLE, data, tried(0.05, 0.001, p_up={MODEL: repeats}, samples=samples))
    assert excused.severity == "warning", "momentum may be real"
    assert found.instant is not None
    other = np.random.default_rng(1).uniform(size=len(samples))
    assert not list(audit_model._echo(BUNDLE, data, tried(0, 1, p_up={MODEL: other}, samples=samples)))


@pytest.mark.prove
@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_an_honest_model_is_not_convicted_with_and_without_skill(world: World, drift: float) -> None:
    data = world(11, hours=6000, drift=drift, turbulence=0.6 * drift, length=24)
    bundle: Any = SimpleNamespace(**vars(BUNDLE) | {"settings": replace(SMALL, epochs=3)})
    result = audit(bundle, data, folds=2, say=lambda line: None)
    assert result.errors == ()
    assert result.scores[0].forecaster == "as it is"
    print(result.text())

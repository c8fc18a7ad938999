"""The planted relation: what is published acts later, and the oracle moves it on as the world does."""

from dataclasses import fields, replace

import numpy as np
import pytest
from backsight_ingest.sample.relation import (
    Drivers,
    Effects,
    Impulse,
    Relation,
    Trace,
    drift,
    effects,
    log_variance,
    trace,
)
from backsight_ingest.sample.tone import tone

HOURS = 400


@pytest.fixture
def drivers() -> Drivers:
    rng = np.random.default_rng(0)
    return Drivers(**{field.name: rng.standard_normal(HOURS) for field in fields(Drivers)})


def test_hour_by_hour_and_all_at_once_are_the_same(drivers: Drivers) -> None:
    relation = Relation()
    whole = trace(relation, drivers)
    public = replace(drivers, news=tone(drivers.news), reddit=tone(drivers.reddit))
    for hour in (relation.lag + 1, 50, HOURS - 1):
        before = Trace(**{field.name: getattr(whole, field.name)[hour - 1] for field in fields(Trace)})
        acts = Impulse(**{field.name: getattr(public, field.name)[hour - relation.lag] for field in fields(Impulse)})
        moved = before.onward(relation, acts)
        for field in fields(Trace):
            expected = getattr(whole, field.name)[hour]
            np.testing.assert_allclose(getattr(moved, field.name), expected, err_msg=field.name)


@pytest.mark.parametrize("name", [field.name for field in fields(Impulse)])
def test_nothing_acts_before_its_lag_and_all_act_then(drivers: Drivers, name: str) -> None:
    relation = Relation()
    shocked = getattr(drivers, name).copy()
    shocked[200] += 1.0
    before, after = (
        np.stack([drift(relation, acting), log_variance(relation, acting, np.zeros(HOURS))])
        for acting in (
            effects(relation, trace(relation, each)) for each in (drivers, replace(drivers, **{name: shocked}))
        )
    )
    changed = np.flatnonzero((before != after).any(axis=0))
    assert changed[0] == 200 + relation.lag


def test_without_signal_nothing_acts(drivers: Drivers) -> None:
    off = Relation().off()
    acting = effects(off, trace(off, drivers))
    assert not drift(off, acting).any()
    assert not log_variance(off, acting, np.zeros(HOURS)).any()


def test_the_signs_are_those_of_the_story() -> None:
    def acting(**one: float) -> Effects:
        return Effects(**{field.name: np.array(one.get(field.name, 0.0)) for field in fields(Effects)})

    relation = Relation()
    assert drift(relation, acting(news=1.0)) > 0
    assert drift(relation, acting(reddit=1.0)) > 0
    assert drift(relation, acting(rates=1.0)) < 0
    calm = log_variance(relation, acting(), np.array(0.0))
    assert log_variance(relation, acting(attention=1.0), np.array(0.0)) > calm
    assert log_variance(relation, acting(news=-1.0), np.array(0.0)) > calm
    assert log_variance(relation, acting(alarm=1.0), np.array(0.0)) > calm


def test_tone_has_variance_one_over_a_normal_mood() -> None:
    mood = np.random.default_rng(0).standard_normal(400_000)
    assert tone(mood).var() == pytest.approx(1.0, abs=0.01)
    assert (np.diff(tone(np.linspace(-3, 3, 50))) > 0).all()

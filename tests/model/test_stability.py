"""Gains by part of time and of the market."""

import numpy as np
import pytest
from backsight_model import proof, stability


def test_parts_of_one_are_the_whole() -> None:
    rng = np.random.default_rng(1)
    losses, reference = rng.random(400), rng.random(400) + 0.1
    (part,) = stability.by_part(losses, reference, np.zeros(400, dtype=np.int64), ("all",), lag=8)
    whole = proof.compare(losses, reference, lag=8, model="a", reference="b")
    scale = whole.reference_loss
    assert part.count == 400
    assert part.skill == pytest.approx(whole.skill)
    assert (part.low, part.high) == pytest.approx((whole.low / scale, whole.high / scale))


def test_each_part_has_its_own_gain() -> None:
    part = np.repeat([0, 1, 3], 100)
    reference = np.ones(300)
    losses = np.repeat([0.9, 1.0, 1.2], 100)
    found = stability.by_part(losses, reference, part, ("a", "b", "nobody", "c"), lag=4)
    assert [(one.name, one.count) for one in found] == [("a", 100), ("b", 100), ("c", 100)]
    assert [one.skill for one in found] == pytest.approx([0.1, 0.0, -0.2])


def test_intervals_of_scattered_parts_hold_their_gain() -> None:
    inside = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        gain = np.convolve(rng.standard_normal(3023), np.ones(24) / 24, mode="valid")
        part = (rng.random(3000) < 0.5).astype(np.int64)
        for one in stability.by_part(-gain, np.zeros(3000), part, ("a", "b"), lag=96):
            inside.append(one.low < 0 < one.high)
    assert 0.9 < np.mean(inside) < 0.99


def test_terciles_hold_a_third_each() -> None:
    found = stability.terciles(np.array([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]))
    assert found.tolist() == [1, 0, 0, 2, 2, 1]


def test_the_lag_of_a_copy_is_seen() -> None:
    rng = np.random.default_rng(2)
    shocks = np.concatenate([[0.0], np.cumsum(rng.standard_normal(1000 + 24))])
    moves = shocks[24:1024] - shocks[:1000]
    at = np.delete(np.arange(1000), np.s_[300:340])  # a gap in the bars
    copy = np.concatenate([np.zeros(24), moves[:-24]])
    lags = np.arange(-48, 49, 6)
    found = stability.lag_correlation(copy[at], moves[at], at, lags)
    assert lags[found.argmax()] == -24
    assert found.max() > 0.99
    knows = stability.lag_correlation(moves[at], moves[at], at, lags)
    assert lags[knows.argmax()] == 0
    assert stability.lag_correlation(np.ones(960), moves[at], at, lags).tolist() == [0.0] * len(lags)

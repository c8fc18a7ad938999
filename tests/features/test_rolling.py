"""Windows, against numpy's sliding ones, and the promise that a slice gives what the whole gives."""

import numpy as np
import pytest
from backsight_features.rolling import delayed, moments, total
from hypothesis import given
from hypothesis import strategies as st

LENGTHS = (1, 2, 3, 5, 20, 24, 168)


def windows(values: np.ndarray, length: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(values, length)


@pytest.mark.parametrize("length", LENGTHS)
def test_total_and_moments_agree_with_sliding_windows(length: int) -> None:
    values = np.random.default_rng(0).normal(loc=1000, size=400)
    seen = windows(values, length)
    np.testing.assert_allclose(total(values, length)[length - 1 :], seen.sum(axis=1))
    found = moments(values, length)
    assert (found.present[length - 1 :] == length).all()
    np.testing.assert_allclose(found.mean[length - 1 :], seen.mean(axis=1))
    np.testing.assert_allclose(found.deviation[length - 1 :], seen.var(axis=1) * length, atol=1e-9)


@pytest.mark.parametrize("length", LENGTHS)
def test_decay_weighs_by_age(length: int) -> None:
    values = np.random.default_rng(0).normal(size=400)
    weights = 0.9 ** np.arange(length)[::-1]
    np.testing.assert_allclose(total(values, length, decay=0.9)[length - 1 :], windows(values, length) @ weights)


def test_what_is_missing_does_not_count() -> None:
    found = moments(np.array([np.nan, 1.0, np.nan, 3.0, np.nan, np.nan, np.nan]), 3)
    assert found.present.tolist() == [0, 1, 1, 2, 1, 1, 0]
    assert found.mean.tolist() == [0, 1, 1, 2, 3, 3, 0]
    assert found.deviation.tolist() == [0, 0, 0, 2, 0, 0, 0]


def test_equal_values_do_not_deviate_at_all() -> None:
    assert (moments(np.full(500, 0.1), 168).deviation == 0).all()


def test_delayed_beyond_the_end_is_all_empty() -> None:
    assert np.isnan(delayed(np.ones(3), 7)).all()


@given(seed=st.integers(0, 1000), start=st.integers(0, 300), length=st.integers(1, 200))
def test_a_slice_gives_what_the_whole_gives(seed: int, start: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(700) < 0.1, np.nan, rng.normal(size=700))
    first = start + length - 1
    for whole, part in zip(moments(values, length), moments(values[start:], length), strict=True):
        assert np.array_equal(whole[first:], part[length - 1 :])
    filled = np.nan_to_num(values)
    assert np.array_equal(
        total(filled, length, decay=0.99)[first:], total(filled[start:], length, decay=0.99)[length - 1 :]
    )

"""LightGBM: the same bits twice, nothing of what it was not given, and more than the first guess where more is."""

import numpy as np
import pytest
from backsight_model.boosted import boost

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((3000, 6)).astype(np.float32)
ROWS[::7, 2] = np.nan
BENT = np.abs(ROWS[:, 0].astype(np.float64)) + 0.3 * RNG.standard_normal(3000)
FIT, VALID, TEST = np.arange(1800), np.arange(1800, 2400), np.arange(2400, 3000)


def boosted(target: np.ndarray, rows: np.ndarray = ROWS, objective: str = "regression", seed: int = 1) -> np.ndarray:
    start = np.zeros(len(target))
    return boost(rows, target, fit=FIT, valid=VALID, objective=objective, start=start, overlap=5, seed=seed)


@pytest.fixture(scope="module")
def once() -> np.ndarray:
    return boosted(BENT)


def test_the_same_seed_gives_the_same_bits(once: np.ndarray) -> None:
    np.testing.assert_array_equal(once, boosted(BENT))
    assert (once != boosted(BENT, seed=2)).any()


def test_a_bend_is_found(once: np.ndarray) -> None:
    assert np.square(BENT - once)[TEST].mean() < 0.4 * BENT[TEST].var()
    up = np.median(BENT) < BENT
    logit = boosted(up.astype(np.float64), objective="binary")
    assert ((logit > 0) == up)[TEST].mean() > 0.75


def test_nothing_of_the_test_part_is_learnt(once: np.ndarray) -> None:
    rows, target = ROWS.copy(), BENT.copy()
    rows[TEST], target[TEST] = 1e6, -1e6
    np.testing.assert_array_equal(boosted(target, rows)[:2400], once[:2400])


def test_noise_adds_next_to_nothing() -> None:
    noise = np.random.default_rng(1).standard_normal(3000)
    assert boosted(noise)[TEST].std() < 0.15


def test_too_few_rows_for_a_leaf_add_a_constant() -> None:
    few, some = np.arange(40), np.arange(40, 60)
    added = boost(ROWS, BENT, fit=few, valid=some, objective="regression", start=np.zeros(3000), overlap=24, seed=1)
    assert np.ptp(added) == 0

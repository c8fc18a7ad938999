"""Folds never let the future into the past, whatever the instants are."""

from datetime import timedelta

import numpy as np
import pytest
from backsight_features.errors import BadInput
from backsight_model.splits import Fold, final_fit, walk_forward
from hypothesis import given
from hypothesis import strategies as st

HOUR = np.timedelta64(3600, "s")
START = np.datetime64("2024-01-01", "us")


def grid(n: int, reach: int = 24) -> tuple[np.ndarray, np.ndarray]:
    at = START + np.arange(n) * HOUR
    return at, at + reach * HOUR


def ragged(seed: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Instants in order with gaps and repeats; labels known up to `longest` hours later, in any order."""
    rng = np.random.default_rng(seed)
    at = START + np.cumsum(rng.integers(0, 5, 500)) * HOUR
    return at, at + rng.integers(1, longest + 1, 500) * HOUR


@given(seed=st.integers(0, 2**32 - 1), longest=st.integers(1, 48), folds=st.integers(1, 5), embargo=st.integers(0, 30))
def test_what_is_learnt_was_known_before_what_is_judged(seed: int, longest: int, folds: int, embargo: int) -> None:
    at, label_at = ragged(seed, longest)
    free = embargo * HOUR
    made = walk_forward(at, label_at, folds=folds, embargo=timedelta(hours=embargo))
    judged = np.concatenate([fold.test for fold in made])
    assert len(np.unique(judged)) == len(judged)
    assert judged.max() == len(at) - 1
    for fold in made:
        assert label_at[fold.train].max() + free <= at[fold.test].min()
        assert label_at[fold.fit].max() + free <= at[fold.valid].min()
        assert not set(fold.fit) & set(fold.valid)


def test_samples_whose_label_is_known_in_time_are_all_used() -> None:
    at, label_at = grid(1000)
    first, *_, last = walk_forward(at, label_at, folds=3, embargo=timedelta(0))
    assert first.test[0] == 400
    assert label_at[first.valid[-1]] <= first.start < label_at[first.valid[-1] + 1]
    assert last.test[-1] == 999


def test_the_embargo_takes_as_many_samples_as_it_has_hours() -> None:
    at, label_at = grid(1000)

    def newest(embargo: int) -> int:
        fold: Fold = walk_forward(at, label_at, folds=2, embargo=timedelta(hours=embargo))[0]
        return int(fold.valid[-1])

    assert newest(0) - newest(24) == 24


def test_the_final_fit_learns_from_everything_but_the_purged() -> None:
    at, label_at = grid(1000)
    fold = final_fit(at, label_at, embargo=timedelta(hours=24))
    assert fold.valid[-1] == 999
    assert len(fold.test) == 0
    assert 1000 - len(fold.train) == 48  # 24 hours of label and 24 of embargo before `valid`


def test_too_short_a_history_is_refused() -> None:
    at, label_at = grid(60)
    with pytest.raises(BadInput, match="need a longer history or fewer folds"):
        walk_forward(at, label_at, folds=4, embargo=timedelta(hours=24))
    with pytest.raises(BadInput, match="1 samples"):
        walk_forward(at[:1], label_at[:1], folds=1, embargo=timedelta(0))
    with pytest.raises(BadInput, match="too few"):
        final_fit(at[:20], label_at[:20], embargo=timedelta(hours=24))
    with pytest.raises(ValueError, match="need folds >= 1"):
        walk_forward(at, label_at, folds=0, embargo=timedelta(0))


def test_a_rolling_walk_learns_from_the_last_stretch_only() -> None:
    at, label_at = grid(1000)
    day = timedelta(hours=24)
    whole = walk_forward(at, label_at, folds=3, embargo=day)
    rolling = walk_forward(at, label_at, folds=3, embargo=day, window=10 * day)
    for all_before, last in zip(whole, rolling, strict=True):
        np.testing.assert_array_equal(all_before.test, last.test)
        assert last.train.max() == all_before.train.max()
        # Ten days back from the newest instant at which a label may be known, an embargo before the block.
        oldest = at[last.train].min()
        assert oldest >= last.start - 11 * 24 * HOUR > oldest - HOUR
        assert label_at[last.fit].max() <= at[last.valid].min() - 24 * HOUR
    assert whole[-1].train.min() == 0
    assert final_fit(at, label_at, embargo=day, window=10 * day).train.min() == 999 + 24 - 10 * 24

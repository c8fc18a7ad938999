"""Combinatorial paths: nothing of what is held out is learnt, and every sample is in each path once."""

from collections.abc import Callable

import numpy as np
import pytest
from backsight_model import paths
from backsight_model.training import TrainingSet

World = Callable[..., TrainingSet]


@pytest.fixture(scope="module")
def planted(world: World) -> TrainingSet:
    return world(2, hours=4000, drift=0.2, turbulence=0.7)


def test_no_label_of_training_reaches_into_what_is_held_out(planted: TrainingSet) -> None:
    at, label_at = planted.at, planted.label_at
    for train, groups, _ in paths.splits(len(planted), purged=planted.horizon):
        for held in groups:
            begin, end = at[held].min(), label_at[held].max()
            assert not ((label_at[train] >= begin) & (at[train] <= end)).any()


def test_each_path_holds_each_sample_once(planted: TrainingSet) -> None:
    made = paths.splits(len(planted), purged=planted.horizon)
    assert len(made) == 15
    for number in range(5):
        parts = [held for _, groups, path in made for held, to in zip(groups, path, strict=True) if to == number]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(planted)))


def test_a_signal_is_there_on_every_path_and_hardly_a_gain_on_noise(planted: TrainingSet, world: World) -> None:
    found, nothing = paths.walk_all(planted), paths.walk_all(world(5, hours=4000))
    assert found is not None
    assert nothing is not None
    assert found.fits == 15
    assert len(found.volatility) == len(found.direction) == 5
    assert min(found.volatility.min(), found.direction.min()) > 0.05
    assert nothing.volatility.max() < 0.03
    assert nothing.direction.max() < 0.0


def test_a_short_history_has_no_paths(world: World) -> None:
    assert paths.splits(6 * 48, purged=24) == []
    assert paths.walk_all(world(1, hours=820)) is None

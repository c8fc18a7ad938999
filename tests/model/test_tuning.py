"""Every trial is counted, the same seed tries the same, and none sees what a fold tests on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from backsight_model.quantiles import LEVELS
from backsight_model.settings import Settings
from backsight_model.splits import Fold, walk_forward
from backsight_model.training import TrainingSet
from backsight_model.tuning import Trial, best, joint_loss, tune

pytestmark = pytest.mark.slow

VARIED = ("units", "projection", "dropout", "learning_rate", "weight_decay")
ASKED = Settings(epochs=1, units=4, projection=4, stride=12)


@pytest.fixture(scope="module")
def data(world: Callable[..., TrainingSet]) -> TrainingSet:
    return world(0, hours=1300, length=6)


@pytest.fixture(scope="module")
def part(data: TrainingSet) -> Fold:
    return walk_forward(data.at, data.label_at, folds=2, embargo=timedelta(hours=24))[0]


def tuned(data: TrainingSet, part: Fold, *, seed: int = 1, trials: int = 3) -> tuple[Trial, ...]:
    return tune(data, part, settings=ASKED, trials=trials, seed=seed, done=lambda line: None)


@pytest.fixture(scope="module")
def made(data: TrainingSet, part: Fold) -> tuple[Trial, ...]:
    return tuned(data, part)


def test_every_trial_is_kept_and_the_first_is_what_was_asked_for(made: tuple[Trial, ...]) -> None:
    assert [trial.number for trial in made] == [0, 1, 2]
    assert made[0].settings == ASKED
    assert len({trial.settings for trial in made}) == 3
    for trial in made:
        assert replace(trial.settings, **{name: getattr(ASKED, name) for name in VARIED}) == ASKED
    assert best(made) == min(made, key=lambda trial: trial.loss).settings
    assert made[1].to_json()["settings"]["units"] == made[1].settings.units


def test_no_trial_sees_what_a_fold_tests_on_and_the_seed_decides(
    data: TrainingSet, part: Fold, made: tuple[Trial, ...]
) -> None:
    rows, log_rv, log_return = data.windows.rows.copy(), data.log_rv.copy(), data.log_return.copy()
    rows[np.setdiff1d(np.arange(len(rows) - 1), data.windows.index[part.train])] *= 1000
    others = np.setdiff1d(np.arange(len(data)), part.train)
    log_rv[others], log_return[others] = 99.0, -log_return[others]
    changed = replace(data, windows=replace(data.windows, rows=rows), log_rv=log_rv, log_return=log_return)
    assert tuned(changed, part, trials=2) == made[:2]
    assert tuned(data, part, seed=2, trials=2)[1].settings != made[1].settings


def test_the_loss_is_that_of_the_network() -> None:
    wanted = np.array([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    output = np.array([[0.0, 0.0, *[0.0] * 7], [0.0, np.log(3.0), *range(-3, 4)]])
    # Half of 1 and twice ln 2; nothing and twice ln 4; and a quarter of what the quantiles lose.
    spread = (2 * sum(LEVELS) + 2 * (0.05 * 3 + 0.1 * 2 + 0.25)) / 7
    assert joint_loss(wanted, output) == pytest.approx((0.5 + 2 * np.log(2) + 2 * np.log(4) + 0.25 * spread) / 2)

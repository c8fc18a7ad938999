"""Many forecasters at once, on losses whose truth is known."""

import numpy as np
import pytest
from backsight_model import superiority

HORIZON = 24


def overlapping(rng: np.random.Generator, n: int) -> np.ndarray:
    """Sums of the next 24 shocks: what a label of 24 hours looks like on an hourly grid."""
    total = np.concatenate([[0.0], np.cumsum(rng.standard_normal(n + HORIZON))])
    return total[HORIZON : HORIZON + n] - total[:n]


def equally_bad(seed: int, names: str = "abcd", n: int = 5000) -> dict[str, np.ndarray]:
    """Losses of forecasters that know nothing and err alike."""
    rng = np.random.default_rng(seed)
    outcome = overlapping(rng, n)
    kernel = np.exp(-np.arange(120) / HORIZON)
    return {
        name: (outcome - 0.5 * np.convolve(rng.standard_normal(n + HORIZON), kernel, mode="same")[:n]) ** 2
        for name in names
    }


def with_a_better_one(seed: int, n: int = 5000) -> dict[str, np.ndarray]:
    losses = equally_bad(seed, n=n)
    return {**losses, "knows": 0.7 * losses["a"]}


def rates(runs: int) -> tuple[float, float, float]:
    """How often four equal forecasters lose one from the set, beat a benchmark, or have a gain outside its interval."""
    excluded, beaten, outside = 0, 0, 0
    for seed in range(runs):
        losses = equally_bad(seed)
        excluded += len(superiority.confidence_set(losses, horizon=HORIZON).kept) < 4
        beaten += superiority.superior_ability(losses, benchmark="a", horizon=HORIZON) < 0.05
        low, high = superiority.bootstrap_intervals(losses, model="a", horizon=HORIZON)["b"] or (0.0, 0.0)
        outside += not low < 0 < high
    return excluded / runs, beaten / runs, outside / runs


def test_equal_forecasters_mostly_stay_together() -> None:
    excluded, beaten, outside = rates(20)
    assert excluded <= 0.3
    assert beaten <= 0.3
    assert outside <= 0.3


@pytest.mark.prove
def test_sizes_on_many_runs() -> None:
    excluded, beaten, outside = rates(1000)
    print(f"true nulls at 5 %: confidence set loses one {excluded:.3f}, SPA {beaten:.3f}, bootstrap {outside:.3f}")
    assert 0.02 < excluded < 0.1
    assert 0.02 < beaten < 0.08
    assert 0.03 < outside < 0.09


def test_the_better_one_remains() -> None:
    losses = with_a_better_one(3)
    found = superiority.confidence_set(losses, horizon=HORIZON)
    assert found.kept == ("knows",)
    assert found.p_value["knows"] == 1.0
    assert found.loss["knows"] == pytest.approx(0.7 * found.loss["a"])
    assert superiority.superior_ability(losses, benchmark="a", horizon=HORIZON) < 0.01
    assert superiority.superior_ability(losses, benchmark="knows", horizon=HORIZON) > 0.5


def test_intervals_hold_the_gain_and_agree_with_a_normal_mean() -> None:
    losses = with_a_better_one(4)
    gain = losses["a"] - losses["knows"]
    found = superiority.bootstrap_intervals(losses, model="knows", horizon=HORIZON)["a"]
    assert found is not None
    low, high = found
    assert 0 < low < gain.mean() < high
    assert set(superiority.bootstrap_intervals(losses, model="knows", horizon=HORIZON)) == {"a", "b", "c", "d"}


def test_same_losses_share_a_place() -> None:
    losses = equally_bad(5, "ab")
    twice = {**losses, "again": losses["a"].copy()}
    found = superiority.confidence_set(twice, horizon=HORIZON)
    assert found.p_value["again"] == found.p_value["a"]
    alike = {"a": losses["a"], "again": losses["a"]}
    assert superiority.confidence_set(alike, horizon=HORIZON).kept == ("a", "again")
    assert superiority.superior_ability(alike, benchmark="a", horizon=HORIZON) == 1.0


def test_a_short_sample_tells_nothing_apart() -> None:
    short = {name: values[: 9 * HORIZON] for name, values in with_a_better_one(6).items()}
    assert set(superiority.confidence_set(short, horizon=HORIZON).kept) == set(short)
    assert superiority.superior_ability(short, benchmark="a", horizon=HORIZON) == 1.0
    assert superiority.bootstrap_intervals(short, model="knows", horizon=HORIZON)["a"] is None


def test_the_same_losses_give_the_same_numbers() -> None:
    losses = equally_bad(7)
    one, same = (superiority.confidence_set(losses, horizon=HORIZON) for _ in range(2))
    assert one == same
    intervals = [superiority.bootstrap_intervals(losses, model="a", horizon=HORIZON) for _ in range(2)]
    assert intervals[0] == intervals[1]

"""Skill where it was planted: an interaction with memory, which no straight line sees, at two strengths."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from backsight_model.settings import read
from backsight_model.splits import walk_forward
from backsight_model.training import TrainingSet
from backsight_model.verdict import Losses, Verdict, decide, losses
from backsight_model.walk import DIRECTION_REFERENCES, MODEL, Walk, over

START = np.datetime64("2023-01-01T00:00:00", "us")
HOURS, WARM_UP, MEMORY = 24_800, 600, 12
LEARNT = 0.7
"""Share of the hours that is learnt from: 17,000."""
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "next-bar.toml"
WEAK, STRONG = 0.47, 0.72
"""Largest log odds of the next sign: Bayes is right 56.4 % and 59.7 % of the time."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A world, and the probability of a rise that it was made with: shape (n,) at its samples."""

    data: TrainingSet
    p_up: np.ndarray


def slow(rng: np.random.Generator, n: int, half_life: float) -> np.ndarray:
    """Return a series of unit variance that forgets half of itself in `half_life` hours."""
    from scipy.signal import lfilter

    keep = 0.5 ** (1 / half_life)
    return lfilter([np.sqrt(1 - keep**2)], [1, -keep], rng.standard_normal(n + WARM_UP))[WARM_UP:]


def planted(seed: int, strength: float, made_of: Callable[..., TrainingSet], *, hours: int = HOURS) -> Planted:
    """Return a world in which the sign of the next move goes with `flow`, or against it where `tide` was low.

    How high the tide was over the last 12 hours decides, not how high it is; and as flow and tide are symmetric around
    0, neither of them says anything of the sign without the other.
    """
    rng = np.random.default_rng(seed)
    flow, tide = rng.standard_normal(hours), slow(rng, hours, 1.0)
    mean_tide = np.convolve(tide, np.ones(MEMORY) / MEMORY)[:hours]
    odds = strength * np.tanh(2 * flow) * np.tanh(2 * mean_tide / mean_tide.std())
    p_up = 1 / (1 + np.exp(-odds))
    up = rng.random(hours) < np.concatenate([[0.5], p_up[:-1]])
    size = 0.006 * np.exp(0.4 * slow(rng, hours, 96.0)) * np.abs(rng.standard_normal(hours))
    moves = np.where(up, size, -size)
    nothing = {f"nothing_{number}": slow(rng, hours, 2.0 * number + 1) for number in range(4)}
    data = made_of(moves, {"flow": flow, "tide": tide, **nothing}, horizon=1)
    hour = (data.windows.observed_at - START) // np.timedelta64(1, "h")
    return Planted(data=data, p_up=p_up[hour - 1])


def walked(data: TrainingSet) -> Walk:
    parts = walk_forward(data.at, data.label_at, folds=1, embargo=timedelta(hours=1), first=LEARNT)
    return over(data, parts, settings=read(EXAMPLE), seed=1, done=lambda fold: None)


def judged(data: TrainingSet, made: Walk, lost: Losses) -> Verdict:
    return decide(lost)


def reached(forecast: np.ndarray, p_up: np.ndarray) -> float:
    """Return the share of the reachable edge: how much more often than a toss the forecast sign will be right."""
    right = np.where(forecast > 0.5, p_up, 1 - p_up)
    return float((right.mean() - 0.5) / (np.maximum(p_up, 1 - p_up).mean() - 0.5))


def without(lost: Losses, *, instead: str) -> Losses:
    """Return the losses as if another forecaster were the model."""
    return replace(lost, direction=lost.direction | {MODEL: lost.direction[instead]})


@pytest.mark.prove
@pytest.mark.parametrize(("strength", "bayes", "least"), [(WEAK, 0.564, 0.3), (STRONG, 0.597, 0.6)])
def test_what_needs_memory_and_an_interaction_is_found_by_the_network_alone(
    strength: float, bayes: float, least: float, made_of: Callable[..., TrainingSet]
) -> None:
    world = planted(1, strength, made_of)
    data = world.data
    made = walked(data)
    p_up, came = world.p_up[made.samples], data.up[made.samples]
    lost = losses(data, made, service="all")
    assert np.maximum(p_up, 1 - p_up).mean() == pytest.approx(bayes, abs=0.004)
    verdict = judged(data, made, lost)
    print(f"Bayes is right {np.mean((p_up > 0.5) == came):.2%} of the time, by the law {bayes:.2%}")
    for name, forecast in made.p_up.items():
        print(f"{name}: {np.mean((forecast > 0.5) == came):.2%}, {reached(forecast, p_up):.0%} of the edge")
    print(*verdict.sentences, sep="\n")
    assert verdict.proven["direction"]
    assert reached(made.p_up[MODEL], p_up) >= least
    for name in (*DIRECTION_REFERENCES, "logistic"):
        assert not judged(data, made, without(lost, instead=name)).proven["direction"]
        assert abs(reached(made.p_up[name], p_up)) < 0.1, name

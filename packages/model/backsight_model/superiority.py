"""Many forecasters at once: which may be the best, and does any beat a benchmark once all were looked at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backsight_model.arrays import FloatArray
from backsight_model.proof import LEVEL, widening

DRAWS = 1000
SEED = 7
BLOCK = 4
"""Mean length of the blocks that are drawn, in horizons: as far as the tests of one pair look."""
FEWEST = 10
"""Horizons that a sample has to span; with fewer, a bootstrap has nothing to draw from."""


@dataclass(frozen=True, kw_only=True)
class ConfidenceSet:
    """The forecasters that cannot be told from the best.

    Attributes
    ----------
    loss : dict of str to float
        Mean loss, by forecaster.
    p_value : dict of str to float
        The level at which a forecaster would just leave the set; small means surely not the best.
    """

    loss: dict[str, float]
    p_value: dict[str, float]

    @property
    def kept(self) -> tuple[str, ...]:
        """Names in the 95 % set, which is built to hold the best forecaster in 19 of 20 samples."""
        return tuple(name for name, p_value in self.p_value.items() if p_value > LEVEL)


def confidence_set(losses: Mapping[str, FloatArray], *, horizon: int) -> ConfidenceSet:
    """Return the model confidence set of Hansen, Lunde and Nason (2011), range statistic.

    Parameters
    ----------
    losses : mapping of str to ndarray of shape (n,)
        On the same instants, in time order.
    horizon : int
        Rows over which labels overlap.

    Returns
    -------
    ConfidenceSet
        Forecasters with equal losses share a p-value. All have 1 where the sample spans fewer than `FEWEST`
        horizons: nothing can be told apart.
    """
    from arch.bootstrap import MCS

    means = {name: float(values.mean()) for name, values in losses.items()}
    matrix, column = _by_horizon(losses, horizon)
    if len(matrix) < FEWEST or matrix.shape[1] < 2:
        return ConfidenceSet(loss=means, p_value=dict.fromkeys(losses, 1.0))
    found = MCS(matrix, LEVEL, reps=DRAWS, block_size=BLOCK, method="R", bootstrap="stationary", seed=SEED)
    found.compute()
    p_values = found.pvalues["Pvalue"]
    return ConfidenceSet(loss=means, p_value={name: float(p_values.loc[column[name]]) for name in losses})


def superior_ability(losses: Mapping[str, FloatArray], *, benchmark: str, horizon: int) -> float:
    """Return the p-value of "no other forecaster has a lower expected loss than the benchmark".

    The consistent, studentised test of Hansen (2005): it allows for having looked at all of them.

    Parameters
    ----------
    losses : mapping of str to ndarray of shape (n,)
        On the same instants, in time order; the benchmark's among them.
    benchmark : str
        Its name.
    horizon : int
        Rows over which labels overlap.

    Returns
    -------
    float
        1 where the sample spans fewer than `FEWEST` horizons, or all others lose the same as the benchmark.
    """
    from arch.bootstrap import SPA

    matrix, column = _by_horizon(losses, horizon)
    others = np.delete(matrix, column[benchmark], axis=1)
    if len(matrix) < FEWEST or others.shape[1] == 0:
        return 1.0
    test = SPA(matrix[:, column[benchmark]], others, block_size=BLOCK, reps=DRAWS, bootstrap="stationary", seed=SEED)
    test.compute()
    return float(test.pvalues["consistent"])


def bootstrap_intervals(
    losses: Mapping[str, FloatArray], *, model: str, horizon: int
) -> dict[str, tuple[float, float] | None]:
    """Return 95 % intervals of the model's gain on every other forecaster, by the stationary bootstrap.

    Politis and Romano (1994): they assume no normal mean, which heavy-tailed losses and short samples lack. Percentile
    intervals are a little too narrow in short samples; they are widened as those of `proof.compare` are.

    Parameters
    ----------
    losses : mapping of str to ndarray of shape (n,)
        On the same instants, in time order; the model's among them.
    model : str
        Whose gains.
    horizon : int
        Rows over which labels overlap.

    Returns
    -------
    dict of str to (low, high)
        By the other forecaster's name; None where the sample spans fewer than `FEWEST` horizons.
    """
    from arch.bootstrap import StationaryBootstrap

    others = [name for name in losses if name != model]
    gains = _averaged(np.column_stack([losses[name] - losses[model] for name in others]), horizon)
    if len(gains) < FEWEST:
        return dict.fromkeys(others)
    bootstrap = StationaryBootstrap(BLOCK, gains, seed=SEED)
    bounds = bootstrap.conf_int(lambda drawn: drawn.mean(axis=0), reps=DRAWS, method="percentile", size=1 - LEVEL)
    gain = gains.mean(axis=0)
    low, high = gain + widening(BLOCK, len(gains)) * (bounds - gain)
    return {name: (float(low[place]), float(high[place])) for place, name in enumerate(others)}


def _by_horizon(losses: Mapping[str, FloatArray], horizon: int) -> tuple[FloatArray, dict[str, int]]:
    """Return losses averaged by horizon, without repeated columns, and the column of each forecaster.

    Two forecasters that lose the same at every instant differ by a constant zero, which no test can divide by.
    """
    columns: list[FloatArray] = []
    place: dict[str, int] = {}
    for name, values in losses.items():
        place[name] = next((at for at, column in enumerate(columns) if np.array_equal(column, values)), len(columns))
        if place[name] == len(columns):
            columns.append(values)
    return _averaged(np.column_stack(columns), horizon), place


def _averaged(values: FloatArray, horizon: int) -> FloatArray:
    """Return means of `horizon` rows in turn, without the oldest that fill none: (n, k) to (n // horizon, k).

    Means stay what they are, neighbours hardly depend on each other any more, and there is less to draw.
    """
    whole = values[len(values) % horizon :]
    return np.asarray(whole.reshape(-1, horizon, values.shape[1]).mean(axis=1), dtype=np.float64)

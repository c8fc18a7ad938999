"""Many histories out of one: combinatorial purged cross-validation of the straight lines.

A walk is one path through time, and its result may be that path's luck. Here time is cut into groups; of every choice
of two of them, all others teach. Put together again, the forecasts of each group make several whole histories (López
de Prado 2018, chapter 12). They also learn from what came later: that shows how far a result depends on the path, and
is no proof of skill.
"""

from dataclasses import dataclass

import numpy as np

from backsight_model import baselines
from backsight_model.arrays import FloatArray, IntArray
from backsight_model.instants import Instants
from backsight_model.training import TrainingSet
from backsight_model.treatments import DECLARED, Treatments
from backsight_model.walk import Straight, straight

GROUPS, HELD_OUT = 6, 2
"""Fifteen fits, and five paths."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """What straight lines gained on each of k paths, as a share of the loss without them.

    Attributes
    ----------
    volatility : ndarray of shape (k,)
        ``linear`` on HAR-X, squared error of log realised variance.
    direction : ndarray of shape (k,)
        ``logistic`` on the base rate, log loss.
    fits : int
        How many training parts they come from.
    """

    volatility: FloatArray
    direction: FloatArray
    fits: int


def splits(n: int, *, purged: int) -> list[tuple[IntArray, list[IntArray], IntArray]]:
    """Return training part, held-out groups and the path that each group belongs to, for every choice.

    Parameters
    ----------
    n : int
        Instants, in time order.
    purged : int
        Instants left out of training on either side of what is held out, and as many again after it: bars of
        a label's horizon. A gap in the bars makes it more time, never less.

    Returns
    -------
    list
        Empty where the groups are too short to be purged.
    """
    from skfolio.model_selection import CombinatorialPurgedCV

    if 2 * purged >= n // GROUPS - 1:
        return []
    cut = CombinatorialPurgedCV(n_folds=GROUPS, n_test_folds=HELD_OUT, purged_size=purged, embargo_size=purged)
    paths = cut.get_path_ids()
    return [(train, held, path) for (train, held), path in zip(cut.split(np.zeros((n, 1))), paths, strict=True)]


def walk_all(data: TrainingSet, *, treatments: Treatments = DECLARED) -> Paths | None:
    """Return what straight lines gain on every path; None where the history is too short for any."""
    instants = Instants.of(data.at)
    made = splits(len(instants), purged=data.horizon)
    if not made:
        return None
    # Samples of an instant are neighbours, so that what is cut are never the symbols of one.
    begins = np.append(np.searchsorted(instants.place, np.arange(len(instants))), len(data))
    count = 1 + max(int(path.max()) for _, _, path in made)
    # Summed losses: with and without the line, of volatility and of direction.
    summed = np.zeros((4, count))
    for cut, groups, path in made:
        train = _samples(begins, cut)
        fitted = straight(data, train, treatments=treatments)
        for held, to in zip(groups, path, strict=True):
            summed[:, to] += _losses(data, fitted, train, _samples(begins, held))
    volatility, harx, direction, base = summed
    return Paths(volatility=1.0 - volatility / harx, direction=1.0 - direction / base, fits=len(made))


def _samples(begins: IntArray, instants: IntArray) -> IntArray:
    """Return the numbers of the samples of some instants, given where each instant begins."""
    lengths = begins[instants + 1] - begins[instants]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(np.repeat(begins[instants], lengths) + within, dtype=np.int64)


def _losses(data: TrainingSet, fitted: Straight, train: IntArray, held: IntArray) -> FloatArray:
    features = data.windows.features
    newest = fitted.scaler.transform(data.windows.rows)[data.windows.index[held, -1]]
    harx = fitted.harx.predict(newest, features)
    output = fitted.line.predict(newest)
    linear = harx + fitted.residual_scale * output[:, 0]
    came, up = data.log_rv[held], data.up[held]
    base = baselines.base_rate(data.up[train])
    return np.array(
        [
            np.square(came - linear).sum(),
            np.square(came - harx).sum(),
            np.logaddexp(0.0, np.where(up, -output[:, 1], output[:, 1])).sum(),
            -np.log(np.where(up, base, 1.0 - base)).sum(),
        ]
    )

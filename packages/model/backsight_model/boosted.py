"""LightGBM on the newest row: what a strong learner finds that knows no order of time."""

from typing import Any

import numpy as np

from backsight_model.arrays import Float32Array, FloatArray, IntArray

ROUNDS, PATIENCE = 300, 30
INDEPENDENT = 10
"""A leaf holds at least so many labels that do not overlap."""
PARAMETERS: dict[str, Any] = {
    "learning_rate": 0.03,
    "num_leaves": 7,
    "feature_fraction": 0.5,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


def boost(
    rows: Float32Array,
    target: FloatArray,
    *,
    fit: IntArray,
    valid: IntArray,
    objective: str,
    start: FloatArray,
    overlap: float,
    seed: int,
) -> FloatArray:
    """Return what boosted trees add to a first guess, at every sample: shape (n,).

    Trees are added until the loss on `valid` has not fallen for 30 rounds, and those up to the best are kept.
    One thread and a seed: the same input gives the same bits.

    Parameters
    ----------
    rows : ndarray of shape (n, F)
        Newest rows, NaN where undefined: trees need no scaling, and learn where to send what is absent.
    target : ndarray of shape (n,)
        Only that of `fit` and `valid` is read.
    fit, valid : ndarray of int
        Sample numbers.
    objective : str
        ``regression`` or ``binary``.
    start : ndarray of shape (n,)
        The first guess: a forecast, or the logit of one.
    overlap : float
        Samples that tell as much as one: the bars that a label reaches ahead, times the symbols of an instant.
    seed : int
    """
    import lightgbm

    parameters = PARAMETERS | {"objective": objective, "seed": seed, "min_data_in_leaf": round(INDEPENDENT * overlap)}
    learnt_from = lightgbm.Dataset(rows[fit], target[fit], init_score=start[fit], free_raw_data=True)
    stopped_by = lightgbm.Dataset(rows[valid], target[valid], init_score=start[valid], reference=learnt_from)
    trees = lightgbm.train(
        parameters,
        learnt_from,
        num_boost_round=ROUNDS,
        valid_sets=[stopped_by],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return np.asarray(trees.predict(rows, num_iteration=trees.best_iteration, raw_score=True), dtype=np.float64)

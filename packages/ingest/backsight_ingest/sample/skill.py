"""How much of the world can be foreseen: the oracle against what came, and against HAR."""

import numpy as np

from backsight_ingest.sample.draws import BoolArray, FloatArray
from backsight_ingest.sample.oracle import HORIZON, Oracle

_HAR_HOURS = (24, 120, 528)
_FIT = 0.6
"""Share of the hours on which HAR is fitted; log variance is judged on the rest."""


def skill(oracle: Oracle, returns: FloatArray, published: FloatArray, *, first: int) -> dict[str, dict[str, float]]:
    """Return the best reachable skill over the next `HORIZON` hours, in plain numbers.

    Parameters
    ----------
    oracle : Oracle
        The forecasts.
    returns : ndarray of shape (n,)
        Hourly log returns.
    published : ndarray of shape (n, k)
        What is public about the log variance to come, as of the end of each hour.
    first : int
        Index of the first hour of the world.

    Returns
    -------
    dict
        ``direction`` (accuracies and log losses in nats) and ``log_rv`` (squared errors, R² and QLIKE of the oracle, of
        HAR, and of HAR with what is public, judged on the last part).
    """
    total, squares = (np.concatenate([[0.0], np.cumsum(x)]) for x in (returns, returns**2))
    hour = oracle.hour
    ahead = total[hour + 1 + HORIZON] - total[hour + 1]
    rv = squares[hour + 1 + HORIZON] - squares[hour + 1]
    up, p = ahead > 0.0, oracle.p_up
    rate = float(up.mean())
    direction = {
        "bayes_accuracy": float(np.maximum(p, 1.0 - p).mean()),
        "oracle_accuracy": float(((p > 0.5) == up).mean()),
        "bayes_log_loss": float(-(p * np.log(p) + (1.0 - p) * np.log(1.0 - p)).mean()),
        "oracle_log_loss": float(-np.where(up, np.log(p), np.log(1.0 - p)).mean()),
        "base_rate_log_loss": float(-(rate * np.log(rate) + (1.0 - rate) * np.log(1.0 - rate))),
        "share_up": rate,
    }

    lags = np.column_stack([np.log(squares[hour + 1] - squares[hour + 1 - k]) for k in _HAR_HOURS])
    split = first + int(_FIT * (len(returns) - first))
    fit, judged = hour < split - HORIZON, hour >= split
    y = np.log(rv)
    har = _fitted(lags, y, fit)
    public = _fitted(np.column_stack([lags, published[hour]]), y, fit)
    log_rv: dict[str, float] = {"share_fitted": _FIT, "variance": float(y[judged].var())}
    for name, (log_forecast, forecast) in {
        "oracle": (oracle.log_rv, oracle.rv),
        "har": (har, _level(har, y, fit)),
        "har_and_public": (public, _level(public, y, fit)),
    }.items():
        mse = float(np.square(y - log_forecast)[judged].mean())
        ratio = (rv / forecast)[judged]
        log_rv |= {f"{name}_mse": mse, f"{name}_r2": 1.0 - mse / log_rv["variance"]}
        log_rv[f"{name}_qlike"] = float((ratio - np.log(ratio) - 1.0).mean())
    log_rv["oracle_gain_on_har"] = 1.0 - log_rv["oracle_mse"] / log_rv["har_mse"]
    log_rv["public_gain_on_har"] = 1.0 - log_rv["har_and_public_mse"] / log_rv["har_mse"]
    return {"direction": direction, "log_rv": log_rv}


def _fitted(x: FloatArray, y: FloatArray, fit: BoolArray) -> FloatArray:
    design = np.column_stack([np.ones(len(x)), x])
    return np.asarray(design @ np.linalg.lstsq(design[fit], y[fit], rcond=None)[0])


def _level(log_forecast: FloatArray, y: FloatArray, fit: BoolArray) -> FloatArray:
    """Return the forecast of the variance itself: the mean of a log-normal."""
    return np.asarray(np.exp(log_forecast + np.square(y - log_forecast)[fit].mean() / 2.0))

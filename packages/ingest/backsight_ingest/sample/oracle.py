"""The best reachable skill: forecasts from the true conditional distribution of the generator.

The oracle knows all that is public or latent up to an instant, but no innovation after it. Nobody can do better;
who reads the texts sees the latent state through noise and does a little worse.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from backsight_ingest.sample.draws import FloatArray, IntArray, draws, keep
from backsight_ingest.sample.prices import FAST_HOURS, SLOW_HOURS, Base, log_level
from backsight_ingest.sample.relation import (
    ATTENTION_HOURS,
    MOOD_HOURS,
    Drivers,
    Impulse,
    Relation,
    Trace,
    drift,
    echo_gain,
    effects,
    log_variance,
    trace,
)
from backsight_ingest.sample.tone import tone

HORIZON = 24
PATHS = 48
_EVERY = 3


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What the oracle says at some instants; arrays of shape (k,).

    Parameters
    ----------
    hour : ndarray
        Index of the newest complete hour at each instant.
    p_up : ndarray
        Probability that the log return over the next `HORIZON` hours is above zero.
    log_rv, rv : ndarray
        Mean of the log of the realised variance of these hours, and mean of that variance.
    """

    hour: IntArray
    p_up: FloatArray
    log_rv: FloatArray
    rv: FloatArray


def foresee(seed: int, relation: Relation, drivers: Drivers, base: Base, *, first: int) -> Oracle:
    """Return the oracle's forecasts at every third hour from ``first`` on, by simulating what may come.

    Parameters
    ----------
    seed : int
        Of the world.
    relation : Relation
        The planted one.
    drivers : Drivers
        What becomes public in each of the n hours.
    base : Base
        The base volatility of these hours.
    first : int
        Index of the first hour.
    """
    n = len(drivers.news)
    hour = np.arange(max(first, relation.lag), n - HORIZON, _EVERY)
    rng = draws(seed, "oracle")
    shape = (len(hour), PATHS)

    def at(x: FloatArray, index: IntArray) -> FloatArray:
        return np.repeat(x[index][:, None], PATHS, axis=1)

    def onward(x: FloatArray, hours: float) -> FloatArray:
        left = keep(hours)
        return np.asarray(left * x + np.sqrt(1.0 - left**2) * rng.standard_normal(shape))

    now = trace(relation, drivers)
    public = replace(drivers, news=tone(drivers.news), reddit=tone(drivers.reddit))
    acting = Trace(**{field.name: at(getattr(now, field.name), hour) for field in fields(Trace)})
    news, reddit, attention = (at(x, hour) for x in (drivers.news, drivers.reddit, drivers.attention))
    slow, fast = at(base.slow, hour), at(base.fast, hour)
    mean, squares, echo = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    volatility: list[FloatArray] = []
    coming: list[Impulse] = []
    own: list[FloatArray] = []
    for step in range(1, HORIZON + 1):
        then = hour + step
        news, reddit = onward(news, MOOD_HOURS), onward(reddit, MOOD_HOURS)
        attention = onward(attention, ATTENTION_HOURS)
        rates = at(np.sqrt(drivers.scheduled_rates), then) * rng.standard_normal(shape)
        alarm = at(np.sqrt(drivers.scheduled_alarm), then) * rng.standard_normal(shape)
        # The noise to come has mean 0 here; what it does to later drift is put together below.
        still = np.zeros(shape)
        said, posted = tone(news), tone(reddit)
        coming.append(Impulse(news=said, reddit=posted, attention=attention, rates=rates, alarm=alarm, noise=still))
        own.append(rng.standard_normal(shape))
        if step <= relation.lag:
            published = then - relation.lag
            acts = Impulse(**{field.name: at(getattr(public, field.name), published) for field in fields(Impulse)})
        else:
            acts = coming[step - 1 - relation.lag]
            echo = keep(relation.noise_hours) * echo + own[step - 1 - relation.lag]
        acting = acting.onward(relation, acts)
        slow, fast = onward(slow, SLOW_HOURS), onward(fast, FAST_HOURS)
        here = effects(relation, acting)
        push = drift(relation, here)
        volatility.append(np.exp(log_variance(relation, here, log_level(slow, fast, at(base.rhythm, then))) / 2.0))
        mean += volatility[-1] * push
        squares += (volatility[-1] * (push + echo_gain(relation) * echo + own[-1])) ** 2
    spread = _spread(relation, volatility)
    return Oracle(
        hour=hour,
        p_up=_normal_cdf(mean / spread).mean(axis=1),
        log_rv=np.log(squares).mean(axis=1),
        rv=squares.mean(axis=1),
    )


def _spread(relation: Relation, volatility: list[FloatArray]) -> FloatArray:
    """Return the standard deviation of the whole return given the path of volatility.

    The noise of an hour moves the price at once, and again from `lag` hours later on.
    """
    variance = np.zeros_like(volatility[0])
    later = np.zeros_like(volatility[0])
    for j in range(HORIZON - 1, -1, -1):
        if j + relation.lag < HORIZON:
            later = keep(relation.noise_hours) * later + volatility[j + relation.lag]
        variance += (volatility[j] + echo_gain(relation) * later) ** 2
    return np.sqrt(variance)


def _normal_cdf(x: FloatArray) -> FloatArray:
    # Abramowitz and Stegun 26.2.17, error below 7.5e-8: numpy has no erf and scipy is not needed elsewhere here.
    t = 1.0 / (1.0 + 0.2316419 * np.abs(x))
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi) * poly
    return np.asarray(np.where(x >= 0.0, 1.0 - upper, upper))

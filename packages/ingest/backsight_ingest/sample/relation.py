r"""The planted relation: how what is published moves the price, later.

With hours :math:`u`, the lag :math:`L`, :math:`K_\tau x` the decaying mean of x up to an hour and :math:`S x` the
surprise, the short decaying mean less the long one, scaled to variance 1,

.. math::
    d_u &= b_n S n_{u-L} + b_r S r_{u-L} + b_m K_{macro} m_{u-L} + b_e K_{noise} \epsilon_{u-L} \\
    g_u &= c_a K_{vol} a_{u-L} - c_s S (n + r)_{u-L} / \sqrt 2 + c_v K_{macro} v_{u-L} \\
    h_u &= \mu + base_u + g_u \\
    return_u &= e^{h_u / 2} (d_u + \epsilon_u), \quad \epsilon_u \sim N(0, 1)

with n and r the tones of news and posts, a the attention (which sets how much is written), m the surprise of rates
and prices (less is better) and v the surprise of implied volatility. The price forgets a part of its own noise
(b_e < 0), about as much as the moods make it go on: past returns tell next to nothing of those to come, and what is
written does.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from backsight_ingest.sample.draws import FloatArray, decayed, keep
from backsight_ingest.sample.tone import tone

FORMULA: Final = (
    "return[u] = exp(h[u]/2) * (d[u] + N(0,1)); "
    "d[u] = drift_news*S(tone of news)[u-lag] + drift_reddit*S(tone of posts)[u-lag] + drift_macro*K(rates)[u-lag] "
    "+ drift_noise*K(noise)[u-lag]; "
    "h[u] = base[u] + vol_attention*K(attention)[u-lag] - vol_mood*S(both tones)[u-lag]/sqrt(2) "
    "+ vol_macro*K(alarm)[u-lag]; "
    "K is a decaying sum, S a short decaying mean less a long one, both scaled to variance 1; u counts hours"
)
"""The relation in one line, for the manifest."""

MOOD_HOURS = 18.0
"""Time constant of the moods."""

ATTENTION_HOURS = 24.0
"""Time constant of attention."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """Strengths, lag and decays of the planted relation.

    Parameters
    ----------
    lag : int
        Bars from the one in whose hour something is published to the first one that it moves.
    short_hours, long_hours : float
        Time constants of the two decaying means whose difference is the surprise of a mood. A push and its later
        reversal cancel, so that the price keeps no trace and past returns tell next to nothing.
    crowd_hours, macro_hours, noise_hours : float
        Time constants with which the effect of attention, of a macro surprise and of noise dies out.
    drift_news, drift_reddit, drift_macro, drift_noise : float
        Hourly drift in units of the hourly volatility, per standard deviation of the driver.
    vol_attention, vol_mood, vol_macro : float
        Log variance per standard deviation of the driver.
    """

    lag: int = 6
    short_hours: float = 12.0
    long_hours: float = 120.0
    crowd_hours: float = 10.0
    macro_hours: float = 24.0
    noise_hours: float = 24.0
    drift_news: float = 0.085
    drift_reddit: float = 0.055
    drift_macro: float = -0.085
    drift_noise: float = -0.055
    vol_attention: float = 0.75
    vol_mood: float = 0.15
    vol_macro: float = 0.35

    def off(self) -> Self:
        """Return the same with all strengths zero: a world without signal."""
        return replace(
            self,
            drift_news=0.0,
            drift_reddit=0.0,
            drift_macro=0.0,
            drift_noise=0.0,
            vol_attention=0.0,
            vol_mood=0.0,
            vol_macro=0.0,
        )


@dataclass(frozen=True, kw_only=True)
class Drivers:
    """What becomes public in each hour.

    Parameters
    ----------
    news, reddit, attention : ndarray of shape (n,)
        Moods, which show in the tone, and attention: autoregressions of variance 1, see `wander`.
    rates, alarm : ndarray of shape (n,)
        Macro surprises of variance 1 in the hour in which each becomes known, 0 elsewhere.
    noise : ndarray of shape (n,)
        What the hour's return has of its own: the price is public too.
    scheduled_rates, scheduled_alarm : ndarray of shape (n,)
        Surprises that become known in the hour: calendars are public.
    """

    news: FloatArray
    reddit: FloatArray
    attention: FloatArray
    rates: FloatArray
    alarm: FloatArray
    noise: FloatArray
    scheduled_rates: FloatArray
    scheduled_alarm: FloatArray


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Decaying sums of what had been published `lag` hours before each hour, arrays of one shape."""

    news_short: FloatArray
    news_long: FloatArray
    reddit_short: FloatArray
    reddit_long: FloatArray
    attention: FloatArray
    rates: FloatArray
    alarm: FloatArray
    noise: FloatArray

    def onward(self, relation: Relation, acts: "Impulse") -> Self:
        """Return the sums one hour later, when ``acts`` comes in."""
        short, long = keep(relation.short_hours), keep(relation.long_hours)
        crowd, macro = keep(relation.crowd_hours), keep(relation.macro_hours)
        return replace(
            self,
            news_short=short * self.news_short + acts.news,
            news_long=long * self.news_long + acts.news,
            reddit_short=short * self.reddit_short + acts.reddit,
            reddit_long=long * self.reddit_long + acts.reddit,
            attention=crowd * self.attention + acts.attention,
            rates=macro * self.rates + acts.rates,
            alarm=macro * self.alarm + acts.alarm,
            noise=keep(relation.noise_hours) * self.noise + acts.noise,
        )


@dataclass(frozen=True, kw_only=True)
class Impulse:
    """What becomes public in one hour, arrays of one shape; see `Drivers`, but of the moods only the tone."""

    news: FloatArray
    reddit: FloatArray
    attention: FloatArray
    rates: FloatArray
    alarm: FloatArray
    noise: FloatArray


def trace(relation: Relation, drivers: Drivers) -> Trace:
    """Return the decaying sums that act in each hour, arrays of shape (n,)."""

    def late(x: FloatArray, hours: float) -> FloatArray:
        return decayed(np.concatenate([np.zeros(relation.lag), x[: -relation.lag]]), hours)

    return Trace(
        news_short=late(tone(drivers.news), relation.short_hours),
        news_long=late(tone(drivers.news), relation.long_hours),
        reddit_short=late(tone(drivers.reddit), relation.short_hours),
        reddit_long=late(tone(drivers.reddit), relation.long_hours),
        attention=late(drivers.attention, relation.crowd_hours),
        rates=late(drivers.rates, relation.macro_hours),
        alarm=late(drivers.alarm, relation.macro_hours),
        noise=late(drivers.noise, relation.noise_hours),
    )


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What acts in each hour, arrays of one shape, scaled to variance 1 (a macro surprise: to 1 when it arrives)."""

    news: FloatArray
    reddit: FloatArray
    attention: FloatArray
    rates: FloatArray
    alarm: FloatArray
    noise: FloatArray


def effects(relation: Relation, at: Trace) -> Effects:
    """Return what acts, from the decaying sums."""
    short, long = 1.0 - keep(relation.short_hours), 1.0 - keep(relation.long_hours)
    spread = np.sqrt(
        short**2 * _covariance(relation.short_hours, relation.short_hours, MOOD_HOURS)
        - 2.0 * short * long * _covariance(relation.short_hours, relation.long_hours, MOOD_HOURS)
        + long**2 * _covariance(relation.long_hours, relation.long_hours, MOOD_HOURS)
    )
    crowd = np.sqrt(_covariance(relation.crowd_hours, relation.crowd_hours, ATTENTION_HOURS))
    return Effects(
        news=(short * at.news_short - long * at.news_long) / spread,
        reddit=(short * at.reddit_short - long * at.reddit_long) / spread,
        attention=at.attention / crowd,
        rates=at.rates,
        alarm=at.alarm,
        noise=at.noise * noise_scale(relation),
    )


def noise_scale(relation: Relation) -> float:
    """Return the factor that gives the decaying sum of noise variance 1."""
    return float(np.sqrt(1.0 - keep(relation.noise_hours) ** 2))


def echo_gain(relation: Relation) -> float:
    """Return the drift per unit of the decaying sum of noise."""
    return relation.drift_noise * noise_scale(relation)


def drift(relation: Relation, act: Effects) -> FloatArray:
    """Return the mean of the hourly return in units of its volatility."""
    texts = relation.drift_news * act.news + relation.drift_reddit * act.reddit
    return np.asarray(texts + relation.drift_macro * act.rates + relation.drift_noise * act.noise)


def log_variance(relation: Relation, act: Effects, base: FloatArray) -> FloatArray:
    """Return the log variance of the hourly return, of which ``base`` is what nothing published explains."""
    mood = (act.news + act.reddit) / np.sqrt(2.0)
    texts = relation.vol_attention * act.attention - relation.vol_mood * mood
    return np.asarray(base + texts + relation.vol_macro * act.alarm)


def _covariance(hours: float, other_hours: float, own_hours: float) -> float:
    """Return the covariance of two decaying sums over one autoregression of variance 1."""
    a, b, own = keep(hours), keep(other_hours), keep(own_hours)
    return float((1.0 + a * own / (1.0 - a * own) + b * own / (1.0 - b * own)) / (1.0 - a * b))

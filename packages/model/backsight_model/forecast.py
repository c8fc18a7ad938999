"""One forecast from one online window, through ONNX Runtime; TensorFlow is not needed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from backsight_features.errors import HeaderMismatch, Missing

from backsight_model.arrays import Float32Array, FloatArray
from backsight_model.baselines import HAR_TERMS
from backsight_model.bundle import Bundle, Reach
from backsight_model.linear import LOGIT, QUANTILES, RESIDUAL
from backsight_model.manifest import features_digest
from backsight_model.words import listed

if TYPE_CHECKING:
    from backsight_features.online import OnlineWindow

YEAR = timedelta(days=365)
INTERVAL = (0.1, 0.9)
"""Levels of the quantiles between which a forecast in one line says that the return will lie."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is to be expected over one horizon.

    Attributes
    ----------
    horizon : timedelta
        How far ahead, from the close of the newest bar on.
    p_up : float
        Probability that the price rises.
    log_rv : float
        Expected log of the sum of squared one-bar log returns.
    quantiles : dict of float to float
        Log return that is not exceeded with each probability.
    """

    horizon: timedelta
    p_up: float
    log_rv: float
    quantiles: dict[float, float]

    @property
    def hours(self) -> int:
        """The horizon in hours."""
        return self.horizon // timedelta(hours=1)

    @property
    def volatility(self) -> float:
        """Square root of the variance, a year, as a share of the price."""
        return float(np.sqrt(np.exp(self.log_rv) * (YEAR / self.horizon)))

    @property
    def words(self) -> str:
        """P(up), an interval of the return and the volatility."""
        low, high = (np.expm1(self.quantiles[level]) for level in INTERVAL)
        return (
            f"P(up) {self.p_up:.3f}, return {low:+.1%} to {high:+.1%} ({INTERVAL[1] - INTERVAL[0]:.0%}), "
            f"volatility {self.volatility:.1%} a year"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the horizon in seconds."""
        return {
            "horizon_seconds": self.horizon.total_seconds(),
            "p_up": self.p_up,
            "log_rv": self.log_rv,
            "volatility": self.volatility,
            "quantiles": {f"{level:g}": value for level, value in self.quantiles.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is to be expected over the next bars, and how far it can be trusted.

    Attributes
    ----------
    symbol : str
    at : datetime
        Instant for which it was made.
    observed_at, available_at : datetime
        Close of the newest bar it saw, and when the last of its inputs became known.
    outlooks : tuple of Outlook
        Over each horizon, the main one first.
    bundle, service, scorer : str
        What made it.
    proven : dict of str to bool
        Whether the model has proven skill, by target and further horizon.
    verdict : str
        ``tradable``, ``skill`` or ``no skill``.
    override : str or None
        Why it is used without skill.
    """

    symbol: str
    at: datetime
    observed_at: datetime
    available_at: datetime
    outlooks: tuple[Outlook, ...]
    bundle: str
    service: str
    scorer: str
    proven: dict[str, bool]
    verdict: str
    override: str | None

    @property
    def age(self) -> timedelta:
        """Time since the newest bar closed."""
        return self.at - self.observed_at

    @property
    def line(self) -> str:
        """The forecast in one line."""
        main, *further = self.outlooks
        also = "".join(f"; next {one.hours} h: {one.words}" for one in further)
        skilled = [target for target, held in self.proven.items() if held]
        trust = "proven skill" if len(skilled) == len(self.proven) else f"proven skill in {listed(skilled)} only"
        doubt = f"no proven skill{'' if self.override is None else f', in use all the same: {self.override}'}"
        return (
            f"{self.symbol} next {main.hours} h as of {_text(self.available_at)}: {main.words}{also} "
            f"(newest bar {_text(self.observed_at)}, {self.age} old; {self.bundle}; {trust if skilled else doubt})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, instants as ISO 8601 and durations in seconds."""
        return {
            "symbol": self.symbol,
            "at": self.at.isoformat(),
            "as_of": self.available_at.isoformat(),
            "observed_at": self.observed_at.isoformat(),
            "available_at": self.available_at.isoformat(),
            "age_seconds": self.age.total_seconds(),
            **self.outlooks[0].to_json(),
            "further": [outlook.to_json() for outlook in self.outlooks[1:]],
            "bundle": self.bundle,
            "service": self.service,
            "scorer": self.scorer,
            "proven": self.proven,
            "skill": any(self.proven.values()),
            "verdict": self.verdict,
            "override": self.override,
        }


def forecast(bundle: Bundle, window: "OnlineWindow") -> Forecast:
    """Return the forecast of a bundle from an online window.

    Raises
    ------
    HeaderMismatch
        Where the window is not of the features, the length or the timeframe that the model learnt from.
    NotServable
        Why the window was refused, where it was read with ``unfit="null"`` and nothing of it may be used.
    Missing
        Where a HAR term of the newest slot is undefined: too little unbroken history.
    """
    if window.observed_at is None or window.available_at is None:
        raise window.refused[0].error
    if features_digest(window.features) != features_digest(bundle.features):
        raise HeaderMismatch(
            f"{window.symbol}: the window has {len(window.features)} features with another list or order than the "
            f"{len(bundle.features)} of {bundle.name}; publish {bundle.service} again or train again"
        )
    if len(window.values) != bundle.length or window.timeframe != bundle.timeframe:
        raise HeaderMismatch(
            f"{window.symbol}: the window has {len(window.values)} slots of {window.timeframe}, {bundle.name} needs "
            f"{bundle.length} of {bundle.timeframe}; publish with --length {bundle.length}"
        )
    return Forecast(
        symbol=window.symbol,
        at=window.at,
        observed_at=window.observed_at,
        available_at=window.available_at,
        outlooks=estimate(bundle, window.values, name=window.symbol),
        bundle=bundle.name,
        service=bundle.service,
        scorer=bundle.scorer,
        proven=bundle.proven,
        verdict=bundle.word,
        override=None if bundle.override is None else bundle.override.reason,
    )


def estimate(bundle: Bundle, values: Float32Array, *, name: str) -> tuple[Outlook, ...]:
    """Return what a bundle expects over each horizon from window values of shape (L, F), the main one first.

    Raises
    ------
    Missing
        As `forecast` says; `name` is what lacks history.
    """
    terms = values[-1, [bundle.features.index(term) for term in HAR_TERMS]].astype(np.float64)
    if not np.isfinite(terms).all():
        raise Missing(f"{name}: {', '.join(HAR_TERMS)} are not all defined in the newest slot; history is too short")
    scaled = bundle.scaler.transform(values)
    output = bundle.run(scaled[None])[0]
    each = zip(bundle.views, np.split(output, len(bundle.views)), strict=True)
    return tuple(_outlook(bundle, reach, scaled[-1:], part) for reach, part in each)


def _outlook(bundle: Bundle, reach: Reach, newest: Float32Array, output: FloatArray) -> Outlook:
    harx = reach.harx.predict(newest, bundle.features)[0]
    quantiles = np.exp(0.5 * harx) * output[QUANTILES]
    return Outlook(
        horizon=reach.horizon * bundle.timeframe,
        p_up=float(1.0 / (1.0 + np.exp(-output[LOGIT]))),
        log_rv=float(harx + reach.residual_scale * output[RESIDUAL]),
        quantiles=dict(zip(bundle.levels, quantiles.tolist(), strict=True)),
    )


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"

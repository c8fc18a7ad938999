"""One forecast from one online window, through ONNX Runtime; TensorFlow is not needed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from backsight_features.errors import HeaderMismatch, Missing

from backsight_model.arrays import Float32Array
from backsight_model.baselines import HAR_TERMS
from backsight_model.bundle import Bundle
from backsight_model.manifest import features_digest

if TYPE_CHECKING:
    from backsight_features.online import OnlineWindow

YEAR = timedelta(days=365)


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
    horizon : timedelta
        How far ahead, from `observed_at` on.
    p_up : float
        Probability that the price rises.
    log_rv : float
        Expected log of the sum of squared one-bar log returns.
    volatility : float
        The same per year: square root of the variance, as a share of the price.
    bundle, service, scorer : str
        What made it.
    proven : dict of str to bool
        Whether the model has proven skill, by target.
    verdict : str
        ``tradable``, ``skill`` or ``no skill``.
    override : str or None
        Why it is used without skill.
    """

    symbol: str
    at: datetime
    observed_at: datetime
    available_at: datetime
    horizon: timedelta
    p_up: float
    log_rv: float
    volatility: float
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
        hours = self.horizon // timedelta(hours=1)
        skilled = [target for target, held in self.proven.items() if held]
        trust = f"proven skill in {' and '.join(skilled)} only" if len(skilled) == 1 else "proven skill"
        doubt = f"no proven skill{'' if self.override is None else f', in use all the same: {self.override}'}"
        return (
            f"{self.symbol} next {hours} h as of {_text(self.available_at)}: P(up) {self.p_up:.3f}, "
            f"volatility {self.volatility:.1%} a year (newest bar {_text(self.observed_at)}, {self.age} old; "
            f"{self.bundle}; {trust if skilled else doubt})"
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
            "horizon_seconds": self.horizon.total_seconds(),
            "p_up": self.p_up,
            "log_rv": self.log_rv,
            "volatility": self.volatility,
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
    p_up, log_rv = estimate(bundle, window.values, name=window.symbol)
    horizon = bundle.horizon * bundle.timeframe
    return Forecast(
        symbol=window.symbol,
        at=window.at,
        observed_at=window.observed_at,
        available_at=window.available_at,
        horizon=horizon,
        p_up=p_up,
        log_rv=log_rv,
        volatility=float(np.sqrt(np.exp(log_rv) * (YEAR / horizon))),
        bundle=bundle.name,
        service=bundle.service,
        scorer=bundle.scorer,
        proven=bundle.proven,
        verdict=bundle.word,
        override=None if bundle.override is None else bundle.override.reason,
    )


def estimate(bundle: Bundle, values: Float32Array, *, name: str) -> tuple[float, float]:
    """Return P(up) and log realised variance from window values of shape (L, F)."""
    terms = values[-1, [bundle.features.index(term) for term in HAR_TERMS]].astype(np.float64)
    if not np.isfinite(terms).all():
        raise Missing(f"{name}: {', '.join(HAR_TERMS)} are not all defined in the newest slot; history is too short")
    scaled = bundle.scaler.transform(values)
    residual, logit = bundle.run(scaled[None])[0]
    log_rv = bundle.harx.predict(scaled[-1:], bundle.features)[0] + bundle.residual_scale * residual
    return float(1.0 / (1.0 + np.exp(-logit))), float(log_rv)


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"

"""Making a forecast again from its log, to see whether it comes out as it was handed out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from backsight_features.errors import HeaderMismatch
from backsight_features.online import OnlineWindow

from backsight_model.bundle import Bundle, read
from backsight_model.forecast import forecast
from backsight_model.forecast_log import Logged, forecast_id

_SAID_LATER: Final = frozenset({"override"})
"""What somebody may write into a bundle after a forecast was handed out; no number follows from it."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A forecast, and what the same bundle says of the same window now.

    Attributes
    ----------
    logged : Logged
    again : dict
        As `Logged.answer`.
    differing : tuple of str
        What is not the same bit for bit; empty where all is.
    """

    logged: Logged
    again: dict[str, Any]
    differing: tuple[str, ...]


def replay(models: Path, logged: Logged) -> Replayed:
    """Make a forecast again from the window, and by the bundle, that made it.

    Neither the lake nor the features are looked at: late facts, another scorer and compaction change nothing.

    Parameters
    ----------
    models : Path
        The folder of bundles.
    logged : Logged
        From `ForecastLog.find`.

    Raises
    ------
    BadInput
        If the bundle is not there any more, or was changed.
    HeaderMismatch
        If what is logged is not what the id was made of.
    """
    bundle = read(models / logged.bundle)
    window = _window(bundle, logged)
    if forecast_id(bundle.name, window) != logged.id:
        raise HeaderMismatch(f"forecast {logged.id}: its window or its stamps were changed after it was logged")
    again = forecast(bundle, window).to_json()
    names = {*again, *logged.answer} - _SAID_LATER
    differing = tuple(sorted(name for name in names if again.get(name) != logged.answer.get(name)))
    return Replayed(logged=logged, again=again, differing=differing)


def _window(bundle: Bundle, logged: Logged) -> OnlineWindow:
    """Return the window as it was read; how old each feature was then is not kept, and changes no forecast."""
    return OnlineWindow(
        service=logged.service,
        symbol=logged.symbol,
        features=bundle.features,
        timeframe=bundle.timeframe,
        values=logged.values,
        mask=np.logical_not(np.isnan(logged.values).all(axis=1)),
        ages=np.full(logged.values.shape[1], np.timedelta64("NaT", "us")),
        at=logged.at,
        observed_at=logged.observed_at,
        available_at=logged.available_at,
    )

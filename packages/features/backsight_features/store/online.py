"""What is read online, and the gate that it has to pass: nothing unfit is handed out without saying so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from backsight_features.errors import FutureStamped, HeaderMismatch, NonFinite, Stale
from backsight_features.store.packed import PackedWindow, digest, utc


@dataclass(frozen=True, kw_only=True)
class OnlineWindow:
    """The newest window of one symbol, fit to forecast from.

    Parameters
    ----------
    service, symbol : str
        What was asked for.
    features : tuple of str
        Names of the F columns.
    timeframe : timedelta
        From one slot to the next.
    values : float32 ndarray of shape (L, F)
        Oldest slot first; NaN in a gap and where a feature is undefined, never infinite.
    mask : bool ndarray of shape (L,)
        Whether a slot holds a state; the last one always does.
    ages : timedelta64[us] ndarray of shape (F,)
        Time from when the newest defined value of each feature became known to `at`; NaT where the window has none.
    at : datetime
        The instant asked for, UTC.
    observed_at : datetime
        The bar close of the newest slot, UTC.
    available_at : datetime
        When the last of the states became known, UTC; not after `at`.
    """

    service: str
    symbol: str
    features: tuple[str, ...]
    timeframe: timedelta
    values: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    ages: npt.NDArray[np.timedelta64]
    at: datetime
    observed_at: datetime
    available_at: datetime


def admit(
    window: PackedWindow,
    *,
    service: str,
    symbol: str,
    features: Sequence[str],
    timeframe: timedelta,
    at: datetime,
    max_age: timedelta,
    max_ages: Mapping[str, timedelta],
) -> OnlineWindow:
    """Return a stored window if it may be used at an instant.

    Parameters
    ----------
    window : PackedWindow
        What is stored.
    service, symbol, features, timeframe
        What is expected.
    at : datetime
        The instant of use, tz-aware.
    max_age : timedelta
        How old the close of the newest bar may be.
    max_ages : mapping of str to timedelta
        How long after it became known the newest value of a feature may be used.

    Raises
    ------
    HeaderMismatch
        If the window was made of other features or on another grid.
    FutureStamped
        If something in it became known, or is about a bar that closed, after the instant.
    Stale
        If the newest bar, or the newest value of a feature, is too old, or the newest slot is a gap.
    NonFinite
        If a value is infinite.
    """
    name = f"{service} window of {symbol!r}"
    if window.digest != digest(features) or window.values.shape[1] != len(features):
        raise HeaderMismatch(
            f"{name} was made of other features than the {len(features)} that the service has now; publish it again"
        )
    if window.timeframe != timeframe:
        raise HeaderMismatch(f"{name} has slots of {window.timeframe}, the service of {timeframe}; publish it again")

    stored = {
        "newest bar closed": utc(window.observed_at),
        "newest state became known": utc(window.available_at),
    }
    for what, stamp in stored.items():
        if stamp > at:
            raise FutureStamped(f"{name}: its {what} at {_text(stamp)}, after the instant asked for, {_text(at)}")
    observed_at, available_at = stored.values()

    mask = ~np.isnat(window.slot_available_at)
    if at - observed_at > max_age:
        raise Stale(
            f"{name}: its newest bar closed at {_text(observed_at)}, {at - observed_at} before {_text(at)}; "
            f"at most {max_age} are allowed"
        )
    if not mask[-1]:
        raise Stale(f"{name}: nothing is stored for its newest slot, {_text(observed_at)}")
    defined = ~np.isnan(window.values)
    instant = np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")
    last = window.values.shape[0] - 1 - defined[::-1].argmax(axis=0)
    ages = np.where(defined.any(axis=0), instant - window.slot_available_at[last], np.timedelta64("NaT"))
    old = [
        feature
        for feature, age, present in zip(features, ages, defined[-1], strict=True)
        if present and feature in max_ages and age > np.timedelta64(max_ages[feature])
    ]
    if old:
        raise Stale(f"{name}: {', '.join(old)} became known at {_text(available_at)}, too long before {_text(at)}")
    infinite = [
        feature
        for feature, bad in zip(features, np.atleast_1d(np.isinf(window.values).any(axis=0)), strict=True)
        if bad
    ]
    if infinite:
        raise NonFinite(f"{name}: {', '.join(infinite)} is infinite")
    return OnlineWindow(
        service=service,
        symbol=symbol,
        features=tuple(features),
        timeframe=timeframe,
        values=window.values,
        mask=mask,
        ages=ages,
        at=at,
        observed_at=observed_at,
        available_at=available_at,
    )


def _text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

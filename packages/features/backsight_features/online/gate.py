"""The gate that every window read online has to pass: nothing unfit is handed out without saying so."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from backsight_features.errors import BadInput, FutureStamped, HeaderMismatch, NonFinite, NotServable, Stale
from backsight_features.online.contract import Contract
from backsight_features.online.packed import PackedWindow

Unfit = Literal["raise", "null"]
"""What to do with what may not be used: raise an error, or put NaN in its place and say so in ``refused``."""

_NAT: Final = np.timedelta64("NaT", "us")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What the gate has put NaN in place of, and why.

    Parameters
    ----------
    features : tuple of str
        Whose values; all features where the whole window was refused.
    error : NotServable
        What would have been raised.
    """

    features: tuple[str, ...]
    error: NotServable


@dataclass(frozen=True, kw_only=True)
class OnlineWindow:
    """The newest window of one symbol, fit to forecast from but for what is listed as refused.

    Parameters
    ----------
    service, symbol : str
        What was asked for.
    features : tuple of str
        Names of the F columns.
    timeframe : timedelta
        From one slot to the next.
    values : float32 ndarray of shape (L, F)
        Read-only; oldest slot first; NaN in a gap and where a feature is undefined, never infinite.
    mask : bool ndarray of shape (L,)
        Whether a slot holds a state; the last one does unless the window was refused.
    ages : timedelta64[us] ndarray of shape (F,)
        Time from when the newest defined value of each feature became known to `at`; NaT where the window has none.
    at : datetime
        The instant asked for, UTC.
    observed_at : datetime or None
        The bar close of the newest slot, UTC; None where the whole window was refused.
    available_at : datetime or None
        When the last of the states became known, UTC; not after `at`. None where the whole window was refused.
    refused : tuple of Refusal
        Empty unless asked for with ``unfit="null"``.
    """

    service: str
    symbol: str
    features: tuple[str, ...]
    timeframe: timedelta
    values: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    ages: npt.NDArray[np.timedelta64]
    at: datetime
    observed_at: datetime | None
    available_at: datetime | None
    refused: tuple[Refusal, ...] = ()


def admit(
    window: PackedWindow | NotServable,
    contract: Contract,
    *,
    symbol: str,
    at: datetime,
    max_age: timedelta | None = None,
    unfit: Unfit = "raise",
) -> OnlineWindow:
    """Return a stored window if it may be used at an instant.

    Parameters
    ----------
    window : PackedWindow or NotServable
        What is stored, or why nothing could be read.
    contract : Contract
        What is expected.
    symbol : str
        Whose window it is.
    at : datetime
        The instant of use, UTC.
    max_age : timedelta, optional
        How old the close of the newest bar may be; what the contract says unless given.
    unfit : str
        ``raise``; or ``null``: a window that may not be used is all NaN, a feature that is too old is NaN in all
        slots, an infinite value is NaN, and ``refused`` says which and why.

    Raises
    ------
    Missing
        If nothing is stored.
    HeaderMismatch
        If the window was made of other features, of another length or on another grid.
    FutureStamped
        If something in it became known, or is about a bar that closed, after the instant.
    Stale
        If the newest bar, or the newest value of a feature, is too old, or the newest slot is a gap.
    NonFinite
        If a value is infinite.
    """
    if unfit not in ("raise", "null"):
        raise BadInput(f"unfit={unfit!r}; it must be 'raise' or 'null'")
    if isinstance(window, NotServable):
        return _refused(contract, symbol, at, window, unfit)
    mask = ~np.isnat(window.slot_available_at)
    error = _unusable(window, mask, contract, symbol, at, max_age)
    if error is not None:
        return _refused(contract, symbol, at, error, unfit)

    values, ages = window.values, _instant(at) - window.newest_available_at
    exceeded = ages > contract.limits
    refused: tuple[Refusal, ...] = ()
    if window.infinite or np.count_nonzero(exceeded):
        old = exceeded & ~np.isnan(values[-1])
        bad = np.isinf(values)
        refused = _refusals(contract, symbol, at, ages, old, np.atleast_1d(bad.any(axis=0)))
        if refused and unfit == "raise":
            raise refused[0].error
        values = np.where(old | bad, np.float32(np.nan), values)
        values.flags.writeable = False
        ages = np.where(old, _NAT, ages)
    return OnlineWindow(
        service=contract.service,
        symbol=symbol,
        features=contract.features,
        timeframe=contract.timeframe,
        values=values,
        mask=mask,
        ages=ages,
        at=at,
        observed_at=window.observed_at,
        available_at=window.available_at,
        refused=refused,
    )


def _unusable(
    window: PackedWindow,
    mask: npt.NDArray[np.bool_],
    contract: Contract,
    symbol: str,
    at: datetime,
    max_age: timedelta | None,
) -> NotServable | None:
    """Return why no value of a window may be used."""
    length, width = window.values.shape
    if window.digest != contract.digest or width != len(contract.features):
        return HeaderMismatch(
            f"{_name(contract, symbol)} was made of other features than the {len(contract.features)} that the service "
            "has now; publish it again"
        )
    if window.timeframe != contract.timeframe:
        return HeaderMismatch(
            f"{_name(contract, symbol)} has slots of {window.timeframe}, the service of {contract.timeframe}; "
            "publish it again"
        )
    if contract.length not in (None, length):
        return HeaderMismatch(f"{_name(contract, symbol)} has {length} slots; {contract.length} are expected")
    observed_at = window.observed_at
    if observed_at > at or window.available_at > at:
        what, stamp = (
            ("newest bar closed", observed_at)
            if observed_at > at
            else ("newest state became known", window.available_at)
        )
        return FutureStamped(
            f"{_name(contract, symbol)}: its {what} at {_text(stamp)}, after the instant asked for, {_text(at)}"
        )
    allowed = contract.max_age if max_age is None else max_age
    if at - observed_at > allowed:
        return Stale(
            f"{_name(contract, symbol)}: its newest bar closed at {_text(observed_at)}, {at - observed_at} before "
            f"{_text(at)}; at most {allowed} are allowed"
        )
    if not mask[-1]:
        return Stale(f"{_name(contract, symbol)}: nothing is stored for its newest slot, {_text(observed_at)}")
    return None


def _refusals(
    contract: Contract,
    symbol: str,
    at: datetime,
    ages: npt.NDArray[np.timedelta64],
    old: npt.NDArray[np.bool_],
    infinite: npt.NDArray[np.bool_],
) -> tuple[Refusal, ...]:
    name = _name(contract, symbol)
    found: list[Refusal] = []
    if stale := _named(contract, old):
        worst = int(np.argmax(np.where(old, ages, np.timedelta64(0, "us"))))
        known = at - ages[worst].astype(timedelta)
        found.append(
            Refusal(
                features=stale,
                error=Stale(f"{name}: {', '.join(stale)} became known at {_text(known)}, too long before {_text(at)}"),
            )
        )
    if unbounded := _named(contract, infinite):
        found.append(Refusal(features=unbounded, error=NonFinite(f"{name}: {', '.join(unbounded)} is infinite")))
    return tuple(found)


def _named(contract: Contract, which: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, chosen in zip(contract.features, which.tolist(), strict=True) if chosen)


def _refused(contract: Contract, symbol: str, at: datetime, error: NotServable, unfit: Unfit) -> OnlineWindow:
    """Return the window of which nothing may be used."""
    if unfit == "raise" or contract.length is None:
        # Of a length that nobody knows, there is no window to fill with NaN.
        raise error
    width = len(contract.features)
    return OnlineWindow(
        service=contract.service,
        symbol=symbol,
        features=contract.features,
        timeframe=contract.timeframe,
        values=np.full((contract.length, width), np.nan, dtype=np.float32),
        mask=np.zeros(contract.length, dtype=np.bool_),
        ages=np.full(width, _NAT),
        at=at,
        observed_at=None,
        available_at=None,
        refused=(Refusal(features=contract.features, error=error),),
    )


def _name(contract: Contract, symbol: str) -> str:
    return f"{contract.service} window of {symbol!r}"


@lru_cache(maxsize=8)
def _instant(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def _text(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

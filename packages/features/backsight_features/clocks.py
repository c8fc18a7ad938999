"""Instants and durations: UTC, tz-aware, microseconds.

Every fact carries three clocks: ``observed_at`` (what it is about), ``available_at`` (the earliest instant a
live system could have used it) and ``ingested_at`` (when the row was written). Joins read ``available_at`` only.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from backsight_features.errors import BadInput

UTC_US: Final = pl.Datetime("us", "UTC")
"""The only type of an instant in the project. Nanoseconds crash Feast's materialisation."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def utc_now() -> datetime:
    """Return the current instant. The one place that reads the clock; callers hand ``now`` down."""
    return datetime.now(UTC)


def parse_instant(text: str) -> datetime:
    """Return the UTC instant of an ISO 8601 text.

    Parameters
    ----------
    text : str
        A date (``2024-03-01``, its midnight in UTC) or a time with an explicit zone (``2024-03-01T12:00:00Z``).

    Raises
    ------
    BadInput
        If the text is no ISO 8601 instant, or a time without a zone: nothing is guessed.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is not an instant; write 2024-03-01 or 2024-03-01T12:00:00Z") from None
    if at.tzinfo is None:
        if len(text) > len("2024-03-01"):
            raise BadInput(f"{text!r} has no time zone; write {text}Z for UTC")
        at = at.replace(tzinfo=UTC)
    return at.astimezone(UTC)


def timeframe(text: str) -> timedelta:
    """Return the length of a bar named as ccxt names it.

    >>> timeframe("4h")
    datetime.timedelta(seconds=14400)

    Raises
    ------
    BadInput
        If the text is not a positive number followed by m, h, d or w.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})([mhdw])", text)
    if match is None:
        raise BadInput(f"{text!r} is not a timeframe; write 1m, 5m, 1h, 4h, 1d or 1w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def to_us(at: datetime) -> int:
    """Return the microseconds from 1970-01-01 UTC to a tz-aware instant."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Return the UTC instant that lies ``us`` microseconds after 1970-01-01 UTC."""
    return _EPOCH + us * _MICROSECOND

"""What a reader has to know of a service beside a window; published with every window, so no registry is needed.

The text is JSON with ``contract`` (its version, 1), ``service``, ``features`` in order, ``timeframe_us``, ``length``,
``max_age_us`` (how old the close of the newest bar may be) and ``max_ages_us`` (the same for what became known, by
feature). Feast sees it as the field ``contract`` of the view ``<service>_window``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash

from backsight_features.errors import HeaderMismatch
from backsight_features.online.packed import digest

PACKED: Final = "packed"
"""The field of a window view that holds the window."""

CONTRACT: Final = "contract"
"""The field beside it."""

LARGEST: Final = 1 << 20
"""Bytes of a contract beyond which it is refused."""

_VERSION: Final = 1
_MICROSECOND: Final = timedelta(microseconds=1)
_LATENESS: Final = timedelta(minutes=5)
_WITHOUT_LIMIT: Final = np.iinfo(np.int64).max


def window_view_name(service: str) -> str:
    """Return the name of the view that holds the windows of a service."""
    return f"{service}_window"


def patience(step: timedelta) -> timedelta:
    """Return how old the newest bar may be: two bars and five minutes.

    Right before a bar closes, the newest one is one bar old; the rest is for a bar that comes late.
    """
    return 2 * step + _LATENESS


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What the windows of a service are, and how long they may be used.

    Parameters
    ----------
    service : str
        Its name.
    features : tuple of str
        The names of the F columns, in order.
    timeframe : timedelta
        From one slot to the next.
    max_age : timedelta
        How old the close of the newest bar may be.
    max_ages : mapping of str to timedelta
        How long after it became known the newest value of a feature may be used; no limit where a feature is absent.
    length : int or None
        L, the number of slots; any where None, which cannot be published.
    """

    service: str
    features: tuple[str, ...]
    timeframe: timedelta
    max_age: timedelta
    max_ages: Mapping[str, timedelta]
    length: int | None

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the names of the features, as in the header of a window."""
        return digest(self.features)

    @cached_property
    def limits(self) -> npt.NDArray[np.timedelta64]:
        """`max_ages` as a timedelta64[us] array of shape (F,), the largest integer where there is none."""
        limits = [self.max_ages[name] // _MICROSECOND if name in self.max_ages else None for name in self.features]
        return np.array([_WITHOUT_LIMIT if us is None else us for us in limits], dtype="m8[us]")

    @cached_property
    def text(self) -> str:
        """The JSON; equal contracts have equal texts."""
        document = {
            "contract": _VERSION,
            "service": self.service,
            "features": self.features,
            "timeframe_us": self.timeframe // _MICROSECOND,
            "length": self.length,
            "max_age_us": self.max_age // _MICROSECOND,
            "max_ages_us": {name: age // _MICROSECOND for name, age in self.max_ages.items()},
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def checksum(self) -> int:
        """XXH3-64 of the text, as in the header of a window."""
        return xxhash.xxh3_64_intdigest(self.text.encode())

    @classmethod
    def parse(cls, text: str) -> "Contract":
        """Return the contract that a text says.

        Raises
        ------
        HeaderMismatch
            If it is none, or of another version.
        """
        if len(text) > LARGEST:
            raise HeaderMismatch(f"contract of {len(text)} characters; at most {LARGEST} are read")
        try:
            document = json.loads(text)
            if document["contract"] != _VERSION:
                raise HeaderMismatch(
                    f"contract of version {document['contract']!r}; this program reads version {_VERSION}: publish "
                    "again with it, or read with the program that published"
                )
            return cls(
                service=_as(str, document["service"]),
                features=tuple(_as(str, name) for name in _as(list, document["features"])),
                timeframe=_as(int, document["timeframe_us"]) * _MICROSECOND,
                max_age=_as(int, document["max_age_us"]) * _MICROSECOND,
                max_ages={
                    name: _as(int, age) * _MICROSECOND for name, age in _as(dict, document["max_ages_us"]).items()
                },
                length=_as(int, document["length"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise HeaderMismatch(f"contract cannot be read: {type(error).__name__}: {error}") from error


def _as(kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} should be of type {kind.__name__}")
    return value

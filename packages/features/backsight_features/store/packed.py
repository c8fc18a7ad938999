"""A window as bytes: a header that says what it is, which slots hold a state, when each became known, and the values.

Feast cannot look into a field of bytes, so the header carries what a reader has to check. Little-endian throughout:

=============  ==========  ==================================================================
bytes          type        meaning
=============  ==========  ==================================================================
0-3            4 bytes     ``BSWN``
4-5            uint16      version of this layout, 1
6-7            uint16      type of the values; 1 is float32
8-39           32 bytes    SHA-256 of the names of the features, in order, each ended by NUL
40-43          uint32      L, the number of slots
44-47          uint32      F, the number of features
48-55          int64       available_at of the newest state, microseconds since 1970 UTC
56-63          int64       observed_at of the newest slot, the same
64-71          int64       timeframe, microseconds
72-75          uint32      CRC-32 of all other bytes
76-            int64 x L   available_at of every slot; the least integer where it is a gap
then           f4 x L x F  the values, slot by slot, oldest first; NaN where undefined
=============  ==========  ==================================================================
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from backsight_features.errors import HeaderMismatch

_MAGIC: Final = b"BSWN"
_VERSION: Final = 1
_FLOAT32: Final = 1
_HEADER: Final = struct.Struct("<4sHH32sIIqqq")
_CHECKSUM: Final = struct.Struct("<I")
_START: Final = _HEADER.size + _CHECKSUM.size
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class PackedWindow:
    """One window, as it is stored online.

    Parameters
    ----------
    digest : bytes
        SHA-256 of the names of the features (`digest`).
    values : float32 ndarray of shape (L, F)
        Oldest slot first; NaN where undefined.
    slot_available_at : datetime64[us] ndarray of shape (L,)
        When the state of each slot became known; NaT where the slot is a gap.
    available_at : datetime64[us]
        When the last of its states became known.
    observed_at : datetime64[us]
        The bar close of the newest slot.
    timeframe : timedelta
        From one slot to the next.
    """

    digest: bytes
    values: npt.NDArray[np.float32]
    slot_available_at: npt.NDArray[np.datetime64]
    available_at: np.datetime64
    observed_at: np.datetime64
    timeframe: timedelta


def digest(features: Sequence[str]) -> bytes:
    """Return the SHA-256 that stands for an ordered list of feature names."""
    return hashlib.sha256("".join(f"{name}\0" for name in features).encode()).digest()


def pack(window: PackedWindow) -> bytes:
    """Return the bytes of a window; equal windows have equal bytes."""
    length, width = window.values.shape
    header = _HEADER.pack(
        _MAGIC,
        _VERSION,
        _FLOAT32,
        window.digest,
        length,
        width,
        int(window.available_at.astype(np.int64)),
        int(window.observed_at.astype(np.int64)),
        window.timeframe // _MICROSECOND,
    )
    # A NaN has many bit patterns; one of them is stored.
    values = np.where(np.isnan(window.values), np.float32(np.nan), window.values).astype("<f4")
    body = window.slot_available_at.astype(np.int64).astype("<i8").tobytes() + values.tobytes()
    return header + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(header))) + body


def unpack(data: bytes) -> PackedWindow:
    """Return the window that `pack` wrote.

    Raises
    ------
    HeaderMismatch
        If the bytes are no window, of another version, or damaged.
    """
    if len(data) < _START or data[:4] != _MAGIC:
        raise HeaderMismatch(
            f"{len(data)} bytes that begin with {data[:4]!r} are no window, which begins with {_MAGIC!r}"
        )
    _, version, kind, names, length, width, available_at, observed_at, step = _HEADER.unpack_from(data)
    if (version, kind) != (_VERSION, _FLOAT32):
        raise HeaderMismatch(
            f"window of version {version} with values of type {kind}; this program reads version {_VERSION}, "
            f"type {_FLOAT32}"
        )
    size = _START + 8 * length + 4 * length * width
    if len(data) != size:
        raise HeaderMismatch(f"window of {length} x {width} has {len(data)} bytes; it should have {size}")
    body = data[_START:]
    if _CHECKSUM.unpack_from(data, _HEADER.size)[0] != zlib.crc32(body, zlib.crc32(data[: _HEADER.size])):
        raise HeaderMismatch("window is damaged: its checksum does not match its bytes")
    values = np.frombuffer(body, "<f4", offset=8 * length).reshape(length, width).astype(np.float32)
    return PackedWindow(
        digest=names,
        values=values,
        slot_available_at=np.frombuffer(body, "<i8", count=length).astype(np.int64).astype("datetime64[us]"),
        available_at=np.int64(available_at).astype("datetime64[us]"),
        observed_at=np.int64(observed_at).astype("datetime64[us]"),
        timeframe=step * _MICROSECOND,
    )


def utc(stamp: np.datetime64) -> datetime:
    """Return a stamp of a window as a datetime."""
    at: datetime = stamp.astype(datetime)
    return at.replace(tzinfo=UTC)

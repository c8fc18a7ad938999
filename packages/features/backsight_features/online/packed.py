"""A window as bytes: a header that says what it is, when each slot and feature became known, and the values.

Feast cannot look into a field of bytes, so the header carries what a reader has to check, and what a check would
have to search for is found once, at packing. Little-endian throughout:

=============  ==========  ==================================================================
bytes          type        meaning
=============  ==========  ==================================================================
0-3            4 bytes     ``BSWN``
4-5            uint16      version of this layout, 2
6-7            uint16      type of the values; 1 is float32
8-15           uint64      XXH3-64 of all bytes from 16 on
16-47          32 bytes    SHA-256 of the names of the features, in order, each ended by NUL
48-55          uint64      XXH3-64 of the service's contract (`contract.Contract.text`)
56-59          uint32      L, the number of slots
60-63          uint32      F, the number of features
64-71          int64       available_at of the newest state, microseconds since 1970 UTC
72-79          int64       observed_at of the newest slot, the same
80-87          int64       timeframe, microseconds
88-95          uint64      how many values are infinite
96-            int64 x L   available_at of every slot; the least integer where it is a gap
then           int64 x F   available_at of the newest defined value of every feature; the same
then           f4 x L x F  the values, slot by slot, oldest first; NaN where undefined
=============  ==========  ==================================================================
"""

import hashlib
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from backsight_features.errors import BadInput, HeaderMismatch

_MAGIC: Final = b"BSWN"
_VERSION: Final = 2
_FLOAT32: Final = 1
_KIND: Final = struct.pack("<4sHH", _MAGIC, _VERSION, _FLOAT32)
_HEADER: Final = struct.Struct("<8sQ32sQIIqqqQ")
_UNSUMMED: Final = 16
_VALUES: Final = np.dtype("<f4")
_STAMPS: Final = np.dtype("<M8[us]")
HEADER_SIZE: Final = _HEADER.size
"""Bytes that tell two windows apart: the checksum among them stands for the rest."""
LARGEST: Final = 64 << 20
"""Bytes of a window beyond which it is refused."""
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PackedWindow(NamedTuple):
    """One window, as it is stored online; its arrays are read-only where it was unpacked.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the names of the features (`digest`).
    contract : int
        XXH3-64 of the contract of the service.
    values : float32 ndarray of shape (L, F)
        Oldest slot first; NaN where undefined.
    slot_available_at : datetime64[us] ndarray of shape (L,)
        When the state of each slot became known; NaT where the slot is a gap.
    newest_available_at : datetime64[us] ndarray of shape (F,)
        When the newest defined value of each feature became known; NaT where there is none.
    available_at : datetime
        When the last of its states became known, UTC.
    observed_at : datetime
        The bar close of the newest slot, UTC.
    timeframe : timedelta
        From one slot to the next.
    infinite : int
        How many values are infinite.
    """

    digest: bytes
    contract: int
    values: npt.NDArray[np.float32]
    slot_available_at: npt.NDArray[np.datetime64]
    newest_available_at: npt.NDArray[np.datetime64]
    available_at: datetime
    observed_at: datetime
    timeframe: timedelta
    infinite: int

    @property
    def order(self) -> tuple[datetime, datetime]:
        """What orders the windows of one symbol in time: the close of the newest slot, then when all was known."""
        return self.observed_at, self.available_at


def digest(features: Sequence[str]) -> bytes:
    """Return the SHA-256 that stands for an ordered list of feature names."""
    return hashlib.sha256("".join(f"{name}\0" for name in features).encode()).digest()


def newest_available_at(
    values: npt.NDArray[np.float32], slot_available_at: npt.NDArray[np.datetime64]
) -> npt.NDArray[np.datetime64]:
    """Return when the newest defined value of each feature became known.

    Parameters
    ----------
    values : float32 ndarray of shape (..., L, F)
        Of any number of windows, oldest slot first; NaN where undefined.
    slot_available_at : datetime64[us] ndarray of shape (..., L)
        When the state of each slot became known.

    Returns
    -------
    datetime64[us] ndarray of shape (..., F)
        NaT where a feature has no defined value.
    """
    defined = ~np.isnan(values)
    last = values.shape[-2] - 1 - defined[..., ::-1, :].argmax(axis=-2)
    found = np.take_along_axis(slot_available_at, last, axis=-1)
    return np.where(defined.any(axis=-2), found, np.datetime64("NaT", "us"))


def pack(
    values: npt.NDArray[np.float32],
    slot_available_at: npt.NDArray[np.datetime64],
    *,
    digest: bytes,
    contract: int,
    observed_at: np.datetime64,
    timeframe: timedelta,
) -> bytes:
    """Return the bytes of a window; equal windows have equal bytes.

    Parameters
    ----------
    values : float32 ndarray of shape (L, F)
        Oldest slot first; NaN where undefined.
    slot_available_at : datetime64[us] ndarray of shape (L,)
        When the state of each slot became known; NaT where the slot is a gap.
    digest : bytes
        Of the names of the features.
    contract : int
        XXH3-64 of the contract of the service.
    observed_at : datetime64[us]
        The bar close of the newest slot.
    timeframe : timedelta
        From one slot to the next.

    Raises
    ------
    BadInput
        If there would be more bytes than are read.
    """
    length, width = values.shape
    size = HEADER_SIZE + 8 * (length + width) + 4 * length * width
    if size > LARGEST:
        raise BadInput(f"a window of {length} x {width} has {size} bytes; {LARGEST} are stored at most")
    # A NaN has many bit patterns; one of them is stored.
    values = np.where(np.isnan(values), np.float32(np.nan), values)
    known = newest_available_at(values, slot_available_at)
    stamps = slot_available_at.astype("datetime64[us]").astype("<i8")
    summed = _HEADER.pack(
        _KIND,
        0,
        digest,
        contract,
        length,
        width,
        int(stamps.max()),
        int(observed_at.astype("datetime64[us]").astype(np.int64)),
        timeframe // _MICROSECOND,
        int(np.isinf(values).sum()),
    )[_UNSUMMED:]
    rest = b"".join((summed, stamps.tobytes(), known.astype("<i8").tobytes(), values.astype("<f4").tobytes()))
    return _KIND + struct.pack("<Q", xxhash.xxh3_64_intdigest(rest)) + rest


def unpack(data: bytes | memoryview) -> PackedWindow:
    """Return the window that `pack` wrote; its arrays look into the bytes.

    Raises
    ------
    HeaderMismatch
        If the bytes are no window, of another version, or damaged.
    """
    if len(data) < HEADER_SIZE or data[:4] != _MAGIC:
        raise HeaderMismatch(
            f"{len(data)} bytes that begin with {bytes(data[:4])!r} are no window, which begins with {_MAGIC!r}"
        )
    kind, checksum, names, contract, length, width, available_at, observed_at, step, infinite = _HEADER.unpack_from(
        data
    )
    if kind != _KIND:
        _, version, stored = struct.unpack("<4sHH", kind)
        raise HeaderMismatch(
            f"window of version {version} with values of type {stored}; this program reads version {_VERSION}, "
            f"type {_FLOAT32}: publish again with it, or read with the program that published"
        )
    stamped = HEADER_SIZE + 8 * length
    start = stamped + 8 * width
    size = start + 4 * length * width
    if len(data) != size or size > LARGEST:
        raise HeaderMismatch(
            f"window of {length} x {width} has {len(data)} bytes; it should have {size}, and {LARGEST} at most"
        )
    if checksum != xxhash.xxh3_64_intdigest(memoryview(data)[_UNSUMMED:]):
        raise HeaderMismatch("window is damaged: its checksum does not match its bytes")
    values = np.frombuffer(data, _VALUES, offset=start).reshape(length, width)
    if not values.flags.aligned:
        # Behind a tag of odd length; some consumers take aligned arrays only.
        values = values.copy()
        values.flags.writeable = False
    try:
        known = _EPOCH + timedelta(microseconds=available_at)
        closed = _EPOCH + timedelta(microseconds=observed_at)
        timeframe = timedelta(microseconds=step)
    except OverflowError as error:
        raise HeaderMismatch(f"window with an instant out of range: {error}") from error
    return PackedWindow(
        names,
        contract,
        values,
        np.frombuffer(data, _STAMPS, length, HEADER_SIZE),
        np.frombuffer(data, _STAMPS, width, stamped),
        known,
        closed,
        timeframe,
        infinite,
    )

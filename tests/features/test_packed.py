"""Windows as bytes."""

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import xxhash
from backsight_features.errors import BadInput, HeaderMismatch
from backsight_features.online.packed import HEADER_SIZE, digest, newest_available_at, pack, unpack
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

KNOWN = np.array(["2024-01-01T01:00:15.000001", "NaT", "2024-01-01T03:00:15"], dtype="datetime64[us]")
CLOSED = np.datetime64("2024-01-01T03:00:00", "us")


def packed(values: np.ndarray, slot_available_at: np.ndarray = KNOWN, **changes: Any) -> bytes:
    given = {
        "digest": digest(["a", "b"]),
        "contract": 7,
        "observed_at": CLOSED,
        "timeframe": timedelta(hours=1),
    }
    return pack(values, slot_available_at, **(given | changes))


@settings(deadline=None)
@given(values=arrays.arrays(np.float32, (3, 2), elements=st.floats(width=32)))
def test_a_window_survives_packing(values: np.ndarray) -> None:
    after = unpack(packed(values))
    np.testing.assert_array_equal(after.values, values)
    assert (np.signbit(after.values) == np.signbit(values))[~np.isnan(values)].all()
    np.testing.assert_array_equal(after.slot_available_at, KNOWN)
    np.testing.assert_array_equal(after.newest_available_at, newest_available_at(values, KNOWN))
    assert after.infinite == np.isinf(values).sum()
    assert (after.digest, after.contract, after.timeframe) == (digest(["a", "b"]), 7, timedelta(hours=1))
    assert after.observed_at == datetime(2024, 1, 1, 3, tzinfo=UTC)
    assert after.available_at == datetime(2024, 1, 1, 3, 0, 15, tzinfo=UTC)
    assert packed(after.values, after.slot_available_at) == packed(values)


def test_when_the_newest_defined_value_of_each_feature_became_known() -> None:
    nan = np.nan
    values = np.array([[1, 1, nan, nan], [nan] * 4, [nan, 3, nan, 5]], dtype=np.float32)
    expected = [KNOWN[0], KNOWN[2], np.datetime64("NaT"), KNOWN[2]]
    np.testing.assert_array_equal(newest_available_at(values, KNOWN), expected)
    many = newest_available_at(np.stack([values, values[:, ::-1]]), np.stack([KNOWN, KNOWN]))
    np.testing.assert_array_equal(many, [expected, expected[::-1]])


@pytest.mark.parametrize("offset", range(8))
def test_reading_copies_nothing_that_is_aligned_and_what_is_handed_out_cannot_be_written(offset: int) -> None:
    data = bytes(offset) + packed(np.ones((3, 2), dtype=np.float32))
    window = unpack(memoryview(data)[offset:])
    arrays = (window.values, window.slot_available_at, window.newest_available_at)
    assert not any(array.flags.writeable for array in arrays)
    assert window.values.flags.aligned
    start = np.frombuffer(data, np.uint8).ctypes.data
    inside = start <= window.values.ctypes.data < start + len(data)
    assert inside == (offset % 4 == 0)


def test_the_order_and_the_bounds_of_names_count() -> None:
    lists = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], []]
    assert len({digest(names) for names in lists}) == len(lists)


def test_every_damaged_byte_is_noticed() -> None:
    data = packed(np.ones((3, 2), dtype=np.float32))
    assert len(data) == HEADER_SIZE + 3 * 8 + 2 * 8 + 6 * 4
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 4
        with pytest.raises(HeaderMismatch):
            unpack(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(HeaderMismatch):
            unpack(data[:length])


def summed(data: bytes) -> bytes:
    """Give bytes the checksum that they should have."""
    return data[:8] + struct.pack("<Q", xxhash.xxh3_64_intdigest(data[16:])) + data[16:]


def test_versions_and_instants_that_cannot_be_are_named() -> None:
    data = packed(np.ones((3, 2), dtype=np.float32))
    with pytest.raises(HeaderMismatch, match=r"window of version 3 .* this program reads version 2"):
        unpack(data[:4] + b"\x03" + data[5:])
    with pytest.raises(HeaderMismatch, match="values of type 2"):
        unpack(data[:6] + b"\x02" + data[7:])
    with pytest.raises(HeaderMismatch, match="an instant out of range"):
        unpack(summed(data[:64] + b"\xff" * 7 + b"\x7f" + data[72:]))
    with pytest.raises(HeaderMismatch, match=r"window of 1000000000 x 2 has .* 67108864 at most"):
        unpack(summed(data[:56] + struct.pack("<I", 10**9) + data[60:]))


def test_what_would_be_too_large_to_read_is_not_packed() -> None:
    values = np.zeros((9_000, 2_000), dtype=np.float32)
    with pytest.raises(BadInput, match=r"a window of 9000 x 2000 has .* bytes; 67108864 are stored at most"):
        packed(values, np.full(9_000, KNOWN[0]))

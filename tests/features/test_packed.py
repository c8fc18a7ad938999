"""Windows as bytes."""

import importlib
from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from backsight_features.errors import HeaderMismatch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays


@pytest.fixture(scope="module")
def packed() -> ModuleType:
    return importlib.import_module("backsight_features.store.packed")


def window(packed: Any, values: np.ndarray) -> Any:
    known = np.array(["2024-01-01T01:00:15.000001", "NaT", "2024-01-01T03:00:15"], dtype="datetime64[us]")
    return packed.PackedWindow(
        digest=packed.digest(["a", "b"]),
        values=values,
        slot_available_at=known,
        available_at=known[2],
        observed_at=np.datetime64("2024-01-01T03:00:00", "us"),
        timeframe=timedelta(hours=1),
    )


@settings(deadline=None)
@given(values=arrays.arrays(np.float32, (3, 2), elements=st.floats(width=32)))
def test_a_window_survives_packing(packed: Any, values: np.ndarray) -> None:
    before = window(packed, values)
    after = packed.unpack(packed.pack(before))
    np.testing.assert_array_equal(after.values, values)
    assert (np.signbit(after.values) == np.signbit(values))[~np.isnan(values)].all()
    np.testing.assert_array_equal(after.slot_available_at, before.slot_available_at)
    assert replace(after, values=values, slot_available_at=before.slot_available_at) == before
    assert packed.pack(after) == packed.pack(before)


def test_the_order_and_the_bounds_of_names_count(packed: Any) -> None:
    lists = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], []]
    assert len({packed.digest(names) for names in lists}) == len(lists)


def test_every_damaged_byte_is_noticed(packed: Any) -> None:
    data = packed.pack(window(packed, np.ones((3, 2), dtype=np.float32)))
    assert len(data) == 76 + 3 * 8 + 6 * 4
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 4
        with pytest.raises(HeaderMismatch):
            packed.unpack(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(HeaderMismatch):
            packed.unpack(data[:length])
    with pytest.raises(HeaderMismatch, match="version 2"):
        packed.unpack(data[:4] + b"\x02" + data[5:])

"""Where the newest windows lie: one field of bytes per symbol in a view of Feast's online store, whichever that is."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, Literal

import filelock
import numpy as np
from feast import FeatureStore, FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.message import DecodeError

from backsight_features.errors import Busy, HeaderMismatch, Missing
from backsight_features.store.definitions import PACKED
from backsight_features.store.packed import PackedWindow, pack, unpack, utc

Outcome = Literal["written", "corrected", "unchanged", "kept"]
"""See `store.PublishedWindow`."""

_UNREADABLE: Final = b"damaged"
"""Stands for a stored value that is none of Feast's; it is no window either."""


def read(feast: FeatureStore, view: FeatureView, symbol: str) -> bytes | None:
    """Return the packed window of a symbol, or None where there is none.

    Raises
    ------
    Missing
        If the online store has no place for the view.
    Busy
        If another process holds the database.
    """
    try:
        [(_, fields)] = feast.provider.online_read(feast.config, view, [_key(symbol)], [PACKED])
    except DecodeError:
        return _UNREADABLE
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise Missing(f"the online store has no place for {view.name}; run `backsight apply`") from error
        if "locked" in str(error):
            raise Busy(f"the online store is locked by another process: {error}") from error
        raise
    # Redis gives an empty value where there is none.
    return fields[PACKED].bytes_val or None if fields and PACKED in fields else None


def put(feast: FeatureStore, view: FeatureView, symbol: str, window: PackedWindow) -> Outcome:
    """Store the window of a symbol unless a newer one is there; one write, so a reader sees the old or the new.

    Windows are ordered by the close of their newest slot and then by when their last state became known. Of two with
    the same, the one that comes last is right: the features were computed again, or others are wanted now.
    """
    before = read(feast, view, symbol)
    data = pack(window)
    outcome: Outcome = "written"
    if before == data:
        return "unchanged"
    if before is not None and (held := _stamps(before)) is not None:
        ours = (window.observed_at, window.available_at)
        if held > ours:
            return "kept"
        outcome = "corrected" if held == ours else "written"
    fields = {PACKED: Value(bytes_val=data)}
    feast.provider.online_write_batch(
        feast.config, view, [(_key(symbol), fields, utc(window.available_at), None)], None
    )
    return outcome


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Let one process publish at a time: to compare and then write is no single step in Feast.

    Raises
    ------
    Busy
        If another process is publishing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "publish.lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise Busy(f"another process is publishing to {folder}; try again later") from error


@cache
def _key(symbol: str) -> EntityKey:
    return EntityKey(join_keys=["symbol"], entity_values=[Value(string_val=symbol)])


def _stamps(data: bytes) -> tuple[np.datetime64, np.datetime64] | None:
    """Return what orders a stored window in time, or None where it cannot be read and may be replaced."""
    try:
        window = unpack(data)
    except HeaderMismatch:
        return None
    return window.observed_at, window.available_at

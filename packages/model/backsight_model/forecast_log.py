"""The forecast log: every forecast that was handed out, with all that it takes to make it again bit for bit.

What hands out a forecast first writes it to the spool, a folder with one small file each, whole or not at all::

    forecasts/spool/<id>.json     not yet in the table
    forecasts/log/                a Delta table, one row per forecast

A forecast follows from a bundle and a window. Its id is a hash of both, so that it is one and the same forecast, and
one file, however often, at which instants and by how many processes it is handed out while the window is the newest.
"""

import base64
import json
import os
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash
from backsight_features.errors import BadInput, Missing, SourceError

from backsight_model.arrays import Float32Array

if TYPE_CHECKING:
    import polars as pl
    from backsight_features.online import OnlineWindow

    from backsight_model.forecast import Forecast

_ID: Final = 32
"""Hex digits of an id: XXH3-128."""
_MOST_BYTES: Final = 128 << 20


@dataclass(frozen=True, kw_only=True)
class Logged:
    """A forecast that was handed out.

    Attributes
    ----------
    id : str
        32 hex digits.
    symbol, service, bundle : str
    at : datetime
        When it was first handed out.
    observed_at, available_at : datetime
        Close of the newest bar it saw, and when the last of its inputs became known.
    values : float32 ndarray of shape (L, F)
        The window that it was made from, in the order of the bundle's features; NaN where undefined.
    answer : dict
        What was handed out: `forecast.Forecast.to_json`.
    """

    id: str
    symbol: str
    service: str
    bundle: str
    at: datetime
    observed_at: datetime
    available_at: datetime
    values: Float32Array
    answer: dict[str, Any]


def forecast_id(bundle: str, window: "OnlineWindow") -> str:
    """Return the id of what a bundle forecasts from a window."""
    state = xxhash.xxh3_128(f"{bundle}\0{window.symbol}\0{window.observed_at}\0{window.available_at}\0".encode())
    state.update(np.ascontiguousarray(window.values).data)
    return state.hexdigest()


class ForecastLog:
    """The forecasts that were handed out.

    Parameters
    ----------
    root : Path
        Folder of spool and table; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self._spool = root / "spool"
        self._table = str(root / "log")

    def add(self, made: "Forecast", window: "OnlineWindow") -> str:
        """Write a forecast to the spool, unless it is there, and return its id.

        Raises
        ------
        SourceError
            If it cannot be written: a forecast that nobody could make again must not be handed out.
        """
        name = forecast_id(made.bundle, window)
        document = {
            "id": name,
            "shape": list(window.values.shape),
            "values": base64.b64encode(np.ascontiguousarray(window.values, "<f4").tobytes()).decode(),
            "answer": made.to_json(),
        }
        path = self._spool / f"{name}.json"
        unfinished = path.with_name(f".{uuid.uuid4().hex}")
        try:
            if path.exists():
                return name
            self._spool.mkdir(parents=True, exist_ok=True)
            with unfinished.open("w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            raise SourceError(f"the forecast log {self._spool} cannot be written: {error}") from error
        return name

    def fold(self) -> int:
        """Move what is in the spool to the table, each forecast once, and return how many came in.

        Safe to repeat, to break off and to do twice at once: a file goes when its row is committed.

        Raises
        ------
        BadInput
            If a file is damaged; it is left where it is, and the others are moved before.
        """
        read: dict[Path, dict[str, Any]] = {}
        damaged: list[BadInput] = []
        for path in sorted(self._spool.glob("[0-9a-f]*.json")):
            try:
                read[path] = _read(path)
            except FileNotFoundError:
                continue  # another process has moved it
            except BadInput as error:
                damaged.append(error)
        count = self._moved(read) if read else 0
        if damaged:
            raise damaged[0]
        return count

    def _moved(self, read: dict[Path, dict[str, Any]]) -> int:
        from backsight_features import delta

        rows = _frame(list(read.values()))

        def attempt() -> int:
            table = delta.ensure(self._table, _schema())
            held = delta.scan(table).select("id").collect()
            fresh = rows.join(held, on="id", how="anti")
            if not fresh.is_empty():
                delta.append(table, fresh)
            return fresh.height

        count = delta.settle(self._table, attempt)
        for path in read:
            path.unlink(missing_ok=True)
        return count

    def find(self, name: str) -> Logged:
        """Return a forecast by its id.

        Raises
        ------
        BadInput
            If that is no id.
        Missing
            If no such forecast was handed out.
        """
        if len(name) != _ID or not set(name) <= set("0123456789abcdef"):
            raise BadInput(f"{name!r} is no id of a forecast, which has {_ID} hex digits")
        try:
            found = _frame([_read(self._spool / f"{name}.json")])
        except FileNotFoundError:
            found = self._rows(id=name)
        if found.is_empty():
            raise Missing(f"no forecast {name} is in {self._table}; `backsight forecast --json` says the id of one")
        return _logged(found.row(0, named=True))

    def frame(self, symbol: str | None = None) -> "pl.DataFrame":
        """Return what the table holds of a symbol, or of all, oldest first.

        Returns
        -------
        pl.DataFrame
            ``id``, ``symbol``, ``service``, ``bundle``, ``at``, ``observed_at``, ``available_at``, ``length``,
            ``width``, ``values`` (little-endian float32, slot by slot), ``answer`` (JSON).
        """
        return (self._rows() if symbol is None else self._rows(symbol=symbol)).sort("at", "id")

    def _rows(self, **wanted: str) -> "pl.DataFrame":
        """Return the rows whose columns have the wanted values; of the others not even the windows are read."""
        import polars as pl
        from backsight_features import delta

        table = delta.open(self._table)
        if table is None:
            return pl.DataFrame(pl.from_arrow(_schema().empty_table()))
        return delta.scan(table).filter(**wanted).collect()


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise BadInput(f"{path} has {path.stat().st_size} bytes; a forecast has {_MOST_BYTES} at most")
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        answer = document["answer"]
        length, width = document["shape"]
        values = base64.b64decode(document["values"], validate=True)
        stamps = {name: datetime.fromisoformat(answer[name]) for name in ("at", "observed_at", "available_at")}
        return {
            "id": document["id"],
            **{name: answer[name] for name in ("symbol", "service", "bundle")},
            **stamps,
            "length": length,
            "width": width,
            "values": values,
            "answer": json.dumps(answer),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no forecast ({error}); move it away") from error


def _frame(rows: list[dict[str, Any]]) -> "pl.DataFrame":
    import polars as pl

    empty = pl.DataFrame(pl.from_arrow(_schema().empty_table()))
    return pl.DataFrame(rows, schema=empty.schema)


def _schema() -> Any:
    import pyarrow as pa

    stamp = pa.timestamp("us", tz="UTC")
    kinds = {"at": stamp, "observed_at": stamp, "available_at": stamp, "values": pa.binary()}
    kinds |= {"length": pa.int32(), "width": pa.int32()}
    names = ("id", "symbol", "service", "bundle", "at", "observed_at", "available_at", "length", "width", "values")
    return pa.schema([(name, kinds.get(name, pa.string())) for name in (*names, "answer")])


def _logged(row: dict[str, Any]) -> Logged:
    values = np.frombuffer(row["values"], "<f4").reshape(row["length"], row["width"])
    kept = {name: row[name] for name in ("id", "symbol", "service", "bundle", "at", "observed_at", "available_at")}
    return Logged(**kept, values=values, answer=json.loads(row["answer"]))

"""What a feature table was built from: a record per bar series, in the metadata of the table's commits."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final, Self

from deltalake import DeltaTable

from backsight_features import __version__
from backsight_features.snapshot import Snapshot

_KEY: Final = "backsight.built"
_LOOKED_BACK: Final = (1, 100, None)
"""Commits to look at, until one has a record: maintenance leaves none."""


class Overtaken(Exception):
    """A table follows from newer facts than were read: what would be written is older. Raised for `build`."""


def code_version() -> str:
    """Return the version of all that decides the last bit of a feature: this code and what it computes with."""
    parts = ", ".join(f"{name} {version(name)}" for name in ("numpy", "polars", "TA-Lib"))
    return f"{__version__} ({parts})"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the rows of a symbol follow from.

    Parameters
    ----------
    lake : mapping of str to int or None
        Version of each fact table; None for one that did not exist.
    ids : mapping of str to str or None
        Delta's id of each fact table: one that was made anew counts its versions from 0 again.
    ingested_until : datetime or None
        Facts written later had no part.
    scorer : str
        ``name@revision`` of whose scores the texts had; empty for none.
    code : str
        See `code_version`.
    """

    lake: Mapping[str, int | None]
    ids: Mapping[str, str | None]
    ingested_until: datetime | None
    scorer: str
    code: str

    def is_ahead_of(self, other: "Record") -> bool:
        """Return whether it follows from facts that another has not seen, or from another lake."""
        return any(
            seen is not None
            and (self.ids[name] != other.ids.get(name) or (newest := other.lake.get(name)) is None or newest < seen)
            for name, seen in self.lake.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        until = None if self.ingested_until is None else self.ingested_until.isoformat()
        return {
            "lake": dict(self.lake),
            "ids": dict(self.ids),
            "ingested_until": until,
            "scorer": self.scorer,
            "code": self.code,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` was called on."""
        until = values["ingested_until"]
        return cls(**{**values, "ingested_until": None if until is None else datetime.fromisoformat(until)})


Records = Mapping[str, Record]
"""Records by bar series, ``bitstamp:BTC-USD:1h``; one per symbol."""


def records(table: DeltaTable) -> dict[str, Record]:
    """Return what the rows of each symbol of a feature table follow from; empty where no build left a record."""
    for limit in _LOOKED_BACK:
        for commit in table.history(limit):
            if _KEY in commit:
                groups = json.loads(commit[_KEY])
                return {bars: Record.from_json(group["from"]) for group in groups for bars in group["bars"]}
    return {}


def symbols_built(table: DeltaTable) -> set[str]:
    """Return the symbols that builds gave rows of a feature table to, without a look at the rows."""
    return {bars.split(":")[1] for bars in records(table)}


def metadata(records: Records) -> dict[str, str]:
    """Return what a commit is to carry so that `records` finds these: all of them, in every commit."""
    distinct = list({json.dumps(record.to_json(), sort_keys=True): record for record in records.values()}.values())
    groups = [
        {"bars": sorted(bars for bars, record in records.items() if record == one), "from": one.to_json()}
        for one in distinct
    ]
    return {_KEY: json.dumps(groups)}


def refuse_older(facts: Snapshot, now: Record, before: Iterable[Record]) -> None:
    """Refuse to put rows back to an older state of the lake, unless the lake itself was put back.

    Parameters
    ----------
    facts : Snapshot
        What was read.
    now : Record
        Of what follows from it.
    before : iterable of Record
        Of what is stored.

    Raises
    ------
    Overtaken
        If what is stored is ahead, and the lake is by now.
    """
    if any(record.is_ahead_of(now) for record in before) and not facts.is_newest():
        raise Overtaken


def renewed(before: Records, series: Sequence[str], now: Record) -> dict[str, Record]:
    """Return the records after some series were built; of the series of one symbol the newest stays."""
    symbols = {one.split(":")[1] for one in series}
    kept = {bars: record for bars, record in before.items() if bars.split(":")[1] not in symbols}
    return {**kept, **dict.fromkeys(series, now)}

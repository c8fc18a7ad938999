"""Named points of knowledge: what a lake held at a moment, to come back to by name.

A point is a small JSON file that says which version each fact table had, when the newest of its facts was written, and
a fingerprint of what they said. The lake itself is append-only: it is never put back. To come back to a point is to
read the lake as of then; where maintenance has cleaned that version up, the facts that had been written by then are
read, and the fingerprint says whether they are the same.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from backsight_features import delta
from backsight_features.bars import BarSeries
from backsight_features.building.build import Built, build
from backsight_features.building.record import code_version, records
from backsight_features.clocks import parse_instant
from backsight_features.errors import BadInput
from backsight_features.fingerprint import Fingerprint, fingerprint
from backsight_features.lake import Lake
from backsight_features.maintenance import folders
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from backsight_features.text import Scorer

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_EXTENSION: Final = ".json"

NOW: Final = "now"
"""Stands for the lake as it is."""


@dataclass(frozen=True, kw_only=True)
class TableThen:
    """One fact table at a point.

    Parameters
    ----------
    version : int or None
        Delta's; None where there was no such table.
    id : str or None
        Delta's id of the table; None too where it is not known.
    rows : int
        Facts, each version counted.
    sha256 : str
        See `fingerprint.Fingerprint`.
    """

    version: int | None
    id: str | None
    rows: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A named point of knowledge.

    Parameters
    ----------
    name : str
        What it is called.
    made_at : datetime
        When it was named.
    ingested_until : datetime
        When the newest of its facts was written.
    tables : mapping of str to TableThen
        The fact tables.
    series : mapping of str to str
        The bar series whose features there were, and whose scores their texts had; empty for none.
    code : str
        See `building.record.code_version`.
    """

    name: str
    made_at: datetime
    ingested_until: datetime
    tables: Mapping[str, TableThen]
    series: Mapping[str, str]
    code: str

    @property
    def sha256(self) -> str:
        """What all facts said."""
        told = "".join(f"{name} {then.sha256}\n" for name, then in sorted(self.tables.items()))
        return hashlib.sha256(told.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "made_at": self.made_at.isoformat(),
            "ingested_until": self.ingested_until.isoformat(),
            "tables": {name: vars(then) for name, then in self.tables.items()},
            "series": dict(self.series),
            "code": self.code,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` was called on."""
        return cls(
            name=values["name"],
            made_at=datetime.fromisoformat(values["made_at"]),
            ingested_until=datetime.fromisoformat(values["ingested_until"]),
            tables={name: TableThen(**then) for name, then in values["tables"].items()},
            series=values["series"],
            code=values["code"],
        )


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """A lake as of a point.

    Parameters
    ----------
    facts : Snapshot
        What is read.
    differs : list of str
        Which tables do not say what they said then, in words; empty where all do.
    """

    facts: Snapshot
    differs: list[str]


def create(
    home: Path, lake: Lake, features: str | Path, *, name: str, now: datetime, manifest: Path | None = None
) -> Point:
    """Name a point: the lake as it is now, or as a training set was made of it.

    Parameters
    ----------
    home : Path
        Points are kept in its folder ``snapshots``.
    lake : Lake
        Whose facts.
    features : str or Path
        Where the feature tables are; says which features there are.
    name : str
        Letters, digits, ``.``, ``_`` and ``-``.
    now : datetime
        When it is named.
    manifest : Path, optional
        ``manifest.json`` of a training set, or ``bundle.json``: the point is what that was made of.

    Raises
    ------
    BadInput
        If the name cannot be used or is taken, the lake is empty, or the manifest is none.
    """
    path = _path(home, name)
    if path.exists():
        raise BadInput(f"there is a snapshot {name!r} already; they are never changed, choose another name")
    series = _built(features)
    facts = Snapshot.take(lake)
    ids = facts.ids()
    if manifest is not None:
        then = _manifest(manifest)
        ids = dict.fromkeys(FACTS)
        facts = _recalled(lake, then["versions"], ids, then["ingested_until"])[0]
        series = then["series"]
    point = _point(name, now, facts, ids, series)
    _write(path, point)
    return point


def current(lake: Lake, features: str | Path, *, now: datetime) -> Point:
    """Return the point `NOW`: the lake as it is. It is not kept."""
    facts = Snapshot.take(lake)
    return _point(NOW, now, facts, facts.ids(), _built(features))


def listed(home: Path) -> list[Point]:
    """Return all points of a home, the oldest first."""
    found = [load(home, path.stem) for path in (home / "snapshots").glob(f"*{_EXTENSION}")]
    return sorted(found, key=lambda point: (point.made_at, point.name))


def load(home: Path, name: str) -> Point:
    """Return a point by its name.

    Raises
    ------
    BadInput
        If there is none, or its file cannot be read.
    """
    path = _path(home, name)
    try:
        return Point.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        names = sorted(found.stem for found in path.parent.glob(f"*{_EXTENSION}"))
        there = ", ".join(names) or "none; `backsight snapshot create` makes one"
        raise BadInput(f"no snapshot {name!r}; there are {there}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} holds no snapshot ({error!r}); remove it") from error


def recall(point: Point, lake: Lake) -> Recalled:
    """Return the lake as of a point.

    A table whose version is not kept any more is read as it is now, without what was written later than the point.
    """
    versions = {name: then.version for name, then in point.tables.items()}
    ids = {name: then.id for name, then in point.tables.items()}
    facts, fallen = _recalled(lake, versions, ids, point.ingested_until)
    differs = []
    for name, why in fallen.items():
        then, now = point.tables[name], fingerprint(facts.scan(FACTS[name]))
        if now != Fingerprint(rows=then.rows, sha256=then.sha256):
            differs.append(f"{name} has {now.rows:,} rows of then, it had {then.rows:,}: {why}")
    return Recalled(facts=facts, differs=differs)


def restore(
    point: Point, lake: Lake, folder: Path, *, say: Callable[[str], None] = lambda line: None
) -> tuple[Recalled, list[Built]]:
    """Build the feature tables of a point again, in a folder of their own. The lake is only read.

    Parameters
    ----------
    point : Point
        Which.
    lake : Lake
        Holds at least the facts of then.
    folder : Path
        New; becomes a home: its ``features`` are the tables.
    say : callable
        Told what is missing, a line each.

    Returns
    -------
    Recalled
        What the tables were built from.
    list of Built
        As `building.build.build` returns it.

    Raises
    ------
    BadInput
        If something is there, or no features had been built at the point.
    """
    if not point.series:
        raise BadInput(f"no features had been built when snapshot {point.name!r} was made; there is nothing to restore")
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name a new folder to restore {point.name!r} into")
    recalled = recall(point, lake)
    for line in recalled.differs:
        say(f"warning: not the facts of then: {line}")
    if point.code != code_version():
        say(f"warning: features of then were built by version {point.code}, this is {code_version()}")
    built = []
    for scorer in sorted(set(point.series.values())):
        series = [BarSeries.parse(text) for text, by in point.series.items() if by == scorer]
        chosen = Scorer.parse(scorer) if scorer else None
        built += build(recalled.facts, folder / "features", series, scorer=chosen, say=say)
    return recalled, built


def _point(
    name: str, now: datetime, facts: Snapshot, ids: Mapping[str, str | None], series: Mapping[str, str]
) -> Point:
    prints = {name: fingerprint(facts.scan(table)) for name, table in FACTS.items()}
    return Point(
        name=name,
        made_at=now,
        ingested_until=_newest_write(facts),
        tables={
            name: TableThen(version=facts.versions[name], id=ids[name], rows=told.rows, sha256=told.sha256)
            for name, told in prints.items()
        },
        series=series,
        code=code_version(),
    )


def _recalled(
    lake: Lake, versions: Mapping[str, int | None], ids: Mapping[str, str | None], until: datetime
) -> tuple[Snapshot, dict[str, str]]:
    """Return a lake as of a point, and of the tables that are read as they are now why."""
    now = Snapshot.take(lake, ingested_until=until)
    newest = now.ids()
    fallen = {}
    for name, version in versions.items():
        if version is None:
            continue
        if ids[name] is not None and ids[name] != newest[name]:
            fallen[name] = "it is another table than it was"
            continue
        try:
            delta.open(delta.join(lake.root, name), version=version)
        except delta.Gone as error:
            fallen[name] = str(error)
    kept = {name: now.versions[name] if name in fallen else versions.get(name) for name in FACTS}
    return replace(now, versions=kept), fallen


def _manifest(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["manifest"]
        versions = {name: told["lake_versions"].get(name) for name in FACTS}
        until = parse_instant(told["ingested_until"])
        series = {str(BarSeries.parse(name)): told["scorer"] for name in told["series"]}
        return {"versions": versions, "ingested_until": until, "series": series}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
        raise BadInput(
            f"{path} holds no manifest of a training set ({error}); name the manifest.json of `backsight dataset`, "
            "or the bundle.json of a bundle"
        ) from error


def _built(features: str | Path) -> dict[str, str]:
    """Return the bar series that feature tables were built for, and the scorer of each."""
    names = [name for name in folders(features) if name.startswith("text_")]
    tables = [table for name in names if (table := delta.open(delta.join(features, name))) is not None]
    return {series: record.scorer for table in tables for series, record in sorted(records(table).items())}


def _newest_write(facts: Snapshot) -> datetime:
    written = [facts.scan(table).select(pl.col("ingested_at").max()) for table in FACTS.values()]
    newest: datetime | None = pl.concat(written).max().collect().item()
    if newest is None:
        raise BadInput("the lake has no facts; there is nothing to name yet")
    return newest


def _path(home: Path, name: str) -> Path:
    if not _NAME.fullmatch(name) or name == NOW:
        raise BadInput(f"{name!r} cannot name a snapshot; use letters, digits, '.', '_' and '-', and not {NOW!r}")
    return home / "snapshots" / f"{name}{_EXTENSION}"


def _write(path: Path, point: Point) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(point.to_json(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename it fails where somebody else was quicker.
        os.link(unfinished, path)
    except FileExistsError:
        raise BadInput(f"there is a snapshot {point.name!r} already; they are never changed") from None
    finally:
        unfinished.unlink(missing_ok=True)

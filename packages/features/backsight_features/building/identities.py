"""Which text each stored version is: worked out once, when it has come in, and kept in a table beside the features.

To normalise and hash a text takes far longer than anything else that is asked of it.
"""

from pathlib import Path
from typing import Final

import polars as pl

from backsight_features import delta
from backsight_features.building.record import Record, code_version, metadata, records, refuse_older
from backsight_features.maintenance import gather
from backsight_features.sights import SOURCES, VERSIONS, identified
from backsight_features.snapshot import Facts, Snapshot

TABLE: Final = "texts"


def identities(facts: Snapshot, folder: str | Path, now: Record) -> pl.DataFrame:
    """Return the `sights.VERSIONS` of all texts of a lake, after bringing their table up to it.

    Parameters
    ----------
    facts : Snapshot
        The lake.
    folder : str or Path
        Where the table is: a folder or a URL.
    now : Record
        What it will follow from.

    Raises
    ------
    Overtaken
        If the table follows from newer facts.
    Busy
        If other builds kept writing the table.
    """
    uri = delta.join(folder, TABLE)

    def attempt() -> pl.DataFrame:
        handle = delta.ensure(uri, pl.DataFrame(schema=VERSIONS).to_arrow().schema)
        before = records(handle).get(TABLE)
        refuse_older(facts, now, [] if before is None else [before])
        told = metadata({TABLE: now})
        new = None if before is None or _differs(before, now) else _added(facts, before)
        if before is None or new is None:
            everything = identify(facts)
            delta.replace(handle, everything, metadata=told)
            return everything
        known = delta.scan(handle).collect()
        if any(before.lake[table.name] != now.lake[table.name] for table in SOURCES.values()):
            delta.append(handle, new, metadata=told)
            gather(handle, metadata=told)
        return pl.concat([known, new])

    return delta.settle(uri, attempt)


def kept(facts: Snapshot, folder: str | Path) -> pl.DataFrame:
    """Return the `sights.VERSIONS` of all texts of a lake: those that a build has kept, else from the texts.

    Parameters
    ----------
    facts : Snapshot
        The lake.
    folder : str or Path
        Where the feature tables are; nothing is written there.
    """
    handle = delta.open(delta.join(folder, TABLE))
    before = None if handle is None else records(handle).get(TABLE)
    if handle is None or before is None or before.code != code_version():
        return identify(facts)
    ids, names = facts.ids(), [table.name for table in SOURCES.values()]
    same = before.ingested_until == facts.ingested_until and all(
        before.lake[name] == facts.versions[name] and before.ids[name] == ids[name] for name in names
    )
    return delta.scan(handle).collect() if same else identify(facts)


def identify(facts: Facts) -> pl.DataFrame:
    """Return the `sights.VERSIONS` of all texts of a lake, from the texts."""
    return _identified({source: facts.scan(table) for source, table in SOURCES.items()})


def _differs(before: Record, now: Record) -> bool:
    names = [table.name for table in SOURCES.values()]
    return (before.code, before.ingested_until) != (now.code, now.ingested_until) or any(
        before.lake[name] is not None and before.ids[name] != now.ids[name] for name in names
    )


def _added(facts: Snapshot, before: Record) -> pl.DataFrame | None:
    added = {source: facts.added(table, before.lake[table.name]) for source, table in SOURCES.items()}
    came = {source: rows for source, rows in added.items() if rows is not None}
    return _identified(came) if len(came) == len(added) else None


def _identified(facts: dict[str, pl.LazyFrame]) -> pl.DataFrame:
    return pl.concat([identified(rows, source) for source, rows in facts.items()]).collect()

"""Pulling dumps: each file becomes facts and quarantined rows, its accounts close, and a second pull changes nothing.

For each batch the quarantine is written first and the facts after it, in one commit with how far the file has been
read; when all is written, the accounts are, in one commit with the mark that the file is done. Killed anywhere, the
next pull reads the file again: what is there already comes out as duplicate.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl
from backsight_features.clocks import utc_now
from backsight_features.errors import BacksightError, BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import QUARANTINE, RUNS

from backsight_ingest.accounts import Account, account_row
from backsight_ingest.dumps import check_timeframe, facts
from backsight_ingest.files import Decoded, Named, decoded, find
from backsight_ingest.heads import Settings
from backsight_ingest.layout import Layout
from backsight_ingest.prefetch import prefetched
from backsight_ingest.records import ROWS_PER_BATCH, Batch, batches
from backsight_ingest.sidecars import Sightings, sightings

VERB: Final = "pull dump"
_DONE: Final = 1
_ENOUGH: Final = 10
"""Rows of which one has to be readable, or the layout is not the file's."""


def pull(
    lake: Lake,
    layout: Layout,
    paths: Sequence[Path],
    *,
    settings: Mapping[str, str],
    now: datetime,
    tell: Callable[[Account], None],
    rows_per_batch: int = ROWS_PER_BATCH,
) -> tuple[list[Account], list[str]]:
    """Read files into the lake, each for itself: one that cannot be read leaves the others alone.

    Parameters
    ----------
    lake : Lake
        Where to.
    layout : Layout
        How they are read.
    paths : sequence of Path
        Files and folders.
    settings : mapping of str to str
        Values that the files do not name.
    now : datetime
        Becomes ``ingested_at``; nothing can have happened after it.
    tell : callable
        Is given the account of a file as it grows, with status ``reading``, and when it closes.
    rows_per_batch : int
        Rows that are held, and committed, at a time.

    Returns
    -------
    accounts : list of Account
        A file each, in order.
    skipped : list of str
        Files in the folders that the layout does not claim.

    Raises
    ------
    BadInput
        If a path does not exist or a setting is unknown.
    Busy
        If another job is writing.
    """
    given = Settings(layout, settings)
    patterns = layout.files or _PATTERNS[layout.format.type]
    named, skipped = find(paths, patterns)
    if layout.sidecar is not None:
        skipped = [each for each in skipped if Path(each).name != layout.sidecar.file]
    run = uuid.uuid4().hex[:12]
    accounts: list[Account] = []
    for file in named:
        started = utc_now()
        try:
            with decoded(file, patterns) as whole:
                account = _File(lake, layout, file, whole, given, settings, now).read(
                    run, started, rows_per_batch, tell
                )
        except (BadInput, Drifted) as error:
            account = Account(origin=file.origin, status="failed", error=_named(error, file))
        if account.error is not None:
            lake.append(RUNS, account_row(account, VERB, layout.name, run, started), now=now)
        accounts.append(account)
        tell(account)
    return accounts, skipped


def _named(error: BacksightError, file: Named) -> BacksightError:
    """Return the error with the file's name in its message."""
    return error if file.origin in str(error) else type(error)(f"{file.origin}: {error}")


_PATTERNS: Final = {"csv": ("*.csv",), "jsonl": ("*.jsonl", "*.ndjson"), "json": ("*.json",)}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What a batch holds.

    Parameters
    ----------
    good : pl.DataFrame
        Facts.
    bad : pl.DataFrame
        Rows for the quarantine.
    last : int
        The number of its last record.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    last: int


class _File:
    """The pull of one file."""

    def __init__(
        self,
        lake: Lake,
        layout: Layout,
        file: Named,
        whole: Decoded,
        given: Settings,
        settings: Mapping[str, str],
        now: datetime,
    ) -> None:
        self._lake = lake
        self._layout = layout
        self._file = file
        self._whole = whole
        self._given = given
        self._now = now
        self._seen: Sightings | None = None
        if layout.sidecar is not None:
            self._seen = sightings(layout.sidecar, file.home, whole.members)
        # What decides the facts: the layout, what was given by hand, the bytes and, where its path or a sidecar says
        # something, the file's place.
        parts = [layout.digest, json.dumps(dict(settings), sort_keys=True), whole.digest]
        parts += [str(file.path)] if layout.path is not None or self._seen is not None else []
        parts += [self._seen.digest] if self._seen is not None else []
        self._app = "dump:" + hashlib.sha256(os.fsencode("\n".join(parts))).hexdigest()[:32]

    def read(self, run: str, started: datetime, rows_per_batch: int, tell: Callable[[Account], None]) -> Account:
        """Return the account of the file, written to the lake."""
        origin, skipped = self._file.origin, self._whole.skipped
        if self._lake.watermark(RUNS, self._app) is not None:
            return Account(origin=origin, status="unchanged", skipped=skipped)
        account = Account(origin=origin, status="reading", skipped=skipped)
        tell(account)
        try:
            with closing(prefetched(self._parts(rows_per_batch))) as parts:
                for part in parts:
                    account = self._write(part, account)
                    tell(account)
        except (BadInput, Drifted) as error:
            # What came before in the file stays: it was read as declared.
            return replace(account, status="failed", error=_named(error, self._file))
        if account.read != account.accepted + account.duplicate + account.quarantined:
            raise RuntimeError(f"the accounts of {origin} do not close: {account}")
        account = replace(account, status="ok")
        row = account_row(account, VERB, self._layout.name, run, started)
        self._lake.append(RUNS, row, now=self._now, app=self._app, watermark=_DONE)
        return account

    def _parts(self, rows_per_batch: int) -> Iterator[_Part]:
        """Yield what the batches hold; nothing is written."""
        layout = self._layout
        for batch in batches(layout, self._whole.members, self._given, rows_per_batch=rows_per_batch):
            good, bad = layout.table.empty(), _broken(batch, len(layout.versions))
            if batch.rows.height:
                rows = batch.rows if self._seen is None else batch.rows.with_columns(self._seen(batch.rows))
                found = facts(layout, rows, batch.variables, now=self._now)
                if layout.kind == "bars":
                    check_timeframe(found)
                good, bad = found.good, pl.concat([bad, found.bad])
            yield _Part(good=good, bad=self._quarantined(bad, batch), last=batch.last)

    def _write(self, part: _Part, account: Account) -> Account:
        good, bad = part.good, part.bad
        if account.read == 0 and good.is_empty() and bad.height >= _ENOUGH:
            raise Drifted(f"not one of the first {bad.height} rows can be read: {bad['reason'][0]}")
        if bad.height:
            self._lake.append(QUARANTINE, bad, now=self._now)
        accepted = duplicate = 0
        if good.height:
            written = self._lake.append(self._layout.table, good, now=self._now, app=self._app, watermark=part.last)
            accepted, duplicate = written.accepted, written.duplicate
        return replace(
            account,
            read=account.read + good.height + bad.height,
            accepted=account.accepted + accepted,
            duplicate=account.duplicate + duplicate,
            quarantined=account.quarantined + bad.height,
        )

    def _quarantined(self, broken: pl.DataFrame, batch: Batch) -> pl.DataFrame:
        return broken.select(
            pl.lit(self._app).alias("batch"),
            pl.col("row").cast(pl.Int64),
            pl.lit(self._layout.kind).alias("kind"),
            pl.lit(self._layout.name).alias("layout"),
            pl.lit(json.dumps(dict(batch.variables), sort_keys=True, ensure_ascii=False)).alias("settings"),
            "origin",
            "reason",
            "original",
        )


def _broken(batch: Batch, versions: int) -> pl.DataFrame:
    """Return the records that are no rows; such a record counts once, as the first of its versions."""
    return pl.DataFrame(
        {
            "row": [(each.row - 1) * versions + 1 for each in batch.broken],
            "origin": [each.origin for each in batch.broken],
            "reason": [each.reason for each in batch.broken],
            "original": [each.original for each in batch.broken],
        },
        schema={"row": pl.Int64, "origin": pl.String, "reason": pl.String, "original": pl.String},
    )

"""The quarantine: what was set aside and why, and its second chance through a layout that was mended."""

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import polars as pl
from backsight_features.clocks import utc_now
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, QUARANTINE, RESOLUTIONS, RUNS, Table

from backsight_ingest.accounts import Account, account_row
from backsight_ingest.dumps import facts
from backsight_ingest.layout import Layout
from backsight_ingest.layouts import load
from backsight_ingest.objects import cells

VERB: Final = "quarantine replay"
_QUOTED: Final = "'[^']*'"


def waiting(lake: Lake) -> pl.LazyFrame:
    """Return the quarantined rows that were not resolved since, in the order of files and rows."""
    resolved = lake.scan(RESOLUTIONS).select("batch", "row")
    return lake.scan(QUARANTINE).join(resolved, on=["batch", "row"], how="anti").sort("ingested_at", "batch", "row")


def counts(lake: Lake) -> pl.DataFrame:
    """Return how many rows wait, by layout and reason, the commonest first.

    Returns
    -------
    pl.DataFrame
        ``layout``, ``reason`` (with what was quoted left out, so that like is counted with like) and ``rows``.
    """
    reason = pl.col("reason").str.replace_all(_QUOTED, "'…'")
    return (
        waiting(lake)
        .group_by("layout", reason.alias("reason"))
        .agg(pl.len().cast(pl.Int64).alias("rows"))
        .sort(["rows", "layout", "reason"], descending=[True, False, False])
        .collect()
    )


def replay(lake: Lake, *, now: datetime, layout: str | None = None) -> Iterator[Account]:
    """Read what waits once more, through its layout as it is now; what passes goes to the lake.

    Parameters
    ----------
    lake : Lake
        Whose quarantine.
    now : datetime
        Becomes ``ingested_at``.
    layout : str, optional
        Read through this one instead of the one that each row was set aside by; only rows of its kind.

    Yields
    ------
    Account
        A file each; what stays in quarantine counts as quarantined.

    Raises
    ------
    BadInput
        If the layout named does not exist or is wrong.
    """
    instead = None if layout is None else load(layout)
    rows = waiting(lake)
    if instead is not None:
        rows = rows.filter(pl.col("kind") == instead.kind)
    for (batch,), group in rows.collect().group_by("batch", maintain_order=True):
        started = utc_now()
        account = _replayed(lake, str(batch), group, instead, now)
        source = group["layout"][0] if instead is None else instead.name
        # One file may wait under several layouts, so each account is a run of its own.
        lake.append(RUNS, account_row(account, VERB, source, uuid.uuid4().hex[:12], started), now=now)
        yield account


def _replayed(lake: Lake, batch: str, group: pl.DataFrame, instead: Layout | None, now: datetime) -> Account:
    origin = group["origin"][0].partition("!")[0]
    try:
        passed = _passed(group, instead or load(group["layout"][0]), now)
    except BadInput as error:
        return Account(origin=origin, status="failed", read=group.height, quarantined=group.height, error=error)
    table = FACTS[group["kind"][0]]
    written = lake.append(table, passed, now=now)
    outcome = pl.when(_accepted(lake, table, passed, now)).then(pl.lit("accepted")).otherwise(pl.lit("duplicate"))
    lake.append(RESOLUTIONS, passed.select(batch=pl.lit(batch), row="@fact", outcome=outcome), now=now)
    return Account(
        origin=origin,
        status="ok",
        read=group.height,
        accepted=written.accepted,
        duplicate=written.duplicate,
        quarantined=group.height - passed.height,
    )


def _passed(group: pl.DataFrame, layout: Layout, now: datetime) -> pl.DataFrame:
    """Return the facts that the rows of one file hold, as far as they can be read."""
    found = [layout.table.empty().drop("ingested_at").with_columns(pl.lit(0, pl.Int64).alias("@fact")).clear()]
    for settings, rows in _alike(group, len(layout.versions)):
        try:
            read = facts(layout, rows, json.loads(settings), now=now)
        except Drifted:  # the layout still does not know these columns: the rows stay
            continue
        found.append(read.good)
    # Each row waits for one fact of its own, whatever else its text holds.
    return pl.concat(found).filter(pl.col("@fact").is_in(group["row"].implode())).sort("@fact")


def _alike(group: pl.DataFrame, versions: int) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield rows that can be read together: set aside as cells, under the same settings, with the same columns."""
    parsed = pl.Series([cells(text) for text in group["original"]], dtype=pl.Object)
    names = pl.Series([None if found is None else json.dumps([*found]) for found in parsed], dtype=pl.String)
    numbered = group.select("settings", "origin", "row", names=names).with_row_index("position")
    for (settings, columns), part in numbered.drop_nulls("names").group_by("settings", "names", maintain_order=True):
        texts = pl.DataFrame(
            [parsed[position] for position in part["position"]],
            schema=dict.fromkeys(json.loads(str(columns)), pl.String),
        )
        clocks = part.select(
            ((pl.col("row") - 1) // versions + 1).alias("@row"),
            pl.col("origin").alias("@origin"),
        )
        yield str(settings), pl.concat([texts, clocks], how="horizontal")


def _accepted(lake: Lake, table: Table, passed: pl.DataFrame, now: datetime) -> pl.Series:
    """Return which rows the lake took: those that say what it took at ``now``, each thing once."""
    says = [*table.key, *table.content]
    taken = lake.scan(table).filter(pl.col("ingested_at") == now).select(says).unique().collect()
    marked = passed.join(
        taken.with_columns(taken=pl.lit(True)), on=says, how="left", nulls_equal=True, maintain_order="left"
    )
    first = passed.select(pl.struct(says).is_first_distinct()).to_series()
    return marked["taken"].fill_null(False) & first

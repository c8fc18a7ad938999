"""Removing posts from the lake for good: all their versions, what was said of them, and the bytes on the disk.

First it is written down what may not come back (`purged`), so that no writer brings it back behind a purge. Then each
table is rid of the rows in one commit, and after that of the files that still hold them. All of it may be done again; a
purge that was killed is made good by the next.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
from deltalake import DeltaTable

from backsight_features import delta
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.purged import PURGED, Post
from backsight_features.schemas import NEWS, POSTS, QUARANTINE, REACTIONS, SCORES, Table
from backsight_features.texts import normalise, text_id

_BY: Final = "backsight.purged_by"


@dataclass(frozen=True, kw_only=True)
class Purge:
    """What became of one table.

    Parameters
    ----------
    table : str
        ``posts``.
    rows : int
        Rows that were removed.
    files : int
        Files deleted that still held such rows: of older versions, or of writers that were killed.
    """

    table: str
    rows: int
    files: int


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Some rows of a table.

    Parameters
    ----------
    table : Table
        Which.
    are : pl.Expr
        True for these rows.
    named_by : tuple of str
        The columns whose values tell these rows from all others.
    """

    table: Table
    are: pl.Expr
    named_by: tuple[str, ...]


def purge(lake: Lake, posts: Sequence[Post], *, by: str, now: datetime, dry_run: bool = False) -> list[Purge]:
    """Remove posts from a lake, and keep them out.

    That is all versions of a post, its reactions, its rows in quarantine, and the scores of texts that no other post
    and no article says. From then on `Lake.append` counts rows about it as duplicates.

    Parameters
    ----------
    lake : Lake
        Where from. Versions of its tables that had these rows cannot be read any more.
    posts : sequence of Post
        Which, whether or not the lake has them.
    by : str
        Who has them removed; kept in the lake.
    now : datetime
        When it is asked for.
    dry_run : bool
        Only say how many rows there are.

    Returns
    -------
    list of Purge
        By table.

    Raises
    ------
    BadInput
        If a site or an id is empty.
    Busy
        If other jobs kept writing a table for half a minute.
    """
    if wrong := [post for post in posts if not post.site or not all(post.spellings)]:
        raise BadInput(f"{wrong[0]} is no post: it needs a site and an id")
    if not posts:
        return []
    # Scores go first: which they are is told by the posts.
    doomed = [_scores(lake, posts), *_about(posts), _posts(posts)]
    if dry_run:
        return [Purge(table=rows.table.name, rows=_count(lake, rows), files=0) for rows in doomed]
    lake.append(PURGED, _ledger(lake, posts, by), now=now)
    return [_rid(lake, rows, by) for rows in doomed]


def deleted(lake: Lake, *, site: str, channel: str = "") -> list[Post]:
    """Return the posts that were deleted or removed at their site, as far as that was seen.

    Of such a post the newest version has neither text nor address, and an earlier one had: ``backsight pull reddit``
    leaves only the title of what is gone. A version whose source just does not tell the text has an address.

    Parameters
    ----------
    lake : Lake
        Where from.
    site, channel : str
        Whose posts; an empty channel stands for all.
    """
    own = pl.col("site") == site
    if channel:
        own &= pl.col("channel") == channel
    says = pl.any_horizontal(pl.col("text", "url").is_not_null()).alias("says")
    found = (
        lake.scan(POSTS)
        .filter(own)
        .select("channel", "id", "available_at", "ingested_at", says)
        .sort("available_at", "ingested_at")
        .group_by("channel", "id")
        .agg(had=pl.col("says").any(), has=pl.col("says").last())
        .filter(pl.col("had") & ~pl.col("has"))
        .sort("channel", "id")
        .collect()
    )
    return [Post(site=site, id=id, channel=where) for where, id in found.select("channel", "id").iter_rows()]


def _named(posts: Sequence[Post]) -> pl.Expr:
    """Return whether a row with site, channel and id is about one of the posts."""
    ids: dict[tuple[str, str], list[str]] = {}
    for post in posts:
        ids.setdefault((post.site, post.channel), []).extend(post.spellings)
    return pl.any_horizontal(
        (pl.col("site") == site) & pl.col("id").is_in(named) & (pl.col("channel") == channel if channel else True)
        for (site, channel), named in ids.items()
    )


def _posts(posts: Sequence[Post]) -> _Rows:
    return _Rows(table=POSTS, are=_named(posts), named_by=("site", "channel", "id"))


def _about(posts: Sequence[Post]) -> list[_Rows]:
    # A row in quarantine has neither site nor id yet, only the text of a record that names it.
    ids = "|".join(re.escape(spelling) for post in posts for spelling in post.spellings)
    naming = pl.col("original").str.contains(rf"(?:^|[^\w-])(?:{ids})(?:$|[^\w-])")
    kinds = pl.col("kind").is_in([POSTS.name, REACTIONS.name])
    return [
        _Rows(table=REACTIONS, are=_named(posts), named_by=("site", "channel", "id")),
        _Rows(table=QUARANTINE, are=kinds & naming, named_by=("batch", "row")),
    ]


def _scores(lake: Lake, posts: Sequence[Post]) -> _Rows:
    own = _texts(lake.scan(POSTS).filter(_named(posts))).unique().collect()["text_id"]
    if own.len():
        others = _texts(pl.concat([lake.scan(NEWS), lake.scan(POSTS).filter(~_named(posts))], how="diagonal"))
        kept = others.filter(pl.col("text_id").is_in(own.implode())).unique().collect(engine="streaming")["text_id"]
        own = own.filter(~own.is_in(kept.implode()))
    return _Rows(table=SCORES, are=pl.col("text_id").is_in(own.implode()), named_by=("text_id",))


def _texts(facts: pl.LazyFrame) -> pl.LazyFrame:
    """Return the ``text_id`` of every title and every body."""
    said = pl.concat([facts.select(text=name) for name in ("title", "text")])
    return said.select(text_id(normalise(pl.col("text"))).alias("text_id")).drop_nulls()


def _ledger(lake: Lake, posts: Sequence[Post], by: str) -> pl.DataFrame:
    versions = lake.scan(POSTS).filter(_named(posts)).select("site", "channel", "id").collect()
    return pl.DataFrame(
        [
            {
                "site": post.site,
                "channel": post.channel,
                "id_sha256": post.id_sha256,
                "versions": versions.filter(_named([post])).height,
                "by": by,
            }
            for post in posts
        ],
        schema=dict(PURGED.columns),
    )


def _count(lake: Lake, rows: _Rows) -> int:
    return int(lake.scan(rows.table).filter(rows.are).select(pl.len()).collect().item())


def _rid(lake: Lake, rows: _Rows, by: str) -> Purge:
    uri = delta.join(lake.root, rows.table.name)

    def attempt() -> int:
        table = delta.open(uri)
        if table is None:
            return 0
        with delta.unless_outrun(table):
            found = delta.scan(table).filter(rows.are).select(rows.named_by).collect()
        properties = {_BY: by}
        if found.is_empty():
            # Whoever looked up what is purged before it was written down may be about to write; he is outrun by this.
            delta.append(table, delta.scan(table).clear().collect(), metadata=properties)
        else:
            with delta.unless_outrun(table):
                table.delete(
                    _where(found.unique()),
                    commit_properties=delta.strictly(properties),
                    post_commithook_properties=delta.HOOKS,
                )
        return found.height

    removed = delta.settle(uri, attempt)
    table = delta.open(uri)
    return Purge(table=rows.table.name, rows=removed, files=0 if table is None else _erase(table, rows.are))


def _where(found: pl.DataFrame) -> str:
    """Return the rows with some values as an SQL condition."""
    *groups, last = found.columns
    parts = []
    for values, group in found.with_columns(pl.lit(0).alias("all")).group_by("all", *groups):
        named = ", ".join(map(_literal, group[last]))
        same = [f"{name} = {_literal(value)}" for name, value in zip(groups, values[1:], strict=True)]
        parts.append(f"({' AND '.join([*same, f'{last} IN ({named})'])})")
    return " OR ".join(parts)


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _erase(table: DeltaTable, are: pl.Expr) -> int:
    """Delete the files with such rows that the newest version does not consist of."""
    listed = table.vacuum(retention_hours=0, enforce_retention_duration=False, full=True)
    others = sorted(set(listed) - delta.absent(table, listed))
    if not others:
        return 0
    named = dict(zip(delta.addresses(table, others), others, strict=True))
    holding = (
        pl.scan_parquet(
            list(named),
            glob=False,
            hive_partitioning=False,
            include_file_paths="file",
            storage_options=table._storage_options,
        )
        .filter(are)
        .select(pl.col("file").unique())
        .collect()["file"]
    )
    place = delta.filesystem(table.table_uri, table._storage_options)
    for file in holding:
        place.delete_file(named[file])
    return holding.len()

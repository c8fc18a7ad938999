"""Posts that were removed from the lake for good and may not come back: the hashes of their ids.

Nothing else is kept of a purged post but where it stood, how many rows there were, and who had it removed.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from backsight_features import delta
from backsight_features.schemas import POSTS, QUARANTINE, REACTIONS, Table

PURGED: Final = Table(
    name="purged",
    columns={
        "site": pl.String(),
        "channel": pl.String(),
        "id_sha256": pl.String(),
        "versions": pl.Int64(),
        "by": pl.String(),
    },
    key=("site", "channel", "id_sha256"),
    content=("versions", "by"),
    identity="row",
)
"""What was purged: a row per post, with how many versions of it the lake had when that was first asked for.

``channel`` is empty for a post in whatever channel. ``ingested_at`` is when it was asked for.
"""

_KINDS: Final = (POSTS.name, REACTIONS.name)
_WORD: Final = r"[\w-]+"
_MARK: Final = "t3_"
"""Some sources write it before the ids of Reddit's posts, some do not."""


@dataclass(frozen=True, kw_only=True)
class Post:
    """A post at a site.

    Parameters
    ----------
    site : str
        ``reddit``.
    id : str
        As the site names it, ``t3_abc`` or ``abc``.
    channel : str
        ``bitcoin``; empty for whatever channel.
    """

    site: str
    id: str
    channel: str = ""

    @property
    def spellings(self) -> tuple[str, ...]:
        """How sources write the id."""
        plain = self.id.removeprefix(_MARK)
        return (plain, _MARK + plain) if self.site == "reddit" else (self.id,)

    @property
    def id_sha256(self) -> str:
        """What is kept of the id."""
        return _sha256(self.spellings[0])


def spared(root: str | Path, table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that are not about a purged post, in their order.

    Parameters
    ----------
    root : str or Path
        Of the lake.
    table : Table
        Where the rows are to go. Its version has to be known before: a purge leaves a commit in it, so that who has
        read here too early cannot commit.
    rows : pl.DataFrame
        With the table's columns.
    """
    if table.name not in (*_KINDS, QUARANTINE.name) or rows.is_empty():
        return rows
    handle = delta.open(delta.join(root, PURGED.name))
    if handle is None:
        return rows
    purged = delta.scan(handle).select("site", "channel", "id_sha256").unique().collect()
    if table.name == QUARANTINE.name:
        return rows.filter(~_quoting(rows, set(purged["id_sha256"])))
    suspect = rows.select("site", "channel", "id").unique().join(purged, on="site", how="semi")
    plain = pl.when(pl.col("site") == "reddit").then(pl.col("id").str.strip_prefix(_MARK)).otherwise("id")
    hashed = suspect.with_columns(id_sha256=plain.map_batches(_sha256s, return_dtype=pl.String))
    everywhere, there = purged.filter(channel=""), purged.filter(pl.col("channel") != "")
    gone = pl.concat(
        [
            hashed.join(everywhere, on=["site", "id_sha256"], how="semi"),
            hashed.join(there, on=["site", "channel", "id_sha256"], how="semi"),
        ]
    )
    return rows.join(gone, on=["site", "channel", "id"], how="anti", maintain_order="left")


def _quoting(rows: pl.DataFrame, hashes: Collection[str]) -> pl.Series:
    """Return which rows in quarantine name a purged post."""
    words = (
        rows.with_row_index()
        .filter(pl.col("kind").is_in(_KINDS))
        .select("index", word=pl.col("original").str.extract_all(_WORD))
        .explode("word")
        .drop_nulls()
    )
    distinct = words.select(pl.col("word").unique())
    plain = pl.col("word").str.strip_prefix(_MARK)
    named = distinct.filter(
        pl.col("word").map_batches(_sha256s, return_dtype=pl.String).is_in(hashes)
        | plain.map_batches(_sha256s, return_dtype=pl.String).is_in(hashes)
    )
    naming = words.join(named, on="word", how="semi")["index"].unique()
    return rows.select(pl.int_range(pl.len(), dtype=pl.UInt32).is_in(naming.implode())).to_series()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256s(texts: pl.Series) -> pl.Series:
    return pl.Series([None if text is None else _sha256(text) for text in texts], dtype=pl.String)

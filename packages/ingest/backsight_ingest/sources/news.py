"""News: what all ways to them share, a record per article.

Articles that a pull finds while they are new are known from when they were first seen. Those that it fills in
(``--since``) are known by the rule of their source. One layout each says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Final

import polars as pl

LIVE: Final = "news-live"
"""The layout of articles that are known from when they were first seen."""

AGENT: Final = f"backsight/{version('backsight-ingest')}"
"""Whom we say we are: some hosts answer nobody who does not."""

_CELLS: Final = ("url", "publisher", "title", "text", "published", "published_at")


@dataclass(frozen=True, kw_only=True)
class Article:
    """What a source says of an article.

    Parameters
    ----------
    url, publisher, title, text : str, optional
        As it gives them.
    published : str, optional
        When it was published, in the source's words.
    published_at : datetime, optional
        The same as an instant; None where the words name none.
    """

    url: str | None = None
    publisher: str | None = None
    title: str | None = None
    text: str | None = None
    published: str | None = None
    published_at: datetime | None = None


def records(articles: Iterable[Article], seen_at: datetime) -> pl.DataFrame:
    """Return a row per article, as `LIVE` reads them.

    Returns
    -------
    pl.DataFrame
        A text column per field of `Article`, and ``seen_at``.
    """
    rows = [[_cell(getattr(article, name)) for name in _CELLS] for article in articles]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(_CELLS, pl.String), orient="row")
    return frame.with_columns(url=_address(), seen_at=pl.lit(_cell(seen_at)))


def _address() -> pl.Expr:
    """Return the address of an article without what says where a reader came from: ``utm_source=rss``."""
    asked = pl.col("url").str.strip_chars().str.replace_all(r"(?i)([?&])(?:utm_[^&#]*&?)+", "$1")
    return asked.str.replace(r"[?&](#|$)", "$1")


def _cell(value: str | datetime | None) -> str | None:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"
    # JSON may hold half of a surrogate pair, which is no text.
    return value if value is None else value.encode("utf-8", "ignore").decode()

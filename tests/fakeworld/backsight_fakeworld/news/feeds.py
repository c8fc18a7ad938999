"""Feeds: RSS 2.0 and Atom of the last stories, with their ways to write a date, and answers of 304."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from html import escape
from itertools import islice
from typing import Final

from backsight_fakeworld.messages import Answer, Request, Row, text_document, text_page
from backsight_fakeworld.stories import SOURCES, stories_before

_DEFAULT: Final = "numeric"


def _named(hours: float, name: str) -> Callable[[datetime], str]:
    """Return a way to write a date: local time and the name of its zone."""

    def written(at: datetime) -> str:
        return f"{at.astimezone(timezone(timedelta(hours=hours))):%a, %d %b %Y %H:%M:%S} {name}"

    return written


RSS_DATES: Final[Mapping[str, Callable[[datetime], str | None]]] = {
    "numeric": lambda at: format_datetime(at.astimezone(timezone(timedelta(hours=-4)))),
    "gmt": lambda at: format_datetime(at, usegmt=True),
    "est": _named(-5, "EST"),
    "ist": _named(5.5, "IST"),
    "cet": _named(1, "CET"),
    "jst": _named(9, "JST"),
    "nozone": lambda at: f"{at:%a, %d %b %Y %H:%M:%S}",
    "missing": lambda at: None,
    "epoch": lambda at: str(int(at.timestamp())),
    "dateonly": lambda at: f"{at:%Y-%m-%d}",
}
ATOM_DATES: Final[Mapping[str, Callable[[datetime], str | None]]] = {
    **RSS_DATES,
    "numeric": lambda at: at.astimezone(timezone(timedelta(hours=2))).isoformat(),
    "gmt": lambda at: at.isoformat().replace("+00:00", "Z"),
    "nozone": lambda at: at.replace(tzinfo=None).isoformat(),
}


class Feeds:
    """``/feed.rss`` of the wire and ``/feed.atom`` of the desk: the last stories, newest first.

    Of the query, ``dates`` chooses how dates are written: a name of `RSS_DATES`, or ``mixed`` for each in turn; and
    ``undeclared=1`` leaves out the declaration of the namespace ``dc``.

    Attributes
    ----------
    length : int
        Most stories in a feed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.length = 30

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the prefix, as at an instant."""
        dates = request.query.get("dates", _DEFAULT)
        if request.path not in ("/feed.rss", "/feed.atom") or dates not in (*RSS_DATES, "mixed"):
            known = ", ".join((*RSS_DATES, "mixed"))
            return text_document(f"there is /news/feed.rss and /news/feed.atom, with dates={known}", status=404)
        is_rss = request.path == "/feed.rss"
        source, ways = ("wire", RSS_DATES) if is_rss else ("desk", ATOM_DATES)
        found = list(islice(stories_before(self._seed, source, now), self.length))
        cycle = list(ways) if dates == "mixed" else [dates]
        rows = [
            {
                "title": story.title,
                "summary": story.summary,
                "author": story.author,
                "url": story.url,
                "guid": story.id,
                # By its number, so that a story keeps the way it is dated.
                "date": ways[cycle[_number(story.id) % len(cycle)]](story.published),
            }
            for story in found
        ]
        changed = found[0].published if found else now
        declared = request.query.get("undeclared") != "1"

        def render(rows: list[Row]) -> str:
            title = SOURCES[source]
            return _rss(title, changed, rows, declared) if is_rss else _atom(title, changed, rows)

        kind = "application/rss+xml" if is_rss else "application/atom+xml"
        return _conditional(request, changed, text_page(rows, render, content_type=f"{kind}; charset=utf-8"))


def _number(guid: str) -> int:
    return int(guid.rpartition("-")[2])


def _conditional(request: Request, changed: datetime, answer: Answer) -> Answer:
    """Return an answer, or 304 if the client has it."""
    tag = f'"{hashlib.sha256(answer.render(answer.rows)).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Last-Modified": format_datetime(changed, usegmt=True)}
    match request.headers:
        case {"if-none-match": tags}:
            same = tag in tags
        case {"if-modified-since": since}:
            same = changed.replace(microsecond=0) <= parsedate_to_datetime(since).astimezone(UTC)
        case _:
            same = False
    if same:
        return Answer(render=lambda _: b"", status=304, headers=headers)
    return Answer(render=answer.render, rows=answer.rows, content_type=answer.content_type, headers=headers)


def _rss(title: str, changed: datetime, rows: list[Row], declared: bool) -> str:
    namespace = ' xmlns:dc="http://purl.org/dc/elements/1.1/"' if declared else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<rss version="2.0"{namespace}><channel><title>{title}</title>\n'
        f"<link>https://wire.example.com/</link><description>All the news that is made up</description>\n"
        f"<lastBuildDate>{format_datetime(changed, usegmt=True)}</lastBuildDate>\n"
        f"{''.join(map(_item, rows))}</channel></rss>\n"
    )


def _item(row: Row) -> str:
    if row is None:
        return "<item></item>\n"
    date = "" if row["date"] is None else f"<pubDate>{row['date']}</pubDate>"
    summary = escape(f"<p>{escape(str(row['summary']))}</p>")
    return (
        f"<item><title>{escape(str(row['title']))}</title><link>{escape(str(row['url']))}</link>"
        f"<description>{summary}</description><dc:creator>{escape(str(row['author']))}</dc:creator>"
        f'<guid isPermaLink="false">{row["guid"]}</guid>{date}</item>\n'
    )


def _atom(title: str, changed: datetime, rows: list[Row]) -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom"><title>{title}</title>\n'
        f'<id>https://desk.example.com/</id><link href="https://desk.example.com/"/>'
        f"<updated>{changed.isoformat()}</updated>\n{''.join(map(_entry, rows))}</feed>\n"
    )


def _entry(row: Row) -> str:
    if row is None:
        return "<entry></entry>\n"
    date = "" if row["date"] is None else f"<published>{row['date']}</published><updated>{row['date']}</updated>"
    summary = escape(f"<p>{escape(str(row['summary']))}</p>")
    return (
        f"<entry><title>{escape(str(row['title']))}</title><id>{row['guid']}</id>"
        f'<link href="{escape(str(row["url"]))}"/><author><name>{escape(str(row["author"]))}</name></author>'
        f'{date}<summary type="html">{summary}</summary></entry>\n'
    )

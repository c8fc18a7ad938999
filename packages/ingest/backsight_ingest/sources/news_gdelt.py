"""GDELT's DOC 2.0 API: lists of articles by words and by when GDELT saw them, in quarters of an hour."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backsight_features.clocks import to_us
from backsight_features.errors import Drifted

from backsight_ingest.live.faults import Refused
from backsight_ingest.live.web import Web
from backsight_ingest.sources.news import AGENT, Article
from backsight_ingest.sources.news_search import Listing

PER_ANSWER: Final = 250

_HOME: Final = "https://api.gdeltproject.org"
_INTERVAL: Final = timedelta(seconds=5)
_BEGINS: Final = datetime(2017, 1, 1, tzinfo=UTC)
_SEEN: Final = "%Y%m%dT%H%M%SZ"
_ASKED: Final = "%Y%m%d%H%M%S"
_MOST_PARTS: Final = 64
_ESCAPE: Final = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')
_BUSY: Final = b"limit requests"
_SHOWN: Final = 200


class Gdelt:
    """GDELT's archive; see `backsight_ingest.sources.news_search.Archive`.

    Parameters
    ----------
    web : Web
        The way to it.
    """

    name = "gdelt"
    past = "gdelt-doc"
    fields: Mapping[str, str] = {"published": "seendate", "publisher": "domain"}
    cadence = timedelta(hours=1)
    overlap = timedelta(hours=2)
    finest = timedelta(minutes=15)

    def __init__(self, web: Web) -> None:
        self._url = f"{_HOME if web.endpoint is None else f'{web.endpoint}/gdelt'}/api/v2/doc/doc"
        self._session = web.session(interval=_INTERVAL, check=gdelt_body)
        self._session.headers["User-Agent"] = AGENT

    def ask(self, query: str, since: datetime, until: datetime) -> Listing:
        """Return the articles that GDELT saw within [since, until), whole seconds.

        Raises
        ------
        Transient, Refused
            If it does not answer, or not to us.
        Drifted
            If its answer has another shape.
        """
        if since < _BEGINS:
            return Listing(begins=to_us(_BEGINS), reason=f"GDELT's search begins with {_BEGINS:%Y-%m-%d}")
        answer = self._session.get(
            self._url,
            params={
                "query": query,
                "mode": "artlist",
                "format": "json",
                "maxrecords": str(PER_ANSWER),
                "sort": "dateasc",
                "startdatetime": f"{since:{_ASKED}}",
                "enddatetime": f"{until - timedelta(seconds=1):{_ASKED}}",
            },
        )
        if answer.status_code != 200:
            raise Refused(f"GDELT: status {answer.status_code} {answer.reason or ''}".rstrip())
        found = _document(answer.content).get("articles", [])
        if not isinstance(found, list):
            raise Drifted(f"GDELT: the answer's articles are no list, but {str(found)[:_SHOWN]!r}")
        articles = tuple(map(_article, found))
        if len({each.url for each in articles}) < PER_ANSWER:
            return Listing(articles=articles)
        return Listing(
            articles=articles,
            parts=_parts(articles, since, until),
            reason=f"GDELT gives {PER_ANSWER} articles of one quarter of an hour, and has more; search for more words",
        )


def gdelt_body(body: bytes) -> None:
    """Check the body of an answer: GDELT says in a line of text, with status 200, what it does not like.

    Parameters
    ----------
    body : bytes
        Of an answer of status 200.

    Raises
    ------
    ValueError
        If it is no whole JSON document: the next answer may be one.
    Refused
        If GDELT will not answer this request.
    """
    said = body.strip()
    if said and said[:1] not in b"{[<" and _BUSY not in said:
        raise Refused(f"GDELT: {' '.join(said[:_SHOWN].decode('utf-8', 'replace').split())}")
    try:
        _document(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no whole JSON document ({error})") from None


def _document(body: bytes) -> Mapping[str, Any]:
    """Return the object that a body is. Titles come with control characters and with ``\\`` that escapes nothing."""
    mended = _ESCAPE.sub(lambda found: found[0] if len(found[0]) > 1 else rb"\\", body)
    document = json.loads(mended, strict=False)
    if not isinstance(document, dict):
        raise ValueError("it is no object")
    return document


def _parts(articles: tuple[Article, ...], since: datetime, until: datetime) -> int:
    """Return in how many parts a stretch should be asked for, by how far into it the first articles lead."""
    last = max((each.published_at for each in articles if each.published_at is not None), default=since)
    covered = max(last - since, Gdelt.finest)
    return min(max(-(-(until - since) // covered), 2), _MOST_PARTS)


def _article(found: Any) -> Article:
    fields: Mapping[str, Any] = found if isinstance(found, dict) else {}
    seen = _text(fields.get("seendate"))
    return Article(
        url=_text(fields.get("url")),
        publisher=_text(fields.get("domain")),
        title=_text(fields.get("title")),
        published=seen,
        published_at=_instant(seen),
    )


def _instant(text: str | None) -> datetime | None:
    try:
        return datetime.strptime(text or "", _SEEN).replace(tzinfo=UTC)
    except ValueError:
        return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)

"""The job of one feed, RSS or Atom: what it lists now, read by feedparser from bytes that we fetched.

A feed lists its last articles and nothing else, so a walk is one answer. Where the oldest of them is newer than the
last pull, some may have come and gone in between.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import feedparser  # type: ignore[import-untyped]
from backsight_features.clocks import to_us
from backsight_features.errors import BadInput, Drifted
from backsight_features.masking import masked
from backsight_features.spans import Span

from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.faults import Refused
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.live.web import Web
from backsight_ingest.sources.news import AGENT, LIVE, Article, records
from backsight_ingest.sources.news_bodies import feed_body
from backsight_ingest.sources.news_stamps import instant

_INTERVAL: Final = timedelta(seconds=1)
_ACCEPT: Final = "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.1"
_CHARACTER: Final = re.compile(rb"&#(x[0-9a-f]{1,30}|[0-9]{1,30});", re.IGNORECASE)
_NO_PROSE: Final = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
_INLINE: Final = re.compile(r"</?(?:a|abbr|b|cite|code|em|font|i|mark|q|s|small|span|strong|sub|sup|u)\b[^<>]*>", re.I)
_TAG: Final = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An article in a feed.

    Parameters
    ----------
    article : Article
        What the feed says of it.
    changed_at : datetime, optional
        When it was put there or changed, by which feeds are in order.
    """

    article: Article
    changed_at: datetime | None


class Feed:
    """The job of one feed; see `backsight_ingest.live.job.Job`.

    Parameters
    ----------
    web : Web
        The way to it.
    url : str
        Its address.

    Raises
    ------
    BadInput
        If that is none.
    """

    verb = "pull news"
    cadence = timedelta(hours=1)
    length = timedelta(0)
    layouts: tuple[str, ...] = (LIVE,)
    variables: Mapping[str, str] = {}
    lanes = 1

    def __init__(self, web: Web, url: str) -> None:
        parts = _parts(url)
        # A query tells feeds of one host apart, and may hold a key.
        query = f"?{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}" if parts.query else ""
        self.source = str(parts.hostname)
        self.name = f"news:{parts.hostname}{parts.path.rstrip('/')}{query}"
        self._web = web
        self._url = url
        # Articles may have addresses relative to it, and its user and query are for nobody to see.
        self._place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        self._session = web.session(interval=_INTERVAL, check=feed_body)
        self._session.headers.update({"User-Agent": AGENT, "Accept": _ACCEPT})

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return that it goes on from the last pull: a feed has no past that could be asked for."""
        reached = to_us(now) if coverage.reached is None else coverage.reached
        return Plan(forward=Span(min(reached, to_us(now)), to_us(now)))

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield what the feed lists, as one page."""
        body = self._web.retry(self._fetch)
        seen_at = self._web.clock.now()
        listed = articles(body, self._place)
        asked = Span(span.start, max(span.stop, to_us(seen_at)))
        yield Page(
            span=asked,
            records={LIVE: records((each.article for each in listed), seen_at)},
            fetched_at=seen_at,
            holes=_rolled_over(listed, asked) if span.start < span.stop else (),
        )

    def _fetch(self) -> bytes:
        parts = urlsplit(self._url)
        url = self._url
        if self._web.endpoint is not None:
            url = f"{self._web.endpoint}/news{parts.path}{f'?{parts.query}' if parts.query else ''}"
        answer = self._session.get(url)
        if answer.status_code != 200:
            raise Refused(f"{self.name}: status {answer.status_code} {answer.reason or ''}".rstrip())
        return answer.content


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts
    except ValueError:
        pass  # half an address in brackets, say: no address either
    raise BadInput(f"--feed {masked(url.partition('?')[0])!r} is no address; write https://example.com/feed.xml")


def articles(body: bytes, url: str) -> list[Listed]:
    """Return what a feed lists, in its order.

    Parameters
    ----------
    body : bytes
        As `feed_body` lets it pass.
    url : str
        Where it is, for addresses that are relative to it.

    Raises
    ------
    Drifted
        If feedparser cannot make anything of it.
    """
    try:
        parsed = feedparser.parse(
            BytesIO(_CHARACTER.sub(_real, body.strip())),
            response_headers={"content-location": url},
            sanitize_html=False,
            resolve_relative_uris=False,
        )
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Drifted(f"{urlsplit(url).hostname}: feedparser fails on the feed ({type(error).__name__})") from None
    if not parsed.get("version"):
        raise Drifted(f"{urlsplit(url).hostname}: the feed is of no kind that feedparser knows")
    return [_listed(entry, url) for entry in parsed.entries]


def _real(found: re.Match[bytes]) -> bytes:
    """Return a reference to a character, nothing where it is none: half of a surrogate pair fails feedparser."""
    digits = found[1].decode()
    number = int(digits[1:], 16) if digits[:1] in "xX" else int(digits)
    return b"" if 0xD800 <= number <= 0xDFFF or number > sys.maxunicode else found[0]


def _listed(entry: Mapping[str, Any], url: str) -> Listed:
    # A feed of RSS 1.0, or an Atom feed of sloppy making, dates an article by its last change only.
    stamps = {entry[name]: instant(entry[name]) for name in ("published", "updated", "created") if name in entry}
    named = {written: at for written, at in stamps.items() if at is not None}
    written = next(iter([*named, *stamps]), None)
    link = entry.get("link") or None
    article = Article(
        url=link,
        publisher=_publisher(entry, link or url),
        title=_prose(entry.get("title_detail")),
        text=_prose(entry.get("summary_detail")) or _prose(next(iter(entry.get("content") or ()), None)),
        published=written,
        published_at=named.get(written),
    )
    return Listed(article=article, changed_at=max(named.values(), default=None))


def _publisher(entry: Mapping[str, Any], link: str) -> str | None:
    """Return who is said to have published it, else the host of its address."""
    named: str | None = (entry.get("source") or {}).get("title")
    try:
        host = urlsplit(link).hostname
    except ValueError:
        host = None  # an address that is none names nobody
    return named or (host.removeprefix("www.") if host else None)


def _prose(detail: Mapping[str, str] | None) -> str | None:
    """Return a text without its markup; entities stay as they are, since they are resolved where it is read."""
    if detail is None:
        return None
    text = detail["value"]
    if detail.get("type") != "text/plain":
        text = _TAG.sub(" ", _INLINE.sub("", _NO_PROSE.sub(" ", text)))
    return text.strip() or None


def _rolled_over(listed: Sequence[Listed], span: Span) -> tuple[Hole, ...]:
    """Return the hole between the last pull and the oldest article that is listed, if there is one."""
    if not listed:
        return (Hole(span=span, reason="the feed lists nothing, so what it listed in between is lost", again=False),)
    changes = [to_us(each.changed_at) for each in listed if each.changed_at is not None]
    oldest = min(min(changes, default=span.start), span.stop)
    if oldest <= span.start:
        return ()
    return (
        Hole(
            span=Span(span.start, oldest),
            reason=f"the feed rolled over: all its {len(listed)} articles came after the last pull; pull it more often",
            again=False,
        ),
    )

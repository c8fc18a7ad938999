"""NewsAPI: its search of articles by words and time of publication.

Whoever pays gets all of an answer page by page, others only the first hundred. So the first page is all that is asked
for, of stretches of time that hold no more.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from backsight_features.clocks import to_us
from backsight_features.errors import BadInput, Drifted
from backsight_features.masking import masked

from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.http import json_body
from backsight_ingest.live.web import Web
from backsight_ingest.sources.news import AGENT, Article
from backsight_ingest.sources.news_search import Listing
from backsight_ingest.sources.news_stamps import instant

VARIABLE: Final = "NEWSAPI_KEY"
"""The environment variable that holds the key."""

PER_ANSWER: Final = 100

_HOME: Final = "https://newsapi.org"
_INTERVAL: Final = timedelta(seconds=1)
_PER_PART: Final = 70
"""Articles that a part should hold: news come in bursts, so there has to be room for more."""

_MOST_PARTS: Final = 64
_PASSING: Final = frozenset({"rateLimited", "apiKeyExhausted", "unexpectedError"})
_BAD_KEY: Final = frozenset({"apiKeyInvalid", "apiKeyMissing", "apiKeyDisabled"})
_BEGINS: Final = re.compile(r"as far back as (\d{4}-\d{2}-\d{2})")


class NewsApi:
    """NewsAPI's archive; see `backsight_ingest.sources.news_search.Archive`.

    Parameters
    ----------
    web : Web
        The way to it.
    environment : mapping of str to str
        Holds the key.

    Raises
    ------
    BadInput
        If there is no key.
    """

    name = "newsapi"
    past = "newsapi"
    fields: Mapping[str, str] = {"published": "publishedAt", "publisher": "source.name", "text": "description"}
    cadence = timedelta(days=1)
    # Without a subscription articles are shown a day late.
    overlap = timedelta(hours=26)
    finest = timedelta(seconds=1)

    def __init__(self, web: Web, environment: Mapping[str, str]) -> None:
        key = environment.get(VARIABLE, "").strip()
        if not key:
            raise BadInput(f"--newsapi needs a key of https://newsapi.org in the variable {VARIABLE}")
        if not (key.isascii() and key.isprintable()):
            raise BadInput(f"{VARIABLE} is no key of NewsAPI: it has to be letters and digits")
        self._key = key
        self._url = f"{_HOME if web.endpoint is None else f'{web.endpoint}/newsapi'}/v2/everything"
        self._session = web.session(interval=_INTERVAL, check=json_body)
        self._session.headers["User-Agent"] = AGENT

    def ask(self, query: str, since: datetime, until: datetime) -> Listing:
        """Return the articles published within [since, until), whole seconds.

        Raises
        ------
        Transient, Refused
            If it does not answer, or not to us.
        BadInput
            If it does not take the key.
        Drifted
            If its answer has another shape.
        """
        answer = self._session.get(
            self._url,
            params={
                "q": query,
                "from": f"{since:%Y-%m-%dT%H:%M:%S}",
                "to": f"{until - timedelta(seconds=1):%Y-%m-%dT%H:%M:%S}",
                "sortBy": "publishedAt",
                "pageSize": str(PER_ANSWER),
            },
            headers={"X-Api-Key": self._key},
            # The key would go to wherever it leads.
            allow_redirects=False,
        )
        try:
            document = json.loads(answer.content)
        except ValueError:
            document = None
        if isinstance(document, dict) and document.get("status") == "error":
            return self._refusal(str(document.get("code")), str(document.get("message")), answer.status_code)
        if answer.status_code != 200:
            raise Refused(f"NewsAPI: status {answer.status_code} {answer.reason or ''}".rstrip())
        return _listing(document)

    def _refusal(self, code: str, message: str, status: int) -> Listing:
        """Return what an error says that concerns a part of the time only; raise what concerns all."""
        words = masked(" ".join(message.split())).replace(self._key, "***")
        if code in _PASSING:
            raise Transient(f"NewsAPI: {words}")
        if code in _BAD_KEY:
            raise BadInput(f"{VARIABLE}: NewsAPI says {words!r}")
        if match := _BEGINS.search(words):
            # That day has begun before the hour from which on they are given.
            begins = datetime.fromisoformat(match[1]).replace(tzinfo=UTC) + timedelta(days=1)
            return Listing(begins=to_us(begins), reason=f"NewsAPI: {words}")
        raise Refused(f"NewsAPI: status {status}, {code}: {words}")


def _listing(document: Any) -> Listing:
    found = document.get("articles") if isinstance(document, dict) else None
    total = document.get("totalResults") if isinstance(document, dict) else None
    if not isinstance(found, list) or not isinstance(total, int):
        raise Drifted("NewsAPI: the answer has no list of articles, or does not say how many there are")
    if total > 0 and not found:
        raise Transient(f"NewsAPI: {total} articles are there, and none was given")
    if total <= PER_ANSWER:
        return Listing(articles=tuple(map(_article, found)))
    return Listing(
        articles=tuple(map(_article, found)),
        parts=min(-(-total // _PER_PART), _MOST_PARTS),
        reason=f"NewsAPI gives {PER_ANSWER} of the {total} articles of one second; search for more words",
    )


def _article(found: Any) -> Article:
    fields: Mapping[str, Any] = found if isinstance(found, dict) else {}
    source = fields.get("source")
    published = _text(fields.get("publishedAt"))
    return Article(
        url=_text(fields.get("url")),
        publisher=_text(source.get("name")) if isinstance(source, dict) else None,
        title=_text(fields.get("title")),
        text=_text(fields.get("description")),
        published=published,
        published_at=instant(published),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)

"""Reddit through praw: its tokens, its listings as plain documents, and its errors as ours.

praw is asked for documents only. What comes of an answer that is none, how long to wait and what to repeat is the
business of our session and of the one retry policy; prawcore's own ideas of that are kept from it, see `_Requestor`.
"""

import configparser
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import praw
import requests
from backsight_features.errors import BadInput, Drifted
from praw.exceptions import PRAWException
from prawcore import Requestor
from prawcore.const import ACCESS_TOKEN_PATH
from prawcore.exceptions import PrawcoreException

from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.http import json_body
from backsight_ingest.live.web import Web

_INTERVAL: Final = timedelta(seconds=0.6)
"""A client may ask 100 times a minute."""

_LISTINGS: Final = "https://oauth.reddit.com/"
_TOKENS: Final = "https://www.reddit.com"
_USER_AGENT: Final = "python:backsight:0.1 (a research store of public posts)"
_SHORTEST_USER_AGENT: Final = 7
"""praw takes no shorter one."""

_UNSEEN: Final = ("x-ratelimit-remaining", "x-ratelimit-used", "x-ratelimit-reset")
"""What would make prawcore sleep; the limiter heeds it."""

_HINTS: Final[Mapping[int, str]] = {
    HTTPStatus.FORBIDDEN: "it is private or in quarantine, or this client is not let in",
    HTTPStatus.NOT_FOUND: "it does not exist, or Reddit has banned it",
}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Who asks.

    Parameters
    ----------
    client_id, client_secret : str
        Of an app of the type "script" or "web app".
    user_agent : str
        What Reddit is told of the client.
    """

    client_id: str
    client_secret: str = field(repr=False)
    user_agent: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Credentials":
        """Return what ``REDDIT_CLIENT_ID``, ``REDDIT_CLIENT_SECRET`` and, if it is there, ``REDDIT_USER_AGENT`` say.

        Raises
        ------
        BadInput
            If one is missing, or cannot be sent; names it.
        """
        found: dict[str, str] = {}
        for name, default in (("client_id", ""), ("client_secret", ""), ("user_agent", _USER_AGENT)):
            variable = f"REDDIT_{name.upper()}"
            value = environment.get(variable) or default
            if not value:
                raise BadInput(f"{variable} is not set; an app of https://www.reddit.com/prefs/apps has one")
            if not (value.isascii() and value.isprintable()):
                raise BadInput(f"{variable} holds a line break, or a character that is not ASCII")
            found[name] = value
        if len(found["user_agent"]) < _SHORTEST_USER_AGENT:
            raise BadInput(f"REDDIT_USER_AGENT is {found['user_agent']!r}; Reddit wants python:my-app:1.0 (by u/me)")
        return cls(**found)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One page of a listing.

    Parameters
    ----------
    children : list
        What it lists; each should be an object with ``data``, a post.
    after : str, optional
        What to ask for the next page with; None on the last.
    seen_at : datetime
        When it was there.
    """

    children: list[object]
    after: str | None
    seen_at: datetime


class Client:
    """Reddit, as an app sees it that acts for no user.

    Parameters
    ----------
    web : Web
        The way there.
    credentials : Credentials
        Who asks.
    """

    def __init__(self, web: Web, credentials: Credentials) -> None:
        self._web = web
        self._credentials = credentials
        self._session = web.session(interval=_INTERVAL, check=_object)
        self._reddit: praw.Reddit | None = None

    def listing(self, path: str, **params: str) -> Sheet:
        """Return a page of a listing.

        Parameters
        ----------
        path : str
            As in ``r/bitcoin/new``.
        **params : str
            Of the query.

        Raises
        ------
        Transient, Refused, ClockSkew
            If Reddit does not answer, or not to us.
        Drifted
            If the answer is no listing.
        """
        return self._web.retry(lambda: self._sheet(path, params))

    def _sheet(self, path: str, params: Mapping[str, str]) -> Sheet:
        document = self._document(path, params)
        seen_at = self._web.clock.now()
        _complain(path, document)
        data = document.get("data")
        children, after = (data.get("children"), data.get("after")) if isinstance(data, dict) else (None, None)
        if not isinstance(children, list) or not isinstance(after, str | None):
            raise Drifted(f"reddit {path}: the answer is no listing; it holds {', '.join(map(repr, document))[:200]}")
        if not children and (after or "after" in params):
            raise Transient(f"reddit {path}: a page is empty though the one before it said that there is more")
        if after and after == params.get("after"):
            raise Transient(f"reddit {path}: the page before it came once more")
        return Sheet(children=children, after=after or None, seen_at=seen_at)

    def _document(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        fresh = self._reddit is None
        if self._reddit is None:
            self._reddit = self._signed_in()
        try:
            with vendor_errors(path):
                found: dict[str, Any] = self._reddit.request(method="GET", path=path, params=dict(params))
                return found
        except _Expired:
            self._reddit = None  # a new one asks for a new token
        if fresh:
            raise Refused(f"reddit {path}: the token that Reddit has just given is not taken")
        return self._document(path, params)

    def _signed_in(self) -> praw.Reddit:
        endpoint = self._web.endpoint
        try:
            # All that a praw.ini, or a variable like praw_username, could change is given.
            return praw.Reddit(
                "DEFAULT",
                client_id=self._credentials.client_id,
                client_secret=self._credentials.client_secret,
                user_agent=self._credentials.user_agent,
                username=None,
                password=None,
                refresh_token=None,
                redirect_uri=None,
                reddit_url=_TOKENS if endpoint is None else f"{endpoint}/reddit",
                oauth_url=_LISTINGS if endpoint is None else f"{endpoint}/reddit/",
                check_for_updates=False,
                check_for_async=False,
                requestor_class=_Requestor,
                requestor_kwargs={"session": self._session},
            )
        except (PrawcoreException, PRAWException, configparser.Error) as error:
            raise BadInput(f"reddit: praw cannot be set up: {error}") from None


@contextmanager
def vendor_errors(path: str) -> Iterator[None]:
    """Turn what praw and prawcore raise on their own into `Refused`; errors of the session pass."""
    try:
        yield
    except (PrawcoreException, PRAWException) as error:
        raise Refused(f"reddit {path}: {type(error).__name__} {error}".rstrip()) from None


class _Expired(Exception):
    """The token is not taken (any more)."""


class _Requestor(Requestor):
    """Hands requests to our session as they are, so that its errors pass prawcore unchanged.

    prawcore gets to see sound answers only, and nothing that would make it sleep or ask again.
    """

    def request(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> requests.Response:
        """Return an answer of status 200.

        Raises
        ------
        Transient, Refused, ClockSkew
            What the session raises, and Refused for any other status.
        Drifted
            If the token endpoint answers with something else than a token.
        _Expired
            For a token that is not taken.
        """
        answer = self._http.request(*args, **kwargs)
        path = urlsplit(answer.url).path
        is_token = path.endswith(ACCESS_TOKEN_PATH)
        if answer.status_code == HTTPStatus.UNAUTHORIZED and not is_token:
            raise _Expired
        if answer.status_code != HTTPStatus.OK:
            raise Refused(_refusal(answer, path, is_token))
        if is_token:
            _check_token(path, answer.json())
        for name in _UNSEEN:
            answer.headers.pop(name, None)
        return answer


def _object(body: bytes) -> None:
    """Raise ValueError where a body is no JSON object."""
    json_body(body)
    if not body.lstrip().startswith(b"{"):
        raise ValueError("no JSON object")


def _complain(path: str, document: Mapping[str, Any]) -> None:
    """Raise an error that stands in an answer of status 200: passing where it is a status, final where it is a word."""
    error = document.get("error")
    if error is None:
        return
    said = f"reddit {path}: status 200, but error {str(error)[:60]!r}"
    raise Refused(said) if isinstance(error, str) else Transient(said)


def _check_token(path: str, document: Mapping[str, Any]) -> None:
    """Raise where prawcore would not find what it takes from a token's answer without looking."""
    _complain(path, document)
    for name, kind in (("access_token", str), ("expires_in", int), ("scope", str)):
        if not isinstance(document.get(name), kind):
            raise Drifted(f"reddit {path}: the answer has no {name}")


def _refusal(answer: requests.Response, path: str, is_token: bool) -> str:
    """Return what a person reads of an answer that is not 200."""
    said = f"reddit {path}: status {answer.status_code} {answer.reason or ''}".rstrip()
    if is_token:
        return f"{said}: Reddit does not know the app; check REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET"
    if answer.is_redirect:
        return f"{said} to {urlsplit(answer.headers['location']).path[:60]}; is there a subreddit of that name?"
    if word := re.search(rb'"reason": *"([a-z_]{1,40})"', answer.content):
        said = f"{said} ({word[1].decode()})"
    hint = _HINTS.get(answer.status_code)
    return said if hint is None else f"{said}: {hint}"

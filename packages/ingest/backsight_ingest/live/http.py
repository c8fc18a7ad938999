"""HTTP within limits, for the vendors' own clients: they are given a `Session` in place of theirs.

What their transports lack is here, once: a total deadline, a cap on what is decoded, a pace per host, an end to
redirects, and no answer of status 200 that is none. Nothing is repeated here; see `retry`.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as Late

from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import ClockSkew, Refused, Transient
from backsight_ingest.live.limiter import Limiter

Check = Callable[[bytes], None]
"""Raises ValueError, with the reason, where the body of an answer of status 200 is none."""

_PASSING: Final = frozenset({408, 418, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""Statuses that say: not now. 418 is how Binance bans an address that went on after 429."""

_CHUNK: Final = 1 << 16
_SHOWN: Final = 60


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may take.

    Parameters
    ----------
    connect : timedelta
        To be connected.
    idle : timedelta
        For the head of the answer to be there whole, and between two pieces of its body.
    total : timedelta
        From the request to the last byte.
    largest : int
        Bytes of the body, decoded.
    skew : timedelta
        How far the server's clock and ours may lie apart.
    """

    connect: timedelta = timedelta(seconds=10)
    idle: timedelta = timedelta(seconds=20)
    total: timedelta = timedelta(seconds=60)
    largest: int = 32 * 2**20
    skew: timedelta = timedelta(minutes=2)


class Session(requests.Session):
    """A session whose every request ends: with an answer, or with an error of `faults`.

    Parameters
    ----------
    clock : Clock
        Measures.
    limiter : Limiter
        Shared by all sessions of a process.
    interval : timedelta
        Between requests to one host.
    check : callable
        What a body has to be.
    limits : Limits
        Of each request.
    """

    def __init__(
        self,
        clock: Clock,
        limiter: Limiter,
        *,
        interval: timedelta,
        check: Check,
        limits: Limits = Limits(),
    ) -> None:
        super().__init__()
        self.max_redirects = 5
        self.ahead = timedelta(0)
        """How far the server's clock was ahead of ours in its last answer."""
        self.interval = interval
        """Between requests to one host; a client that knows what each request costs sets it before each."""
        self._clock = clock
        transport = _Transport(self, clock, limiter, check, limits)
        for scheme in ("http://", "https://"):
            self.mount(scheme, transport)

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Return the answer; status 4xx is one.

        Raises
        ------
        Transient, Refused, ClockSkew
            See there.
        """
        try:
            return super().request(method, url, *args, **kwargs)
        except requests.TooManyRedirects:
            raise Refused(f"{_place(url)} redirects without end") from None
        except requests.RequestException as error:  # an address that is none
            raise Refused(f"{_place(url)}: {_said(error)}") from None

    def settled_now(self) -> datetime:
        """Return the instant that lies in the past by our clock and by the server's last answer."""
        return self._clock.now() + min(self.ahead, timedelta(0))


def json_body(body: bytes) -> None:
    """Raise ValueError where a body is no whole JSON document."""
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no whole JSON document ({error})") from None


class _Transport(HTTPAdapter):
    """One request, one answer, within limits."""

    def __init__(
        self,
        session: Session,
        clock: Clock,
        limiter: Limiter,
        check: Check,
        limits: Limits,
    ) -> None:
        super().__init__(max_retries=Retry(0, read=False, redirect=False))
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        self._session = session
        self._clock = clock
        self._limiter = limiter
        self._check = check
        self._limits = limits

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: object = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Return the whole answer; what the client says of streaming and time is not heeded."""
        place, limits = _place(str(request.url)), self._limits
        self._limiter.wait(urlsplit(str(request.url)).netloc, self._session.interval)
        begun = self._clock.elapsed()
        times = (limits.connect.total_seconds(), limits.idle.total_seconds())
        try:
            answer = super().send(
                request, stream=True, timeout=times, verify=verify, cert=cert, proxies=dict(proxies or {})
            )
            try:
                answer._content = self._body(answer, place, begun + limits.total)
            finally:
                answer.close()
        except (requests.RequestException, HTTPError, OSError) as error:
            raise Transient(f"{place}: {_said(error)}") from None
        answer._content_consumed = True  # type: ignore[attr-defined]
        self._heed(answer, place)
        return answer

    def _body(self, answer: requests.Response, place: str, deadline: timedelta) -> bytes:
        limits, body = self._limits, bytearray()
        while chunk := answer.raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > limits.largest:
                raise Refused(f"{place}: the answer holds more than {limits.largest:,} bytes; ask for less at a time")
            if self._clock.elapsed() > deadline:
                raise Transient(f"{place}: the answer was not whole after {limits.total.total_seconds():.0f} s")
        return bytes(body)

    def _heed(self, answer: requests.Response, place: str) -> None:
        """Take notice of the answer's head, and refuse an answer that is none."""
        host, headers, now = urlsplit(str(answer.url)).netloc, answer.headers, self._clock.now()
        self._limiter.note(host, headers)
        server = _instant(headers.get("Date"))
        if server is not None:
            # A cache passes on the head that it once got, and says how old it is.
            age = headers.get("Age", "0").strip()
            self._session.ahead = server + timedelta(seconds=int(age) if age.isdecimal() else 0) - now
        if answer.status_code in _PASSING:
            after = _retry_after(headers.get("Retry-After"), server or now)
            if after is not None:
                self._limiter.rest(host, after)
            raise Transient(f"{place}: status {answer.status_code} {answer.reason or ''}".rstrip(), retry_after=after)
        if abs(self._session.ahead) > self._limits.skew:
            raise ClockSkew(
                f"{place}: its clock says {server:%Y-%m-%dT%H:%M:%SZ}, ours {now:%Y-%m-%dT%H:%M:%SZ}; with the clock "
                "of this machine wrong, nobody could say what was known when"
            )
        if answer.status_code == requests.codes.ok:
            body = answer.content
            try:
                self._check(body)
            except ValueError as error:
                # What answers a POST may be a token.
                shown = f": {body[:_SHOWN].decode('utf-8', 'replace')!r}" if answer.request.method == "GET" else ""
                raise Transient(f"{place}: status 200, but {error}{shown}") from None


def _place(url: str) -> str:
    """Return an address without what may hold a key: its query and its user."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _said(error: Exception) -> str:
    """Return the innermost cause in words; the outer ones repeat the address, query included."""
    cause: BaseException = error
    while True:
        inner = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None) or cause.__cause__
        if not isinstance(inner, BaseException):
            break
        cause = inner
    if isinstance(cause, TimeoutError | Late):
        return "no answer in time"
    text = str(cause).rpartition(">: ")[2]
    return text if "://" not in text else type(cause).__name__


def _instant(text: str | None) -> datetime | None:
    try:
        at = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Return the wait that a server asks for, in seconds or until a date of its own clock; None where it does not."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return timedelta(seconds=min(int(text), 10**6))
    until = _instant(text)
    return None if until is None else max(until - now, timedelta(0))


@contextmanager
def _cut_off(sock: socket.socket, after: float) -> Iterator[None]:
    """Shut a socket down when the time is over: a read from it ends then, even if single bytes keep coming.

    Raises
    ------
    TimeoutError
        If it had to. What was read by then would pass for a head that ends there.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed meanwhile: nothing is read from it any more

    timer = threading.Timer(after, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if late.is_set():
            raise TimeoutError


class _Timed(HTTPConnection):
    """A connection on which the head of an answer has to arrive whole within the read timeout."""

    def getresponse(self) -> Any:
        with _cut_off(self.sock, self.timeout or 0.0):
            return super().getresponse()


class _SecureTimed(HTTPSConnection):
    """The same with TLS."""

    def getresponse(self) -> Any:
        with _cut_off(self.sock, self.timeout or 0.0):
            return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Timed


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureTimed

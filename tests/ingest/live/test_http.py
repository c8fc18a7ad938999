"""A session whose every request ends, with an answer or with an error that says what to do."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import ClockSkew, Refused, Transient
from backsight_ingest.live.http import Limits, Session, json_body
from backsight_ingest.live.limiter import Limiter

NOW = datetime(2024, 5, 17, 12, 0, tzinfo=UTC)
LIMITS = Limits(idle=timedelta(seconds=0.3), total=timedelta(seconds=0.6), largest=1000)


class Fixed(Clock):
    """A clock that stands still for those who ask the time of day."""

    def now(self) -> datetime:
        return NOW


Talk = Callable[[socket.socket, threading.Event], None]


@contextmanager
def served(talk: Talk) -> Iterator[str]:
    """Yield the address of a server that says to each caller what it is told to, byte by byte."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            while not over.is_set():
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller, suppress(OSError):
                    caller.recv(65536)
                    talk(caller, over)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/path?api_key=hunter2hunter2"
        finally:
            over.set()
            with suppress(OSError):
                socket.create_connection(server.getsockname()).close()
            thread.join()


def answer(body: bytes = b"{}", *, status: str = "200 OK", length: int | None = None, **headers: str) -> Talk:
    """Return a talk that gives one whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    return lambda caller, over: caller.sendall(head + body)


def drip(head: bytes, drop: bytes) -> Talk:
    """Return a talk that never pauses for long and never ends."""

    def talk(caller: socket.socket, over: threading.Event) -> None:
        caller.sendall(head)
        while not over.wait(0.05):
            caller.sendall(drop)

    return talk


def silent(head: bytes = b"") -> Talk:
    """Return a talk that breaks off without hanging up."""

    def talk(caller: socket.socket, over: threading.Event) -> None:
        caller.sendall(head)
        over.wait(5)

    return talk


def session(clock: Clock | None = None) -> Session:
    clock = clock or Fixed()
    return Session(clock, Limiter(clock), interval=timedelta(0), check=json_body, limits=LIMITS)


def test_an_answer_within_limits_is_handed_on() -> None:
    with served(answer(b'{"a": 1}', Date="Fri, 17 May 2024 12:00:30 GMT")) as url:
        asked = session()
        assert asked.get(url).json() == {"a": 1}
        assert asked.ahead == timedelta(seconds=30)
        # The server's clock is ahead, so ours says what is past.
        assert asked.settled_now() == NOW


def test_what_is_past_is_past_by_both_clocks() -> None:
    with served(answer(Date="Fri, 17 May 2024 11:59:00 GMT")) as url:
        asked = session()
        asked.get(url)
        assert asked.settled_now() == NOW - timedelta(minutes=1)


def test_a_cached_answer_is_as_old_as_its_cache_says() -> None:
    with served(answer(Date="Fri, 17 May 2024 11:00:00 GMT", Age="3600")) as url:
        asked = session()
        asked.get(url)
        assert asked.ahead == timedelta(0)


GZIP = gzip.compress(b" " * 100_000)

PASSING = {
    "status 500": (answer(status="500 Oops"), "status 500 Oops"),
    "status 418, a ban": (answer(status="418 I'm a teapot"), "status 418"),
    "html": (answer(b"<html>Just a moment</html>"), "no whole JSON document"),
    "cut JSON": (answer(b'{"a": [1, 2'), "no whole JSON document"),
    "empty": (answer(b""), "no whole JSON document"),
    "short body": (answer(b'{"a": 1}', length=100), "IncompleteRead|bytes read"),
    "silence": (silent(), "no answer in time"),
    "reset": (lambda caller, over: None, "Remote end closed connection|reset"),
    "a head without end": (drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), "closed|reset|no answer|bytes read|got more"),
    "a body without end": (drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b" "), "not whole after"),
    "a silent body": (silent(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), "no answer in time"),
}


@pytest.mark.parametrize(("talk", "reason"), PASSING.values(), ids=PASSING)
def test_what_may_pass_is_transient_and_comes_in_time(talk: Talk, reason: str) -> None:
    with served(talk) as url:
        clock = Fixed()
        begun = clock.elapsed()
        with pytest.raises(Transient, match=reason) as caught:
            session(clock).get(url)
        assert clock.elapsed() - begun < timedelta(seconds=20)
    assert "hunter2" not in str(caught.value)
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", 7),
        ("Fri, 17 May 2024 12:00:40 GMT", 30),
        ("Fri, 17 May 2024 11:00:00 GMT", 0),
        ("soon", None),
    ],
)
def test_the_wait_that_a_server_asks_for_is_understood(header: str, wait: float | None) -> None:
    # The date is the server's, whose clock is ten seconds ahead of ours.
    talk = answer(status="429 Too Many", Retry_After=header, Date="Fri, 17 May 2024 12:00:10 GMT")
    with served(talk) as url, pytest.raises(Transient) as caught:
        session().get(url)
    assert caught.value.retry_after == (None if wait is None else timedelta(seconds=wait))


REFUSED = {
    "too large": answer(b" " * 1001),
    "a bomb": answer(GZIP, Content_Encoding="gzip"),
    "redirects without end": answer(status="302 Found", Location="/path?api_key=hunter2hunter2"),
}


@pytest.mark.parametrize("talk", REFUSED.values(), ids=REFUSED)
def test_what_will_not_pass_is_refused(talk: Talk) -> None:
    with served(talk) as url, pytest.raises(Refused) as caught:
        session().get(url)
    assert "hunter2" not in str(caught.value)


def test_no_address_is_refused_without_its_query() -> None:
    with pytest.raises(Refused) as caught:
        session().get("ftp://example.org/file?api_key=hunter2hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("stamp", ["Fri, 17 May 2024 12:02:01 GMT", "Fri, 17 May 2024 11:57:59 GMT"])
def test_clocks_that_disagree_end_the_job(stamp: str) -> None:
    with served(answer(Date=stamp)) as url, pytest.raises(ClockSkew, match="ours 2024-05-17T12:00:00Z"):
        session().get(url)


def test_a_refusal_of_the_server_is_left_to_the_client() -> None:
    with served(answer(b'{"error": "no such symbol"}', status="400 Bad Request")) as url:
        assert session().get(url).status_code == 400

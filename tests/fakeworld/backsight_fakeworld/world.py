"""The world: a clock, the sources on it, the script of faults, and the log of what was asked."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Protocol, Self

from backsight_fakeworld.clock import Clock
from backsight_fakeworld.control import Control
from backsight_fakeworld.exchange import Exchange
from backsight_fakeworld.faults import Fault, Script
from backsight_fakeworld.fred import Fred
from backsight_fakeworld.fredgraph import Fredgraph
from backsight_fakeworld.messages import Answer, Request, json_document
from backsight_fakeworld.news import News
from backsight_fakeworld.reddit import Reddit
from backsight_fakeworld.server import Reply, Server

DEFAULT_NOW: Final = datetime(2024, 5, 15, 10, 17, 23, tzinfo=UTC)


class Source(Protocol):
    """Something that answers requests."""

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the source's prefix, as at an instant."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A request that was made.

    Parameters
    ----------
    at : float
        Real time, in seconds, by a clock that only moves on.
    now : datetime
        The world's time.
    fault : str or None
        The name of the fault that it met.
    """

    at: float
    now: datetime
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    fault: str | None


class FakeWorld:
    """Exchanges, Reddit, news and FRED; a context manager that serves them on one port of loopback.

    What they say is a function of the seed, of now, and of what was changed on them (`exchange.close`...).

    Parameters
    ----------
    seed : int
        Another seed, another world.
    now : datetime or None
        Where the world's clock stands; ``None`` lets it follow the real time.
    port : int
        0 for any that is free.

    Attributes
    ----------
    log : list of Hit
        What was asked, in order.
    exchange, reddit, news, fred
        The sources, and the truth about them.
    """

    def __init__(self, seed: int = 7, now: datetime | None = DEFAULT_NOW, *, port: int = 0) -> None:
        self._clock = Clock(now)
        self._script = Script()
        self.log: list[Hit] = []
        self.exchange = Exchange(seed, self._clock)
        self.reddit = Reddit(seed, self._clock)
        self.news = News(seed, self._clock)
        self.fred = Fred(seed, self._clock)
        self._sources: dict[str, Source] = {
            **self.exchange.venues,
            "reddit": self.reddit,
            "news": self.news.feeds,
            "newsapi": self.news.newsapi,
            "gdelt": self.news.gdelt,
            "fred": self.fred,
            "fredgraph": Fredgraph(seed),
        }
        self._control = Control(self._clock, self._script, self.log)
        self._port = port
        self._server: Server | None = None
        self._last: dict[str, Answer] = {}

    def __enter__(self) -> Self:
        self._server = Server(self._port, self._reply)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def url(self) -> str:
        """Where it listens, once it is entered: ``http://127.0.0.1:PORT``."""
        if self._server is None:
            raise RuntimeError("the world listens within a with statement only")
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def now(self) -> datetime:
        """The world's time."""
        return self._clock.now

    @now.setter
    def now(self, now: datetime) -> None:
        self._clock.now = now

    def advance(self, by: timedelta) -> None:
        """Move the world's time on."""
        self._clock.advance(by)

    def fault(self, prefix: str, fault: Fault, *, times: int = 1, skip: int = 0) -> None:
        """Let requests whose path begins so meet a fault.

        Faults for the same requests come in the order in which they were asked for.

        Parameters
        ----------
        prefix : str
            Of the whole path: ``"/kraken/0/public/OHLC"``, ``"/reddit/r/"``, ``"/"``.
        fault : Fault
            What goes wrong.
        times : int
            How many requests meet it; -1 for all.
        skip : int
            How many requests pass before.
        """
        self._script.add(prefix, fault, times, skip)

    def clear(self) -> None:
        """Forget the faults that have not happened, and the log."""
        self._script.clear()
        self.log.clear()

    def hits(self, prefix: str) -> list[Hit]:
        """Return the requests whose path begins so."""
        return [hit for hit in self.log if hit.path.startswith(prefix)]

    def _reply(self, request: Request) -> Reply:
        now = self.now
        if request.path.startswith("/_"):
            return Reply(answer=self._control.answer(request), fault=None, now=now)
        fault = self._script.take(request.path)
        self.log.append(
            Hit(
                at=time.monotonic(),
                now=now,
                method=request.method,
                path=request.path,
                query=request.query,
                headers=request.headers,
                fault=None if fault is None else fault.name,
            )
        )
        first, _, rest = request.path.removeprefix("/").partition("/")
        source = self._sources.get(first)
        if source is None:
            known = ", ".join(f"/{name}" for name in self._sources)
            answer = json_document({"error": f"nothing is served under /{first}; there is {known}"}, status=404)
        else:
            seen = now if fault is None else now + fault.content_shift
            answer = source.answer(replace(request, path=f"/{rest}"), seen)
        last = self._last.get(request.path, answer)
        self._last[request.path] = answer
        return Reply(answer=last if fault is not None and fault.again else answer, fault=fault, now=now)

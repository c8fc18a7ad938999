"""What the tests of live sources share: a world made up, its clock, and a way to it on which no wait takes time."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backsight_fakeworld import FakeWorld
from backsight_features.lake import Lake
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.http import Limits
from backsight_ingest.live.limiter import Limiter
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web

NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)


class WorldClock(Clock):
    """The clock of a made-up world: waiting moves the world on, and takes no time."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__()
        self._world = world
        self._waited = timedelta(0)
        self.waits: list[timedelta] = []

    def now(self) -> datetime:
        return self._world.now

    def elapsed(self) -> timedelta:
        # What a slow server takes is real; what is waited for is not.
        return timedelta(seconds=time.monotonic()) + self._waited

    def sleep(self, length: timedelta) -> None:
        self.waits.append(length)
        self._waited += length
        self._world.now += length
        super().sleep(timedelta(0))


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    """Return a world at 2024-05-17 12:30:20 UTC, served on loopback."""
    with FakeWorld(seed=7, now=NOW) as world:
        yield world


@pytest.fixture
def clock(world: FakeWorld) -> WorldClock:
    """Return the world's clock."""
    return WorldClock(world)


@pytest.fixture
def told() -> list[str]:
    """Return what the retry policy said."""
    return []


@pytest.fixture
def make_web(world: FakeWorld, clock: WorldClock, told: list[str]) -> Callable[..., Web]:
    """Return a maker of ways to the world; requests are given up after half a second."""

    def make(**limits: object) -> Web:
        short = {"idle": timedelta(seconds=0.25), "total": timedelta(seconds=0.5), "largest": 4 * 2**20}
        return Web(
            clock=clock,
            retry=Retry(clock, tell=told.append),
            limiter=Limiter(clock),
            limits=Limits(**{**short, **limits}),  # type: ignore[arg-type]
            endpoint=world.url,
        )

    return make


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    """Return a way to the world."""
    return make_web()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return an empty lake."""
    return Lake(tmp_path / "lake")

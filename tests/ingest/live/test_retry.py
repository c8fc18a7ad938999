"""The one retry policy, on a clock that only notes how long it was asked to wait."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.limiter import Limiter
from backsight_ingest.live.retry import Retry


class Noting(Clock):
    """A clock that goes on only while it is waited on."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def now(self) -> datetime:
        return datetime(2024, 1, 1, tzinfo=UTC) + self.elapsed()

    def elapsed(self) -> timedelta:
        return timedelta(seconds=sum(self.waits))

    def sleep(self, length: timedelta) -> None:
        self.waits.append(length.total_seconds())


class Source:
    """Fails with the errors it is given, one a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(1)


def test_waits_double_with_jitter() -> None:
    clock, told = Noting(), []
    source = Source(*(Transient("not now") for _ in range(5)))
    assert Retry(clock, tell=told.append)(source) == "answer"
    assert source.calls == 6
    for wait, full in zip(clock.waits, [1, 2, 4, 8, 16], strict=True):
        assert full / 2 <= wait <= full
    assert told[0].startswith("not now; asking again in")


def test_the_server_s_wait_is_kept() -> None:
    clock = Noting()
    Retry(clock)(Source(Transient("busy", retry_after=timedelta(seconds=30))))
    assert 30 <= clock.waits[0] <= 30.1


@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        ({"attempts": 3}, 3),
        ({"deadline": timedelta(seconds=0)}, 1),
        ({"budget": timedelta(seconds=0)}, 1),
    ],
)
def test_it_gives_up_with_the_last_error(policy: dict[str, timedelta], calls: int) -> None:
    source = Source(*(Transient(f"error {i}") for i in range(9)))
    with pytest.raises(Transient, match=f"error {calls - 1}"):
        Retry(Noting(), **policy)(source)
    assert source.calls == calls


def test_no_wait_is_begun_that_would_outlast_the_deadline() -> None:
    clock = Noting()
    with pytest.raises(Transient):
        Retry(clock, deadline=timedelta(minutes=5))(Source(Transient("busy", retry_after=timedelta(hours=1))))
    assert clock.waits == []


def test_the_budget_is_that_of_all_calls() -> None:
    clock = Noting()
    retry = Retry(clock, budget=timedelta(seconds=70))
    minute = timedelta(seconds=60)
    assert retry(Source(Transient("busy", retry_after=minute))) == "answer"
    with pytest.raises(Transient):
        retry(Source(Transient("busy", retry_after=minute)))


def test_what_will_not_pass_is_not_repeated() -> None:
    source = Source(Refused("no"))
    with pytest.raises(Refused):
        Retry(Noting())(source)
    assert source.calls == 1


def test_requests_to_one_host_keep_their_distance() -> None:
    clock = Noting()
    limiter = Limiter(clock)
    for host in ("a", "a", "b", "a"):
        limiter.wait(host, timedelta(seconds=2))
    assert clock.waits == [2, 2]


def test_what_is_left_of_a_budget_is_spread_over_its_time() -> None:
    clock = Noting()
    limiter = Limiter(clock)
    limiter.note("a", {"x-ratelimit-remaining": "10.0", "x-ratelimit-reset": "50"})
    limiter.wait("a", timedelta(0))
    assert clock.waits == [5]


def test_a_host_that_wants_a_long_rest_is_left_to_the_next_run() -> None:
    clock = Noting()
    limiter = Limiter(clock)
    limiter.note("a", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "600"})
    with pytest.raises(Transient, match="a allows no request for 600 s") as caught:
        limiter.wait("a", timedelta(0))
    assert caught.value.retry_after == timedelta(seconds=600)
    assert clock.waits == []


@pytest.mark.parametrize("headers", [{}, {"x-ratelimit-remaining": "many", "x-ratelimit-reset": "soon"}])
def test_headers_that_say_nothing_change_nothing(headers: dict[str, str]) -> None:
    clock = Noting()
    limiter = Limiter(clock)
    limiter.note("a", headers)
    limiter.wait("a", timedelta(0))
    assert clock.waits == []

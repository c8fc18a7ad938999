"""What several rooms of the tests share: the real data, a small world of facts, the check that nothing computed from
it sees the future, and real servers on free ports."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import UTC_US, to_us
from backsight_features.schemas import BARS, BOOKS, FACTS, MACRO, NEWS, POSTS, SCORES, Table
from backsight_features.texts import normalise, text_id

SHARED_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

Frames = Mapping[str, pl.DataFrame]
"""Facts by table name."""

START = datetime(2021, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def as_table(table: Table, columns: Mapping[str, object]) -> pl.DataFrame:
    """Return rows of a table; clocks are given as microseconds, and what is left out is filled in."""
    frame = pl.DataFrame(columns)
    clocks = {"observed_at", "available_at"} & set(frame.columns)
    frame = frame.with_columns(pl.col(name).cast(UTC_US) for name in clocks)
    filled = {
        "available_at_estimated": pl.lit(False),
        "source": pl.lit("test"),
        "ingested_at": pl.col("available_at"),
    }
    frame = frame.with_columns(**{name: value for name, value in filled.items() if name not in frame.columns})
    missing = {name: dtype for name, dtype in table.empty().schema.items() if name not in frame.columns}
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in missing.items()).select(
        pl.col(name).cast(dtype) for name, dtype in table.empty().schema.items()
    )


def make_bars(
    close: np.ndarray, *, start: datetime = START, step: timedelta = HOUR, seed: int = 0, lag: timedelta = HOUR / 240
) -> pl.DataFrame:
    """Return a bar per close, the first closing at ``start``; NaN leaves a gap."""
    rng = np.random.default_rng(seed)
    close = np.asarray(close, dtype=np.float64)
    before = np.append(close[:1], close[:-1])
    opened = np.where(np.isnan(before), close, before)
    observed = to_us(start) + np.arange(close.size) * (step // timedelta(microseconds=1))
    frame = as_table(
        BARS,
        {
            "venue": ["v"] * close.size,
            "symbol": ["BTC-USD"] * close.size,
            "timeframe": ["1h"] * close.size,
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(rng.uniform(0, 0.01, close.size)),
            "low": np.minimum(opened, close) * np.exp(-rng.uniform(0, 0.01, close.size)),
            "close": close,
            "volume": rng.lognormal(size=close.size),
            "observed_at": observed,
            "available_at": observed + lag // timedelta(microseconds=1),
        },
    )
    return frame.filter(pl.col("close").is_not_nan())


def random_walk(size: int, *, seed: int, gaps: float = 0.0) -> np.ndarray:
    """Return closes, NaN where a bar is missing."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(scale=0.01, size=size)))
    return np.where(rng.random(size) < gaps, np.nan, close)


def make_world(seed: int, hours: int = 400) -> dict[str, pl.DataFrame]:
    """Return facts of every kind: gaps, late and corrected bars, repeated and removed texts, revised numbers."""
    rng = np.random.default_rng(seed)
    close = random_walk(hours, seed=seed)
    for begin in rng.integers(30, hours - 10, 3):
        close[begin : begin + rng.integers(1, 8)] = np.nan
    bars = make_bars(close, seed=seed)
    late = pl.Series(rng.random(bars.height) < 0.02)
    delay = pl.duration(hours=pl.Series(rng.integers(1, 40, bars.height)))
    bars = bars.with_columns(available_at=pl.when(late).then(pl.col("available_at") + delay).otherwise("available_at"))
    corrected = bars.sample(5, seed=seed).with_columns(
        pl.col("close", "high") * 1.01,
        available_at=pl.col("available_at") + timedelta(hours=7),
    )
    bars = pl.concat([bars, corrected]).with_columns(ingested_at="available_at")

    first, last = to_us(START), to_us(START + hours * HOUR)
    texts = {}
    for table, key in ((NEWS, {}), (POSTS, {"site": "reddit", "channel": "bitcoin"})):
        size = 120
        said = np.sort(rng.integers(first, last, size))
        frame = as_table(
            table,
            {
                "id": [f"{table.name}{i}" for i in range(size)],
                "title": [f"Title {i % 90}" for i in range(size)],
                "text": [
                    None if i % 7 == 0 else "[removed]" if i % 11 == 0 else f"words {i % 90}" for i in range(size)
                ],
                "observed_at": said,
                "available_at": said + rng.integers(0, 5 * 3_600_000_000, size),
                **{name: [value] * size for name, value in key.items()},
            },
        )
        edited = frame.sample(15, seed=seed).with_columns(
            text=pl.lit("edited"), available_at=pl.col("available_at") + timedelta(hours=9)
        )
        texts[table.name] = pl.concat([frame, edited])
    said = pl.concat(texts.values(), how="diagonal")
    ids = (
        pl.concat(said.select("available_at", text=name) for name in ("title", "text"))
        .select("available_at", text_id=text_id(normalise(pl.col("text"))))
        .drop_nulls()
        .group_by("text_id")
        .agg(pl.col("available_at").min())
        .sort("text_id")
    )
    ids = ids.filter(pl.Series(rng.random(ids.height) < 0.9))
    verdicts = rng.dirichlet([1, 1, 1], ids.height)
    scores = as_table(
        SCORES,
        {
            "text_id": ids["text_id"],
            "scorer": ["lexicon"] * ids.height,
            "revision": ["1"] * ids.height,
            "p_positive": verdicts[:, 0],
            "p_negative": verdicts[:, 1],
            "p_neutral": verdicts[:, 2],
            "observed_at": ids["available_at"],
            "available_at": ids["available_at"],
        },
    )
    return {**texts, "bars": bars, "books": make_books(seed, hours), "scores": scores, "macro": make_macro(seed, hours)}


def make_books(seed: int, hours: int) -> pl.DataFrame:
    """Return looks at the order book, every hour and between: some late or corrected, some without depth, and a gap."""
    rng = np.random.default_rng(seed + 2)
    hour = HOUR // timedelta(microseconds=1)
    begin = int(rng.integers(10, hours - 40))
    each = np.setdiff1d(np.arange(hours), np.arange(begin, begin + 30))
    between = rng.choice(each, 2 * hours) * hour + rng.integers(1, hour, 2 * hours)
    at = to_us(START) + np.sort(np.append(each * hour, between))
    size = at.size
    middle = 100 * np.exp(np.cumsum(rng.normal(scale=0.005, size=size)))
    sizes = {name: rng.lognormal(size=size) for name in ("bid_size", "ask_size", "bid_depth", "ask_depth")}
    looks = as_table(
        BOOKS,
        {
            "venue": ["v"] * size,
            "symbol": ["BTC-USD"] * size,
            "bid": middle * (1 - rng.uniform(1e-5, 1e-4, size)),
            "ask": middle * (1 + rng.uniform(1e-5, 1e-4, size)),
            **{name: np.where(rng.random(size) < 0.05, 0.0, values) for name, values in sizes.items()},
            "reach_bp": [50.0] * size,
            "observed_at": at,
            "available_at": at + np.where(rng.random(size) < 0.05, rng.integers(1, 40 * hour, size), 0),
        },
    ).with_columns(pl.col("bid_size", "ask_size").clip(0.1))
    corrected = looks.sample(20, seed=seed).with_columns(
        pl.col("bid_depth") * 3,
        available_at=pl.col("available_at") + pl.duration(minutes=pl.Series(rng.integers(1, 90, 20))),
    )
    return pl.concat([looks, corrected]).with_columns(ingested_at="available_at")


def make_macro(seed: int, hours: int) -> pl.DataFrame:
    """Return daily and monthly numbers with revisions, in levels and in percent changes."""
    rng = np.random.default_rng(seed + 1)
    day = timedelta(days=1) // timedelta(microseconds=1)
    parts = []
    for series in ("DGS10", "VIXCLS", "FNG"):
        periods = to_us(START) - 60 * day + np.arange(60 + hours // 24) * day
        values = 20 + np.cumsum(rng.normal(size=periods.size))
        numbers = pl.Series(values).scatter([3, 20, 65], None)
        parts.append((series, "lin", periods, periods + day + 3_600_000_000 * 5, numbers))
    months = np.array([to_us(datetime(2018 + i // 12, 1 + i % 12, 1, tzinfo=UTC)) for i in range(40)])
    for series in ("CPIAUCSL", "UNRATE"):
        values = pl.Series(100 + np.arange(40) * 0.3 + rng.normal(size=40) * 0.1)
        parts.append((series, "lin", months, months + 40 * day, values))
        parts.append((series, "lin", months, months + 70 * day, values + 0.05))
    parts.append(("CPIAUCSL", "pch", months, months + 38 * day, pl.Series(rng.normal(0.2, 0.1, 40))))
    return pl.concat(
        as_table(
            MACRO,
            {
                "series": [series] * len(periods),
                "units": [units] * len(periods),
                "value": values,
                "observed_at": periods,
                "available_at": available,
            },
        )
        for series, units, periods, available, values in parts
    )


def tampered(facts: Frames, at: datetime, seed: int) -> dict[str, pl.DataFrame]:
    """Return the same facts up to an instant, and others after it: deleted, corrupted, moved and added ones."""
    rng = np.random.default_rng(seed)
    return {name: _tampered(FACTS[name], frame, at, rng) for name, frame in facts.items()}


def _tampered(table: Table, frame: pl.DataFrame, at: datetime, rng: np.random.Generator) -> pl.DataFrame:
    past = frame.filter(pl.col("available_at") <= at)
    future = frame.filter(pl.col("available_at") > at)
    kept = future.filter(pl.Series(rng.random(future.height) < 0.5, dtype=pl.Boolean))
    # Facts about the past may come in later too: corrections, late bars, revisions, copied texts.
    added = frame.sample(min(20, frame.height), with_replacement=True, seed=int(rng.integers(1 << 30)))
    changed = pl.concat([_corrupted(table, kept, rng), _corrupted(table, added, rng), added])
    delay = pl.Series(1 + rng.integers(0, 100 * 3_600_000_000, changed.height), dtype=pl.Int64).cast(pl.Duration("us"))
    moved = changed.with_columns(available_at=pl.lit(at, UTC_US) + delay).with_columns(
        ingested_at="available_at", observed_at=pl.min_horizontal("observed_at", "available_at")
    )
    return pl.concat([past, moved])


def _corrupted(table: Table, frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows that say something else about the same things, or about new things."""
    changes = {
        name: pl.col(name) * pl.Series(rng.uniform(0.5, 2, frame.height))
        for name in table.content
        if frame.schema[name] == pl.Float64
    }
    if table is NEWS or table is POSTS:
        changes["title"] = pl.format("other {}", pl.Series(rng.integers(0, 50, frame.height)))
        changes["id"] = pl.when(pl.Series(rng.random(frame.height) < 0.5)).then("id").otherwise(pl.col("id") + "x")
    if table is MACRO:
        changes["units"] = pl.when(pl.Series(rng.random(frame.height) < 0.3)).then(pl.lit("pch")).otherwise("units")
        changes["observed_at"] = pl.col("observed_at") + pl.duration(
            days=pl.Series(rng.integers(0, 3, frame.height)) * 31
        )
    return frame.with_columns(**changes)


def seen(
    build: Callable[[Frames], pl.DataFrame], facts: Frames, instants: Iterable[datetime]
) -> Iterator[tuple[datetime, str]]:
    """Yield each instant and column in which a build saw what became known later; nothing for an honest build.

    Parameters
    ----------
    build : callable
        From facts to a frame with ``available_at``.
    facts : mapping of str to pl.DataFrame
        Facts by table name.
    instants : iterable of datetime
        Facts available later than each are changed; rows available by then must not be, to the last bit.
    """
    honest = build(facts).sort("available_at")
    for number, at in enumerate(instants):
        before = honest.filter(pl.col("available_at") <= at)
        after = build(tampered(facts, at, number)).filter(pl.col("available_at") <= at).sort("available_at")
        if before.height != after.height:
            yield at, "rows"
            continue
        for name in before.columns:
            if not before[name].equals(after[name], null_equal=True, check_dtypes=True):
                yield at, name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, the journey before all: nobody should be left waiting for one at the end."""
    items.sort(key=lambda item: (item.path.name != "test_journey.py", "model" not in item.path.parts))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not part of the project")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tamper() -> Callable[..., dict[str, pl.DataFrame]]:
    """Return `tampered`."""
    return tampered


@pytest.fixture(scope="session")
def world() -> Callable[..., dict[str, pl.DataFrame]]:
    """Return `make_world`."""
    return make_world


@pytest.fixture(scope="session")
def futures_seen() -> Callable[..., Iterator[tuple[datetime, str]]]:
    """Return `seen`."""
    return seen


@pytest.fixture(scope="session")
def bars_of() -> Callable[..., pl.DataFrame]:
    """Return `make_bars`."""
    return make_bars


@pytest.fixture(scope="session")
def walk() -> Callable[..., np.ndarray]:
    """Return `random_walk`."""
    return random_walk


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., pl.DataFrame]:
    """Return `as_table`."""
    return as_table


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def answers(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """An S3-compatible server: a bucket on it, and the variables by which a process finds it."""

    endpoint: str
    bucket: str
    environment: Mapping[str, str]


def _free_address() -> Address:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Address(host="127.0.0.1", port=probe.getsockname()[1])


def _as(user: str | None) -> dict[str, Any]:
    """Return the arguments by which a program runs as another user, or as this one."""
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextmanager
def _serving(command: list[str], ready: Callable[[], bool], folder: Path, user: str | None = None) -> Iterator[None]:
    """Run a server until the end of the context; it begins when the server is ready."""
    log = folder / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, **_as(user)) as server,
    ):
        try:
            deadline = datetime.now(UTC) + timedelta(minutes=1)
            while not ready():
                assert datetime.now(UTC) < deadline, f"{command[0]} does not answer: {log.read_text()}"
                with suppress(subprocess.TimeoutExpired):
                    raise AssertionError(f"{command[0]} ended with {server.wait(timeout=0.05)}: {log.read_text()}")
            yield
        finally:
            # The fast shutdown of PostgreSQL; the others end by it too.
            server.send_signal(signal.SIGINT)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """Return where a redis-server listens that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs redis-server (Debian: apt-get install redis-server)")
    address = _free_address()
    settings = {"bind": address.host, "port": str(address.port), "save": "", "appendonly": "no"}
    command = [program, *(part for name, value in settings.items() for part in (f"--{name}", value))]
    with _serving(command, address.answers, tmp_path_factory.mktemp("redis")):
        yield address


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Return the SQLAlchemy URL of an empty PostgreSQL database."""
    import psycopg

    # Debian keeps them out of the search path.
    folders = [*Path("/usr/lib/postgresql").glob("*/bin")]
    program = shutil.which("postgres", path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))
    if program is None:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    # It refuses to run as root, and an ordinary user cannot reach into pytest's folders of root.
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = None if os.getuid() else "postgres" if "postgres" in names else "nobody"
    address, password = _free_address(), uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as created:
        folder = Path(created)
        (folder / "password").write_text(password)
        if user is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        initdb = str(Path(program).with_name("initdb"))
        settings = ["--username=backsight", "--auth=scram-sha-256", "--pwfile=password", "--no-sync", "--encoding=UTF8"]
        subprocess.run(
            [initdb, "--pgdata=data", *settings], cwd=folder, check=True, stdout=subprocess.DEVNULL, **_as(user)
        )
        options = {"listen_addresses": address.host, "port": address.port, "unix_socket_directories": "", "fsync": 0}
        command = [program, "-D", "data", *(part for item in options.items() for part in ("-c", "{}={}".format(*item)))]
        url = f"postgresql://backsight:{password}@{address}/postgres"

        def ready() -> bool:
            # It listens before it lets anybody in.
            try:
                psycopg.connect(url, connect_timeout=5).close()
            except psycopg.OperationalError:
                return False
            return True

        with _serving(command, ready, folder, user):
            yield url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Return an S3-compatible server with a bucket."""
    import boto3

    address = _free_address()
    # One request at a time: that a conditional put is one step is what its clients rely on.
    script = (
        "import sys; from moto.server import DomainDispatcherApplication, create_backend_app;"
        "from werkzeug.serving import run_simple;"
        "run_simple(sys.argv[1], int(sys.argv[2]), DomainDispatcherApplication(create_backend_app), threaded=False)"
    )
    command = [sys.executable, "-c", script, address.host, str(address.port)]
    with _serving(command, address.answers, tmp_path_factory.mktemp("s3")):
        environment = {
            "AWS_ENDPOINT_URL": f"http://{address}",
            "AWS_ACCESS_KEY_ID": "backsight",
            "AWS_SECRET_ACCESS_KEY": uuid.uuid4().hex,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_REGION"],
        ).create_bucket(Bucket="team")
        yield ObjectStore(endpoint=environment["AWS_ENDPOINT_URL"], bucket="team", environment=environment)


@pytest.fixture
def s3_root(s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty place on the object store, which this process finds by its environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{uuid.uuid4().hex}"

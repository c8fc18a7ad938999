"""Publishing to real online stores: never back in time, corrections, expiry, and what it costs."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import polars as pl
import pytest
import redis
from backsight_features import delta
from backsight_features.building.record import Record, metadata
from backsight_features.errors import BadInput, SourceError
from backsight_features.online import connect
from backsight_features.online.feast_format import bytes_value, entity_key, hash_field, stamp_field
from backsight_features.online.redis_shelf import RedisShelf, Replacement
from deltalake import DeltaTable
from redis.backoff import ConstantBackoff
from redis.retry import Retry

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAG = timedelta(seconds=15)
KINDS = pytest.mark.parametrize("kind", ["sqlite", "redis"])


def outcome(store: Any, at: datetime) -> str:
    [window] = store.publish("price_1h", length=2, at=at).windows
    return str(window.outcome)


@KINDS
def test_never_back_in_time_and_a_correction_wins(small_repo: Callable[..., Any], kind: str) -> None:
    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    now = T0 + 5 * HOUR
    with connect(repo.where, project=repo.project) as reader:

        def newest() -> list[float]:
            light = reader.window("price_1h", "BTC-USD", at=now)
            whole = store.online("price_1h", "BTC-USD", at=now)
            assert light.values.tobytes() == whole.values.tobytes()
            response = store._feast.get_online_features(["price_1h_window:packed"], [{"symbol": "BTC-USD"}])
            [stamp] = response.proto.results[1].event_timestamps
            assert stamp.ToDatetime(tzinfo=UTC) == light.available_at
            last: list[float] = light.values[-1].tolist()
            return last

        repo.one(4)
        assert outcome(store, now) == "written"
        assert outcome(store, now) == outcome(store, now + HOUR) == "unchanged"
        repo.one(3, ret=8.0)
        assert outcome(store, now) == "kept"
        assert newest() == [1, 1]
        repo.one(4, ret=2.0)
        assert outcome(store, now) == "corrected"
        assert newest() == [2, 1]
        # The same close, corrected within the second of the first state.
        table = DeltaTable(str(repo.workspace.root / "features" / "market_1h"))
        states = pl.DataFrame(pl.from_arrow(table.to_pyarrow_table())).with_columns(sent_y=pl.lit(1.0, pl.Float32))
        later = states.with_columns(pl.col("available_at") + timedelta(milliseconds=1), ret=pl.lit(3.0, pl.Float32))
        repo.write(pl.concat([states, later]))
        assert outcome(store, now) == "written"
        light = reader.window("price_1h", "BTC-USD", at=now)
        assert light.values[-1].tolist() == [3, 1]
        assert light.available_at == T0 + 4 * HOUR + LAG + timedelta(milliseconds=1)
        assert outcome(store, T0 + 4 * HOUR + LAG) == "kept"
        assert reader.window("price_1h", "BTC-USD", at=now).values[-1].tolist() == [3, 1]


@pytest.fixture
def shelf(redis_server: Any, small_repo: Callable[..., Any]) -> tuple[RedisShelf, redis.Redis, bytes]:
    repo = small_repo("redis")
    server = redis.Redis(host=redis_server.host, port=redis_server.port)
    return RedisShelf(repo.where, repo.project), server, entity_key("A") + repo.project.encode()


def test_a_replacement_happens_only_in_place_of_what_was_read(shelf: tuple[RedisShelf, redis.Redis, bytes]) -> None:
    redis_shelf, server, key = shelf
    packed, contract = hash_field("view", "packed"), hash_field("view", "contract")

    def replace(before: bytes, value: bytes) -> bool:
        one = Replacement(symbol="A", before=before, packed=value, contract=b"c" + value, available_at=T0)
        [written] = redis_shelf.replace("view", [one])
        return written

    assert not replace(b"something", b"first")
    assert server.exists(key) == 0
    assert replace(b"", b"first")
    assert not replace(b"", b"second")
    assert not replace(b"firsts", b"second")
    assert not replace(b"fist", b"second")
    assert server.hmget(key, packed, contract) == [b"first", b"cfirst"]
    assert replace(b"fir", b"second")
    assert server.hgetall(key) == {
        packed: b"second",
        contract: b"csecond",
        stamp_field("view"): b"\x08\x80\x81\xc8\xac\x06",
    }
    assert server.ttl(key) == -1
    server.hset(key, packed, b"")
    assert replace(b"", b"third")


def test_what_expires_in_feast_expires(small_repo: Callable[..., Any], redis_server: Any) -> None:
    repo = small_repo("redis", key_ttl_seconds=500)
    store = repo.store()
    store.apply()
    repo.one(4)
    assert outcome(store, T0 + 5 * HOUR) == "written"
    server = redis.Redis(host=redis_server.host, port=redis_server.port)
    assert 0 < server.ttl(entity_key("BTC-USD") + repo.project.encode()) <= 500


def test_a_damaged_window_is_replaced(small_repo: Callable[..., Any], redis_server: Any) -> None:
    repo = small_repo("redis")
    store = repo.store()
    store.apply()
    repo.one(4)
    at = T0 + 5 * HOUR
    assert outcome(store, at) == "written"
    server = redis.Redis(host=redis_server.host, port=redis_server.port)
    key, field = entity_key("BTC-USD") + repo.project.encode(), hash_field("price_1h_window", "packed")
    whole = server.hget(key, field)
    assert isinstance(whole, bytes)
    for damaged in (whole[:-1] + b"!", whole[:40], b"", bytes_value(b"other"), b"\x12\x01a"):
        server.hset(key, field, damaged)
        assert outcome(store, at) == "written"
        assert server.hget(key, field) == whole


def test_redis_needs_no_lock(small_repo: Callable[..., Any]) -> None:
    repo = small_repo("redis")
    store = repo.store()
    store.apply()
    repo.one(4)
    with filelock.FileLock(repo.workspace.online / "publish.lock"):
        assert outcome(store, T0 + 5 * HOUR) == "written"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Return where a Redis cluster of one server listens."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs redis-server (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1] % 50_000 + 5_000
    settings = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--cluster-enabled", "yes"]
    with subprocess.Popen([program, *settings], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            waiting = Retry(ConstantBackoff(0.05), 200)
            server = redis.Redis(host="127.0.0.1", port=port, retry=waiting)
            server.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in server.execute_command("CLUSTER", "INFO"):
                assert process.poll() is None
            yield "127.0.0.1", port
        finally:
            process.terminate()


def test_a_cluster_is_published_to_through_feast_and_a_dropped_correction_is_an_error(
    small_repo: Callable[..., Any], cluster: tuple[str, int]
) -> None:
    where = "{}:{}".format(*cluster)
    repo = small_repo("redis", redis_type="redis_cluster", connection_string=where)
    store = repo.store()
    store.apply()
    repo.one(4)
    now = T0 + 6 * HOUR
    assert outcome(store, now) == "written"
    assert outcome(store, now) == "unchanged"
    repo.one(4, ret=2.0)
    with pytest.raises(SourceError, match="did not take the price_1h_window of BTC-USD"):
        outcome(store, now)
    repo.one(5, ret=3.0)
    assert outcome(store, now) == "written"
    assert store.online("price_1h", "BTC-USD", at=now).values[-1].tolist() == [3, 1]
    assert connect(where, project=repo.project).window("price_1h", "BTC-USD", at=now).values[-1].tolist() == [3, 1]


@pytest.fixture
def sentinel(tmp_path: Path, redis_server: Any) -> Iterator[str]:
    """Return where a sentinel listens that watches the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "sentinel.conf"
    settings.write_text(
        f"bind 127.0.0.1\nport {port}\nsentinel monitor mymaster {redis_server.host} {redis_server.port} 1\n"
    )
    command = [str(shutil.which("redis-server")), str(settings), "--sentinel"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            watching = redis.Redis(host="127.0.0.1", port=port, retry=Retry(ConstantBackoff(0.05), 200))
            assert watching.ping()
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def test_a_server_behind_sentinels_is_published_to_through_feast(
    small_repo: Callable[..., Any], sentinel: str, redis_server: Any
) -> None:
    repo = small_repo("redis", redis_type="redis_sentinel", connection_string=sentinel)
    store = repo.store()
    store.apply()
    now = T0 + 6 * HOUR
    for hours, value in ((4, 1.0), (5, 3.0)):
        repo.one(hours, ret=value)
        assert outcome(store, now) == "written"
        assert store.online("price_1h", "BTC-USD", at=now).values[-1].tolist() == [value, 1]
    direct = connect(str(redis_server), project=repo.project)
    assert direct.window("price_1h", "BTC-USD", at=now).values[-1].tolist() == [3, 1]


def test_a_server_that_is_away_is_an_error(small_repo: Callable[..., Any]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    repo = small_repo("redis", connection_string=f"127.0.0.1:{port},password=0123456789")
    store = repo.store()
    store.apply()
    repo.one(4)
    for use in (
        lambda: store.publish("price_1h", length=2, at=T0 + 5 * HOUR),
        lambda: store.online("price_1h", "BTC-USD", at=T0 + 5 * HOUR),
    ):
        with pytest.raises(SourceError, match="refused") as raised:
            use()
        assert "0123456789" not in str(raised.value)


def test_only_the_end_of_the_tables_is_read(small_repo: Callable[..., Any]) -> None:
    """The files of old states are gone: whoever looked into them would fail."""
    repo = small_repo("sqlite")
    store = repo.store()
    store.apply()
    states = repo.states("A", "B", hours=400)
    border = T0 + 300 * HOUR
    repo.write(states.filter(pl.col("available_at") < border))
    old = {
        name: DeltaTable(str(repo.workspace.root / "features" / name)).file_uris() for name in ("market_1h", "text_1h")
    }
    repo.write(states.filter(pl.col("available_at") >= border), mode="append")
    at = T0 + 400 * HOUR
    asked = pl.DataFrame({"symbol": ["A", "B"], "at": [at] * 2}).cast({"at": pl.Datetime("us", "UTC")})
    expected = store.windows("forecast_1h", ["A", "B"], asked, length=24).gather()
    for files in old.values():
        for file in files:
            Path(file.removeprefix("file://").replace("%20", " ")).unlink()
    published = store.publish("forecast_1h", length=24, at=at)
    assert [window.outcome for window in published.windows] == ["written", "written"]
    got = store.online("forecast_1h", ["A", "B"], at=at, max_age=timedelta(days=9), unfit="null")
    for window, values in zip(got, expected, strict=True):
        refused = [name in refusal.features for name in window.features for refusal in window.refused] or [False] * 3
        np.testing.assert_array_equal(window.values, np.where(refused, np.nan, values))
    with pytest.raises(Exception, match=r"No such file|not found"):
        store.publish("forecast_1h", length=24, at=T0 + 200 * HOUR)


def test_a_symbol_that_ended_long_ago_is_left_as_it_is_and_facts_that_all_did_are_found(
    small_repo: Callable[..., Any],
) -> None:
    repo = small_repo("sqlite")
    store = repo.store()
    store.apply()
    states = repo.states("A", "B", hours=100)
    repo.write(states.filter((pl.col("symbol") == "B") | (pl.col("available_at") < T0 + 10 * HOUR)))
    ended = store.publish("price_1h", length=4, at=T0 + 10 * HOUR)
    assert [window.symbol for window in ended.windows] == ["A", "B"]
    again = store.publish("price_1h", length=4, at=T0 + 90 * HOUR)
    assert [window.symbol for window in again.windows] == ["B"]
    assert store.online("price_1h", "A", at=T0 + 10 * HOUR, unfit="null").symbol == "A"
    for years in (1, 30, 400):
        late = store.publish("price_1h", length=4, at=T0 + years * timedelta(days=365))
        assert late.windows[-1].symbol == "B"
        assert late.windows[-1].observed_at >= T0 + 90 * HOUR
    with pytest.raises(BadInput, match="no features known at 1990-01-01"):
        store.publish("price_1h", length=4, at=datetime(1990, 1, 1, tzinfo=UTC))


def test_a_symbol_that_was_built_and_went_silent_is_named(small_repo: Callable[..., Any]) -> None:
    repo = small_repo("sqlite")
    store = repo.store()
    store.apply()
    states = repo.states("A", "B", hours=100)
    repo.write(states.filter((pl.col("symbol") == "B") | (pl.col("available_at") < T0 + 10 * HOUR)))
    assert store.publish("price_1h", length=4, at=T0 + 90 * HOUR).silent == ()
    record = Record(lake={}, ids={}, ingested_until=None, scorer="", code="")
    for name in ("market_1h", "text_1h"):
        table = DeltaTable(str(repo.workspace.root / "features" / name))
        series = dict.fromkeys([f"bitstamp:{symbol}:1h" for symbol in "AB"], record)
        delta.append(table, pl.from_arrow(table.to_pyarrow_table()).clear(), metadata=metadata(series))
    published = store.publish("price_1h", length=4, at=T0 + 90 * HOUR)
    assert [window.symbol for window in published.windows] == ["B"]
    assert published.silent == ("A",)
    assert store.publish("price_1h", length=4, at=T0 + 10 * HOUR).silent == ()


@pytest.mark.parametrize("length", [0, -1, 10**9, 10**15])
def test_a_length_that_cannot_be_is_refused(small_repo: Callable[..., Any], length: int) -> None:
    repo = small_repo("sqlite")
    store = repo.store()
    store.apply()
    repo.one(4)
    with pytest.raises(BadInput, match=f"a window of length {length}; it must be from 1 to 1000000"):
        store.publish("price_1h", length=length, at=T0 + 5 * HOUR)


@KINDS
def test_many_symbols_go_in_batches(small_repo: Callable[..., Any], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backsight_features.store.shelf._BATCH", 2)
    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    symbols = ["A", "B", "C", "D", "E"]
    repo.write(repo.states(*symbols, hours=20))
    at = T0 + 19 * HOUR + LAG
    store.publish("price_1h", length=3, at=at - 9 * HOUR)
    published = store.publish("price_1h", length=3, at=at)
    assert [(window.symbol, window.outcome) for window in published.windows] == [(name, "written") for name in symbols]
    asked = pl.DataFrame({"symbol": symbols, "at": [at] * 5}).cast({"at": pl.Datetime("us", "UTC")})
    expected = store.windows("price_1h", symbols, asked, length=3).gather()
    with connect(repo.where, project=repo.project) as reader:
        got = reader.windows("price_1h", symbols, at=at, max_age=timedelta(days=1))
    assert np.stack([window.values for window in got]).tobytes() == expected.tobytes()


def test_keys_of_another_version_are_refused(small_repo: Callable[..., Any]) -> None:
    repo = small_repo("redis")
    settings = repo.folder / "feature_store.yaml"
    settings.write_text(settings.read_text().replace("serialization_version: 3", "serialization_version: 4"))
    store = repo.store()
    store.apply()
    repo.one(4)
    with pytest.raises(BadInput, match="entity_key_serialization_version is 4; windows are published with version 3"):
        outcome(store, T0 + 5 * HOUR)

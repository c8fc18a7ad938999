"""Connecting without Feast: connection strings, secrets, and stores that are away, busy or damaged."""

import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from backsight_features.errors import BadInput, Busy, HeaderMismatch, Missing, SourceError
from backsight_features.online import Reader, connect
from backsight_features.online.feast_format import bytes_value, entity_key, hash_field
from backsight_features.online.sqlite_shelf import SqliteShelf

AT = datetime(2024, 1, 1, 3, 0, 15, tzinfo=UTC)
SECRET = "0123456789"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("redis://cache:6379", "a URL as connection string"),
        ("a:6379,b:6379", "connection string of 2 servers"),
        ("cache:6379,db=0,nonsense=1,password=0123456789", "nonsense"),
        (":6379", "does not begin with host:port"),
        ("password=0123456789,cache:6379,nonsense=1", "nonsense"),
        ("cache,password=0123456789", "no online store at cache,password"),
        ("no/such/online.db", "no online store at no/such/online.db.*run `backsight apply`"),
        (Path("localhost:6379"), "no online store at localhost:6379"),
    ],
)
def test_what_cannot_be_connected_to_is_said_without_secrets(where: str | Path, message: str) -> None:
    with pytest.raises(BadInput, match=message) as raised:
        connect(where, project="p")
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None or SECRET not in str(raised.value.__cause__)


@pytest.mark.parametrize("order", [1, -1])
def test_a_reader_names_its_server_and_no_secret(order: int) -> None:
    parts = ["cache:6379", "db=1", f"password={SECRET}", "username=me"]
    reader = connect(",".join(parts[::order]), project="p")
    assert repr(reader) == "Reader(<Redis at cache:6379, project p>)"


@pytest.fixture
def silent() -> Iterator[int]:
    """Return the port of a server that accepts and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_server_that_does_not_answer_is_an_error_in_time(silent: int) -> None:
    reader = connect(f"127.0.0.1:{silent},socket_timeout=0.05,password={SECRET}", project="p")
    with pytest.raises(SourceError, match=rf"Redis at 127.0.0.1:{silent}: Timeout") as raised:
        reader.window("price_1h", "A", at=AT)
    assert SECRET not in str(raised.value)
    limits = reader._shelf._client.connection_pool.connection_kwargs
    assert (limits["socket_timeout"], limits["socket_connect_timeout"]) == (0.05, 2.0)


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_a_server_that_does_not_answer_is_an_error_of_the_store_in_time(
    silent: int, small_repo: Callable[..., Any], kind: str
) -> None:
    where = f"127.0.0.1:{silent},socket_timeout=0.05"
    store = small_repo("redis", redis_type=kind, connection_string=where).store()
    store.apply()
    with pytest.raises(SourceError, match=rf"Timeout reading from 127.0.0.1:{silent}"):
        store.online("price_1h", "A", at=AT)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(SourceError, match=rf"Redis at 127.0.0.1:{port}: .*refused"):
        connect(f"127.0.0.1:{port}", project="p").window("price_1h", "A", at=AT)


def test_a_password_is_taken_as_it_is_written_and_a_wrong_one_is_not_shown(redis_server: Any) -> None:
    admin = redis.Redis(host=redis_server.host, port=redis_server.port)
    admin.execute_command("ACL", "SETUSER", "digits", "on", f">{SECRET}", "~*", "+@all")
    try:
        right = connect(f"{redis_server},username=digits,password={SECRET}", project="p")
        with pytest.raises(Missing, match="no price_1h window of 'A' is online"):
            right.window("price_1h", "A", at=AT)
        wrong = connect(f"{redis_server},username=digits,password={SECRET}9", project="p")
        with pytest.raises(SourceError, match="invalid username-password pair") as raised:
            wrong.window("price_1h", "A", at=AT)
        assert SECRET not in str(raised.value)
    finally:
        admin.execute_command("ACL", "DELUSER", "digits")


@pytest.fixture
def published(small_repo: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    repo = small_repo(request.param)
    store = repo.store()
    store.apply()
    repo.write(repo.states(*[f"S{i}" for i in range(30)], hours=4))
    store.publish("price_1h", length=3, at=AT)
    return repo


SYMBOLS = [f"S{i}" for i in range(30)]
LONG = timedelta(days=1)


@pytest.mark.parametrize("published", ["redis"], indirect=True)
def test_a_connection_that_the_server_closed_is_made_again(published: Any, redis_server: Any) -> None:
    reader = connect(published.where, project=published.project)
    before = reader.windows("price_1h", SYMBOLS, at=AT, unfit="null")
    admin = redis.Redis(host=redis_server.host, port=redis_server.port)
    admin.client_kill_filter(_type="normal", skipme=True)
    after = reader.windows("price_1h", SYMBOLS, at=AT, unfit="null")
    assert [w.values.tobytes() for w in after] == [w.values.tobytes() for w in before]


@pytest.mark.parametrize("published", ["redis"], indirect=True)
def test_an_error_in_the_middle_of_many_replies_leaves_nothing_behind(published: Any, redis_server: Any) -> None:
    reader = connect(published.where, project=published.project)
    expected = reader.window("price_1h", "S0", at=AT, max_age=LONG, unfit="null")
    admin = redis.Redis(host=redis_server.host, port=redis_server.port)
    admin.set(entity_key("no hash") + published.project.encode(), "text")
    for _ in range(3):
        with pytest.raises(SourceError, match="WRONGTYPE"):
            reader.windows("price_1h", ["S1", "no hash", "S2"], at=AT)
        again = reader.window("price_1h", "S0", at=AT, max_age=LONG, unfit="null")
        assert again.values.tobytes() == expected.values.tobytes()


@pytest.mark.parametrize("published", ["redis", "sqlite"], indirect=True)
def test_a_reader_is_shared_by_threads(published: Any) -> None:
    reader = connect(published.where, project=published.project)
    expected = {
        symbol: reader.window("price_1h", symbol, at=AT, max_age=LONG, unfit="null").values.tobytes()
        for symbol in SYMBOLS
    }
    assert len(set(expected.values())) > 20
    together = threading.Barrier(4)

    def read(turn: int) -> int:
        together.wait()
        right = 0
        for i in range(200):
            symbol = SYMBOLS[(turn * 7 + i) % len(SYMBOLS)]
            got = reader.window("price_1h", symbol, at=AT, max_age=LONG, unfit="null")
            right += got.symbol == symbol and got.values.tobytes() == expected[symbol]
        return right

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(4))) == [200] * 4


FORKED = """
import os, sys
from datetime import UTC, datetime, timedelta
from backsight_features.online import connect
reader = connect(sys.argv[1], project=sys.argv[2])

def read(symbol):
    at = datetime(2024, 1, 1, 3, 0, 15, tzinfo=UTC)
    return reader.window("price_1h", symbol, at=at, max_age=timedelta(days=1), unfit="null").values.tobytes()

first, second = read("S0"), read("S1")
used = reader._shelf._idle[0]
child = os.fork()
if child == 0:
    right = all(read("S1") == second for _ in range(200)) and reader._shelf._idle[0] is not used
    os._exit(0 if right else 1)
right = all(read("S0") == first for _ in range(200))
print(first != second, right, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("published", ["redis"], indirect=True)
def test_a_forked_process_does_not_share_the_connection(published: Any) -> None:
    command = [sys.executable, "-c", FORKED, str(published.where), published.project]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "True True 0\n"


def damage(repo: Any, redis_server: Any, field: str, value: bytes) -> None:
    if isinstance(repo.where, Path):
        with sqlite3.connect(repo.where) as database:
            database.execute(
                f"UPDATE {repo.project}_price_1h_window SET value = ? WHERE feature_name = ? AND entity_key = ?",
                [value, field, entity_key("S0")],
            )
        database.close()
    else:
        server = redis.Redis(host=redis_server.host, port=redis_server.port)
        key = entity_key("S0") + repo.project.encode()
        server.hset(key, hash_field("price_1h_window", field), value)


@pytest.mark.parametrize("published", ["redis", "sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("packed", b"\x12\x03abc", "none of Feast's"),
        ("packed", b"\x0a\x7fabc", "by its length it should have"),
        ("packed", bytes_value(b"BSWN\x01\x00\x01\x00" + bytes(100)), "window of version 1 .* publish again"),
        ("packed", bytes_value(b"BSWN\x09\x00\x01\x00" + bytes(100)), "window of version 9"),
        ("contract", b"\x12\x02{]", "contract cannot be read: JSONDecodeError"),
        ("contract", b"\x12\x02{}", "contract cannot be read: KeyError: 'contract'"),
        ("contract", b'\x12\x0e{"contract": 7', "contract cannot be read"),
        ("contract", b'\x12\x0f{"contract": 7}', "contract of version 7; this program reads version 1"),
        ("contract", b"", "none of Feast's"),
    ],
)
def test_what_is_damaged_or_of_another_version_is_refused(
    published: Any, request: pytest.FixtureRequest, field: str, value: bytes, message: str
) -> None:
    server = request.getfixturevalue("redis_server") if isinstance(published.where, str) else None
    damage(published, server, field, value)
    for reader in (connect(published.where, project=published.project), _after_reading(published)):
        if field == "packed" or not reader._contracts:
            with pytest.raises(HeaderMismatch, match=message) as raised:
                reader.window("price_1h", "S0", at=AT, max_age=LONG)
            assert "price_1h window of 'S0'" in str(raised.value)
        assert reader.window("price_1h", "S1", at=AT, max_age=LONG, unfit="null").symbol == "S1"


def _after_reading(repo: Any) -> Reader:
    reader = connect(repo.where, project=repo.project)
    reader.window("price_1h", "S1", at=AT, max_age=LONG, unfit="null")
    return reader


@pytest.mark.parametrize("published", ["sqlite"], indirect=True)
def test_what_was_written_is_read_next_however_many_threads_are_reading(published: Any) -> None:
    shelf, over = SqliteShelf(published.where, published.project), threading.Event()

    def go_on() -> None:
        while not over.is_set():
            shelf.read("price_1h_window", ["S0"])

    table = f'"{published.project}_price_1h_window"'
    change = f"UPDATE {table} SET value = ? WHERE entity_key = ? AND feature_name = 'packed'"
    with ThreadPoolExecutor(4) as pool, closing(sqlite3.connect(published.where, isolation_level=None)) as writer:
        threads = [pool.submit(go_on) for _ in range(4)]
        written = [b"%d" % number * 10_000 for number in range(1, 41)]
        found = []
        for value in written:
            writer.execute(change, (value, entity_key("S0")))
            found += shelf.read("price_1h_window", ["S0"])
        over.set()
    assert [thread.result() for thread in threads] == [None] * 4
    assert found == written
    shelf.close()


@pytest.mark.parametrize("published", ["sqlite"], indirect=True)
def test_a_file_that_is_held_or_no_database_is_an_error(published: Any, tmp_path: Path) -> None:
    # A copy as stock Feast keeps it, in which a writer does keep readers waiting.
    stock = tmp_path / "stock.db"
    copied = sqlite3.connect(published.where, isolation_level=None)
    copied.execute("VACUUM INTO ?", [str(stock)])
    copied.close()
    reader = connect(stock, project=published.project)
    reader._shelf._database.execute("PRAGMA busy_timeout = 1")
    writer = sqlite3.connect(stock, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Busy, match="held by another process"):
        reader.window("price_1h", "S1", at=AT)
    writer.close()
    with pytest.raises(Missing, match="has no place for other_window; run `backsight apply`"):
        reader.window("other", "S1", at=AT)
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises((BadInput, SourceError), match="not a database"):
        connect(tmp_path / "text.db", project="p").window("price_1h", "A", at=AT)
    reader.close()


@pytest.mark.parametrize("published", ["sqlite"], indirect=True)
def test_a_reader_cannot_write_and_takes_no_more_than_it_can_hold(published: Any) -> None:
    with connect(published.where, project=published.project) as reader:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._shelf._database.execute(f"DELETE FROM {published.project}_price_1h_window")
        with pytest.raises(BadInput, match="10001 symbols at once; 10000 are read at most"):
            reader.windows("price_1h", ["S1"] * 10_001, at=AT)
        with pytest.raises(BadInput, match="no time zone"):
            reader.window("price_1h", "S1", at=AT.replace(tzinfo=None))

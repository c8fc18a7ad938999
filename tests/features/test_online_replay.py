"""Online windows are offline windows, bit for bit, whatever becomes of the publisher; and no read mixes two bars."""

import json
import multiprocessing
import multiprocessing.connection
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import UTC_US
from backsight_features.online import OnlineWindow, Reader, connect
from backsight_features.online.contract import Contract
from backsight_features.online.packed import pack, unpack

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
AGES = timedelta(days=9999)
SERVICE, LENGTH, HOURS = "forecast_1h", 24, 60
ROOM = Path(__file__).parent
KINDS = pytest.mark.parametrize("kind", ["sqlite", "redis"])


def applied(make: Callable[..., Any], kind: str, symbols: list[str], **settings: object) -> Any:
    """Return a repo with facts of these symbols, of which no feature is ever too old."""
    repo = make(kind, **settings)
    views = repo.folder / "views.py"
    views.write_text(views.read_text().replace(", 24)", ", 99999)").replace(", 1)", ", 99999)"))
    repo.store().apply()
    repo.write(repo.states(*symbols, hours=HOURS, seed=5))
    return repo


def some_instants(count: int, seed: int) -> list[datetime]:
    minutes = np.random.default_rng(seed).integers(4 * 60, HOURS * 60, count)
    return [T0 + timedelta(minutes=int(minute), microseconds=7) for minute in minutes]


def read(reader: Reader, symbols: list[str]) -> tuple[OnlineWindow, ...]:
    return reader.windows(SERVICE, symbols, at=T0 + HOURS * HOUR, max_age=AGES)


def compare(store: Any, symbols: list[str], seen: Iterable[tuple[OnlineWindow, datetime]]) -> int:
    """Check that each window is the offline window as of the instant beside it, and return how many there were."""
    seen = list(seen)
    asked = pl.DataFrame(
        {"symbol": [window.symbol for window, _ in seen], "at": [at for _, at in seen]},
        {"symbol": pl.String, "at": UTC_US},
    )
    offline = store.windows(SERVICE, symbols, asked, length=LENGTH)
    mask, ages = offline.mask, offline.ages()
    for i, (window, at) in enumerate(seen):
        assert window.values.tobytes() == offline.gather([i])[0].tobytes()
        assert window.mask.tolist() == mask[i].tolist()
        np.testing.assert_array_equal(window.ages - np.timedelta64(window.at - at), ages[i])
        assert window.available_at == offline.available_at[i].item().replace(tzinfo=UTC)
        assert window.observed_at == offline.observed_at[i].item().replace(tzinfo=UTC)
    return len(seen)


def replay(repo: Any, symbols: list[str], instants: list[datetime]) -> int:
    """Publish as of one instant after the other; return how many windows were right."""
    store, seen = repo.store(), []
    with connect(repo.where, project=repo.project) as reader:
        for i, at in enumerate(instants):
            store.publish(SERVICE, length=LENGTH, at=at)
            seen += [(window, max(instants[: i + 1])) for window in read(reader, symbols)]
    return compare(store, symbols, seen)


def processes() -> Any:
    """Return a way to start processes in which Feast is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["backsight_features.store.store"])
    return context


def publishing(repo: Any, instants: list[datetime]) -> tuple[Any, multiprocessing.connection.Connection]:
    context = processes()
    progress, sender = context.Pipe(duplex=False)
    given = {
        "folder": repo.folder,
        "root": repo.workspace.root,
        "service": SERVICE,
        "length": LENGTH,
        "instants": instants,
        "progress": sender,
    }
    process = context.Process(
        target=runpy.run_path,
        args=(str(ROOM / "publisher.py"),),
        kwargs={"init_globals": {"GIVEN": given}, "run_name": "publisher"},
    )
    process.start()
    sender.close()
    return process, progress


def replay_with_kills(repo: Any, symbols: list[str], instants: list[datetime], kills: int, seed: int) -> int:
    """Do the same in processes that are killed at random, and repeated; return how many windows were right."""
    random = np.random.default_rng(seed)
    store, seen, killed = repo.store(), [], 0
    # One for every symbol to be there.
    store.publish(SERVICE, length=LENGTH, at=min(instants))
    before = dict.fromkeys(symbols, (T0, T0))
    with connect(repo.where, project=repo.project) as reader:
        while killed < kills:
            process, progress = publishing(repo, [instants[i] for i in random.permutation(len(instants))])
            assert progress.recv() == "ready"
            process.join(timeout=random.uniform(0, 0.4))
            process.kill()
            process.join()
            killed += process.exitcode == -9
            for window in read(reader, symbols):
                order = (window.observed_at, window.available_at)
                assert order >= before[window.symbol], "went back in time"
                before[window.symbol] = order
                seen.append((window, window.available_at))
        process, progress = publishing(repo, [instants[i] for i in random.permutation(len(instants))])
        process.join()
        assert process.exitcode == 0
        seen += [(window, max(instants)) for window in read(reader, symbols)]
    return compare(store, symbols, seen)


@KINDS
@pytest.mark.parametrize("ordered", [True, False])
def test_online_is_offline(small_repo: Callable[..., Any], kind: str, ordered: bool) -> None:
    symbols = [f"S{i}" for i in range(5)]
    instants = some_instants(8, seed=ordered)
    done = replay(applied(small_repo, kind, symbols), symbols, sorted(instants) if ordered else instants)
    assert done == 40


@KINDS
@pytest.mark.slow
def test_online_is_offline_after_kills(small_repo: Callable[..., Any], kind: str) -> None:
    symbols = [f"S{i}" for i in range(5)]
    repo = applied(small_repo, kind, symbols)
    assert replay_with_kills(repo, symbols, some_instants(8, seed=3), kills=3, seed=4) == 20


@pytest.mark.slow
def test_two_publishers_on_one_redis_never_go_back(small_repo: Callable[..., Any]) -> None:
    symbols = [f"S{i}" for i in range(5)]
    repo = applied(small_repo, "redis", symbols)
    instants = some_instants(12, seed=6)
    store = repo.store()
    store.publish(SERVICE, length=LENGTH, at=min(instants))
    both = [publishing(repo, [instants[i] for i in np.random.default_rng(seed).permutation(12)]) for seed in (1, 2)]
    newest, seen = dict.fromkeys(symbols, (T0, T0)), {}
    with connect(repo.where, project=repo.project) as reader:
        while any(process.is_alive() for process, _ in both):
            for window in read(reader, symbols):
                order = (window.observed_at, window.available_at)
                assert order >= newest[window.symbol], "went back in time"
                newest[window.symbol] = order
                seen[window.symbol, order] = (window, window.available_at)
        last = [(window, max(instants)) for window in read(reader, symbols)]
    assert [process.exitcode for process, _ in both] == [0, 0]
    assert compare(store, symbols, [*seen.values(), *last]) >= 10


def bar_of(number: int, symbol: str) -> tuple[Contract, Any]:
    """Return a window whose every value, stamp and the order of whose features name its bar."""
    from backsight_features.store.shelf import Prepared

    contract = Contract(
        service="price_1h",
        features=("ret", "vol") if number % 2 else ("vol", "ret"),
        timeframe=HOUR,
        max_age=AGES,
        max_ages={},
        length=168,
    )
    closed = np.datetime64(T0.replace(tzinfo=None), "us") + np.timedelta64(number, "h")
    data = pack(
        np.full((168, 2), number, dtype=np.float32),
        np.full(168, closed + np.timedelta64(15, "s")),
        digest=contract.digest,
        contract=contract.checksum,
        observed_at=closed,
        timeframe=HOUR,
    )
    return contract, Prepared(symbol=symbol, data=data, window=unpack(data))


def torn(repo: Any, *, reads: int, seconds: float) -> tuple[int, list[dict[str, int]]]:
    """Write bar after bar while 4 processes read; return the bars written and what each reader counted."""
    from backsight_features.store.shelf import Shelf

    store = repo.store()
    shelf = Shelf(store._feast, repo.workspace.online)
    view = store._feast.get_feature_view("price_1h_window")

    def write(number: int) -> None:
        for symbol in ("A", "B"):
            contract, window = bar_of(number, symbol)
            assert shelf.publish(view, contract, [window]) == ["written"]

    write(0)
    command = [sys.executable, str(ROOM / "window_reader.py"), str(repo.where), repo.project, str(reads), str(seconds)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    number = 0
    while any(reader.poll() is None for reader in readers):
        number += 1
        write(number)
    outputs = [reader.communicate()[0] for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * 4
    return number, [json.loads(output) for output in outputs]


@KINDS
def test_no_read_mixes_two_bars(small_repo: Callable[..., Any], kind: str) -> None:
    repo = applied(small_repo, kind, ["A", "B"])
    reads = 1000 if kind == "redis" else 500
    written, counted = torn(repo, reads=reads, seconds=0)
    assert [(one["torn"], one["back"]) for one in counted] == [(0, 0)] * 4
    assert all(one["reads"] >= reads for one in counted)
    assert sum(one["bars"] for one in counted) > 20, "the readers saw the writer at work"
    assert written > 10


@KINDS
@pytest.mark.prove
def test_ten_thousand_windows_online_are_those_offline(small_repo: Callable[..., Any], kind: str) -> None:
    symbols = [f"S{i:02d}" for i in range(40)]
    instants = some_instants(90, seed=10)
    ordered = replay(applied(small_repo, kind, symbols), symbols, sorted(instants))
    shuffled = replay(applied(small_repo, kind, symbols), symbols, instants)
    killed = replay_with_kills(applied(small_repo, kind, symbols), symbols, instants, kills=90, seed=11)
    print(f"{kind}: equal bit for bit: {ordered} in order, {shuffled} out of order, {killed} around 90 kills")
    assert ordered + shuffled + killed >= 10_000


@KINDS
@pytest.mark.prove
def test_no_read_mixes_two_bars_for_a_minute(small_repo: Callable[..., Any], kind: str) -> None:
    repo = applied(small_repo, kind, ["A", "B"])
    written, counted = torn(repo, reads=1000, seconds=60)
    reads, found, back = (sum(one[name] for one in counted) for name in ("reads", "torn", "back"))
    print(
        f"{kind}: 60 s, {written} bars written, {reads} windows read by 4 processes, {found} torn, {back} back in time"
    )
    assert (found, back) == (0, 0)

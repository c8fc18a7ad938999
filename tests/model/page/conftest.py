"""A service to look at: forecasts of a small model, and files as the live loop leaves them."""

import http.client
import json
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn
from backsight_features.online.contract import Contract
from backsight_features.online.feast_format import bytes_value, entity_key, string_value
from backsight_features.online.packed import pack
from backsight_features.workspace import Workspace
from backsight_ingest.status import Ran, Status
from backsight_ingest.status_cli import _status_document
from backsight_model import bundle
from backsight_model.drift import Inputs
from backsight_model.live.intervals import Interval
from backsight_model.live.lastseen import STATUS, WATCHED, keep
from backsight_model.live.recent import Recent
from backsight_model.live.rules import Alert
from backsight_model.live.shadow import Challenger
from backsight_model.live.watching import Watched
from backsight_model.serving.app import Serving, application
from backsight_model.serving.keys import Keys, fresh
from backsight_model.training import TrainingSet

CLOSED = datetime(2023, 2, 10, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
SERVICE, PROJECT = "forecast_1h", "seen"


@dataclass
class Screen:
    """A service that listens, what it serves from, and what the live loop last saw.

    It answers while the gate is open.
    """

    home: Workspace
    port: int
    key: str
    now: datetime
    data: TrainingSet
    bundles: dict[str, Path]
    gate: threading.Event

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def promote(self, symbol: str, *, override: str | None = None) -> None:
        """Put a model into use."""
        folder = shutil.copytree(self.bundles[symbol], self.home.models / self.bundles[symbol].name)
        reason = None if override is None else bundle.Override(reason=override, at="2023-02-01T00:00:00+00:00")
        bundle.promote(self.home.models, folder, override=reason)

    def publish(self, symbol: str) -> None:
        """Put a window online that ends with the bar that closed at `CLOSED`."""
        contract = Contract(
            service=SERVICE,
            features=self.data.windows.features,
            timeframe=HOUR,
            max_age=2 * HOUR,
            max_ages={},
            length=12,
        )
        closed = np.datetime64(CLOSED.replace(tzinfo=None), "us")
        window = pack(
            self.data.windows.gather(slice(-1, None))[0],
            closed + np.timedelta64(15, "s") - np.arange(11, -1, -1) * np.timedelta64(1, "h"),
            digest=contract.digest,
            contract=contract.checksum,
            observed_at=closed,
            timeframe=HOUR,
        )
        rows = [("packed", bytes_value(window)), ("contract", string_value(contract.text))]
        with closing(sqlite3.connect(self.home.online / "online.db")) as database, database:
            database.executemany(
                f'INSERT INTO "{PROJECT}_{SERVICE}_window" VALUES (?, ?, ?)',
                [(entity_key(symbol), name, value) for name, value in rows],
            )

    def watch(
        self,
        symbol: str,
        *,
        gain: float = 0.05,
        alerts: tuple[Alert, ...] = (),
        inputs: Inputs | None = None,
        challenger: Challenger | None = None,
    ) -> dict[str, Any]:
        """Return what `watch` would have kept of two weeks of a symbol."""
        rng = np.random.default_rng(len(symbol))
        at = np.datetime64(CLOSED.replace(tzinfo=None), "us") - np.arange(335, -1, -1) * np.timedelta64(1, "h")
        level = 0.5 * np.exp(np.convolve(rng.normal(scale=0.04, size=335 + 48), np.ones(48), "valid"))
        came = np.where(
            np.arange(336) < 312,
            level * np.exp(np.convolve(rng.normal(scale=0.05, size=335 + 12), np.ones(12), "valid")),
            np.nan,
        )
        gains = [("gain on HAR-X, volatility", gain), ("gain on persistence, volatility", gain + 0.02)]
        others = [("gain on a coin, direction", 0.001), ("bias of log variance", 0.01), ("bias of P(up)", -0.004)]
        seen = Watched(
            symbol=symbol,
            bundle="b",
            last_at=CLOSED,
            known=312,
            open=24,
            intervals=tuple(
                Interval(what=what, mean=mean, low=mean - 0.04, high=mean + 0.04, blocks=13)
                for what, mean in gains + others
            ),
            inputs=inputs,
            challenger=challenger,
            alerts=alerts,
            recent=None,
        )
        chart = Recent(observed_at=at, said=level, came=came, step=HOUR).to_json()
        return seen.to_json() | {"at": (self.now - timedelta(minutes=1)).isoformat(), "recent": chart}

    def look(
        self, *watched: dict[str, Any], jobs: tuple[Status, ...] = (), ago: timedelta = timedelta(minutes=1)
    ) -> None:
        """Keep what `watch` and `status` saw."""
        at = (self.now - ago).isoformat()
        keep(self.home.live / WATCHED, {"at": at, "symbols": list(watched)})
        documents = json.loads(json.dumps([_status_document(each, []) for each in jobs], default=datetime.isoformat))
        keep(self.home.live / STATUS, {"at": at, "jobs": documents})

    def job(
        self, name: str, state: str = "ok", *, behind: timedelta = HOUR / 20, rows: int = 0, error: str = ""
    ) -> Status:
        """Return how a job is."""
        line: Any = SimpleNamespace(
            cadence=HOUR, first=CLOSED, filled=CLOSED, reached=CLOSED, share=0.9987, total=lambda _: HOUR
        )
        ran = Ran(started_at=self.now, finished_at=self.now, outcome="failed" if error else "ok", error=error)
        waiting = (("the price is not a number", rows),) if rows else ()
        found = () if state == "ok" else (state,)
        return Status(job=name, line=line, behind=behind, waiting=waiting, runs=(ran,), findings=found)

    def ask(self, path: str, *, key: str | None = "") -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and content of an answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(
                "GET", path, headers={} if key is None else {"Authorization": f"Bearer {key or self.key}"}
            )
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.fixture(scope="session")
def seen_bundles(
    world: Callable[..., TrainingSet],
    straight_bundle: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[TrainingSet, dict[str, Path]]:
    """Return a training set, and a bundle with skill and one without, by symbol."""
    data, models = world(4, hours=1100, length=12), tmp_path_factory.mktemp("seen")
    symbols = {"BTC-USD": True, "ETH-USD": False}
    return data, {symbol: straight_bundle(models, data, symbol, skill=skill) for symbol, skill in symbols.items()}


@pytest.fixture
def screens(seen_bundles: tuple[TrainingSet, dict[str, Path]], tmp_path: Path) -> Iterator[Callable[..., Screen]]:
    """Return a function that starts a service with nothing in it, which ends with the test."""
    with ExitStack() as running:
        yield lambda keys=True: running.enter_context(_screen(tmp_path, *seen_bundles, keys=keys))


@contextmanager
def _screen(folder: Path, data: TrainingSet, bundles: dict[str, Path], *, keys: bool) -> Iterator[Screen]:
    home = Workspace(root=folder / "home")
    for made in (home.models, home.online):
        made.mkdir(parents=True)
    with closing(sqlite3.connect(home.online / "online.db")) as database, database:
        database.execute(f'CREATE TABLE "{PROJECT}_{SERVICE}_window" (entity_key BLOB, feature_name TEXT, value BLOB)')
    key, entry = fresh("tests")
    app = application(
        Serving(home=home.root, project=PROJECT, per_second=1000.0), keys=Keys.parse(entry if keys else ""), online=None
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        screen = Screen(
            home, listening.getsockname()[1], key, CLOSED + timedelta(minutes=2), data, bundles, threading.Event()
        )
        screen.gate.set()

        def clock() -> datetime:
            assert screen.gate.wait(timeout=20)
            return screen.now

        app.answers.clock = clock
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield screen
        finally:
            server.should_exit = True
            thread.join(timeout=20)
    assert not thread.is_alive()

"""Hours of load on the service in fast time: while bars are published, models swapped and the store comes and goes,
every answer is that of the offline computation, of a bar and a model that were the newest when it was given."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from backsight_features.online import OnlineWindow
from backsight_features.online.contract import Contract, window_view_name
from backsight_features.online.feast_format import bytes_value, string_value
from backsight_features.online.packed import pack, unpack
from backsight_features.online.redis_shelf import RedisShelf, Replacement
from backsight_features.workspace import Workspace
from backsight_model import bundle
from backsight_model.forecast import forecast
from backsight_model.forecast_log import ForecastLog, forecast_id
from backsight_model.training import TrainingSet

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HOUR = timedelta(hours=1)
FIRST = datetime(2023, 2, 10, 7, tzinfo=UTC)
SERVICE, PROJECT, LENGTH = "forecast_1h", "backsight", 12
SYMBOLS: Final = ("BTC-USD", "ETH-USD")
GRACE: Final = 1.0
"""Seconds until a promotion is noticed by all workers, and until they are connected again to a store that is back."""
READY: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How long a soak is.

    Parameters
    ----------
    requests : int
    most_minutes : float
        It ends with fewer requests where the machine is too slow for all of them in this time.
    per_bar : int
        Right answers until the next bar is published.
    bars_per_model : int
        Bars from one promotion to the next.
    outages : int
        How often the store goes, by turns killed and hanging.
    """

    requests: int
    most_minutes: float
    per_bar: int
    bars_per_model: int
    outages: int

    @property
    def bars(self) -> int:
        """Lines of the load: errors bring a few more."""
        return self.requests // self.per_bar

    @property
    def away_at(self) -> list[int]:
        """After which bars the store goes."""
        return [self.bars * (number + 1) // (self.outages + 1) for number in range(self.outages)]


SMALL = Size(requests=1_500, most_minutes=2, per_bar=30, bars_per_model=20, outages=2)
HOURS_OF_LOAD = Size(requests=1_000_000, most_minutes=40, per_bar=250, bars_per_model=10, outages=20)
MINUTES_OF_LOAD = Size(requests=200_000, most_minutes=10, per_bar=250, bars_per_model=10, outages=0)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is published, version after version, and what must be answered of it.

    Of every bar there are two versions: what is known at first, and a correction.
    """

    data: TrainingSet
    at: datetime

    @property
    def contract(self) -> Contract:
        return Contract(
            service=SERVICE,
            features=self.data.windows.features,
            timeframe=HOUR,
            max_age=self.at - FIRST,
            max_ages={},
            length=LENGTH,
        )

    def window(self, symbol: str, version: int) -> OnlineWindow:
        """Return the offline window."""
        closed = FIRST + version // 2 * HOUR
        known = closed + timedelta(seconds=45 if version % 2 else 15)
        sample = (version + 100 * SYMBOLS.index(symbol)) % len(self.data)
        values = self.data.windows.gather(np.array([sample]))[0]
        return OnlineWindow(
            service=SERVICE,
            symbol=symbol,
            features=self.data.windows.features,
            timeframe=HOUR,
            values=values,
            mask=np.ones(LENGTH, dtype=np.bool_),
            ages=np.full(values.shape[1], np.timedelta64(self.at - known)),
            at=self.at,
            observed_at=closed,
            available_at=known,
        )

    def packed(self, window: OnlineWindow) -> bytes:
        """Return the bytes that are published."""
        assert window.observed_at is not None
        assert window.available_at is not None
        newest = np.datetime64(window.available_at.replace(tzinfo=None), "us")
        return pack(
            window.values,
            newest - np.arange(LENGTH - 1, -1, -1) * np.timedelta64(1, "h"),
            digest=self.contract.digest,
            contract=self.contract.checksum,
            observed_at=np.datetime64(window.observed_at.replace(tzinfo=None), "us"),
            timeframe=HOUR,
        )

    def document(self, versions: int, folders: list[list[Path]]) -> dict[str, Any]:
        """Return all answers that are right; `folders` are the bundles of each symbol."""
        models = [[bundle.read(folder) for folder in each] for each in folders]
        forecasts, features = {}, {}
        for number, symbol in enumerate(SYMBOLS):
            for version in range(versions):
                window = self.window(symbol, version)
                known = {"symbol": number, "version": version}
                assert window.available_at is not None
                features[f"{symbol} {window.available_at.isoformat()}"] = {**known, "said": _features(window)}
                for place, model in enumerate(models[number]):
                    name = forecast_id(model.name, window)
                    said = {"id": name} | forecast(model, window).to_json()
                    forecasts[name] = {**known, "bundle": place, "said": said}
        return {"forecasts": forecasts, "features": features}


def _features(window: OnlineWindow) -> dict[str, Any]:
    assert window.observed_at is not None
    assert window.available_at is not None
    values = np.where(np.isnan(window.values), None, window.values.astype(object)).tolist()
    age = (window.at - window.available_at).total_seconds()
    assert None not in values[-1], "the newest slot is whole, so that all features are as old as it is"
    return {
        "symbol": window.symbol,
        "service": SERVICE,
        "at": window.at.isoformat(),
        "observed_at": window.observed_at.isoformat(),
        "available_at": window.available_at.isoformat(),
        "timeframe_seconds": 3600.0,
        "features": {
            name: {"value": value, "age_seconds": age} for name, value in zip(window.features, values[-1], strict=True)
        },
        "refused": [],
        "window": {"columns": list(window.features), "mask": [True] * LENGTH, "values": values},
    }


def put_in_redis(where: str, truth: Truth, windows: list[OnlineWindow]) -> None:
    """Publish one window of each symbol, as `backsight publish` does: by a process that begins anew."""
    view, text = window_view_name(SERVICE), string_value(truth.contract.text)
    shelf = RedisShelf(where, PROJECT)
    held = shelf.read(view, [window.symbol for window in windows])
    new = [
        Replacement(
            symbol=window.symbol,
            before=before or b"",
            packed=bytes_value(truth.packed(window)),
            contract=text,
            available_at=window.available_at or FIRST,
        )
        for window, before in zip(windows, held, strict=True)
    ]
    assert all(shelf.replace(view, new))
    shelf.close()


def put_in_file(home: Workspace, truth: Truth) -> Callable[[list[OnlineWindow]], None]:
    """Return what publishes to the embedded online store of a home."""
    from backsight_features.store import Store
    from backsight_features.store.shelf import Prepared, Shelf

    store = Store(ROOT / "feature_repo", home)
    store.apply()
    shelf, view = Shelf(store._feast, home.online), store._feast.get_feature_view(window_view_name(SERVICE))

    def put(windows: list[OnlineWindow]) -> None:
        packed = {window.symbol: truth.packed(window) for window in windows}
        made = [Prepared(symbol=symbol, data=data, window=unpack(data)) for symbol, data in packed.items()]
        assert shelf.publish(view, truth.contract, made) == ["written"] * len(made)

    return put


@dataclass
class History:
    """What was changed when, by the clock that all processes of a machine share.

    Attributes
    ----------
    published : list of (float, float)
        When the publication of each version began and was over.
    promoted : list of (float, float, int)
        The same of each promotion, and which bundle.
    away : list of (float, float)
        When the store went, and when it answered again.
    """

    published: list[tuple[float, float]] = field(default_factory=list)
    promoted: list[tuple[float, float, int]] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)

    def outdated(self, right: np.ndarray) -> int:
        """Return how many answers are of a version that was not online at any moment of the request."""
        sent, received, version = right[:, 0], right[:, 1], right[:, 3].astype(int)
        begun, done = np.array(self.published).T
        replaced = np.append(done[1:], np.inf)
        return int(((received < begun[version]) | (sent > replaced[version])).sum())

    def disowned(self, right: np.ndarray) -> int:
        """Return how many forecasts are of a bundle that was not in use at any moment of the request, or just before.

        Two bundles take turns, so only a request that no promotion touches tells.
        """
        mine = right[(right[:, 2] == 0) & (right[:, 4] >= 0)]
        begun, done, used = np.array(self.promoted).T
        settled = np.searchsorted(done, mine[:, 0] - GRACE) - 1
        touched = np.searchsorted(begun, mine[:, 1]) - 1
        tells = settled == touched
        assert tells.any()
        return int((mine[tells, 4] != used[touched[tells]]).sum())

    def needless(self, errors: list[Any]) -> list[Any]:
        """Return the errors of requests during which the store was there all the time."""
        return [one for one in errors if not any(one[1] >= went and one[0] <= came + GRACE for went, came in self.away)]


@contextmanager
def serving(home: Workspace, at: datetime, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Run `backsight serve` with two workers; yield its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = ["-c", "from backsight_features.cli import main; main()", "--home", str(home.root)]
    options = ["--port", str(port), "--workers", "2", "--rate", "1e9", "--at", at.isoformat(), "--project", PROJECT]
    command = [sys.executable, *program, "serve", *options]
    with subprocess.Popen(command, env=os.environ | environment) as process:
        try:
            deadline = time.monotonic() + READY
            while True:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=30) as answer:
                    assert answer.status == 200
                    break
                assert time.monotonic() < deadline, "the service is not ready"
                with suppress(subprocess.TimeoutExpired):
                    raise AssertionError(f"the service ended with {process.wait(timeout=0.05)}")
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def largest(process: int) -> float:
    """Return the megabytes of the largest worker, at its peak."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    peaks = [re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{child}/status").read_text()) for child in children]
    return max(int(peak[1]) / 1024 for peak in peaks if peak)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        pytest.param("redis", SMALL, id="redis, small"),
        pytest.param("redis", HOURS_OF_LOAD, id="redis, an hour's worth", marks=pytest.mark.prove),
        pytest.param("sqlite", MINUTES_OF_LOAD, id="sqlite", marks=pytest.mark.prove),
    ],
)
def test_every_answer_under_load_is_that_of_the_offline_computation(
    kind: str,
    size: Size,
    world: Callable[..., TrainingSet],
    straight_bundle: Callable[..., Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    home, data = Workspace(root=tmp_path / "home"), world(4, hours=1100, length=LENGTH)
    versions = size.bars + 10 * (1 + size.outages)
    truth = Truth(data=data, at=FIRST + versions * HOUR)
    bitcoin = [straight_bundle(home.models, data, "BTC-USD", seed=seed) for seed in (1, 2)]
    ether = straight_bundle(home.models, data, "ETH-USD", seed=3)
    answers = truth.document(versions, [bitcoin, [ether]])
    (tmp_path / "truth.json").write_text(json.dumps(answers))
    history, log = History(), ForecastLog(home.forecasts)
    told: dict[str, str] = {}
    if kind == "redis":
        own_redis = request.getfixturevalue("own_redis")
        told = {"BACKSIGHT_REDIS": own_redis.where}
        put = partial(put_in_redis, own_redis.where, truth)
    else:
        put = put_in_file(home, truth)

    def publish() -> None:
        version, begun = len(history.published), time.monotonic()
        put([truth.window(symbol, version) for symbol in SYMBOLS])
        history.published.append((begun, time.monotonic()))

    def promote() -> None:
        which, begun = len(history.promoted) % 2, time.monotonic()
        bundle.promote(home.models, bitcoin[which])
        history.promoted.append((begun, time.monotonic(), which))

    with ExitStack() as running:
        bundle.promote(home.models, ether)
        promote()
        publish()
        port, process = running.enter_context(serving(home, truth.at, told))
        before = largest(process)
        script = [sys.executable, str(Path(__file__).with_name("soak_load.py")), str(port)]
        arguments = [tmp_path / "truth.json", tmp_path, size.requests, 60 * size.most_minutes, size.per_bar]
        load = running.enter_context(
            subprocess.Popen([*script, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert load.stdin is not None
        assert load.stdout is not None
        bar, outages, went = 0, size.away_at, 0.0
        for line in load.stdout:
            what, when = line.split()
            if what == b"errors":
                # There may be some on their way from before.
                if went and float(when) > went:
                    own_redis.come()
                    history.away.append((went, time.monotonic()))
                    went = 0.0
                    if len(history.away) % 5 == 0:
                        log.fold()
                continue
            if not went:
                publish()
                if bar >= len(history.promoted) * size.bars_per_model:
                    promote()
                if outages and bar >= outages[0]:
                    outages.pop(0)
                    went = time.monotonic()
                    own_redis.go(hang=len(history.away) % 2 == 1)
            bar += 1
            with suppress(BrokenPipeError):  # after the last request
                load.stdin.write(b"\n")
                load.stdin.flush()
        assert load.wait() == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            counted = re.findall(r'^backsight_requests_total{route="/v1/.*} (.*)$', answer.read().decode(), re.M)
        after = largest(process)

    found, right = json.loads((tmp_path / "found.json").read_text()), np.load(tmp_path / "right.npy")
    errors = found["errors"]
    made = found["answers"] + len(errors)
    print(
        f"{made:,} requests in {found['seconds']:.0f} s: {found['answers']:,} answers, {len(found['wrong'])} "
        f"wrong, {len(errors):,} errors, {len(found['dropped'])} connections dropped; {len(history.published):,} "
        f"versions of two symbols published, {len(history.promoted):,} promotions, the store away "
        f"{len(history.away)} times; the largest worker {before:.0f} MB before, {after:.0f} MB after"
    )
    assert found["wrong"] == []
    assert found["dropped"] == []
    assert made == sum(map(float, counted)), "the service has counted each"
    assert history.outdated(right) == 0
    assert history.disowned(right) == 0
    assert len(history.away) == size.outages or made < size.requests
    assert {(status, what) for _, _, status, what in errors} <= {(503, "urn:backsight:source-error")}
    assert history.needless(errors) == []
    log.fold()
    logged, seen = log.frame()["id"].to_list(), set(map(tuple, right[right[:, 4] >= 0, 2:].astype(int).tolist()))
    handed_out = {
        name for name, of in answers["forecasts"].items() if (of["symbol"], of["version"], of["bundle"]) in seen
    }
    assert len(handed_out) == len(seen)
    assert handed_out <= set(logged)
    assert len(logged) == len(set(logged))

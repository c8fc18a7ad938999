"""The service over real HTTP and a real Redis: right answers, typed refusals, keys, promotions, a store away."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import redis
import schemathesis
import uvicorn
from backsight_features.errors import BadInput, HeaderMismatch, Missing, SourceError, Stale
from backsight_features.lake import Lake
from backsight_features.online import OnlineWindow, connect
from backsight_features.online.contract import Contract
from backsight_features.online.feast_format import bytes_value, string_value
from backsight_features.online.packed import pack
from backsight_features.online.redis_shelf import RedisShelf, Replacement
from backsight_features.schemas import SCORES
from backsight_features.workspace import Workspace
from backsight_model import bundle, proof
from backsight_model.attribution import training_means
from backsight_model.client import Client
from backsight_model.forecast import forecast
from backsight_model.forecast_log import ForecastLog
from backsight_model.manifest import Manifest, features_digest
from backsight_model.replay import replay
from backsight_model.serving.app import Serving, application
from backsight_model.serving.entrance import LARGEST_BODY
from backsight_model.serving.keys import Keys, RateLimit, fresh
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet
from backsight_model.verdict import Verdict
from backsight_model.walk import Fitted, final
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings

pytestmark = pytest.mark.slow

SMALL = Settings(members=1, epochs=1, units=4, projection=4)
HOUR = timedelta(hours=1)
CLOSED = datetime(2023, 2, 10, 7, tzinfo=UTC)
NOW = CLOSED + timedelta(minutes=2)
SERVICE, PROJECT, SYMBOL = "forecast_1h", "served", "BTC-USD"


@pytest.fixture(scope="module")
def data(world: Callable[..., TrainingSet]) -> TrainingSet:
    return world(4, hours=1100, length=12)


@pytest.fixture(scope="module")
def fitted(data: TrainingSet) -> Fitted:
    return final(data, embargo=timedelta(hours=24), settings=SMALL, seed=1)


def write(models: Path, data: TrainingSet, fitted: Fitted, seed: int) -> Path:
    """Write a bundle with proven skill; another seed gives it another name."""
    manifest = Manifest(
        series=[f"bitstamp:{SYMBOL}:1h"], service=SERVICE, features_sha256=features_digest(data.windows.features),
        length=12, horizon=24, seed=seed, ingested_until="2024-01-01T00:00:00+00:00",
        first_at="2023-01-01T00:00:15+00:00", last_at="2023-12-31T00:00:15+00:00", lake_versions={"bars": 3},
        feature_versions={"market_1h": 0}, scorer="a@1", code="0", samples=len(data), sha256=data.sha256(),
    )  # fmt: skip
    comparison = proof.Comparison(
        model="LSTM", reference="HAR", count=9, loss=1, reference_loss=2, gain=1, low=0, high=2, p_value=0.001,
        detectable=1,
    )  # fmt: skip
    claims = proof.judge({"volatility": (comparison,), "direction": (replace(comparison, p_value=0.9),)})
    signs = proof.Directional(accuracy=0.5, statistic=0, p_value=1, detectable=0.1)
    verdict = Verdict(claims=claims, comparisons={"volatility": (), "direction": ()}, directional=signs)
    return bundle.write(models, fitted, manifest=manifest, settings=SMALL, timeframe=HOUR, verdict=verdict)


@pytest.fixture(scope="module")
def bundles(data: TrainingSet, fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    models = tmp_path_factory.mktemp("models")
    return [write(models, data, fitted, seed) for seed in (1, 2)]


@dataclass
class Service:
    """A service that listens, its clock, and what it serves from."""

    home: Workspace
    port: int
    where: str
    key: str
    now: datetime
    data: TrainingSet

    def publish(self, closed: datetime = CLOSED, *, sample: int = -1, symbol: str = SYMBOL) -> None:
        """Put a window online."""
        features = self.data.windows.features
        contract = Contract(
            service=SERVICE, features=features, timeframe=HOUR, max_age=2 * HOUR, max_ages={}, length=12
        )
        known = closed + timedelta(seconds=15)
        slots = np.datetime64(known.replace(tzinfo=None), "us") - np.arange(11, -1, -1) * np.timedelta64(1, "h")
        packed = pack(
            self.data.windows.gather(slice(sample, sample + 1 or None))[0],
            slots,
            digest=contract.digest,
            contract=contract.checksum,
            observed_at=np.datetime64(closed.replace(tzinfo=None), "us"),
            timeframe=HOUR,
        )
        value, text = bytes_value(packed), string_value(contract.text)
        shelf = RedisShelf(self.where, PROJECT)
        [held] = shelf.read(f"{SERVICE}_window", [symbol])
        new = Replacement(symbol=symbol, before=held or b"", packed=value, contract=text, available_at=known)
        assert shelf.replace(f"{SERVICE}_window", [new]) == [True]
        shelf.close()

    def ask(self, path: str, *, body: bytes | None = None, key: str | None = "") -> tuple[int, dict[str, str], Any]:
        """Return status, headers and document of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        headers |= {} if key is None else {"Authorization": f"Bearer {key or self.key}"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read().decode()
        connection.close()
        known = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, known, json.loads(content) if "json" in known["content-type"] else content

    def window(self, symbol: str = SYMBOL) -> OnlineWindow:
        with connect(self.where, project=PROJECT) as reader:
            return reader.window(SERVICE, symbol, at=self.now)


@pytest.fixture
def service(bundles: list[Path], data: TrainingSet, redis_server: Any, tmp_path: Path) -> Iterator[Service]:
    home = Workspace(root=tmp_path / "home")
    for folder in bundles:
        shutil.copytree(folder, home.models / folder.name)
    bundle.promote(home.models, home.models / bundles[0].name)
    client = redis.Redis(host=redis_server.host, port=redis_server.port)
    client.flushall()
    key, entry = fresh("tests")
    where = f"{redis_server},db=0"
    serving = Serving(home=home.root, project=PROJECT, per_second=1000.0)
    app = application(serving, keys=Keys.parse(entry), online=f"{where},socket_timeout=1")
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=5))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        made = Service(home, listening.getsockname()[1], where, key, NOW, data)
        app.answers.clock = lambda: made.now
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield made
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            client.close()
    assert not thread.is_alive()


def test_what_is_served_is_the_forecast_of_the_newest_window(service: Service) -> None:
    service.publish()
    status, _, said = service.ask(f"/v1/forecast/{SYMBOL}")
    assert status == 200
    made = forecast(bundle.current(service.home.models, SYMBOL), service.window()).to_json()
    assert {name: said[name] for name in made} == made
    service.now = NOW + timedelta(minutes=1)
    _, _, later = service.ask(f"/v1/forecast/{SYMBOL}")
    assert (later["id"], later["age_seconds"]) == (said["id"], 180.0)
    service.publish(CLOSED + HOUR, sample=-2)
    service.now = NOW + HOUR
    _, _, newer = service.ask(f"/v1/forecast/{SYMBOL}")
    assert newer["id"] != said["id"]
    assert newer["observed_at"] == "2023-02-10T08:00:00+00:00"


def test_many_symbols_at_once_get_a_forecast_or_a_reason_each(service: Service) -> None:
    service.publish()
    wanted = {"symbols": ["ETH-USD", SYMBOL, SYMBOL]}
    status, _, said = service.ask("/v1/forecasts", body=json.dumps(wanted).encode())
    assert status == 200
    absent, first, again = said["forecasts"]
    assert absent["problem"]["type"] == "urn:backsight:missing"
    assert first == again
    assert first["symbol"] == SYMBOL


def test_features_come_with_ages_and_what_must_not_be_used_is_null_with_a_reason(service: Service) -> None:
    service.publish()
    status, _, said = service.ask(f"/v1/features/{SYMBOL}?service={SERVICE}&window=true")
    assert status == 200
    window = service.window()
    assert list(said["features"]) == list(window.features)
    newest = [None if np.isnan(value) else pytest.approx(float(value)) for value in window.values[-1]]
    assert [one["value"] for one in said["features"].values()] == newest
    assert {one["age_seconds"] for one in said["features"].values()} == {105.0}
    assert (np.shape(said["window"]["values"]), said["window"]["mask"]) == ((12, len(window.features)), [True] * 12)
    service.now = NOW + timedelta(hours=9)
    _, _, stale = service.ask(f"/v1/features/{SYMBOL}?service={SERVICE}")
    assert {one["value"] for one in stale["features"].values()} == {None}
    assert stale["refused"][0]["kind"] == "Stale"


def test_an_explanation_is_what_the_forecast_would_be_without_each_feature(service: Service) -> None:
    service.publish()
    status, _, said = service.ask(f"/v1/explain/{SYMBOL}")
    assert status == 200
    assert said["forecast"] == service.ask(f"/v1/forecast/{SYMBOL}")[2]
    used, window = bundle.current(service.home.models, SYMBOL), service.window()
    assert {one["feature"] for one in said["features"]} == set(used.features)
    strongest = said["features"][0]
    column = used.features.index(strongest["feature"])
    values = window.values.copy()
    values[:, column] = training_means(used)[column]
    without = forecast(used, replace(window, values=values)).outlooks[0]
    assert strongest["log_rv"] == pytest.approx(said["forecast"]["log_rv"] - without.log_rv)
    assert strongest["p_up"] == pytest.approx(said["forecast"]["p_up"] - without.p_up)
    assert abs(strongest["log_rv"]) == max(abs(one["log_rv"]) for one in said["features"]) > 0


def test_what_is_stale_missing_or_wrongly_asked_for_is_a_problem_with_its_reason(service: Service) -> None:
    service.publish()
    status, _, said = service.ask("/v1/forecast/ETH-USD")
    assert (status, said["title"]) == (404, "Missing")
    assert "there are models for BTC-USD" in said["detail"]
    service.now = NOW + timedelta(days=3)
    status, headers, said = service.ask(f"/v1/forecast/{SYMBOL}")
    assert (status, said["type"], headers["content-type"]) == (503, "urn:backsight:stale", "application/problem+json")
    assert "closed at 2023-02-10T07:00:00Z, 3 days, 0:02:00 before" in said["detail"]
    assert headers["retry-after"] == "5"
    assert service.ask("/v1/nothing")[2]["type"] == "urn:backsight:not-found"
    status, _, said = service.ask("/v1/forecasts", body=b'{"symbols": []}')
    assert (status, said["type"]) == (422, "urn:backsight:invalid")
    assert "at least 1 item" in said["detail"]
    status, _, said = service.ask("/v1/forecasts", body=b" " * (LARGEST_BODY + 1))
    assert (status, said["type"]) == (413, "urn:backsight:too-large")


def test_without_a_key_nothing_is_said_and_with_one_nothing_secret(service: Service) -> None:
    service.publish()
    paths = (
        f"/v1/forecast/{SYMBOL}",
        f"/v1/features/{SYMBOL}?service={SERVICE}",
        f"/v1/explain/{SYMBOL}",
        "/v1/models",
        "/metrics",
    )
    for path in (*paths, "/v1/overview", "/openapi.json"):
        for key in (None, "wrong", service.key[:-1]):
            status, headers, said = service.ask(path, key=key)
            assert (status, said["type"]) == (401, "urn:backsight:unauthorized")
            assert headers["www-authenticate"] == "Bearer"
            assert SYMBOL not in said["detail"]
        assert service.key not in json.dumps(service.ask(path)[2])
    for path in ("/", "/health", "/ready"):
        assert service.ask(path, key=None)[0] == 200


def test_who_asks_too_often_is_told_how_long_to_wait() -> None:
    limit = RateLimit(per_second=2.0, burst=3.0)
    assert [limit.wait("a", 10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait("b", 10.0) == 0, "each has a bucket of its own"
    assert limit.wait("a", 10.5) == 0
    assert limit.wait("a", 10.5) == 0.5


def test_a_broken_entry_of_a_key_is_named_by_its_place_and_not_repeated() -> None:
    _, entry = fresh("one")
    with pytest.raises(BadInput, match="entry 2 of BACKSIGHT_API_KEYS") as raised:
        Keys.parse(f"{entry},two:secret-in-the-clear")
    assert "secret-in-the-clear" not in str(raised.value)
    with pytest.raises(BadInput, match="letters, digits"):
        fresh("a name")


def test_a_promotion_is_served_next_and_one_that_cannot_be_read_changes_nothing(
    service: Service, bundles: list[Path]
) -> None:
    service.publish()
    assert service.ask(f"/v1/forecast/{SYMBOL}")[2]["bundle"] == bundles[0].name
    bundle.promote(service.home.models, service.home.models / bundles[1].name)
    assert service.ask(f"/v1/forecast/{SYMBOL}")[2]["bundle"] == bundles[1].name
    (service.home.models / bundles[0].name / "model.onnx").write_bytes(b"broken")
    pointer = service.home.models / bundle.POINTER
    pointer.write_text(pointer.read_text().replace(bundles[1].name, bundles[0].name))
    assert service.ask(f"/v1/forecast/{SYMBOL}")[2]["bundle"] == bundles[1].name
    status, _, said = service.ask("/ready")
    assert status == 503
    assert "model.onnx was changed" in said["detail"]
    assert "backsight_promotion_unreadable 1.0" in service.ask("/metrics")[2]


def test_while_the_store_is_away_there_is_a_typed_refusal_and_then_answers_again(
    service: Service, redis_server: Any
) -> None:
    service.publish()
    client = redis.Redis(host=redis_server.host, port=redis_server.port)
    assert service.ask(f"/v1/forecast/{SYMBOL}")[0] == 200
    client.client_pause(4_000)
    for _ in range(2):
        status, _, said = service.ask(f"/v1/forecast/{SYMBOL}")
        assert (status, said["type"]) == (503, "urn:backsight:source-error")
    assert service.ask("/health")[0] == 200
    assert client.ping(), "which is answered when the pause is over"
    assert service.ask(f"/v1/forecast/{SYMBOL}")[0] == 200
    client.close()


def test_every_forecast_can_be_made_again_bit_for_bit(service: Service) -> None:
    log, names = ForecastLog(service.home.forecasts), []
    for hours in range(30):
        service.publish(CLOSED + hours * HOUR, sample=-1 - hours)
        service.now = NOW + hours * HOUR
        names.append(service.ask(f"/v1/forecast/{SYMBOL}")[2]["id"])
        if hours == 10:
            assert log.fold() == 11
    assert len(set(names)) == 30
    assert log.fold() == 19
    assert log.fold() == 0
    assert sorted(log.frame()["id"]) == sorted(names)
    for name in names:
        again = replay(service.home.models, log.find(name))
        assert again.differing == ()
        assert again.logged.answer["p_up"] == again.again["p_up"]


@pytest.mark.prove
def test_a_thousand_served_forecasts_are_made_again_bit_for_bit(
    service: Service, bundles: list[Path], rows_of: Callable[..., pl.DataFrame]
) -> None:
    log, answers = ForecastLog(service.home.forecasts), {}
    for hours in range(500):
        service.publish(CLOSED + hours * HOUR, sample=-1 - hours)
        service.now = NOW + hours * HOUR
        for folder in bundles:
            bundle.promote(service.home.models, service.home.models / folder.name)
            said = service.ask(f"/v1/forecast/{SYMBOL}")[2]
            answers[said["id"]] = said
        if hours % 50 == 49:
            assert log.fold() == 100
    assert len(answers) == 1_000
    # What comes later: facts, another scorer's among them, and the log in fewer files.
    score = rows_of(
        SCORES, {"text_id": ["x"], "scorer": ["another"], "observed_at": [CLOSED], "available_at": [CLOSED]}
    )
    assert Lake(service.home.lake).append(SCORES, score, now=NOW).accepted == 1
    table = DeltaTable(str(service.home.forecasts / "log"))
    assert table.optimize.compact()["numFilesRemoved"] == 10
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    for name, said in answers.items():
        again = replay(service.home.models, log.find(name))
        assert again.differing == ()
        assert {key: said[key] for key in again.again if key not in ("at", "age_seconds")} == {
            key: value for key, value in again.again.items() if key not in ("at", "age_seconds")
        }


def test_a_log_that_was_changed_or_does_not_know_an_id_says_so(service: Service) -> None:
    service.publish()
    log, name = ForecastLog(service.home.forecasts), service.ask(f"/v1/forecast/{SYMBOL}")[2]["id"]
    logged = log.find(name)
    changed = logged.values.copy()
    changed[0, 0] += 1
    with pytest.raises(HeaderMismatch, match="changed after it was logged"):
        replay(service.home.models, replace(logged, values=changed))
    differing = replay(service.home.models, replace(logged, answer=logged.answer | {"p_up": 0.5})).differing
    assert differing == ("p_up",)
    with pytest.raises(Missing, match=r"no forecast 0{32}"):
        log.find("0" * 32)
    with pytest.raises(BadInput, match="32 hex digits"):
        log.find("../../etc/passwd")


def test_a_crash_while_folding_loses_and_doubles_nothing(service: Service) -> None:
    service.publish()
    log, name = ForecastLog(service.home.forecasts), service.ask(f"/v1/forecast/{SYMBOL}")[2]["id"]
    spooled = service.home.forecasts / "spool" / f"{name}.json"
    content = spooled.read_bytes()
    assert log.fold() == 1
    spooled.write_bytes(content)  # as if the process had ended before the file was removed
    assert log.fold() == 0
    assert log.frame().height == 1
    assert not spooled.exists()


def test_a_damaged_file_of_the_log_is_named_and_holds_up_no_other(service: Service) -> None:
    service.publish()
    log, name = ForecastLog(service.home.forecasts), service.ask(f"/v1/forecast/{SYMBOL}")[2]["id"]
    damaged = service.home.forecasts / "spool" / f"{'0' * 32}.json"
    damaged.write_text('{"id": "')
    with pytest.raises(BadInput, match=f"{damaged.name} is no forecast"):
        log.fold()
    assert log.frame()["id"].to_list() == [name]
    assert [path.name for path in damaged.parent.iterdir()] == [damaged.name]


def test_the_client_hands_out_answers_and_raises_what_the_service_refused(service: Service) -> None:
    service.publish()
    address = f"http://127.0.0.1:{service.port}"
    with Client(address, service.key) as client:
        made = client.forecast(SYMBOL)
        assert made == service.ask(f"/v1/forecast/{SYMBOL}")[2]
        first, absent = client.forecasts([SYMBOL, "ETH-USD"])
        assert first == made
        assert isinstance(absent, Missing)
        assert client.features(SYMBOL, SERVICE, window=True)["window"]["mask"] == [True] * 12
        assert [one["symbol"] for one in client.models()] == [SYMBOL]
        service.now = NOW + timedelta(days=1)
        with pytest.raises(Stale, match="at most 2:00:00 are allowed"):
            client.forecast(SYMBOL)
    with Client(address, "wrong") as stranger, pytest.raises(BadInput, match="a key is needed"):
        stranger.models()
    with Client("http://127.0.0.1:9", "k") as nobody, pytest.raises(SourceError, match="does not answer"):
        nobody.models()
    assert service.key not in repr(Client(address, service.key))
    with pytest.raises(BadInput, match="no address of a service"):
        Client("127.0.0.1:8000")


def test_the_verb_serves_without_tensorflow_and_feast_in_little_memory(service: Service) -> None:
    service.publish()
    program = (
        "import sys, os, threading, urllib.request, time\n"
        "from backsight_model.serving.app import from_environment\n"
        "import uvicorn\n"
        "server = uvicorn.Server(uvicorn.Config(from_environment(), port=0, log_level='error'))\n"
        "thread = threading.Thread(target=server.run, daemon=True)\n"
        "thread.start()\n"
        "while thread.is_alive() and not server.started: time.sleep(0.01)\n"
        "port = server.servers[0].sockets[0].getsockname()[1]\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{port}/v1/forecast/BTC-USD').status)\n"
        "heavy = {'tensorflow', 'keras', 'feast', 'pandas', 'sklearn', 'scipy', 'pyarrow', 'deltalake'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "status = open('/proc/self/status').read().splitlines()\n"
        "print(int(next(line for line in status if line.startswith('VmHWM')).split()[1]) // 1024)\n"
        "server.should_exit = True\n"
    )
    told = Serving(home=service.home.root, project=PROJECT, at=NOW).variables() | {"BACKSIGHT_REDIS": service.where}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=told | {"PATH": ""}
    )
    status, heavy, megabytes = done.stdout.split()
    assert (status, heavy) == ("200", "[]")
    assert int(megabytes) < 150


def test_no_request_makes_it_fail_or_answer_other_than_described(service: Service) -> None:
    service.publish()
    headers = {"Authorization": f"Bearer {service.key}"}
    described = schemathesis.openapi.from_url(f"http://127.0.0.1:{service.port}/openapi.json", headers=headers)
    tried, wrong = [], schemathesis.GenerationMode.NEGATIVE
    for operation in (found.ok() for found in described.get_all_operations()):

        @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=wrong) | operation.as_strategy())
        def holds(case: schemathesis.Case) -> None:
            answer = case.call(headers=headers)
            assert answer.status_code < 500, answer.text
            case.validate_response(answer, excluded_checks=[schemathesis.checks.positive_data_acceptance])
            tried.append(case.path)

        holds()
    read = {"/v1/forecast/{symbol}", "/v1/features/{symbol}", "/v1/models", "/v1/overview", "/ready"}
    assert set(tried) >= read | {"/v1/forecasts"}

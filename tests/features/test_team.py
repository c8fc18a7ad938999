"""The team profile on real servers: Redis, PostgreSQL and an S3-compatible store."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pytest
import redis
import sqlalchemy
from backsight_features import delta
from backsight_features.cli import main
from backsight_features.errors import BacksightError, BadInput, SourceError
from backsight_features.store import Store
from backsight_features.store.repository import configuration, connect
from backsight_features.workspace import Workspace
from sqlalchemy.engine import make_url

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "team.md").read_text()
PROGRAMS = Path(sys.executable).parent
SETTINGS = "feature_repo/feature_store.team.yaml"
PUBLISH = ("backsight", "publish", "--service", "forecast_1h", "--length", "48", "--at", "2024-06-30T00:01:00Z")
BUILD = ("backsight", "build", "--bars", "binance:BTC-USDT:1h")
T = TypeVar("T")
OURS = ("FEAST_FS_YAML_FILE_PATH", "BACKSIGHT_", "AWS_")


def block(language: str, beginning: str) -> str:
    """Return a block of code of the guide."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    [found] = [one for one in blocks if one.startswith(beginning)]
    return found


STORE = block("python", "import os\nfrom datetime import UTC, datetime\nfrom pathlib")
READER = block("python", "import os\nfrom datetime import UTC, datetime\n\nfrom backsight_features.online")


@dataclass(frozen=True)
class Desk:
    """A machine of the team: a checkout, a home, and the environment that says where the rest is."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def new(cls, folder: Path, environment: Mapping[str, str]) -> "Desk":
        shutil.copytree(ROOT / "feature_repo", folder / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
        home = {"PATH": path, "BACKSIGHT_HOME": str(folder / "home")}
        return cls(folder, {**inherited, **home, **environment})

    def but(self, **environment: str) -> "Desk":
        return replace(self, environment={**self.environment, **environment})

    def without(self, *names: str) -> "Desk":
        return replace(self, environment={name: value for name, value in self.environment.items() if name not in names})

    @property
    def tables(self) -> str:
        return self.environment.get("BACKSIGHT_TABLES") or self.environment["BACKSIGHT_HOME"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )

    def do(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Make this process one on the machine: programs that start with Feast take seconds."""
        for name in [name for name in os.environ if name.startswith(OURS)]:
            patch.delenv(name)
        for name, value in self.environment.items():
            patch.setenv(name, value)
        patch.chdir(self.folder)


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Return what calls that wait for programs return; they do not wait for each other."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Callable[[], str]:
    """Return how to make an empty database; it gives the address."""

    def made() -> str:
        name = f"registry_{uuid.uuid4().hex}"
        engine = sqlalchemy.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return make_url(postgres_server).set(database=name).render_as_string(hide_password=False)

    return made


@pytest.fixture(scope="module")
def cache(redis_server: Any) -> Iterator[str]:
    """Return Feast's address of Redis, for a user with a password and a database of its own."""
    with redis.Redis(host=redis_server.host, port=redis_server.port) as client:
        [rights] = re.findall(r"`ACL SETUSER service on >password (.*?)`", GUIDE)
        client.execute_command("ACL", "SETUSER", "service", "on", ">cachePassword", *rights.split())
        client.execute_command("ACL", "SETUSER", "team", "on", ">cachePassword", "~*", "+@all")
        yield f"{redis_server},username=team,password=cachePassword,db=5"
        client.acl_deluser("team", "service")


@pytest.fixture(scope="module")
def desk(database: Callable[[], str], cache: str, s3_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Return a machine with the environment of the guide, the addresses being those of the servers here."""
    exported = re.findall(r"^export (\w+)=", block("sh", "export"), re.MULTILINE)
    here = {
        "FEAST_FS_YAML_FILE_PATH": SETTINGS,
        "BACKSIGHT_REGISTRY": database(),
        "BACKSIGHT_REDIS": cache,
        "BACKSIGHT_TABLES": f"s3://{s3_server.bucket}/{uuid.uuid4().hex}",
        **s3_server.environment,
    }
    return Desk.new(tmp_path_factory.mktemp("a team"), {name: here[name] for name in exported})


@pytest.fixture(scope="module")
def travelled(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Desk]:
    """Return the team's machine and one that is alone, after the commands of the guide."""
    alone = Desk.new(tmp_path_factory.mktemp("alone"), {})
    commands = block("sh", "backsight sample")
    # The one to compare with runs them in one process; the journey runs them as they are.
    lines = [shlex.split(line)[1:] for line in commands.splitlines()]
    script = f"from backsight_features.cli import cli\nfor line in {lines}: cli.main(line, standalone_mode=False)"
    at_once(lambda: desk.do("bash", "-euc", commands), lambda: alone.do("python", "-c", script))
    return desk, alone


def stored(desk: Desk, *names: str) -> pl.DataFrame:
    table = delta.open(delta.join(desk.tables, *names))
    assert table is not None
    rows = delta.scan(table).collect()
    return rows.select(sorted(set(rows.columns) - {"ingested_at"})).sort(pl.all())


def online(desk: Desk, script: str, file: Path) -> dict[str, bytes]:
    """Run a script of the guide; return its window, kept in a file."""
    keep = f"\nimport numpy\nnumpy.savez({str(file)!r}, values=window.values, mask=window.mask, ages=window.ages)\n"
    assert desk.do("python", "-c", script + keep).startswith("(48, ")
    with np.load(file) as held:
        assert np.isfinite(held["values"]).any()
        return {name: part.tobytes() for name, part in held.items()}


@pytest.mark.slow
def test_a_team_gets_what_one_alone_gets_to_the_last_bit(
    travelled: tuple[Desk, Desk], s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    desk, alone = travelled
    for kind in ("bars", "news", "posts", "scores"):
        ours, theirs = stored(desk, "lake", kind), stored(alone, "lake", kind)
        assert ours.height > 100
        assert ours.equals(theirs, null_equal=True), kind
    for kind in ("market", "text", "macro", "book"):
        ours, theirs = stored(desk, "features", f"{kind}_1h"), stored(alone, "features", f"{kind}_1h")
        assert ours.height > 1000
        assert ours.equals(theirs, null_equal=True), kind
    reads = desk.environment["BACKSIGHT_REDIS"].replace("username=team", "username=service")
    service = desk.without("BACKSIGHT_REGISTRY", "BACKSIGHT_TABLES", "AWS_ENDPOINT_URL").but(BACKSIGHT_REDIS=reads)
    window, theirs, served = at_once(
        lambda: online(desk, STORE, tmp_path / "team.npz"),
        lambda: online(alone, STORE, tmp_path / "alone.npz"),
        lambda: online(service, READER, tmp_path / "service.npz"),
    )
    assert window == theirs
    assert window == served, "with neither registry nor bucket, and no right to write"
    assert not (desk.folder / "home" / "online" / "online.db").exists()
    assert not (desk.folder / "home" / "lake").exists()
    assert not (desk.folder / "home" / "features").exists()


@pytest.mark.slow
def test_the_command_of_feast_agrees_on_the_settings(travelled: tuple[Desk, Desk]) -> None:
    desk, _ = travelled
    # In one process, which takes seconds to start.
    script = (
        "import json; from click.testing import CliRunner; from feast.cli.cli import cli\n"
        "def listed(settings, *options):\n"
        "    runner = CliRunner(env={'FEAST_FS_YAML_FILE_PATH': settings})\n"
        "    return runner.invoke(cli, [*options, '-c', 'feature_repo', 'feature-services', 'list']).output\n"
        f"print(json.dumps([listed({SETTINGS!r}), listed(None, '-f', {SETTINGS!r}), listed(None)]))"
    )
    listed, named, local = json.loads(desk.do("python", "-c", script))
    assert "forecast_1h" in listed
    assert listed == named
    assert "NAME" in local
    assert "forecast_1h" not in local, "nobody applied there"


@pytest.mark.slow
def test_a_second_machine_sees_what_the_first_did(travelled: tuple[Desk, Desk], tmp_path: Path) -> None:
    desk, _ = travelled
    second = Desk.new(tmp_path, desk.environment).but(BACKSIGHT_HOME=str(tmp_path / "home"))
    bars = str(desk.folder / "world" / "bars")
    pulled, applied = at_once(
        lambda: second.do("backsight", "pull", "dump", "--layout", "binance-1h", bars),
        lambda: second.do("feast", "-c", "feature_repo", "apply"),
    )
    assert "Applying changes" in applied
    assert "unchanged" in second.do(*PUBLISH)
    assert "BTCUSDT_1h.csv.gz  unchanged" in pulled


@pytest.mark.slow
def test_applying_from_several_machines_at_once_to_an_empty_database(desk: Desk, database: Callable[[], str]) -> None:
    machine = desk.but(BACKSIGHT_REGISTRY=database())
    told = at_once(*[lambda: machine.run("backsight", "apply")] * 3)
    assert [(one.returncode, one.stdout, one.stderr) for one in told] == [
        (0, "services: forecast_1h, forecast_book_1h, price_1h, price_book_1h, price_macro_1h, price_text_1h\n", "")
    ] * 3


def shown(error: BaseException) -> str:
    """Return all that a program shows of an error that it does not catch."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        pytest.param("postgresql+psycopg://backsight:wrongPassword@{at}/postgres", SourceError, "auth", id="password"),
        pytest.param("postgresql+psycopg://b:wrongPassword@127.0.0.1:1/x", SourceError, "127.0.0.1:1/x", id="port"),
        pytest.param("postgresql+psycopg://b:wrongPassword@host.invalid/x", SourceError, "host.invalid", id="host"),
        pytest.param("postgresql+psycopg://b:1@wrongPassword@{at}/x", BadInput, "%40", id="unescaped"),
        pytest.param("postgresql+psycopg//b:wrongPassword", BadInput, "not at an address", id="no address"),
        pytest.param("postgresql+psycopg://b:wrongPassword@localhost:p/x", BadInput, "not at an address", id="no port"),
        pytest.param("nosuch://b:wrongPassword@localhost/x", BadInput, "nosuch", id="no such database"),
        pytest.param("mysql+aiomysql://b:wrongPassword@localhost/x", BadInput, "needs aiomysql", id="no driver"),
        pytest.param("", BadInput, "needs BACKSIGHT_REGISTRY: not set", id="unset"),
    ],
)
def test_a_wrong_address_of_the_registry_is_told_without_the_password(
    desk: Desk, address: str, kind: type[BacksightError], says: str
) -> None:
    at = make_url(desk.environment["BACKSIGHT_REGISTRY"])
    other = desk.but(BACKSIGHT_REGISTRY=address.format(at=f"{at.host}:{at.port}"))
    with pytest.raises(kind, match=re.escape(says)) as told:
        connect(configuration(desk.folder / "feature_repo", other.environment))
    assert "wrongPassword" not in shown(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "kind", "says"),
    [
        pytest.param("{at},username=team,password=wrongPassword", SourceError, "username-password", id="password"),
        pytest.param("127.0.0.1:1,password=wrongPassword", SourceError, "127.0.0.1:1", id="port"),
        pytest.param("host.invalid:6379,password=wrongPassword", SourceError, "host.invalid", id="host"),
        pytest.param("redis://:wrongPassword@localhost", BadInput, "not at an address", id="URL"),
        pytest.param("{at},password=1,wrongPassword", BadInput, "no comma", id="comma"),
        pytest.param("", BadInput, "needs BACKSIGHT_REDIS: not set", id="unset"),
    ],
)
def test_a_wrong_address_of_redis_is_told_without_the_password(
    travelled: tuple[Desk, Desk],
    address: str,
    kind: type[BacksightError],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, _ = travelled
    at = desk.environment["BACKSIGHT_REDIS"].partition(",")[0]
    for name, value in desk.but(BACKSIGHT_REDIS=address.format(at=at)).environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(desk.folder / SETTINGS))
    store = Store(desk.folder / "feature_repo", Workspace(root=desk.folder / "home", tables=desk.tables))
    with pytest.raises(kind, match=re.escape(says)) as told:
        store.online("forecast_1h", "BTC-USDT", at=datetime(2024, 6, 30, 0, 1, tzinfo=UTC))
    assert "wrongPassword" not in shown(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "command", "code", "says"),
    [
        pytest.param(
            {"BACKSIGHT_REGISTRY": "postgresql+psycopg://b:wrongPassword@127.0.0.1:1/x"},
            ("backsight", "apply"),
            4,
            "postgresql+psycopg://b:***@127.0.0.1:1/x",
            id="registry",
        ),
        pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, BUILD, 4, "127.0.0.1:1", id="object store"),
        pytest.param({"BACKSIGHT_TABLES": "s3://key:wrongPassword@team/x"}, BUILD, 2, "key:***@team", id="key in URL"),
        pytest.param({"BACKSIGHT_TABLES": "gs://team/x"}, BUILD, 2, "neither a folder nor", id="other store"),
    ],
)
def test_no_secret_is_printed_and_an_error_is_one_line(
    desk: Desk,
    environment: dict[str, str],
    command: tuple[str, ...],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    desk.but(**environment).enter(monkeypatch)
    said = []
    for options in ([], ["--debug"]):
        monkeypatch.setattr(sys, "argv", [command[0], *options, *command[1:]])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        said.append(capfd.readouterr())
    done, traced = said
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert says in done.err, done.err
    assert "Traceback" in traced.err
    secrets = {"wrongPassword", "cachePassword", desk.environment["AWS_SECRET_ACCESS_KEY"]}
    secrets.add(str(make_url(desk.environment["BACKSIGHT_REGISTRY"]).password))
    for secret in secrets:
        assert secret not in done.out + done.err + traced.out + traced.err

"""The examples for schedulers: cron's very lines are run by a shell, and what the others hold is what cron runs.

Where Airflow or Dagster is installed, what it makes of exit codes is tried too.
"""

import ast
import configparser
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from backsight_fakeworld import FakeWorld
from backsight_features.errors import BadInput, Busy, Drifted, NeedsAttention, NotServable, SourceError

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
"""Of minute, hour, day of the month, month, day of the week."""
JOBS = {
    "prices:binance:BTC-USDT:1m",
    "prices:binance:BTC-USDT:1h",
    "prices:binance:ETH-USDT:1h",
    "books:binance:BTC-USDT",
    "reddit:bitcoin",
    "news:news.example/feed.rss",
    "macro:CPIAUCSL",
    "macro:DGS10",
}


@dataclass(frozen=True, kw_only=True)
class Crontab:
    """What cron reads: variables, and pairs of a schedule and a command."""

    variables: Mapping[str, str]
    entries: tuple[tuple[tuple[str, ...], str], ...]


def crontab() -> Crontab:
    variables, entries = {}, []
    for line in (EXAMPLES / "crontab").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if equals and name.isidentifier():
            variables[name] = value
        else:
            *schedule, command = line.split(maxsplit=5)
            entries.append((tuple(schedule), command))
    return Crontab(variables=variables, entries=tuple(entries))


def literals(name: str) -> dict[str, Any]:
    """Return the constants of an example, without importing it."""
    found = {}
    for node in ast.parse((EXAMPLES / name).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Dict | ast.Set):
            (target,) = node.targets
            assert isinstance(target, ast.Name)
            if target.id != "SETTINGS":
                found[target.id] = ast.literal_eval(node.value)
    return found


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine that cron runs on, in a made-up world."""

    variables: Mapping[str, str]

    @property
    def home(self) -> Path:
        return Path(self.variables["BACKSIGHT_HOME"])

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["/bin/sh", "-c", command], env=dict(self.variables), capture_output=True, text=True)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with nothing on it but secrets."""
    secrets = {"FRED_API_KEY": 32 * "a", "REDDIT_CLIENT_ID": "made-up", "REDDIT_CLIENT_SECRET": "made-up-too"}
    (tmp_path / "secrets.env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    here = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "BACKSIGHT_HOME": str(tmp_path / "home"),
        "BACKSIGHT_SECRETS": str(tmp_path / "secrets.env"),
        "BACKSIGHT_LOG": str(tmp_path / "errors.log"),
    }
    assert here.keys() | {"MAILTO"} == crontab().variables.keys()
    return Machine(variables=here)


def test_cron_can_read_it() -> None:
    for schedule, command in crontab().entries:
        assert len(schedule) == 5
        for field, (least, greatest) in zip(schedule, BOUNDS, strict=True):
            number, _, step = field.partition("/")
            assert number == "*" or least <= int(number) <= greatest
            assert not step or 1 <= int(step) <= greatest
        assert "%" not in command  # cron makes line ends of them
        for secret in ("KEY", "SECRET=", "PASSWORD"):
            assert secret not in command


@pytest.mark.slow
def test_the_lines_of_the_crontab_pull_keep_and_watch(machine: Machine) -> None:
    *pulls, keep, watch = [command for _, command in crontab().entries]
    assert "backsight maintain" in keep
    assert "backsight status" in watch
    mailed = machine.run(watch)
    assert mailed.returncode == NeedsAttention.exit_code
    assert mailed.stderr.startswith("error: nothing was ever pulled into")
    with FakeWorld(now=None) as world:
        there = Machine(variables={**machine.variables, "BACKSIGHT_ENDPOINT": world.url})
        with ThreadPoolExecutor() as at_once:  # as cron does at midnight
            done = list(at_once.map(there.run, pulls))
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == [(0, "", "")] * len(pulls)
    kept_fast = machine.run(keep)
    assert (kept_fast.returncode, kept_fast.stdout, kept_fast.stderr) == (0, "", "")
    assert "error" not in Path(machine.variables["BACKSIGHT_LOG"]).read_text()
    watched = machine.run(watch)
    assert (watched.returncode, watched.stdout, watched.stderr) == (0, "", "")
    jobs = json.loads(machine.run("backsight status --json").stdout)["jobs"]
    assert {each["job"] for each in jobs} == JOBS
    assert {each["runs"][0]["outcome"] for each in jobs} == {"ok"}
    secrets = Path(machine.variables["BACKSIGHT_SECRETS"]).read_text().split()
    kept = b"".join(path.read_bytes() for path in machine.home.rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret.partition("=")[2].encode() in kept]


def test_the_second_of_two_runs_ends_at_once(machine: Machine) -> None:
    from filelock import FileLock

    (command,) = [command for _, command in crontab().entries if "pull books" in command]
    lock = machine.home / "locks" / f"{hashlib.sha256(b'books:binance:BTC-USDT').hexdigest()[:16]}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        done = machine.run(command)
    assert done.returncode == Busy.exit_code
    said = Path(machine.variables["BACKSIGHT_LOG"]).read_text()
    assert said == "error: books:binance:BTC-USDT: another run of this job is going on\n"


def test_systemd_starts_a_line_that_cron_ran_and_takes_busy_for_success() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read([EXAMPLES / f"backsight-prices.{kind}" for kind in ("service", "timer")])
    folder, _, command = unit["Service"]["ExecStart"].partition("/backsight pull ")
    assert folder == crontab().variables["PATH"].partition(":")[0]
    assert any(f"backsight pull {command}" in line for _, line in crontab().entries)
    assert unit["Service"]["SuccessExitStatus"] == str(Busy.exit_code)
    assert unit["Service"]["Environment"] == f"BACKSIGHT_HOME={crontab().variables['BACKSIGHT_HOME']}"
    assert unit["Service"]["EnvironmentFile"] == f"-{crontab().variables['BACKSIGHT_SECRETS']}"
    assert unit["Timer"]["OnCalendar"] == "*-*-* *:01:00"


@pytest.mark.parametrize("name", ["airflow_dag.py", "dagster_job.py"])
def test_the_others_hold_commands_that_cron_ran_and_the_codes_of_errors(name: str) -> None:
    held = literals(name)
    commands = [*held["HOURLY"].values(), held["WATCH"], held["DAILY"]]
    ran = [command for _, command in crontab().entries]
    assert [command for command in commands if not any(command in line for line in ran)] == []
    assert len(commands) == 6
    assert held["BUSY"] == Busy.exit_code
    assert held["FINAL"] == {error.exit_code for error in (BadInput, Drifted, NotServable, NeedsAttention)}
    assert SourceError.exit_code not in held["FINAL"]


def test_airflow_skips_gives_up_or_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    pytest.importorskip("airflow", reason="Airflow is not installed: its hundred packages are no part of the project")
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

    example = load("airflow_dag.py")

    def outcome(code: int) -> type[BaseException] | None:
        operator = example.Backsight(task_id=f"exit{code}", command=f"exit {code}")
        assert operator.retries == 3
        try:
            operator.execute({})
        except AirflowException as error:
            return type(error)
        return None

    expected = {0: None, 75: AirflowSkipException, 1: AirflowException, 4: AirflowException, 137: AirflowException}
    expected |= dict.fromkeys(literals("airflow_dag.py")["FINAL"], AirflowFailException)
    assert {code: outcome(code) for code in expected} == expected
    assert (example.watch.dag.dag_id, example.watch.dag.catchup) == ("backsight_hourly", False)
    assert example.watch.retries == 0
    assert example.watch.upstream_task_ids == set(example.HOURLY)


def test_dagster_passes_gives_up_or_tries_again() -> None:
    dagster = pytest.importorskip("dagster", reason="Dagster is not installed: it is no part of the project")
    example = load("dagster_job.py")

    def outcome(code: int) -> object:
        try:
            example.run(dagster.build_op_context(), f"sh -c 'exit {code}'")
        except dagster.Failure as error:
            return error.allow_retries
        except dagster.RetryRequested as error:
            return error.max_retries
        return None

    expected: dict[int, object] = {0: None, 75: None, 1: 3, 4: 3, 137: 3}
    expected |= dict.fromkeys(literals("dagster_job.py")["FINAL"], False)
    assert {code: outcome(code) for code in expected} == expected
    assert {each.name for each in example.defs.jobs} == {"backsight_hourly", "backsight_watch", "backsight_daily"}

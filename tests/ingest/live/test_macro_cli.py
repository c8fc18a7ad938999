"""``backsight pull macro`` from end to end: the system's clock, real HTTP, a world that follows the time."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import MACRO
from click.testing import CliRunner, Result

KEY = "0123456789abcdef0123456789abcdef"
Pull = Callable[..., Result]


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    with FakeWorld(seed=7, now=None) as world:
        yield world


@pytest.fixture
def pull(world: FakeWorld, tmp_path: Path) -> Pull:
    """Return what runs the verb with a key and on the world, and gives back how it ended."""

    def run(*options: str, key: str | None = KEY) -> Result:
        before = ["--home", str(tmp_path / "home"), "pull", "macro", "--endpoint", world.url, "--rate", "1000"]
        return CliRunner(env={"FRED_API_KEY": key}).invoke(cli, [*before, *options])

    return run


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home" / "lake")


def test_series_are_pulled_and_a_second_pull_changes_nothing(pull: Pull, world: FakeWorld, lake: Lake) -> None:
    options = ("--series", "GDPC1", "--series", "dgs10", "--series", "GDPC1", "--json")
    done = pull(*options)
    assert done.exit_code == 0, done.output
    jobs = json.loads(done.stdout)["jobs"]
    assert [(job["origin"], job["status"]) for job in jobs] == [("macro:GDPC1", "ok"), ("macro:DGS10", "ok")]
    assert [job["accepted"] for job in jobs] == [
        len(world.fred.truth("GDPC1")),
        len(world.fred.known_at("DGS10", world.now.date())),
    ]
    stored = lake.scan(MACRO).collect()
    again = json.loads(pull(*options).stdout)["jobs"]
    assert [job["accepted"] for job in again] == [0, 0]
    assert lake.scan(MACRO).collect().height == stored.height
    assert KEY not in done.output


def test_a_table_tells_people_and_one_series_that_fails_leaves_the_others(pull: Pull, lake: Lake) -> None:
    done = pull("--series", "NOPE", "--series", "GDPC1")
    assert isinstance(done.exception, BadInput)
    assert "FRED has no such series" in str(done.exception)
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        ["macro:NOPE", "failed"],
        ["macro:GDPC1", "ok"],
    ]
    assert set(lake.scan(MACRO).collect()["series"]) == {"GDPC1"}


def test_without_a_key(pull: Pull, lake: Lake, world: FakeWorld) -> None:
    done = pull("--keyless", "--series", "CPIAUCSL", "--json", key=None)
    assert done.exit_code == 0, done.output
    (job,) = json.loads(done.stdout)["jobs"]
    assert (job["origin"], job["accepted"]) == (
        "macro:CPIAUCSL:keyless",
        len(world.fred.known_at("CPIAUCSL", world.now.date())),
    )
    assert lake.scan(MACRO).select(pl.col("available_at_estimated").all()).collect().item()


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        ((), None, "FRED_API_KEY is not set; .* values without vintages: --keyless"),
        ((), "", "FRED_API_KEY is not set"),
        ((), "short", "FRED_API_KEY is no key of FRED"),
        (("--series", "CPI AUCSL"), KEY, "--series 'CPI AUCSL' is no id of FRED; write one like CPIAUCSL"),
        (("--series", "X&api_key=1"), KEY, "is no id of FRED"),
        (("--series", "XYZ", "--keyless"), KEY, "no rule says how long after its date XYZ is published"),
        (("--series", "XYZ", "--keyless", "--lag", "soon"), KEY, "'soon' is not a length of time"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(
    options: tuple[str, ...], key: str | None, says: str, pull: Pull, world: FakeWorld, tmp_path: Path
) -> None:
    done = pull(*options, key=key)
    assert isinstance(done.exception, BadInput)
    with pytest.raises(BadInput, match=says):
        raise done.exception
    assert done.exception.exit_code == 2
    assert world.log == []
    assert not (tmp_path / "home").exists()


def test_a_dry_run_asks_nobody_and_writes_nothing(pull: Pull, world: FakeWorld, tmp_path: Path) -> None:
    done = pull("--dry-run", "--json", "--until", "2020-01-01")
    assert done.exit_code == 0, done.output
    asked = json.loads(done.stdout)["asked"]
    assert len(asked) == 20
    assert asked[0] == {
        "job": "macro:DFF",
        "why": "go on",
        "since": "1776-07-04T00:00:00+00:00",
        "until": "2020-01-01T00:00:00+00:00",
    }
    assert world.log == []
    assert not (tmp_path / "home" / "lake").exists()


def test_the_series_that_are_pulled_by_themselves_are_listed_with_reasons(pull: Pull) -> None:
    listed = json.loads(pull("--list", "--json", key=None).stdout)["series"]
    by_id = {each["series"]: each for each in listed}
    assert len(by_id) == 20
    assert by_id["CPIAUCSL"]["known"] == "08:30 in New York"
    assert by_id["DGS10"]["known"] == "the end of the day in New York"
    assert all(each["why"] and each["every_days"] >= 1 for each in listed)
    assert "CPIAUCSL" in pull("--list", key=None).stdout

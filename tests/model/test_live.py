"""The live loop: when a round is due, what ends it, what does not, and that one loop runs in a home."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backsight_features.errors import BadInput, Busy
from backsight_features.workspace import Workspace
from backsight_model.live.loop import Outcome, Round, rounds, run
from backsight_model.live.plan import LivePlan, Step, read

NOON = datetime(2024, 3, 1, 12, 10, tzinfo=UTC)
TEXT = """
bars = ["binance:BTC-USDT:1h", "kraken:ETH-USD:1h"]
service = "forecast_1h"
length = 48
pull = ["prices --exchange binance --symbol 'BTC/USDT'", "macro"]
scorer = "sentfin-tiny-bert"
retrain = "drift"
"""


def plan_of(folder: Path, text: str = TEXT) -> LivePlan:
    (folder / "live.toml").write_text(text)
    return read(folder / "live.toml")


def test_a_plan_becomes_verbs_in_the_order_in_which_they_depend_on_each_other(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    verbs = [step.arguments[0] for step in plan.steps]
    assert verbs == ["pull", "pull", "score", "build", "publish", *["forecast"] * 3, *["retrain"] * 2]
    assert plan.steps[7].arguments[:2] == ("forecast", "--shadow")
    assert [step.arguments[0] for step in plan.looks] == ["status", "watch"]
    assert plan.looks[1].arguments[1:] == ("--bars", "binance:BTC-USDT:1h", "--bars", "kraken:ETH-USD:1h")
    assert plan.steps[0].arguments == ("pull", "prices", "--exchange", "binance", "--symbol", "BTC/USDT")
    assert [step.arguments[0] for step in plan.steps if step.needed] == ["build", "publish"]
    assert plan.next_round(NOON) == NOON.replace(hour=13, minute=0, second=20)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("length = 48", "", "length is not given"),
        ("length = 48", 'length = "48"', "length is '48', it must be a whole number"),
        ("retrain", "retrian", "retrian is unknown; known are bars"),
        ("ETH-USD:1h", "ETH-USD:1d", "bars of 1d, 1h; a loop has one timeframe"),
        ("binance:BTC-USDT:1h", "BTC-USDT", "VENUE:SYMBOL:TIMEFRAME"),
        ("bars = [", "bars = ", "live.toml"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plan_of(tmp_path, TEXT.replace(old, new))


class Day:
    """A clock that moves when somebody waits, until it is time to stop."""

    def __init__(self, rounds: int) -> None:
        self.now, self.left = NOON, rounds

    def wait(self, seconds: float) -> bool:
        if seconds > 0:
            self.now += timedelta(seconds=seconds)
            self.left -= 1
        return self.left <= 0


@pytest.fixture
def lived(tmp_path: Path) -> Callable[..., tuple[list[Round], list[str]]]:
    """Return a function that lives through rounds in which some verbs fail."""

    def live(day: Day, **codes: int) -> tuple[list[Round], list[str]]:
        done: list[str] = []

        def perform(step: Step) -> Outcome:
            done.append(step.name)
            code = codes.get(step.arguments[0], 0)
            failed, said = code not in (0, *step.fine), "no" if code else ""
            return Outcome(name=step.name, code=code, failed=failed, said=said, document={"did": step.name})

        plan, home = plan_of(tmp_path), Workspace(root=tmp_path / "home")
        made = list(rounds(plan, home, clock=lambda: day.now, wait=day.wait, perform=perform))
        return made, done

    return live


def test_the_first_round_comes_at_once_and_the_others_after_each_bar_close(
    lived: Callable[..., tuple[list[Round], list[str]]],
) -> None:
    made, _ = lived(Day(3))
    assert [one.at for one in made] == [NOON, *(NOON.replace(hour=hour, minute=0, second=20) for hour in (13, 14))]
    assert {one.code for one in made} == {0}


def test_a_source_that_is_away_does_not_end_a_round_and_a_failed_build_does(
    lived: Callable[..., tuple[list[Round], list[str]]],
) -> None:
    [away], done = lived(Day(1), pull=4)
    assert done[-3:] == ["retrain kraken:ETH-USD:1h", "status", "watch"]
    assert away.code == 4
    [broken], done = lived(Day(1), build=1)
    assert done[-3:] == ["build", "status", "watch"], "who looks at the page has to see it"
    assert broken.to_json()["steps"][-3] == {"name": "build", "code": 1, "said": "no"}


def test_what_a_look_finds_is_no_failure_of_the_round_and_is_kept_for_the_page(
    lived: Callable[..., tuple[list[Round], list[str]]], tmp_path: Path
) -> None:
    [alert], _ = lived(Day(1), status=6, watch=6)
    assert alert.code == 0
    assert [one.code for one in alert.outcomes[-2:]] == [6, 6]
    kept = Workspace(root=tmp_path / "home").live
    assert json.loads((kept / "status.json").read_text()) == {"did": "status"}
    assert [path.name for path in kept.iterdir()] == ["status.json"]
    [broken], _ = lived(Day(1), watch=1)
    assert broken.code == 1


def test_a_stop_ends_the_round_after_the_step_that_runs(lived: Callable[..., tuple[list[Round], list[str]]]) -> None:
    [cut], done = lived(Day(0))
    assert (cut.outcomes, done) == ((), [])


def test_a_step_is_the_verb_itself_with_its_exit_code_and_its_last_words(tmp_path: Path) -> None:
    home = Workspace(root=tmp_path / "a home")
    fine = run(Step(name="runs", arguments=("runs",), needed=False), home)
    assert (fine.code, fine.said) == (0, "")
    assert fine.document is not None
    look = run(Step(name="status", arguments=("status",), needed=False, fine=(6,)), home)
    assert (look.code, look.failed, look.document["jobs"]) == (6, False, [])
    assert look.said.startswith("error: nothing was ever pulled")
    wrong = run(Step(name="promote", arguments=("promote", "nothing"), needed=False), home)
    assert wrong.code == 2
    assert wrong.said.startswith("error: there is no bundle nothing")


def test_a_second_loop_in_a_home_is_told_that_one_runs(tmp_path: Path) -> None:
    plan, home, day = plan_of(tmp_path), Workspace(root=tmp_path / "home"), Day(5)

    def one() -> Callable[[], Round]:
        def perform(step: Step) -> Outcome:
            return Outcome(name=step.name, code=0, failed=False, said="", document=None)

        return rounds(plan, home, clock=lambda: day.now, wait=day.wait, perform=perform).__next__

    first, second = one(), one()
    first()
    with pytest.raises(Busy, match="another loop runs"):
        second()

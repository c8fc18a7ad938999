"""The page and its overview over HTTP: nothing without a key, no code but its own, and files that are never a 500."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.errors import NeedsAttention
from backsight_features.lake import Lake
from backsight_features.schemas import BARS
from backsight_model import watch_cli
from backsight_model.live.rules import Alert
from backsight_model.serving import overview


@pytest.fixture
def screen(screens: Callable[..., Any]) -> Any:
    return screens()


def overview_of(screen: Any) -> Any:
    status, headers, content = screen.ask("/v1/overview")
    assert (status, headers["content-type"]) == (200, "application/json")
    return json.loads(content)


def test_the_page_needs_no_key_asks_nobody_else_and_runs_nothing_but_what_is_in_it(screen: Any) -> None:
    screen.promote("BTC-USD")
    status, headers, content = screen.ask("/", key=None)
    text = content.decode()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["connect-src"], policy["form-action"]) == ("'none'", "'self'", "'none'")
    for name in ("style", "script"):
        [inline] = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy[f"{name}-src"] == f"'sha256-{digest}'"
    assert set(re.findall(r"[a-z]+://[^\"'` ]*", text)) == {"http://www.w3.org/2000/svg"}, "the name of SVG, no address"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|\bon[a-z]+=| style=", text)
    assert "BTC" not in text
    assert len(content) < 64_000


def test_without_a_key_there_is_no_overview(screen: Any) -> None:
    screen.promote("BTC-USD")
    for key in (None, "wrong"):
        status, _, content = screen.ask("/v1/overview", key=key)
        assert (status, json.loads(content)["type"]) == (401, "urn:backsight:unauthorized")
        assert b"BTC" not in content


def test_an_empty_home_is_an_overview_with_nothing_in_it(screen: Any) -> None:
    said = overview_of(screen)
    assert said.pop("at") == "2023-02-10T07:02:00Z"
    assert said == {
        "forecasts": [], "models": [], "promotion": None, "watched": None, "status": None, "left_out": 0,
    }  # fmt: skip


def test_it_holds_forecasts_and_refusals_models_and_what_the_loop_saw(screen: Any) -> None:
    screen.promote("BTC-USD")
    screen.promote("ETH-USD", override="to try the service")
    screen.publish("BTC-USD")
    alert = Alert(rule="worse", symbol="BTC-USD", said="it is a loss")
    broken = screen.job("prices:a:BTC", "failed", rows=3, error="password=abcdefghijklmnop " + "x" * 1000)
    screen.look(screen.watch("BTC-USD", alerts=(alert,)), jobs=(broken, screen.job("macro:fred")))
    said = overview_of(screen)
    made, refused = said["forecasts"]
    assert made == json.loads(screen.ask("/v1/forecast/BTC-USD")[2])
    assert refused["problem"]["type"] == "urn:backsight:missing"
    assert [one["override"] for one in said["models"]] == [None, "to try the service"]
    [watched] = said["watched"]["symbols"]
    assert watched["alerts"] == [{"rule": "worse", "symbol": "BTC-USD", "said": "it is a loss"}]
    assert len(watched["recent"]["said"]) == len(watched["recent"]["came"]) == 336
    assert said["watched"]["at"] == said["status"]["at"] == "2023-02-10T07:01:00Z"
    failed, fine = said["status"]["jobs"]
    assert (failed["waiting"], fine["line"]) == (
        [{"reason": "the price is not a number", "rows": 3}],
        {"share": 0.9987},
    )
    assert len(failed["runs"][0]["error"]) <= 301
    assert "abcdefghijklmnop" not in json.dumps(said)
    screen.now += timedelta(hours=3)
    assert overview_of(screen)["forecasts"][0]["problem"]["type"] == "urn:backsight:stale"


def test_what_the_verb_keeps_of_a_forecast_is_what_the_page_reads(
    screen: Any, bars_of: Callable[..., pl.DataFrame]
) -> None:
    screen.promote("BTC-USD")
    screen.publish("BTC-USD")
    [made] = overview_of(screen)["forecasts"]
    Lake(screen.home.lake).append(BARS, bars_of(np.full(3, 100.0)), now=screen.now)
    with pytest.raises(NeedsAttention, match="the last forecast is of the bar that closed at 2023-02-10T07:00:00Z"):
        watch_cli.watch.main(["--bars", "v:BTC-USD:1h", "--json"], obj=screen.home, standalone_mode=False)
    [seen] = overview_of(screen)["watched"]["symbols"]
    assert (seen["known"], seen["open"], seen["alerts"][0]["rule"]) == (0, 1, "silent")
    assert seen["recent"] == {
        "observed_at": ["2023-02-10T07:00:00Z"],
        "said": [pytest.approx(made["volatility"], abs=1e-5)],
        "came": [None],
        "step_seconds": 3600.0,
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF while parsing"),
        (b'{"at": ', "EOF while parsing"),
        (b"[]", "should be an object"),
        (b"\xff\xfe", "is not as it should be"),
        (b'{"at": "2023-02-10T07:02:00Z"}', ": Field required"),
        (b'{"at": "2023-02-10T07:02:00", "symbols": [], "jobs": []}', "at: Input should have timezone info"),
        (b'{"at": "2023-02-10T07:02:00Z", "symbols": [7], "jobs": [7]}', "s.0: Input should be an object"),
        (b"[" * 100_000, "is not as it should be"),
        (b" " * (overview.LARGEST + 1), "4194304 are read at most"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_a_problem_in_its_place(screen: Any, content: bytes, reason: str) -> None:
    screen.home.live.mkdir()
    for name in ("watched.json", "status.json"):
        (screen.home.live / name).write_bytes(content)
    said = overview_of(screen)
    for name in ("watched", "status"):
        problem = said[name]["problem"]
        assert (problem["title"], problem["status"]) == ("Unreadable", 503)
        assert problem["detail"].startswith(f"{name}.json ")
        assert reason in problem["detail"]
    screen.look(screen.watch("BTC-USD"), jobs=(screen.job("macro:fred"),))
    said = overview_of(screen)
    assert (len(said["watched"]["symbols"]), len(said["status"]["jobs"])) == (1, 1), "the next round mends it"


def test_a_store_or_a_promotion_that_cannot_be_read_is_said_and_the_rest_is_there(screen: Any) -> None:
    screen.promote("BTC-USD")
    screen.look(screen.watch("BTC-USD"))
    assert len(overview_of(screen)["forecasts"]) == 1
    (screen.home.online / "online.db").write_bytes(b"broken")
    (screen.home.models / "current.json").write_text("{")
    said = overview_of(screen)
    assert said["forecasts"]["problem"]["type"] == "urn:backsight:source-error"
    assert "current.json" in said["promotion"]["problem"]["detail"]
    assert [len(said["models"]), len(said["watched"]["symbols"])] == [1, 1]


def test_of_very_many_the_first_are_shown_and_the_others_counted(screen: Any) -> None:
    screen.look(jobs=tuple(screen.job(f"prices:{n}") for n in range(overview.MOST + 20)))
    said = overview_of(screen)
    assert (len(said["status"]["jobs"]), said["left_out"]) == (overview.MOST, 20)

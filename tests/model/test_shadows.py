"""Bundles in shadow: named beside what is in use, logged apart, never served, and ended by a promotion."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from backsight_features.cli import cli
from backsight_features.errors import BadInput, Missing, Stale
from backsight_features.online import OnlineWindow
from backsight_features.workspace import Workspace
from backsight_model import bundle, shadows
from backsight_model.forecast_log import ForecastLog
from backsight_model.training import TrainingSet
from click.testing import CliRunner

HOUR = timedelta(hours=1)
SERVICE = "forecast_1h"
CLOSED = datetime(2023, 2, 10, 7, tzinfo=UTC)
SYMBOL = "BTC-USD"


@pytest.fixture(scope="module")
def data(world: Callable[..., TrainingSet]) -> TrainingSet:
    return world(4, hours=1100, length=12)


@pytest.fixture
def home(data: TrainingSet, tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path / "home")


@pytest.fixture
def made(home: Workspace, data: TrainingSet, straight_bundle: Callable[..., Path]) -> list[str]:
    """Return the names of the bundle in use and of two others, without skill."""
    names = [straight_bundle(home.models, data, SYMBOL, skill=seed == 1, seed=seed).name for seed in (1, 2, 3)]
    bundle.promote(home.models, home.models / names[0])
    return names


def run(home: Workspace, *arguments: str) -> str:
    return CliRunner().invoke(cli, ["--home", str(home.root), *arguments], catch_exceptions=False).stdout.strip()


def test_a_bundle_is_put_in_shadow_and_taken_out_of_it(home: Workspace, made: list[str]) -> None:
    in_use, other, third = made
    assert run(home, "promote", other, "--shadow") == f"{other} forecasts {SYMBOL} in shadow"
    assert json.loads(run(home, "promote", third, "--shadow", "--json")) == {"symbols": [SYMBOL], "shadow": third}
    assert shadows.named(home.models) == {SYMBOL: third}
    assert bundle.current(home.models, SYMBOL).name == in_use
    assert run(home, "promote", in_use, "--shadow").startswith(f"nothing forecasts {SYMBOL} in the shadow of {in_use}")
    assert shadows.named(home.models) == {}
    shadows.put(home.models, other)
    assert run(home, "promote", other, "--override", "it is better").startswith(f"{SYMBOL} is forecast by {other}")
    assert shadows.named(home.models) == {}, "what is in use is in no shadow"
    (home.models / shadows.POINTER).write_text("{")
    with pytest.raises(BadInput, match="is no JSON"):
        shadows.named(home.models)


def test_what_cannot_be_compared_is_refused(
    home: Workspace, made: list[str], data: TrainingSet, straight_bundle: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match="there is no bundle nothing in"):
        shadows.put(home.models, "nothing")
    with pytest.raises(BadInput, match=f"{made[0]} is in use for BTC-USD"):
        shadows.put(home.models, made[0])
    stranger = straight_bundle(home.models, data, "ETH-USD").name
    with pytest.raises(Missing, match="no model forecasts ETH-USD"):
        shadows.put(home.models, stranger)
    with pytest.raises(BadInput, match="needs no skill and is never served"):
        run(home, "promote", made[1], "--shadow", "--override", "why")
    with pytest.raises(BadInput, match="name a symbol, or --shadow"):
        run(home, "forecast")
    assert shadows.named(home.models) == {}


def test_a_challenger_that_lost_takes_the_place_of_another_one_that_lost_only(home: Workspace, made: list[str]) -> None:
    _, named, loser = made
    shadows.put(home.models, named)
    assert not shadows.stand_by(home.models, loser, losers=[loser])
    assert shadows.named(home.models) == {SYMBOL: named}, "a person named it"
    assert shadows.stand_by(home.models, loser, losers=[named])
    assert shadows.named(home.models) == {SYMBOL: loser}


def test_what_is_forecast_in_shadow_is_logged_apart_and_of_one_that_fails_the_others_are(
    home: Workspace, made: list[str], data: TrainingSet, straight_bundle: Callable[..., Path]
) -> None:
    other = straight_bundle(home.models, data, "ETH-USD", seed=1)
    bundle.promote(home.models, other)
    shadows.put(home.models, straight_bundle(home.models, data, "ETH-USD", seed=2).name)
    shadows.put(home.models, made[1])

    def online(service: str, symbol: str, *, at: datetime) -> OnlineWindow:
        assert service == SERVICE
        if symbol == "ETH-USD":
            raise Stale("too old")
        return window(data, symbol, at)

    store: Any = SimpleNamespace(online=online)
    for _ in range(2):
        said, failed = shadows.forecast_all(home, store, at=CLOSED + timedelta(minutes=1))
        assert [(one["symbol"], one["bundle"]) for one in said] == [(SYMBOL, made[1])]
        assert [str(one) for one in failed] == ["too old"]
    assert (shadows.log(home).fold(), ForecastLog(home.forecasts).fold()) == (1, 0)
    [row] = shadows.log(home).frame().rows(named=True)
    assert (row["id"], row["bundle"]) == (said[0]["id"], made[1])
    assert ForecastLog(home.forecasts).frame().is_empty(), "never handed out"
    shadows.end(home.models, ["ETH-USD", SYMBOL])
    assert run(home, "forecast", "--shadow") == "no bundle is in shadow"
    assert run(home, "forecast", "--shadow", "--json") == "[]"


def window(data: TrainingSet, symbol: str, at: datetime) -> OnlineWindow:
    values = data.windows.gather(slice(-1, None))[0]
    return OnlineWindow(
        service=SERVICE,
        symbol=symbol,
        features=data.windows.features,
        timeframe=HOUR,
        values=values,
        mask=np.ones(len(values), dtype=bool),
        ages=np.full(values.shape[1], np.timedelta64(0, "us")),
        at=at,
        observed_at=CLOSED,
        available_at=CLOSED + timedelta(seconds=15),
    )

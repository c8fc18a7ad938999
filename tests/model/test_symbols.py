"""Several symbols in one model: what they share is counted once, and none sees another's future."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import BARS
from backsight_features.snapshot import Snapshot
from backsight_features.windows import Windows
from backsight_features.workspace import Workspace
from backsight_model import symbols
from backsight_model.instants import Instants
from backsight_model.proof import pesaran_timmermann, pesaran_timmermann_of_several
from backsight_model.rivals import OWN
from backsight_model.settings import Settings
from backsight_model.trading import HOLD, RULES, Book, Costs, Tape, trade
from backsight_model.training import TrainingSet, label, together
from backsight_model.verdict import Losses, losses
from backsight_model.walk import MODEL, Walk, apart, walk
from click.testing import CliRunner

REPO = Path(__file__).resolve().parents[2] / "feature_repo"
BTC, ETH = "BTC-USD", "ETH-USD"
DAY = timedelta(hours=24)
HOURS, BEGINS, MISSING = 1600, 330, slice(1330, 1365)
SMALL = Settings(members=1, epochs=1, units=2, projection=2)
Facts = dict[str, tuple[pl.DataFrame, pl.DataFrame]]
Cut = Callable[[pl.DataFrame, int], Windows]


@pytest.fixture(scope="module")
def facts(bars_and_states: Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]]) -> Facts:
    """Return bars and states of two symbols; the second begins later and is away for some hours."""
    bars, states = bars_and_states(2, HOURS - BEGINS)
    there = pl.Series(~np.isin(np.arange(bars.height), np.arange(MISSING.start, MISSING.stop) - BEGINS))
    moved = pl.col("observed_at", "available_at") + timedelta(hours=BEGINS)
    return {
        BTC: bars_and_states(1, HOURS),
        ETH: (
            bars.with_columns(moved).filter(there),
            states.with_columns(moved, symbol=pl.lit(ETH)).filter(there),
        ),
    }


def labelled(facts: Facts, cut: Cut) -> TrainingSet:
    states = pl.concat([states for _, states in facts.values()])
    return label(cut(states, 6), {symbol: bars for symbol, (bars, _) in facts.items()}, horizon=24)


def walked(data: TrainingSet) -> Walk:
    return walk(data, folds=2, embargo=DAY, settings=SMALL, seed=1, done=lambda fold: None)


@pytest.fixture(scope="module")
def data(facts: Facts, cut: Cut) -> TrainingSet:
    return labelled(facts, cut)


@pytest.fixture(scope="module")
def made(data: TrainingSet) -> Walk:
    return walked(data)


def test_samples_are_in_order_whatever_the_order_of_symbols(facts: Facts, data: TrainingSet, cut: Cut) -> None:
    turned = labelled(dict(reversed(facts.items())), cut)
    assert turned.sha256() == data.sha256()
    assert list(zip(data.at, data.windows.symbol, strict=True)) == sorted(
        zip(data.at, data.windows.symbol, strict=True)
    )
    one, other = map(BarSeries.parse, ("v:BTC-USD:1h", "v:ETH-USD:1h"))
    assert together([other, one]) == (one, other)
    with pytest.raises(BadInput, match="name each symbol once"):
        together([one, BarSeries.parse("w:BTC-USD:1h")])
    with pytest.raises(BadInput, match="one model has one timeframe"):
        together([one, BarSeries.parse("v:ETH-USD:4h")])


def test_each_symbol_has_the_samples_that_it_has_alone(facts: Facts, data: TrainingSet, cut: Cut) -> None:
    for symbol, which in data.by_symbol.items():
        alone, some = labelled({symbol: facts[symbol]}, cut), data.some(which)
        np.testing.assert_array_equal(some.windows.gather(), alone.windows.gather())
        for name in ("at", "label_at", "log_rv", "log_return"):
            np.testing.assert_array_equal(getattr(some, name), getattr(alone, name))
    assert data.left_out["no bar at the instant"] == 0
    swapped = replace(data, windows=replace(data.windows, symbol=data.windows.symbol[::-1]))
    assert swapped.sha256() != data.sha256()


def test_a_symbol_without_a_sample_is_named(facts: Facts, cut: Cut) -> None:
    short = {BTC: facts[BTC], ETH: tuple(frame.head(300) for frame in facts[ETH])}
    with pytest.raises(BadInput, match="300 instants of ETH-USD and no sample: 0 without a bar, 300 without history"):
        labelled(cast("Facts", short), cut)


@pytest.mark.slow
def test_a_symbol_is_judged_once_enough_of_it_was_known(data: TrainingSet, made: Walk) -> None:
    symbol = data.windows.symbol[made.samples]
    assert set(symbol[made.fold == 1]) == {BTC}
    assert set(symbol[made.fold == 2]) == {BTC, ETH}
    assert made.notes[0] == "fold 1: too little of ETH-USD was known before, and it is not judged."
    for forecasts in (made.log_rv, made.p_up, made.below_mean):
        assert all(np.isfinite(values).all() and values.shape == symbol.shape for values in forecasts.values())
    assert OWN in made.log_rv
    alone = apart(data, made)
    assert sum(len(one.samples) for _, one in alone.values()) == len(made.samples)
    assert (alone[ETH][0].windows.symbol == ETH).all()


@pytest.mark.slow
def test_what_comes_of_one_symbol_changes_no_earlier_forecast_of_another(
    facts: Facts, data: TrainingSet, made: Walk, cut: Cut
) -> None:
    second = made.samples[made.fold == 2]
    instant = data.at[second[len(second) // 2]]
    late = pl.col("available_at").dt.replace_time_zone(None) > pl.lit(instant)
    bars, states = facts[ETH]
    # Later bars of ETH are others, and one never comes; states say other things, and of that one nothing.
    gone = late & (pl.col("observed_at").rank() == bars.height - 40)
    values = pl.exclude("symbol", "observed_at", "available_at")
    tampered = (
        bars.with_columns(pl.when(late).then(pl.col("close") ** 1.5).otherwise("close").alias("close")).filter(~gone),
        states.with_columns(pl.when(late).then(-3 * values).otherwise(values).name.keep()).filter(~gone),
    )
    other = labelled({BTC: facts[BTC], ETH: tampered}, cut)
    again = walked(other)

    def said(data: TrainingSet, made: Walk) -> dict[tuple[Any, str], tuple[float, ...]]:
        """Return all that was said of each sample."""
        samples, forecasts = made.samples, (*made.log_rv.values(), *made.p_up.values(), *made.quantiles.values())
        every = np.column_stack([*forecasts, *made.below_mean.values()])
        keys = zip(data.at[samples].tolist(), data.windows.symbol[samples], strict=True)
        return dict(zip(keys, map(tuple, every.tolist()), strict=True))

    before, after = said(data, made), said(other, again)
    known = [key for key in before if key[0] <= instant.item() and (key[1] == BTC or key in after)]
    assert {symbol for _, symbol in known} == {BTC, ETH}
    assert [before[key] for key in known] == [after[key] for key in known]
    later = [key for key in before if key[0] > instant.item() and key[1] == ETH]
    assert any(before[key] != after[key] for key in later if key in after)
    assert any(key not in after for key in later)


@pytest.mark.slow
def test_losses_of_an_instant_are_the_mean_over_its_symbols(data: TrainingSet, made: Walk) -> None:
    full = losses(data, made, service="all")
    assert len(full.at) == len(np.unique(data.at[made.samples])) < len(made.samples)
    alone = {symbol: losses(*each, service="all") for symbol, each in apart(data, made).items()}
    both = np.intersect1d(alone[BTC].at, alone[ETH].at)
    only = np.setdiff1d(full.at, alone[ETH].at)
    assert min(len(both), len(only)) > 30

    def at(lost: Losses, instants: np.ndarray) -> np.ndarray:
        return lost.volatility[MODEL][np.searchsorted(lost.at, instants)]

    np.testing.assert_allclose(at(full, both), (at(alone[BTC], both) + at(alone[ETH], both)) / 2)
    np.testing.assert_array_equal(at(full, only), at(alone[BTC], only))
    section: Any = symbols.section(data, made, service="all", caption=str)
    assert [row["symbol"] for row in section["held"]] == [BTC, ETH]
    assert section["held"][1]["count"] == len(alone[ETH].at)
    assert len(section["rows"]) == 2 * 3
    assert symbols.notes(section)[0].startswith("volatility, each symbol alone: BTC-USD ")


def test_symbols_that_are_one_prove_as_much_as_one() -> None:
    rng = np.random.default_rng(3)
    up = rng.random(900) < 0.5
    said = np.where(rng.random(900) < 0.6, up, ~up)
    at = np.datetime64("2024-01-01", "us") + np.arange(900)
    one = pesaran_timmermann(said, up, lag=4)
    two = pesaran_timmermann_of_several(
        np.repeat(said, 2), np.repeat(up, 2), at=np.repeat(at, 2), which=np.tile([0, 1], 900), lag=4
    )
    assert two.statistic == pytest.approx(one.statistic)
    assert two.accuracy == pytest.approx(one.accuracy)
    assert one.p_value < 0.01


def test_to_bet_on_the_symbol_that_rises_more_often_is_no_skill() -> None:
    rng = np.random.default_rng(4)
    at, which = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(900), 2), np.tile([0, 1], 900)
    up = rng.random(1800) < np.where(which == 0, 0.9, 0.1)
    assert pesaran_timmermann_of_several(which == 0, up, at=at, which=which, lag=4).p_value == 1.0


@pytest.mark.prove
def test_size_of_the_signs_of_several_symbols() -> None:
    rejected, runs, horizon, n = 0, 2000, 24, 3000
    for seed in range(runs):
        rng = np.random.default_rng(seed)

        def summed(rng: np.random.Generator = rng) -> Any:
            # Three symbols whose moves have a correlation of .8, over horizons that overlap.
            moves = np.sqrt(0.8) * rng.standard_normal((n + horizon, 1)) + np.sqrt(0.2) * rng.standard_normal(
                (n + horizon, 3)
            )
            total = np.cumsum(moves, axis=0)
            return (total[horizon:] - total[:-horizon])[:n].ravel()

        at, which = np.repeat(np.datetime64("2024-01-01", "us") + np.arange(n), 3), np.tile(np.arange(3), n)
        found = pesaran_timmermann_of_several(summed() > 0, summed() > 0, at=at, which=which, lag=4 * horizon)
        rejected += found.p_value < 0.05
    print(f"signs of three symbols without skill pass at 5 %: {rejected / runs:.3f}")
    assert 0.03 < rejected / runs < 0.08


def test_equal_shares_of_one_thing_are_the_thing() -> None:
    rng = np.random.default_rng(5)
    closed_at = np.datetime64("2024-01-01", "us") + np.arange(300) * np.timedelta64(1, "h")
    tape = Tape(closed_at=closed_at, returns=rng.normal(0, 0.01, 300), step=timedelta(hours=1))
    held = {rule: rng.uniform(-1, 1, 300) for rule in (*RULES, HOLD)}
    book = Book(tape=tape, held=held)
    one, two = (trade(dict.fromkeys(names, book), horizon=4, lag=16, costs=Costs()) for names in ((BTC,), (BTC, ETH)))
    for alone, shared in zip((*one.rules, one.hold), (*two.rules, two.hold), strict=True):
        np.testing.assert_allclose(shared.net, alone.net, atol=1e-15)
        assert shared.exposure == pytest.approx(alone.exposure)
        assert shared.random_p == pytest.approx(alone.random_p)
    assert two.symbols == (BTC, ETH)


def test_the_share_of_what_has_no_bars_yet_lies_idle_and_a_missing_bar_trades_nothing() -> None:
    def tape(hours: list[int], returns: list[float]) -> Tape:
        closed_at = np.datetime64("2024-01-01", "us") + np.array(hours) * np.timedelta64(1, "h")
        return Tape(closed_at=closed_at, returns=np.array(returns), step=timedelta(hours=1))

    first, later = tape([0, 1, 2, 3, 4], [0.0, 0.1, 0.1, 0.1, 0.1]), tape([2, 4], [0.0, 0.3])
    books = {
        BTC: Book(tape=first, held=dict.fromkeys((*RULES, HOLD), np.ones(5))),
        ETH: Book(tape=later, held=dict.fromkeys((*RULES, HOLD), np.ones(2))),
    }
    made = trade(books, horizon=1, lag=1, costs=Costs(fee_bp=100, half_spread_bp=0, slippage_bp=0))
    np.testing.assert_allclose(made.hold.held, [0.5, 0.5, 1, 1, 1])
    np.testing.assert_allclose(made.hold.gross, [0, 0.05, 0.05, 0.05, 0.05 + 0.15])
    np.testing.assert_allclose(made.hold.gross - made.hold.net, [0.005, 0, 0.005, 0, 0.01])


def test_instants_that_nobody_shares_stay_as_they_are() -> None:
    values = np.array([3.0, 1.0, 2.0])
    at = np.array(["2024-01-02", "2024-01-01", "2024-01-03"], dtype="datetime64[us]")
    instants = Instants.of(at)
    np.testing.assert_array_equal(instants.averaged(values), values)
    np.testing.assert_array_equal(instants.at, at)


def as_facts(bars: pl.DataFrame, symbol: str) -> pl.DataFrame:
    """Return bars with every column of the lake's table, their ranges made up around the close."""
    opened = pl.col("close").shift(1).fill_null(pl.col("close"))
    return bars.with_columns(
        venue=pl.lit("kraken"),
        symbol=pl.lit(symbol),
        timeframe=pl.lit("1h"),
        open=opened,
        high=pl.max_horizontal(opened, "close") * 1.001,
        low=pl.min_horizontal(opened, "close") * 0.999,
        volume=1.0 + pl.int_range(pl.len()) % 7,
        quote_volume=pl.lit(None, pl.Float64),
        available_at_estimated=pl.lit(False),
        source=pl.lit("made up"),
    )


@pytest.mark.prove
def test_one_model_of_two_symbols_from_bars_to_forecasts(
    bars_and_states: Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]], tmp_path: Path
) -> None:
    from backsight_features.store import Store

    facts = {symbol: bars_and_states(seed, 1300)[0] for seed, symbol in enumerate((BTC, ETH))}
    written, workspace = datetime(2024, 1, 1, tzinfo=UTC), Workspace(root=tmp_path / "home")
    lake, series = Lake(workspace.lake), [f"kraken:{symbol}:1h" for symbol in (ETH, BTC)]
    for symbol, bars in facts.items():
        lake.append(BARS, as_facts(bars, symbol), now=written)
    build(Snapshot.take(lake), workspace.features, [BarSeries.parse(one) for one in series])
    store = Store(REPO, workspace)
    store.apply()
    (tmp_path / "small.toml").write_text("members = 1\nepochs = 1\nunits = 2\nprojection = 2\n")

    def said(verb: str, *arguments: str) -> Any:
        asked = ["--home", str(workspace.root), verb, *arguments, "--json"]
        done = CliRunner().invoke(cli, asked, catch_exceptions=False)
        return json.loads(done.stdout.splitlines()[-1])

    named = [part for one in series for part in ("--bars", one)]
    small = ("--length", "6", "--settings", str(tmp_path / "small.toml"), "--folds", "1", "--final", "15%")
    trained = said("train", "--repo", str(REPO), *named, *small)
    name, document = Path(trained["bundle"]).name, json.loads(Path(trained["report_json"]).read_text())
    assert document["manifest"]["series"] == [f"kraken:{BTC}:1h", f"kraken:{ETH}:1h"]
    assert document["title"].startswith(f"kraken:{BTC}:1h and kraken:{ETH}:1h, 24 bars ahead")
    assert document["final_period"]["series"] == document["manifest"]["series"]
    assert {row["symbol"] for row in document["symbols"]["rows"]} == {BTC, ETH}
    assert document["needs"]["volatility"] == ["HAR-X", "log-HAR", "persistence", OWN]
    assert document["trading"]["symbols"] == [BTC, ETH]
    page = Path(trained["report_html"]).read_text()
    assert "<h2>Each symbol alone</h2>" in page
    assert "equal shares of BTC-USD and ETH-USD" in page

    said("promote", name, "--override", "to see it")
    pointers = json.loads((workspace.models / "current.json").read_text())
    assert {symbol: pointer["bundle"] for symbol, pointer in pointers.items()} == {BTC: name, ETH: name}
    at = facts[BTC]["observed_at"][-1] + timedelta(minutes=1)
    store.publish("forecast_1h", length=6, at=at)
    for symbol in (BTC, ETH):
        forecast = said("forecast", "--repo", str(REPO), symbol, "--at", at.isoformat())
        assert (forecast["symbol"], forecast["bundle"]) == (symbol, name)
        assert said("replay", forecast["id"])["equal"]
    with pytest.raises(BadInput, match="has no proven skill, and a refit of it would have none"):
        said("retrain", "--repo", str(REPO), "--bars", series[0])
    looked = said("retrain", "--repo", str(REPO), "--bars", series[0], "--override", "to see it", "--policy", "never")
    assert (looked["series"], looked["champion"], looked["due"]) == (document["manifest"]["series"], name, False)

    # Facts that come in late have no part in what is built again.
    late = as_facts(facts[ETH][900:940].with_columns(pl.col("close") * 1.001), ETH)
    lake.append(BARS, late, now=written + timedelta(days=1))
    again = said("dataset", "--repo", str(REPO), "--rebuild", str(workspace.models / name / "bundle.json"))
    assert again["manifest"]["sha256"] == document["manifest"]["sha256"]

    # Where one of the symbols got a model of its own, the other is not trained again over its head.
    pointers[ETH]["bundle"] = "another"
    (workspace.models / "current.json").write_text(json.dumps(pointers))
    with pytest.raises(BadInput, match=r"and ETH-USD is forecast by another; promote .* again, or train"):
        said("retrain", "--repo", str(REPO), "--bars", f"kraken:{BTC}:1h", "--override", "to see it")
    build(Snapshot.take(lake), workspace.features, [BarSeries.parse(series[0])])
    with pytest.raises(
        BadInput, match="come from different states of the lake; run `backsight build --bars kraken:BTC"
    ):
        said("train", "--repo", str(REPO), *named, *small, "--second-look")

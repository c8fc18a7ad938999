"""Verdict, red flags and report: words that follow from numbers, and a page that needs nothing beside it."""

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_model import distribution, flags, report
from backsight_model.manifest import Manifest
from backsight_model.quantiles import GAUSSIAN, LEVELS
from backsight_model.settings import Settings
from backsight_model.trading import Costs, trade_walk
from backsight_model.training import TrainingSet
from backsight_model.verdict import TARGETS, Verdict, decide, losses, sentence
from backsight_model.walk import MODEL, Walk

World = Callable[..., TrainingSet]


def made_up(data: TrainingSet, *, knows: float) -> Walk:
    """A walk whose model knows a share of the truth that the baselines do not."""
    samples = np.arange(len(data) // 3, len(data))
    rng = np.random.default_rng(0)
    truth, level = data.log_rv[samples], float(data.log_rv.mean())
    noise = rng.standard_normal(len(samples))
    plain = level + 0.3 * noise
    toss = np.full(len(samples), 0.5)
    sure = 0.5 + knows * (data.up[samples] - 0.5)
    came, width = data.log_return[samples, None], np.exp(0.5 * plain)[:, None]
    quantiles = dict.fromkeys(("persistence", "HAR-X", "linear"), width * GAUSSIAN)
    log_rv = dict.fromkeys(("persistence", "log-HAR", "HAR-X", "linear"), plain)
    p_up = dict.fromkeys(("base rate", "persistence", "one-bar reversal", "logistic"), toss)
    return Walk(
        samples=samples,
        fold=1 + (np.arange(len(samples)) >= len(samples) // 2),
        log_rv={**log_rv, MODEL: plain + knows * (truth - plain)},
        p_up={**p_up, MODEL: np.clip(sure + 0.01 * noise, 0.01, 0.99)},
        quantiles={**quantiles, MODEL: knows * came + (1 - knows) * width * GAUSSIAN},
        below_mean={name: np.full(len(samples), 0.1) for name in (*log_rv, MODEL)},
        by_seed={
            "volatility": plain + np.array([[knows], [0.5 * knows]]) * (truth - plain),
            "direction": np.clip(np.stack([sure, 0.5 + 0.5 * (sure - 0.5)]), 0.01, 0.99),
            "return": np.stack([share * came + (1 - share) * width * GAUSSIAN for share in (knows, 0.5 * knows)]),
        },
        clock_up=np.ones(len(samples), dtype=bool),
        epochs=((1, 0), (2, 2)),
        notes=(),
    )


SERVICES = ("price_1h", "price_text_1h")


def verdict_of(data: TrainingSet, walk: Walk, *beside: Walk) -> Verdict:
    others = tuple(losses(data, other, service=name) for name, other in zip(SERVICES, beside, strict=False))
    full = losses(data, walk, service="forecast_1h")
    trading = trade_walk(data, walk, {"BTC-USD": bars_of(data)}, lag=full.lag, costs=Costs())
    return decide(full, others, trading)


def bars_of(data: TrainingSet) -> pl.DataFrame:
    """The bars that the newest slots of windows stand for."""
    closes = pl.Series(data.windows.observed_at).dt.replace_time_zone("UTC")
    return pl.DataFrame({"observed_at": closes, "close": np.exp(np.cumsum(data.newest("ret_log_1h")))})


def raised(data: TrainingSet, walk: Walk) -> list[str]:
    full = losses(data, walk, service="forecast_1h")
    return [check.name for check in flags.checks(data, walk, full, verdict_of(data, walk)) if check.raised]


@pytest.fixture(scope="module")
def data(world: World) -> TrainingSet:
    return world(0, hours=3000)


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.parametrize(
    ("knows", "word", "first"),
    [
        (0.0, "no skill", "Verdict: no skill."),
        (0.4, "tradable", "Verdict: tradable, with skill in volatility, direction and return."),
    ],
)
def test_the_words_match_the_numbers(data: TrainingSet, knows: float, word: str, first: str) -> None:
    verdict = verdict_of(data, made_up(data, knows=knows), made_up(data, knows=0.0))
    assert verdict.word == word
    assert len(verdict.claims) == 6
    overall, *each, _ = verdict.sentences
    assert overall == first
    for claim, said in zip(verdict.claims, each, strict=True):
        hardest = claim.hardest
        assert said.startswith(f"{claim.name}: {'skill' if claim.proven else 'no skill'}. ")
        assert claim.proven == (claim.adjusted <= 0.05) == bool(knows)
        assert f"that of {hardest.reference}" in said
        assert ("below" in said) == (hardest.gain > 0)
        change, low, high, p_value, *seen = numbers(said)
        assert change == pytest.approx(100 * abs(hardest.skill), abs=0.006)
        assert low <= 100 * hardest.skill + 0.01
        assert high >= 100 * hardest.skill - 0.01
        assert ("p < " in said) == (claim.adjusted < 0.0001)
        assert p_value == pytest.approx(max(claim.adjusted, 0.0001), abs=6e-5)
        assert bool(seen) == (not claim.proven)


@pytest.mark.parametrize("knows", [0.0, 0.4])
def test_what_trading_would_have_earned_is_said(data: TrainingSet, knows: float) -> None:
    verdict = verdict_of(data, made_up(data, knows=knows))
    trading, said = verdict.trading, verdict.sentences[-1]
    assert trading is not None
    best = max(verdict.tradable or trading.rules, key=lambda one: one.net_year)
    assert said.startswith(
        f"trading: {'tradable' if knows else 'not tradable'}. The best of 4 rules, {best.rule}, earns "
    )
    earned, p_value, even, held = numbers(said)
    assert earned == pytest.approx(100 * best.net_year, abs=0.051)
    assert p_value == pytest.approx(max(trading.adjusted[best.rule], 0.0001), abs=6e-5)
    assert best.break_even_bp is not None
    assert even == pytest.approx(best.break_even_bp, abs=0.051)
    assert held == pytest.approx(100 * trading.hold.net_year, abs=0.051)


def test_skill_that_costs_eat_is_skill_and_not_tradable(data: TrainingSet) -> None:
    verdict = verdict_of(data, made_up(data, knows=0.4))
    assert verdict.trading is not None
    rules = tuple(replace(one, break_even_bp=11.9) for one in verdict.trading.rules)
    dear = replace(verdict, trading=replace(verdict.trading, rules=rules))
    assert dear.word == "skill"
    assert dear.sentences[0] == "Verdict: skill in volatility, direction and return; not tradable at 12 bp a side."
    assert dear.sentences[-1].startswith("trading: not tradable. ")
    assert replace(verdict, trading=None).sentences[0] == "Verdict: skill in volatility, direction and return."


@pytest.mark.parametrize(("knows", "said"), [(0.0, "adds nothing measurable to"), (0.4, "adds to")])
def test_what_the_lstm_adds_is_said(data: TrainingSet, knows: float, said: str) -> None:
    notes = verdict_of(data, made_up(data, knows=knows)).notes
    assert [note.split(":")[0] for note in notes] == ["volatility", "direction", "return"]
    assert all(f"the LSTM {said} the" in note for note in notes)


def test_a_loss_is_called_a_loss(data: TrainingSet) -> None:
    verdict = verdict_of(data, made_up(data, knows=-0.5))
    for claim in verdict.claims:
        assert not claim.proven
        assert "above that of" in sentence(claim, 2)


def test_what_is_paired_is_the_same_instant(data: TrainingSet) -> None:
    walk = made_up(data, knows=0.4)
    fewer = walk.samples[5:-7:2]
    part = np.isin(walk.samples, fewer)
    other = replace(
        walk,
        samples=fewer,
        fold=walk.fold[part],
        log_rv={name: values[part] for name, values in walk.log_rv.items()},
        p_up={name: values[part] for name, values in walk.p_up.items()},
        quantiles={name: values[part] for name, values in walk.quantiles.items()},
        below_mean={name: values[part] for name, values in walk.below_mean.items()},
        clock_up=walk.clock_up[part],
    )
    paired = verdict_of(data, walk, other).claims[3].comparisons[0]
    assert paired.count == len(fewer)
    assert paired.gain == 0


def test_what_quantiles_hold_is_counted(data: TrainingSet) -> None:
    walk = made_up(data, knows=0.0)
    count = len(walk.samples)
    place = np.arange(count) % 20
    # One half of the range in twenty lies below the lowest quantile, and so on up; the last two instants cross.
    came = np.searchsorted(LEVELS, (place + 0.5) / 20) - 0.5
    quantiles = np.tile(np.arange(len(LEVELS), dtype=np.float64), (count, 1))
    quantiles[-2:, 0] = 9.0
    moved = replace(data, log_return=np.concatenate([np.zeros(len(data) - count), came]))
    counted = replace(walk, quantiles={"HAR-X": quantiles, MODEL: quantiles})
    section = distribution.section(moved, counted, lag=96, caption=str)
    (row, model) = section["rows"]
    assert (row["crossings"], row["model"], model["model"]) == (2, False, True)
    shares = [one["share"] for one in row["below"]]
    np.testing.assert_allclose(shares, LEVELS, atol=0.01)
    assert [one["level"] for one in row["intervals"]] == [0.5, 0.8, 0.9]
    np.testing.assert_allclose([one["share"] for one in row["intervals"]], [0.5, 0.8, 0.9], atol=0.01)
    assert section["words"].startswith(f"Quantiles of the model cross at 2 of {count:,} forecasts. Its 80 % interval ")


def test_too_good_to_be_true_is_flagged(world: World) -> None:
    year = world(1, hours=14000)
    assert raised(year, made_up(year, knows=0.9)) == ["accuracy", "net Sharpe ratio"]
    blind = made_up(year, knows=0.0)
    assert raised(year, blind) == []
    looked_for = flags.checks(year, blind, losses(year, blind, service="forecast_1h"), verdict_of(year, blind))
    assert len({check.name for check in looked_for}) == len(looked_for) == 9


@pytest.mark.parametrize(("move", "said"), [("ret_log_24h", "day"), ("ret_log_1h", "bar")])
def test_repeating_the_last_move_is_flagged(data: TrainingSet, move: str, said: str) -> None:
    walk = made_up(data, knows=0.0)
    echo = replace(walk, p_up={**walk.p_up, MODEL: 1 / (1 + np.exp(data.newest(move)[walk.samples]))})
    assert raised(data, echo) == ["last move"]
    full = losses(data, echo, service="forecast_1h")
    assert any(
        f"-1.00 with the last {said}" in check.said for check in flags.checks(data, echo, full, verdict_of(data, echo))
    )


def test_knowing_only_the_clock_is_flagged(data: TrainingSet) -> None:
    walk = made_up(data, knows=0.4)
    assert "nearest neighbour on the clock" not in raised(data, walk)
    clock = replace(walk, clock_up=data.up[walk.samples])
    assert "nearest neighbour on the clock" in raised(data, clock)


def test_a_gain_that_a_longer_embargo_takes_away_is_flagged(world: World) -> None:
    """As where labels of the training part reach into the test: right after it all is known, and later nothing."""
    year = world(1, hours=14000)
    honest = made_up(year, knows=0.4)
    place = np.arange(len(honest.samples))
    folds = replace(honest, fold=1 + place // 700)
    assert not [name for name in raised(year, folds) if name.startswith("embargo")]
    near, blind = place % 700 < 120, made_up(year, knows=0.0)
    leaky = replace(
        folds,
        log_rv=folds.log_rv | {MODEL: np.where(near, honest.log_rv[MODEL], blind.log_rv[MODEL])},
        p_up=folds.p_up | {MODEL: np.where(near, honest.p_up[MODEL], blind.p_up[MODEL])},
        quantiles=folds.quantiles | {MODEL: np.where(near[:, None], honest.quantiles[MODEL], blind.quantiles[MODEL])},
    )
    assert verdict_of(year, leaky).skill
    assert {"embargo, volatility", "embargo, direction", "embargo, return"} <= set(raised(year, leaky))


class Page(HTMLParser):
    """Collects captions and everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.captions: list[str] = []
        self.loads: list[str] = []
        self.tables = 0
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tables += tag == "table"
        self._open = tag == "caption"
        if self._open:
            self.captions.append("")
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "caption"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.captions[-1] += data


@pytest.fixture
def written(data: TrainingSet, tmp_path: Path) -> tuple[Path, Path]:
    walk = made_up(data, knows=0.4)
    others = [made_up(data, knows=knows) for knows in (0.1, 0.2)]
    verdict = verdict_of(data, walk, *others)
    manifest = Manifest(
        series=["bitstamp:BTC-USD:1h"],
        service="forecast_1h",
        features_sha256="1" * 64,
        length=24,
        horizon=24,
        seed=1,
        ingested_until="2024-01-01T00:00:00+00:00",
        first_at="2023-01-01T00:00:15+00:00",
        last_at="2023-12-31T00:00:15+00:00",
        lake_versions={"bars": 3},
        feature_versions={"market_1h": 0},
        scorer="<b>words</b>@1",
        code="0.1.0",
        samples=len(data),
        sha256="0" * 64,
    )
    return report.write(
        report.Report(
            manifest=manifest,
            data=data,
            walked=walk,
            full=losses(data, walk, service="forecast_1h"),
            others=tuple(losses(data, other, service=name) for name, other in zip(SERVICES, others, strict=True)),
            verdict=verdict,
            checks=(
                flags.Check(name="this", raised=True, said="Beware of <this>."),
                flags.Check(name="that", raised=False, said="There is no <that>."),
            ),
            trials=1,
            settings=Settings(),
        ),
        tmp_path / "report",
    )


@pytest.mark.slow
def test_the_page_stands_alone_and_names_the_scorer_everywhere(written: tuple[Path, Path]) -> None:
    page = Page()
    text = written[0].read_text()
    page.feed(text)
    assert len(page.loads) == 18
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert len(page.captions) == page.tables >= 20

    assert all("texts scored by <b>words</b>@1" in caption for caption in page.captions)
    assert "<b>words" not in text
    assert text.count("Beware of &lt;this&gt;.") == 2, "as a flag, and among what was looked for"
    assert text.count("There is no &lt;that&gt;.") == 1


@pytest.mark.slow
def test_the_page_and_the_json_say_the_same(written: tuple[Path, Path]) -> None:
    document = json.loads(written[1].read_text())
    text = html.unescape(written[0].read_text())
    assert document["verdict"] == "tradable"
    assert document["red_flags"] == ["Beware of <this>."]
    assert [check["name"] for check in document["looked_for"]] == ["this", "that"]
    for row in document["trading"]["rules"]:
        assert f"<td>{row['rule']}</td><td>{row['needs']}</td>" in text
        assert f"<td>{row['break_even_bp']:.1f} bp</td>" in text
        assert f"{row['sharpe']:+.2f} [{row['sharpe_interval'][0]:+.2f}, {row['sharpe_interval'][1]:+.2f}]" in text
    for said in (*document["sentences"], *document["notes"]):
        assert said in text
    for table in document["tables"]:
        for row in table["rows"]:
            assert f"<td>{row['pooled']:.4f}</td>" in text
            assert np.mean(row["folds"]) == pytest.approx(row["pooled"], rel=0.01)
    ablation = document["ablation"]["rows"]
    assert [(row["target"], row["reference"]) for row in ablation] == [
        (target, service) for service in SERVICES for target in TARGETS
    ]

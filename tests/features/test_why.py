"""Why a value is what it is: held against an oracle that looks at every fact in plain Python."""

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from math import cos, log, log1p, pi, sin, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.behind.facts import PASSED, READ
from backsight_features.building.build import build
from backsight_features.building.identities import identify
from backsight_features.building.states import KINDS, Background, features, states
from backsight_features.cli import cli
from backsight_features.errors import BacksightError, BadInput
from backsight_features.frames import Frames
from backsight_features.lake import Lake
from backsight_features.maintenance import maintain
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from backsight_features.text import Scorer
from backsight_features.why import Stored, Why, explain, explain_stored, find
from click.testing import CliRunner
from deltalake import CommitProperties, DeltaTable, write_deltalake

Row = dict[str, Any]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SCORER = Scorer(name="lexicon", revision="1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Said once more, by hand: hours that a market feature looks back.
LOOKBACK = {
    "ret_log_1h": 1,
    "ret_log_24h": 24,
    "log_rv_24h": 24,
    "log_rv_120h": 120,
    "log_rv_528h": 528,
    "rsv_neg_24h": 24,
    "parkinson_24h": 24,
    "range_1h": 0,
    "volume_z_168h": 168,
    "boll_pctb_20": 20,
    "boll_width_20": 20,
    **dict.fromkeys(("macd_hist", "rsi_14", "atr_14", "adx_14"), 2048),
    **dict.fromkeys(("hour_sin", "hour_cos", "dow_sin", "dow_cos"), 0),
}


class Oracle:
    """What is behind a value, told by going through all facts one by one."""

    def __init__(self, facts: dict[str, pl.DataFrame]) -> None:
        self.facts = {name: frame.to_dicts() for name, frame in facts.items()}

    def market(self, symbol: str, name: str, at: datetime) -> tuple[set[Any], float | str | None]:
        known = [bar for bar in self.facts["bars"] if bar["symbol"] == symbol and bar["available_at"] <= at]
        newest = max(bar["observed_at"] for bar in known)
        held: dict[int, Row] = {}
        for bar in known:
            slot = (newest - bar["observed_at"]) // HOUR
            if slot <= LOOKBACK[name] and (slot not in held or _order(held[slot]) < _order(bar)):
                held[slot] = bar
        read = {("bars", bar["observed_at"], bar["available_at"]) for bar in held.values()}
        return read, _market(name, held, newest)

    @cache  # noqa: B019  # one oracle for one test
    def sights(self, source: str) -> list[Row]:
        """Return each text once, first seen first, with when it was scored and what was said of it."""
        table, key = ("news", "id") if source == "news" else ("posts", "id")
        firsts: dict[str, Row] = {}
        for row in self.facts[table]:
            if row[key] not in firsts or _seen(row) < _seen(firsts[row[key]]):
                firsts[row[key]] = row
        said: set[str] = set()
        found = []
        for row in sorted(firsts.values(), key=lambda row: (row["available_at"], row["observed_at"])):
            title, body = (None if row[name] in (None, "[removed]") else row[name] for name in ("title", "text"))
            words = " ".join(part for part in (title, body) if part)
            if words and words in said:
                continue
            said.add(words)
            ids = [hashlib.sha256(part.encode()).hexdigest()[:32] for part in (title, body) if part]
            scores = [score for one in ids if (score := self._score(one)) is not None]
            found.append({**row, "scores": scores, "scored_at": None})
            if scores:
                found[-1]["scored_at"] = max(row["available_at"], *(score["available_at"] for score in scores))
        return found

    def _score(self, text_id: str) -> Row | None:
        own = [
            row
            for row in self.facts["scores"]
            if row["text_id"] == text_id and (row["scorer"], row["revision"]) == ("lexicon", "1")
        ]
        return min(own, key=lambda row: row["available_at"], default=None)

    def text(self, _: str, name: str, at: datetime) -> tuple[set[Any], float | str | None]:
        source, _, what = name.partition("_")
        table = "news" if source == "news" else "posts"
        since = at - 169 * HOUR
        scored = what not in ("count_24h", "age_h")
        read, near, judged = set(), [], []
        for row in self.sights(source):
            known, when = row["available_at"], row["scored_at"]
            lately = since <= known <= at
            if lately or (scored and when is not None and since <= when <= at):
                read.add((table, row["id"], row["observed_at"], known))
                if scored:
                    read |= {
                        ("scores", score["text_id"], score["available_at"])
                        for score in row["scores"]
                        if score["available_at"] <= at
                    }
            if lately:
                near.append(row)
            if when is not None and when <= at and _bucket(when) >= _bucket(at) - 7 * DAY:
                judged.append(row)
        # Silence of a week: the source is not being read.
        if not any(at - row["available_at"] < 7 * DAY for row in near):
            return read, None
        return read, _text(what, near, judged, at)

    def macro(self, _: str, name: str, at: datetime) -> tuple[set[Any], float | str | None]:
        id_, what = (name[:-6], "age_d") if name.endswith("_age_d") else name.rsplit("_", 1)
        months = id_ in ("cpiaucsl", "unrate")
        own = {
            units: [row for row in self.facts["macro"] if (row["series"].lower(), row["units"]) == (id_, units)]
            for units in ("lin", "pch")
        }
        states = {units: _known(rows, at, months) for units, rows in own.items()}
        newest = {units: max(_numbered(held, months), default=None) for units, held in states.items()}
        if newest["lin"] is None and newest["pch"] is None:
            return set(), None
        units = "pch" if newest["pch"] is not None and newest["pch"] > (newest["lin"] or -9999) else "lin"
        held, last = states[units], newest[units]
        numbered = _numbered(held, months)
        visible = [row for row in own[units] if row["available_at"] <= at]
        first = min(
            (row for row in visible if _period(row, months) == last and row["value"] is not None),
            key=lambda row: row["available_at"],
        )
        periods = [last]
        if what == "change" and units == "lin":
            periods = numbered[:2]
        if what == "yoy" and units == "pch":
            periods = [last - lag for lag in range(12 if months else 365)]
        elif what == "yoy":
            all_ = {period for period, row in held.items() if row["value"] is not None}
            ago = [12] if months else range(365, 375)
            periods += [last - lag for lag in ago if last - lag in all_][:1]
        rows = visible if what == "surprise" else [held[period] for period in periods if period in held]
        read = {("macro", units, row["series"], row["observed_at"], row["available_at"]) for row in [*rows, first]}
        age = (at - first["available_at"]) / DAY
        if what == "age_d":
            return read, age
        if what == "surprise":
            return read, "not told"
        if age > (100 if months else 14):
            return read, None
        return read, _macro(what, units, id_, held, periods, months)

    def book(self, symbol: str, name: str, at: datetime) -> tuple[set[Any], float | str | None]:
        held: dict[datetime, Row] = {}
        for look in self.facts["books"]:
            taken = look["observed_at"]
            if (look["venue"], look["symbol"]) != ("v", symbol) or look["available_at"] > at or taken <= at - DAY:
                continue
            if taken not in held or held[taken]["available_at"] < look["available_at"]:
                held[taken] = look
        looks = [held[taken] for taken in sorted(held)]
        lately = [look for look in looks if look["observed_at"] > at - HOUR]
        newest, what = looks[-1] if looks else None, name.removeprefix("book_")
        behind = lately
        if what.endswith("_last"):
            behind = lately[-1:]
        elif what == "age_h" or (what == "count_1h" and not lately):
            behind = looks[-1:]
        read = {("books", look["observed_at"], look["available_at"]) for look in behind}
        return read, _book(what, lately, newest, at)


def _book(what: str, lately: list[Row], newest: Row | None, at: datetime) -> float | None:
    if what == "age_h":
        return None if newest is None else (at - newest["observed_at"]) / HOUR
    if what == "count_1h":
        return None if newest is None else log1p(len(lately))
    name, of = what.rsplit("_", 1) if what.endswith("_last") else what.removesuffix("_1h").rsplit("_", 1)
    said = [_side(look) if name == "imbalance" else _spread(look) for look in lately]
    if of == "last":
        return said[-1] if said else None
    told = [value for value in said if value is not None]
    mean = sum(told) / len(told) if told else None
    if of == "mean" or mean is None:
        return mean
    return sqrt(sum((value - mean) ** 2 for value in told) / len(told)) if len(told) > 1 else None


def _spread(look: Row) -> float:
    return 20_000 * (look["ask"] - look["bid"]) / (look["ask"] + look["bid"])


def _side(look: Row) -> float | None:
    both = look["bid_depth"] + look["ask_depth"]
    return (look["bid_depth"] - look["ask_depth"]) / both if both else None


def _order(bar: Row) -> tuple[Any, ...]:
    return bar["available_at"], bar["ingested_at"], *(bar[name] for name in ("open", "high", "low", "close", "volume"))


def _seen(row: Row) -> tuple[Any, ...]:
    return row["available_at"], row["ingested_at"], row["observed_at"]


def _bucket(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _market(name: str, held: dict[int, Row], newest: datetime) -> float | str | None:
    if name[:4] in ("hour", "dow_"):
        turn = (newest.hour + newest.minute / 60) / 24 if name.startswith("hour") else newest.weekday() / 7
        return (sin if name.endswith("sin") else cos)(2 * pi * turn)
    if name in ("macd_hist", "rsi_14", "atr_14", "adx_14"):
        return "not told"
    if name == "range_1h":
        return log(held[0]["high"] / held[0]["low"])
    slots = LOOKBACK[name]
    if name.startswith("ret_log"):
        return log(held[0]["close"] / held[slots]["close"]) if slots in held else None
    if name.startswith("boll"):
        if any(slot not in held for slot in range(20)):
            return None
        closes = [held[slot]["close"] for slot in range(20)]
        deviation = float(np.std(closes))
        mean = sum(closes) / 20
        lower = mean - 2 * deviation
        return 4 * deviation / mean if name == "boll_width_20" else (closes[0] - lower) / (4 * deviation)
    if name == "volume_z_168h":
        volumes = [held[slot]["volume"] for slot in range(168) if slot in held]
        if len(volumes) < 0.9 * 168:
            return None
        return float((held[0]["volume"] - np.mean(volumes)) / np.std(volumes))
    if name == "parkinson_24h":
        spreads = [log(held[slot]["high"] / held[slot]["low"]) ** 2 for slot in range(24) if slot in held]
        return sqrt(sum(spreads) * 24 / len(spreads) / (4 * log(2))) if len(spreads) >= 0.9 * 24 else None
    returns = [
        log(held[slot]["close"] / held[slot + 1]["close"]) for slot in range(slots) if slot in held and slot + 1 in held
    ]
    if len(returns) < 0.9 * slots:
        return None
    squares = sum(value**2 for value in returns)
    if name == "rsv_neg_24h":
        return sum(value**2 for value in returns if value < 0) / squares
    return log(squares * slots / len(returns))


def _text(what: str, near: list[Row], judged: list[Row], at: datetime) -> float | None:
    def said(row: Row) -> datetime:
        return min(row["observed_at"], row["available_at"])

    if what == "count_24h":
        return log1p(sum(at - said(row) < DAY for row in near))
    if what == "age_h":
        age = (at - max(said(row) for row in near)) / HOUR
        return age if age <= 168 else None
    told = []
    for row in judged:
        means = [sum(score[name] for score in row["scores"]) / len(row["scores"]) for name in _SHARES]
        told.append((said(row), means[0] - means[1], means[1] > max(means[0], means[2])))
    if what == "negshare_24h":
        lately = [negative for when, _, negative in told if at - when < DAY]
        return sum(lately) / len(lately) if lately else None
    if not told:
        return None

    def mean(half_life: float, power: int = 1) -> float:
        weights = [2 ** (-((at - when) / HOUR) / half_life) for when, *_ in told]
        return sum(w * value**power for w, (_, value, _) in zip(weights, told, strict=True)) / sum(weights)

    if what == "sent_24h":
        return mean(24)
    if what == "surprise":
        return mean(6) - sum(value for _, value, _ in told) / len(told)
    return sqrt(max(mean(24, 2) - mean(24) ** 2, 0)) if len(told) > 1 else None


_SHARES = ("p_positive", "p_negative", "p_neutral")


def _period(row: Row, months: bool) -> int:
    at: datetime = row["observed_at"]
    return (at.year - 1970) * 12 + at.month - 1 if months else (at - datetime(1970, 1, 1, tzinfo=UTC)) // DAY


def _known(rows: list[Row], at: datetime, months: bool) -> dict[int, Row]:
    held: dict[int, Row] = {}
    for row in rows:
        period = _period(row, months)
        if row["available_at"] <= at and (period not in held or held[period]["available_at"] <= row["available_at"]):
            held[period] = row
    return held


def _numbered(held: dict[int, Row], months: bool) -> list[int]:
    reach = max(held, default=0) - (24 if months else 40)
    return sorted((one for one, row in held.items() if row["value"] is not None and one > reach), reverse=True)


def _macro(what: str, units: str, id_: str, held: dict[int, Row], periods: list[int], months: bool) -> float | None:
    values = [held[period]["value"] if period in held else None for period in periods]
    logarithmic = id_ in ("cpiaucsl", "dtwexbgs")
    if what == "level":
        return values[0] if units == "lin" else None
    if what == "change" and units == "pch":
        return log1p(values[0] / 100) if logarithmic else values[0] / 100
    if what == "yoy" and units == "pch":
        return None if None in values else sum(log1p(value / 100) for value in values)
    if len(values) < 2:
        return None
    return log(values[0] / values[1]) if what == "yoy" or logarithmic else values[0] - values[1]


def read(why: Why) -> set[Any]:
    """Return which facts were read, named as the oracle names them."""
    found = set()
    for row in why.facts.filter(part=READ).iter_rows(named=True):
        words = row["fact"].split()
        if row["table"] in ("bars", "books"):
            found.add((row["table"], row["observed_at"], row["available_at"]))
        elif row["table"] == "scores":
            found.add(("scores", words[3], row["available_at"]))
        elif row["table"] == "macro":
            found.add(("macro", row["says"].split()[0], words[0], row["observed_at"], row["available_at"]))
        else:
            found.add((row["table"], words[-1].split("/")[-1], row["observed_at"], row["available_at"]))
    return found


def agree(world: Callable, seed: int, times: int) -> int:
    """Explain values at random, each held against the oracle; return how many of them were defined."""
    facts = world(seed, hours=700)
    other = world(seed + 100, hours=700)["bars"].with_columns(symbol=pl.lit("ETH-USD"))
    judged = facts["scores"].sample(30, seed=seed).with_columns(scorer=pl.lit("finbert"), p_positive="p_negative")
    elsewhere = facts["books"].with_columns(pl.col("bid") * 0.9, venue=pl.lit("w"))
    books = [facts["books"], facts["books"].with_columns(pl.col("bid_depth", "bid") * 0.99, symbol=pl.lit("ETH-USD"))]
    facts = {
        **facts,
        "bars": pl.concat([facts["bars"], other]),
        "scores": pl.concat([facts["scores"], judged]),
        "books": pl.concat([*books, elsewhere]),
    }
    frames, oracle = Frames(facts), Oracle(facts)
    versions = identify(frames)
    background = Background.read(frames, SCORER, versions)
    random = np.random.default_rng(seed)
    series = [BarSeries(venue="v", symbol=symbol, timeframe="1h") for symbol in ("BTC-USD", "ETH-USD")]
    tables = {(one, kind): states(kind, frames, one, background) for one in series for kind in KINDS}
    defined = 0
    for _ in range(times):
        one, kind = series[random.integers(2)], KINDS[random.integers(len(KINDS))]
        feature = features(kind, "1h")[random.integers(len(features(kind, "1h")))]
        stored = tables[one, kind][int(random.integers(tables[one, kind].height))]
        at = stored["available_at"].item()
        why = explain(frames, one, kind, feature, at, scorer=SCORER, versions=versions, asked=at + HOUR / 3)
        what = f"{feature.name} of {one.symbol} at {at}"
        value = stored[feature.name].item()
        assert (why.value is None) == (value is None), what
        assert value is None or np.float32(why.value).tobytes() == np.float32(value).tobytes(), what
        expected, right = getattr(oracle, kind)(one.symbol, feature.name, at)
        assert read(why) == expected, what
        if right != "not told":
            assert value == (None if right is None else pytest.approx(right, rel=2e-4, abs=2e-6)), what
        seen = why.facts.filter(pl.col("part") != PASSED)
        assert (seen["available_at"] <= at).all(), what
        assert why.facts["reason"].null_count() == 0, what
        defined += value is not None
    return defined


def test_what_is_said_to_be_behind_a_value_is_what_the_oracle_says(world: Callable) -> None:
    assert agree(world, 0, 50) >= 30


@pytest.mark.prove
def test_the_same_a_thousand_times(world: Callable) -> None:
    assert sum(agree(world, seed, 250) for seed in (1, 2, 3, 4)) >= 700


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, world: Callable) -> Path:
    """Return a home with features."""
    root = tmp_path_factory.mktemp("made")
    lake = Lake(root / "lake")
    for name, frame in world(0, hours=200).items():
        lake.append(FACTS[name], frame.drop("ingested_at"), now=NOW)
    build(Snapshot.take(lake), root / "features", [BarSeries.parse("v:BTC-USD:1h")])
    return root


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(made, tmp_path / "home"))


def told(home: Path, name: str, at: datetime) -> tuple[Stored, Why]:
    stored = find(home / "features", "BTC-USD", name, at)
    return stored, explain_stored(Lake(home / "lake"), home / "features", stored, at)


def reasons(why: Why) -> str:
    return "\n".join(why.facts["reason"].unique())


def test_every_reason_is_said(home: Path) -> None:
    bars = pl.read_delta(str(home / "lake" / "bars")).sort("available_at")
    twice = bars.filter(pl.col("observed_at").is_duplicated()).sort("available_at")[-1]
    at = twice["available_at"].item()
    _, why = told(home, "rsi_14", at + HOUR / 2)
    assert "superseded by the version available" in reasons(why)
    assert "available 2021-" in reasons(why)
    _, why = told(home, "range_1h", at + HOUR / 2)
    assert "outside the lookback of 0 bars" in reasons(why)
    at = datetime(2021, 3, 9, 6, tzinfo=UTC)
    _, why = told(home, "reddit_count_24h", at)
    assert "a later version of what was first seen" in reasons(why)
    assert "the same words were first seen" in reasons(why)
    _, why = told(home, "news_sent_24h", at)
    assert "but it was not scored by lexicon@1" in reasons(why)
    _, why = told(home, "unrate_level", at)
    assert "superseded by the version" not in reasons(why)
    assert "superseded by the vintage available" in reasons(why)


def test_what_came_in_since_the_build_has_no_part_and_what_is_not_kept_is_said(home: Path) -> None:
    at = datetime(2021, 3, 7, 12, tzinfo=UTC)
    lake = Lake(home / "lake")
    bars = pl.read_delta(str(home / "lake" / "bars")).filter(pl.col("available_at") <= at).sort("observed_at")[-1:]
    stored, _ = told(home, "range_1h", at)
    changed = bars.drop("ingested_at", "month").with_columns(pl.col("high") * 1.1)
    lake.append(FACTS["bars"], changed.with_columns(pl.col("available_at") + HOUR / 60), now=NOW + DAY)
    again, why = told(home, "range_1h", at)
    assert not again.differs(why)
    assert again.value == stored.value
    assert any("written to since the build" in note for note in why.notes)
    table = DeltaTable(str(home / "lake" / "bars"))
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    list(maintain(home / "lake"))
    again, why = told(home, "range_1h", at - DAY)
    assert any("read as it is now" in note for note in why.notes)
    assert not again.differs(why)


def run(home: Path, *arguments: str) -> Any:
    return CliRunner().invoke(cli, ["--home", str(home), "why", *arguments])


def test_the_verb_and_what_it_refuses(home: Path) -> None:
    at = "2021-03-07T12:00:00Z"
    done = run(home, "BTC-USD", at, "ret_log_1h")
    assert done.exit_code == 0, done.output
    assert "read: 2 of bars from test" in done.stdout
    document = json.loads(run(home, "BTC-USD", at, "vixcls_level", "--json").stdout)
    assert document["same"]
    assert document["stored"] == document["value"]
    assert {fact["part"] for fact in document["facts"]} == {"read", "row", "passed over"}
    for arguments, words in (
        (("BTC-USD", at, "rsi_15"), "rsi_14"),
        (("XRP-USD", at, "rsi_14"), "there are those of BTC-USD"),
        (("BTC-USD", "2020-01-01", "rsi_14"), "its first row is of"),
        (("BTC-USD", at, "rsi_14", "--bars", "v:BTC-USD:4h"), "run `backsight build --bars v:BTC-USD:4h`"),
    ):
        refused = run(home, *arguments)
        assert isinstance(refused.exception, BadInput)
        assert words in str(refused.exception)


def test_a_value_that_does_not_follow_from_its_facts_is_an_error(home: Path) -> None:
    path = str(home / "features" / "market_1h")
    rows = pl.read_delta(path).with_columns(pl.col("range_1h") + 1)
    history = DeltaTable(path).history(1)[0]
    properties = CommitProperties(custom_metadata={"backsight.built": history["backsight.built"]})
    write_deltalake(path, rows, mode="overwrite", commit_properties=properties)
    done = run(home, "BTC-USD", "2021-03-07T12:00:00Z", "range_1h")
    assert isinstance(done.exception, BacksightError)
    assert done.exception.exit_code == 1
    assert "follows from the facts that were visible then" in str(done.exception)

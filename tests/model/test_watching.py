"""Watching: outcomes are joined once known, intervals hold however often one looks, alerts say what to act on."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.errors import BadInput, NeedsAttention, SourceError
from backsight_features.lake import Lake
from backsight_features.schemas import BARS
from backsight_features.workspace import Workspace
from backsight_model import watch_cli
from backsight_model.baselines import HAR_TERMS, fit_har
from backsight_model.drift import Reference
from backsight_model.live.intervals import always
from backsight_model.live.lastseen import WATCHED, keep, to_mend
from backsight_model.live.outcomes import outcomes
from backsight_model.live.watching import watch
from backsight_model.scaling import fit_scaler
from backsight_model.target import ahead

HOUR = timedelta(hours=1)
FEATURES = (*HAR_TERMS, "ret_log_1h")


def answer(log_rv: float, p_up: float) -> str:
    """Return a forecast as it is logged, of a normal return."""
    deviation = float(np.exp(0.5 * log_rv))
    quantiles = {"0.1": -1.2816 * deviation, "0.9": 1.2816 * deviation}
    return json.dumps({"log_rv": log_rv, "p_up": p_up, "quantiles": quantiles})


class Past:
    """Bars, and a forecast at each of them by a model that knows as much as a test says."""

    def __init__(
        self, bars: pl.DataFrame, states: pl.DataFrame, knows: Callable[[np.ndarray, np.ndarray], Any]
    ) -> None:
        whole = states.drop_nulls(list(HAR_TERMS))
        rows = whole.select(FEATURES).fill_null(0.0).to_numpy().astype("<f4")
        slots = whole["observed_at"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
        came = ahead(bars, slots, horizon=24, timeframe=HOUR)
        labelled = ~np.isnat(came.label_at)
        scaler = fit_scaler(rows[labelled], FEATURES)
        harx = fit_har(scaler.transform(rows[labelled]), came.log_rv[labelled], terms=HAR_TERMS, features=FEATURES)
        self.bundle: Any = SimpleNamespace(
            name="b",
            horizon=24,
            timeframe=HOUR,
            features=FEATURES,
            scaler=scaler,
            harx=harx,
            manifest=SimpleNamespace(last_at="2022-01-01T00:00:00+00:00"),
            inputs={"BTC-USD": Reference.of(rows, FEATURES)},
        )
        self.bars, self.states = bars, states
        self.harx = harx.predict(scaler.transform(rows), FEATURES)
        log_rv, p_up = knows(np.where(labelled, came.log_rv, self.harx), self.harx)
        answers = [answer(*said) for said in zip(log_rv.tolist(), p_up.tolist(), strict=True)]
        self.log = whole.select("symbol", "observed_at", "available_at").with_columns(
            id=pl.int_range(pl.len()).cast(pl.String),
            service=pl.lit("s"),
            bundle=pl.lit("b"),
            at=pl.col("available_at"),
            length=pl.lit(1),
            width=pl.lit(len(FEATURES)),
            values=pl.Series([row.tobytes() for row in rows]),
            answer=pl.Series(answers),
        )
        self.now: datetime = self.log["available_at"][-1]

    def watched(self, **more: Any) -> Any:
        return watch("BTC-USD", self.log, self.bars, lambda name: self.bundle, now=self.now, **more)


@pytest.fixture(scope="module")
def facts(bars_and_states: Callable[[int, int], tuple[pl.DataFrame, pl.DataFrame]]) -> tuple[Any, Any]:
    return bars_and_states(3, 3000)


def test_an_outcome_is_joined_as_soon_as_its_last_bar_is_known(facts: tuple[Any, Any]) -> None:
    past = Past(*facts, lambda truth, harx: (truth, np.full(len(truth), 0.5)))
    found = outcomes(past.log, past.bars, lambda name: past.bundle)
    assert found.open == 24
    np.testing.assert_allclose(found.log_rv["model"], found.came_log_rv)
    np.testing.assert_allclose(found.log_rv["HAR-X"], past.harx[:-24], atol=1e-6)
    day = past.log.height - 24
    known = past.bars.filter(pl.col("available_at") <= past.bars["available_at"][-2])
    assert len(outcomes(past.log, known, lambda name: past.bundle).observed_at) == day - 1


def test_a_bar_that_two_bundles_forecast_counts_once(facts: tuple[Any, Any]) -> None:
    past = Past(*facts, lambda truth, harx: (truth, np.full(len(truth), 0.5)))
    later = past.log.with_columns(at=pl.col("at") + HOUR, answer=pl.lit(answer(1.0, 0.5)))
    found = outcomes(pl.concat([later, past.log]), past.bars, lambda name: past.bundle)
    assert set(found.log_rv["model"]) == {1.0}
    assert len(found.observed_at) == past.log.height - 24


def test_the_chart_shows_two_weeks_and_what_did_not_come_yet(facts: tuple[Any, Any]) -> None:
    past = Past(*facts, lambda truth, harx: (truth, np.full(len(truth), 0.5)))
    chart = past.watched().recent
    assert (len(chart.said), np.isnan(chart.came[-24:]).all(), chart.step) == (14 * 24, True, HOUR)
    np.testing.assert_allclose(chart.came[:-24], chart.said[:-24])
    # A day of hours, 365 of which are a year.
    log_rv = json.loads(past.log["answer"][-1])["log_rv"]
    assert chart.said[-1] == pytest.approx(np.sqrt(365 * np.exp(log_rv)))
    thin = chart.thinned(50)
    assert (len(thin.said), thin.step) == (48, 7 * HOUR)
    assert thin.observed_at[-1] == chart.observed_at[-1]
    document = thin.to_json()
    assert document["observed_at"][-1] == f"{past.log['observed_at'][-1]:%Y-%m-%dT%H:%M:%SZ}"
    assert document["came"][-1] is None
    assert len(json.dumps(chart.to_json())) < 20_000


def test_the_verb_keeps_what_it_saw_for_the_page_also_where_there_is_nothing_yet(
    tmp_path: Path, bars_of: Callable[..., pl.DataFrame]
) -> None:
    home = Workspace(root=tmp_path / "home")
    Lake(home.lake).append(BARS, bars_of(np.full(3, 100.0)), now=datetime(2024, 1, 1, tzinfo=UTC))
    with pytest.raises(NeedsAttention, match="no forecast was ever handed out"):
        watch_cli.watch.main(["--bars", "v:BTC-USD:1h", "--json"], obj=home, standalone_mode=False)
    document = json.loads((home.live / WATCHED).read_text())
    assert datetime.fromisoformat(document["at"]).tzinfo is not None
    [one] = document["symbols"]
    assert (one["symbol"], one["recent"], one["alerts"][0]["rule"]) == ("BTC-USD", None, "silent")


def test_a_skilled_model_shows_a_gain_and_no_alert(facts: tuple[Any, Any]) -> None:
    past = Past(*facts, lambda truth, harx: (0.5 * truth + 0.5 * harx, np.full(len(truth), 0.5)))
    seen = past.watched()
    gain = next(one for one in seen.intervals if one.what == "gain on HAR-X, volatility")
    assert gain.low > 0
    assert seen.alerts == ()
    assert seen.to_json()["known"] == past.log.height - 24


def test_what_got_worse_is_biased_or_silent_is_named(facts: tuple[Any, Any]) -> None:
    past = Past(*facts, lambda truth, harx: (harx + 1.5, np.full(len(truth), 0.99)))
    past.now += timedelta(days=2)
    alerts = {(one.rule, one.said.split(": ")[1]) for one in past.watched().alerts}
    assert {("worse", "gain on HAR-X, volatility"), ("worse", "gain on a coin, direction")} <= alerts
    assert {("biased", "bias of log variance"), ("biased", "bias of P(up)")} <= alerts
    [silent] = [one for one in past.watched().alerts if one.rule == "silent"]
    assert "2 days, 0:00:15 ago" in silent.said
    [never] = watch("X", past.log, past.bars, lambda name: past.bundle, now=past.now).alerts
    assert never.said == "X: no forecast was ever handed out"


def test_an_interval_that_is_too_narrow_and_a_side_that_is_too_sure_are_biases(facts: tuple[Any, Any]) -> None:
    def knows(truth: np.ndarray, harx: np.ndarray) -> Any:
        return truth - 2.0, np.where(np.arange(len(truth)) % 48 < 24, 0.8, 0.2)

    past = Past(*facts, knows)
    seen = {one.what: one for one in past.watched().intervals}
    assert seen["bias of the 80 % interval"].high < -0.05
    assert seen["bias of the likelier side"].high < -0.02
    said = [one.said for one in past.watched().alerts if one.rule == "biased"]
    assert any("bias of the 80 % interval" in one for one in said)
    assert any("bias of the likelier side" in one for one in said)
    assert not any("bias of P(up)" in one for one in said), "too sure of either side alike"


def test_inputs_are_held_against_what_the_model_learnt_from(facts: tuple[Any, Any]) -> None:
    past = Past(*facts, lambda truth, harx: (truth, np.full(len(truth), 0.5)))
    assert past.watched().inputs.moved == ()
    width = len(FEATURES)
    rows = np.frombuffer(b"".join(past.log["values"]), "<f4").reshape(-1, width).copy()
    rows[-700:, width - 1] += 10 * rows[:, width - 1].std()
    past.log = past.log.with_columns(values=pl.Series([row.tobytes() for row in rows]))
    seen = past.watched()
    [drifting] = [one for one in seen.alerts if one.rule == "drifting"]
    assert drifting.said.startswith("BTC-USD: inputs: 1 of 4 features moved, most ret_log_1h (PSI ")
    assert seen.to_json()["inputs"]["drifted"]
    # What the model learnt from is not held against itself.
    past.bundle.manifest.last_at = past.log["available_at"][-300].isoformat()
    assert past.watched().inputs is None


def shadow_of(past: Past, knows: Callable[[np.ndarray, np.ndarray], Any], name: str = "c") -> pl.DataFrame:
    """Return the log of another bundle that forecasts the same bars."""
    return Past(past.bars, past.states, knows).log.with_columns(bundle=pl.lit(name))


def test_a_challenger_is_compared_on_the_bars_that_both_forecast(facts: tuple[Any, Any]) -> None:
    half = np.full(5000, 0.5)
    past = Past(*facts, lambda truth, harx: (0.2 * truth + 0.8 * harx, half[: len(truth)]))
    better = shadow_of(past, lambda truth, harx: (0.5 * truth + 0.5 * harx, half[: len(truth)]))
    before = past.watched()
    seen = past.watched(shadow=("c", better.tail(1000)))
    assert seen.challenger.known == 1000 - 24
    # Of an error (1 - k) as large, the square is (1 - k)^2; that of direction is the same.
    assert seen.challenger.gain.mean == pytest.approx((1 - 0.5**2 / 0.8**2) / 2, abs=0.02)
    [alert] = seen.alerts
    assert (alert.rule, seen.challenger.word) == ("better", "better")
    assert alert.said.endswith("; `backsight promote c` puts it in the place of b")
    assert (before.intervals, before.known, before.challenger) == (seen.intervals, seen.known, None)
    worse = shadow_of(past, lambda truth, harx: (harx, half[: len(truth)]))
    assert past.watched(shadow=("c", worse)).challenger.word == "worse"
    assert past.watched(shadow=("c", worse)).alerts == ()
    early = past.watched(shadow=("other", worse)).challenger
    assert (early.word, early.known, early.to_json()["bundle"]) == ("too early", 0, "other")


def test_a_challenger_as_good_is_hardly_ever_called_better(facts: tuple[Any, Any]) -> None:
    rng, called = np.random.default_rng(8), 0
    for _ in range(100):
        noise = np.repeat(rng.standard_normal((2, 365)), 2, axis=1)[:, :365]  # neighbours share a part
        gain = noise[0] - noise[1] + rng.standard_normal(365)
        called += any(always(gain[:n])[0] > 0 for n in range(10, 366, 5))
    assert called <= 5, "one side of 5 % of 100 is 2 or 3"


def test_what_was_seen_of_other_symbols_stays(tmp_path: Path, bars_of: Callable[..., pl.DataFrame]) -> None:
    home = Workspace(root=tmp_path / "home")
    for symbol in ("BTC-USD", "ETH-USD"):
        bars = bars_of(np.full(3, 100.0)).with_columns(symbol=pl.lit(symbol))
        Lake(home.lake).append(BARS, bars, now=datetime(2024, 1, 1, tzinfo=UTC))

    def look(*symbols: str) -> dict[str, str]:
        arguments = [part for symbol in symbols for part in ("--bars", f"v:{symbol}:1h")]
        with pytest.raises(NeedsAttention):
            watch_cli.watch.main(arguments, obj=home, standalone_mode=False)
        return {one["symbol"]: one["at"] for one in json.loads((home.live / WATCHED).read_text())["symbols"]}

    first = look("BTC-USD", "ETH-USD")
    second = look("ETH-USD")
    assert list(second) == ["BTC-USD", "ETH-USD"]
    assert second["BTC-USD"] == first["BTC-USD"] < second["ETH-USD"]
    (home.live / WATCHED).write_text('{"symbols": [7]}')
    assert list(look("BTC-USD")) == ["BTC-USD"], "what is damaged is written anew"


def test_alerts_that_training_may_mend_are_those_of_the_bundle_in_use(tmp_path: Path) -> None:
    def seen(bundle: str, *rules: str) -> dict[str, Any]:
        return {"symbol": bundle, "bundle": bundle, "at": "", "alerts": [{"rule": r, "said": r} for r in rules]}

    assert to_mend(tmp_path, "b") == ()
    keep(tmp_path / WATCHED, {"symbols": [seen("b", "silent", "drifting", "better", "switched"), seen("c", "worse")]})
    assert to_mend(tmp_path, "b") == ("drifting", "switched")
    (tmp_path / WATCHED).write_text('{"symbols": [{"symbol": "b"}]}')
    with pytest.raises(BadInput, match="parts are missing"):
        to_mend(tmp_path, "b")


def test_a_switch_of_the_world_is_flagged(facts: tuple[Any, Any]) -> None:
    def knows(truth: np.ndarray, harx: np.ndarray) -> Any:
        wrong = np.where(np.arange(len(truth)) > 0.7 * len(truth), 2.5, 0.3)
        return truth + wrong * np.random.default_rng(1).standard_normal(len(truth)), np.full(len(truth), 0.5)

    switched = [one.said for one in Past(*facts, knows).watched().alerts if one.rule == "switched"]
    assert any("loss of volatility rose from" in said for said in switched)
    assert any("loss of volatility over that of HAR-X rose from -" in said for said in switched)


def test_intervals_hold_at_every_look_of_a_year() -> None:
    rng, outside = np.random.default_rng(5), 0
    for _ in range(200):
        values = rng.standard_t(4, size=365)
        bounds = [always(values[:n]) for n in range(10, 366, 5)]
        outside += any(not low <= 0 <= high for low, high in bounds)
    assert outside <= 16, "5 % of 200 is 10; 16 would come by luck in 3 of 100"


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """Return the address of a server that keeps what is sent to it."""
    got: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204 if self.path == "/hook" else 500)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()


def test_an_alert_is_sent_once_while_it_stands(
    receiver: tuple[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, got = receiver
    told, one = tmp_path / "alerts.json", {"rule": "worse", "symbol": "BTC", "said": "so"}
    monkeypatch.setenv(watch_cli.WEBHOOK, f"{address}/hook")
    watch_cli._send(told, [one], looked_at=["BTC", "ETH"])
    watch_cli._send(told, [one | {"said": "still so"}], looked_at=["BTC", "ETH"])
    assert got == [{"alerts": [one]}]
    watch_cli._send(told, [], looked_at=["BTC", "ETH"])
    watch_cli._send(told, [one], looked_at=["BTC", "ETH"])
    assert len(got) == 2
    watch_cli._send(told, [], looked_at=["ETH"])
    watch_cli._send(told, [one], looked_at=["BTC", "ETH"])
    assert len(got) == 2, "a look at another symbol forgets nothing"
    monkeypatch.setenv(watch_cli.WEBHOOK, f"{address}/secret-path")
    with pytest.raises(SourceError, match="could not be sent") as raised:
        watch_cli._send(told, [one | {"symbol": "ETH"}], looked_at=["BTC", "ETH"])
    assert "secret-path" not in str(raised.value)
    monkeypatch.setenv(watch_cli.WEBHOOK, "file:///etc/passwd")
    with pytest.raises(BadInput, match="no http address"):
        watch_cli._send(told, [one | {"symbol": "ETH"}], looked_at=["BTC", "ETH"])

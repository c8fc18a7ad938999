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
from backsight_model.live.outcomes import outcomes
from backsight_model.live.watching import always, watch
from backsight_model.scaling import fit_scaler
from backsight_model.target import ahead

HOUR = timedelta(hours=1)
FEATURES = (*HAR_TERMS, "ret_log_1h")


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
            name="b", horizon=24, timeframe=HOUR, features=FEATURES, scaler=scaler, harx=harx
        )
        self.bars = bars
        self.harx = harx.predict(scaler.transform(rows), FEATURES)
        log_rv, p_up = knows(np.where(labelled, came.log_rv, self.harx), self.harx)
        answers = [json.dumps({"log_rv": a, "p_up": b}) for a, b in zip(log_rv.tolist(), p_up.tolist(), strict=True)]
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

    def watched(self) -> Any:
        return watch("BTC-USD", self.log, self.bars, lambda name: self.bundle, now=self.now)


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
    later = past.log.with_columns(at=pl.col("at") + HOUR, answer=pl.lit('{"log_rv": 1.0, "p_up": 0.5}'))
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
    [kept] = home.live.iterdir()
    document = json.loads(kept.read_text())
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


def test_a_switch_of_the_world_is_flagged(facts: tuple[Any, Any]) -> None:
    def knows(truth: np.ndarray, harx: np.ndarray) -> Any:
        wrong = np.where(np.arange(len(truth)) > 0.7 * len(truth), 2.5, 0.3)
        return truth + wrong * np.random.default_rng(1).standard_normal(len(truth)), np.full(len(truth), 0.5)

    [switched] = [one for one in Past(*facts, knows).watched().alerts if one.rule == "switched"]
    assert "loss of volatility rose from" in switched.said


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
    watch_cli._send(told, [one])
    watch_cli._send(told, [one | {"said": "still so"}])
    assert got == [{"alerts": [one]}]
    watch_cli._send(told, [])
    watch_cli._send(told, [one])
    assert len(got) == 2
    monkeypatch.setenv(watch_cli.WEBHOOK, f"{address}/secret-path")
    with pytest.raises(SourceError, match="could not be sent") as raised:
        watch_cli._send(told, [one | {"symbol": "ETH"}])
    assert "secret-path" not in str(raised.value)
    monkeypatch.setenv(watch_cli.WEBHOOK, "file:///etc/passwd")
    with pytest.raises(BadInput, match="no http address"):
        watch_cli._send(told, [one | {"symbol": "ETH"}])

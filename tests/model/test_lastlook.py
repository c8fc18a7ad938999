"""The final period is seen by no fold, and scored once."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from backsight_features.errors import BadInput
from backsight_model import lastlook
from backsight_model.lastlook import LEDGER, FinalPeriod, Span
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet

DAY = timedelta(hours=24)
NOW = datetime(2024, 5, 1, tzinfo=UTC)
SPAN = Span(series="bitstamp:BTC-USD:1h", first="2024-01-01T00:00:00+00:00", last="2024-03-01T00:00:00+00:00")


def test_what_is_held_back_is_known_to_nothing_before_it() -> None:
    at = np.datetime64("2024-01-01", "us") + np.arange(1000) * np.timedelta64(1, "h")
    label_at = at + np.timedelta64(24, "h")
    start = lastlook.start_of(at, share=0.2)
    held = lastlook.hold_back(at, label_at, start=start, embargo=DAY)
    assert held.part.test.tolist() == list(range(800, 1000))
    # Labels of 24 hours: sample 775 is the last whose label was known at 799.2 h.
    assert held.before == 776
    assert label_at[: held.before].max() <= start
    assert label_at[held.part.train].max() <= start - np.timedelta64(24, "h")
    assert label_at[held.part.fit].max() <= at[held.part.valid].min() - np.timedelta64(24, "h")
    rolling = lastlook.hold_back(at, label_at, start=start, embargo=DAY, window=10 * DAY)
    assert rolling.before == held.before
    assert rolling.part.train.max() == held.part.train.max()
    newest = label_at[held.part.train.max()]
    assert at[rolling.part.train.min()] == newest - np.timedelta64(240, "h")


@pytest.mark.parametrize(("share", "count"), [(0.99, 1000), (0.5, 60)])
def test_too_short_a_history_is_refused(share: float, count: int) -> None:
    at = np.datetime64("2024-01-01", "us") + np.arange(count) * np.timedelta64(1, "h")
    start = lastlook.start_of(at, share=share)
    with pytest.raises(BadInput):
        lastlook.hold_back(at, at + np.timedelta64(24, "h"), start=start, embargo=DAY)


def test_a_spent_period_is_refused_and_a_second_look_is_called_so(tmp_path: Path) -> None:
    lastlook.refuse_again(tmp_path, (SPAN,))
    assert lastlook.spend(tmp_path, (SPAN,), service="forecast_1h", now=NOW) == 1
    later = replace(SPAN, first="2024-02-28T00:00:00+00:00", last="2024-06-01T00:00:00+00:00")
    for span in (SPAN, later):
        with pytest.raises(BadInput, match=r"spent at 2024-05-01T00:00:00\+00:00 on forecast_1h"):
            lastlook.refuse_again(tmp_path, (span,))
    for span in (replace(SPAN, series="bitstamp:ETH-USD:1h"), replace(later, first="2024-03-01T01:00:00+00:00")):
        lastlook.refuse_again(tmp_path, (span,))
    assert lastlook.spend(tmp_path, (later,), service="price_1h", now=NOW) == 2
    entries = [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines()]
    assert [entry["look"] for entry in entries] == [1, 2]
    assert entries[0]["first"] == SPAN.first


@pytest.fixture(scope="module")
def scored(world: Callable[..., TrainingSet]) -> tuple[TrainingSet, FinalPeriod]:
    data = world(0, hours=1700, drift=0.2, length=6)
    start = lastlook.start_of(data.at, share=0.2)
    held = lastlook.hold_back(data.at, data.label_at, start=start, embargo=DAY)
    settings = Settings(members=1, epochs=1, units=2, projection=2)
    span = lastlook.span_of("bitstamp:BTC-USD:1h", data.at[held.part.test])
    ways = [("forecast_1h", data, held), ("price_1h", data, held)]
    return data, lastlook.score((span,), 1, ways, settings=settings, seed=1, done=lambda line: None)


@pytest.mark.slow
def test_the_final_period_is_judged_by_the_rule_of_the_walk(scored: tuple[TrainingSet, FinalPeriod]) -> None:
    data, final = scored
    assert final.samples == (data.at >= lastlook.start_of(data.at, share=0.2)).sum()
    assert [claim.name for claim in final.verdict.claims][:3] == ["volatility", "direction", "return"]
    assert len(final.verdict.claims) == 6
    document = final.to_json()
    assert document["sentences"] == list(final.verdict.sentences)
    assert document["title"].endswith(f"{final.samples} samples: scored once.")
    again = replace(final, look=2)
    assert again.title.endswith("second look, so that it proves nothing any more.")
    assert json.loads(json.dumps(document))["look"] == 1


def test_the_first_samples_are_a_training_set_of_their_own(world: Callable[..., TrainingSet]) -> None:
    data = world(0, hours=900, length=6)
    first = data.first(100)
    assert len(first) == 100
    np.testing.assert_array_equal(first.windows.gather(), data.windows.gather(slice(0, 100)))
    np.testing.assert_array_equal(first.label_at, data.label_at[:100])
    assert first.left_out["held back for the final period"] == len(data) - 100

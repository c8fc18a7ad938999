"""What a job has asked for: painted from the watermark and the rows of its coverage, the row asked last on top."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import from_us
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, COVERAGE
from backsight_features.spans import Span
from backsight_ingest.live import coverage
from backsight_ingest.live.coverage import BEGUN, HOLE, LOST, WHOLE, Coverage, Stretch, joined, without

HOUR = 3_600_000_000
JOB = "prices:v:BTC-USD:1h"


def at(hour: float) -> datetime:
    return from_us(int(hour * HOUR))


def span(start: float, stop: float) -> Span:
    return Span(int(start * HOUR), int(stop * HOUR))


def read(lake: Lake, reached: float | None, *rows: tuple[str, float, float, float]) -> Coverage:
    """Return the coverage of rows (status, since, until, asked at), hours since 1970, and of a watermark."""
    for status, since, until, asked in rows:
        row = coverage.row(JOB, span(since, until), status, status, asked_at=at(asked), cadence=timedelta(hours=1))
        lake.append(COVERAGE, pl.DataFrame([row], schema=dict(COVERAGE.columns)), now=at(asked))
    if reached is not None:
        empty = BARS.empty().drop("ingested_at")
        lake.append(BARS, empty, now=at(reached), app=coverage.app(JOB), watermark=int(reached * HOUR))
    return coverage.read(lake, JOB, BARS)


def said(found: Coverage) -> list[tuple[str, float, float]]:
    return [(s.status, s.span.start / HOUR, s.span.stop / HOUR) for s in found.stretches]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.mark.parametrize(
    ("reached", "rows", "expected"),
    [
        pytest.param(None, [], [], id="a job that never ran"),
        pytest.param(None, [(BEGUN, 5, 5, 9)], [], id="killed before its first commit"),
        pytest.param(9, [(BEGUN, 5, 5, 9)], [("whole", 5, 9)], id="a walk forward"),
        pytest.param(
            9,
            [(BEGUN, 5, 5, 9), (HOLE, 6, 7, 9)],
            [("whole", 5, 6), ("hole", 6, 7), ("whole", 7, 9)],
            id="a hole",
        ),
        pytest.param(
            9,
            [(BEGUN, 5, 5, 9), (HOLE, 6, 8, 9), (WHOLE, 6, 8, 10), (HOLE, 6, 7, 10)],
            [("whole", 5, 6), ("hole", 6, 7), ("whole", 7, 9)],
            id="half of it filled",
        ),
        pytest.param(
            9,
            [(BEGUN, 5, 5, 9), (WHOLE, 1, 3, 10)],
            [("whole", 1, 3), ("unasked", 3, 5), ("whole", 5, 9)],
            id="a backfill that was cut off",
        ),
        pytest.param(
            9,
            [(BEGUN, 5, 5, 9), (WHOLE, 1, 5, 10), (LOST, 1, 2, 10)],
            [("lost", 1, 2), ("whole", 2, 9)],
            id="what cannot be had any more",
        ),
        pytest.param(
            None,
            [(BEGUN, 5, 5, 9), (HOLE, 6, 7, 9)],
            [("unasked", 5, 6), ("hole", 6, 7)],
            id="killed between the holes and the facts of its first page",
        ),
    ],
)
def test_the_time_line_is_painted(
    lake: Lake, reached: float | None, rows: list[tuple[str, float, float, float]], expected: list[object]
) -> None:
    assert said(read(lake, reached, *rows)) == expected


def test_the_rows_of_other_jobs_say_nothing(lake: Lake) -> None:
    read(lake, 9, (BEGUN, 5, 5, 9))
    assert coverage.read(lake, "prices:v:ETH-USD:1h", BARS) == Coverage(begun=None, reached=None, stretches=())


def test_only_what_was_never_asked_for_is_left(lake: Lake) -> None:
    found = read(lake, 9, (BEGUN, 5, 5, 9), (HOLE, 6, 7, 9), (WHOLE, 1, 3, 10))
    assert found.unasked(span(0, 12)) == [span(0, 1), span(3, 5), span(9, 12)]


def test_a_hole_is_left_alone_for_as_long_as_it_was_old(lake: Lake) -> None:
    # It ended at 7, was asked for at 9, so its age was 2 hours: due at 11.
    found = read(lake, 9, (BEGUN, 5, 5, 9), (HOLE, 6, 7, 9))
    hour = timedelta(hours=1)
    assert found.due(at(10.9), shortest=hour, reach=hour) == ()
    assert found.due(at(11), shortest=hour, reach=hour) == (span(6, 7),)
    assert found.due(at(11), shortest=3 * hour, reach=hour) == ()


def test_holes_within_one_request_are_asked_for_together(lake: Lake) -> None:
    found = read(lake, 9, (BEGUN, 1, 1, 9), (HOLE, 2, 3, 9), (HOLE, 4, 5, 9), (HOLE, 8, 9, 9))
    due = found.due(at(99), shortest=timedelta(hours=1), reach=timedelta(hours=1))
    assert due == (span(2, 5), span(8, 9))


def test_a_hole_that_is_lost_is_not_due(lake: Lake) -> None:
    found = read(lake, 9, (BEGUN, 1, 1, 9), (LOST, 2, 3, 9))
    assert found.due(at(99), shortest=timedelta(hours=1), reach=timedelta(hours=1)) == ()
    assert found.holes == ()


def test_spans_are_joined_and_taken_away() -> None:
    assert joined([Span(5, 7), Span(0, 2), Span(1, 3)]) == [Span(0, 3), Span(5, 7)]
    assert joined([Span(0, 2), Span(4, 5)], within=2) == [Span(0, 5)]
    assert without(Span(0, 10), [Span(-5, 1), Span(3, 4), Span(9, 20)]) == [Span(1, 3), Span(4, 9)]
    assert without(Span(0, 10), [Span(0, 10)]) == []
    assert without(Span(0, 10), []) == [Span(0, 10)]


def test_a_stretch_says_when_it_was_asked_for(lake: Lake) -> None:
    found = read(lake, 9, (BEGUN, 5, 5, 9), (HOLE, 6, 7, 9))
    hole = Stretch(span=span(6, 7), status="hole", reason="hole", asked_at=datetime(1970, 1, 1, 9, tzinfo=UTC))
    assert found.holes == (hole,)


@pytest.mark.parametrize("seed", range(20))
def test_of_many_rows_about_an_instant_the_one_asked_last_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = []
    for asked in rng.permutation(rng.integers(1, 60)).tolist():
        start = int(rng.integers(0, 50))
        status = str(rng.choice([WHOLE, HOLE, LOST]))
        stop = start + int(rng.integers(1, 20))
        rows.append(
            coverage.row(
                JOB, span(start, stop), status, f"{asked}", asked_at=at(100 + asked), cadence=timedelta(hours=1)
            )
        )
    found = coverage.painted(pl.DataFrame(rows, schema=dict(COVERAGE.columns)), None)
    for hour in range(80):
        holding = [row for row in rows if row["since"] <= at(hour) < row["until"]]
        (said,) = [s for s in found.stretches if s.span.start <= hour * HOUR < s.span.stop] or [None]
        if not holding:
            assert said is None or said.status == "unasked"
            continue
        last = max(holding, key=lambda row: row["asked_at"])
        assert said is not None
        assert said.status == last["status"]
        assert said.reason == ("" if last["status"] == WHOLE else last["reason"])


@pytest.mark.parametrize("size", [0, 1, 60])
def test_when_an_instant_was_first_asked_for_and_not_there(size: int) -> None:
    rng = np.random.default_rng(size)
    rows = [
        coverage.row(
            JOB,
            span(start, start + int(rng.integers(1, 9))),
            str(rng.choice([BEGUN, WHOLE, HOLE, LOST])),
            "",
            asked_at=at(float(rng.integers(100, 900))),
            cadence=timedelta(hours=1),
        )
        for start in rng.integers(0, 50, size).tolist()
    ]
    hours = range(-3, 70)
    found = coverage.first_missed(
        pl.DataFrame(rows, schema=dict(COVERAGE.columns)), pl.Series([hour * HOUR for hour in hours], dtype=pl.Int64)
    )
    missed = [row for row in rows if row["status"] in (HOLE, LOST)]
    assert found.to_list() == [
        min((row["asked_at"] for row in missed if row["since"] <= at(hour) < row["until"]), default=None)
        for hour in hours
    ]

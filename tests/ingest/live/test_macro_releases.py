"""Releases pieced together from answers that are cut to their windows: as many as there were, and no more."""

import gzip
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from backsight_ingest.sources.macro_releases import releases

DAY = timedelta(days=1)
START = date(2020, 1, 1)
FOREVER = date(9999, 12, 31)

Held = tuple[str, date, date, str]
"""A period, the first and the last day on which a value of it held, and the value."""


def window(held: Sequence[Held], after: date, until: date) -> pl.DataFrame:
    """Return FRED's answer: what held within a window, with the days cut to it."""
    rows = [
        (period, str(max(first, after)), str(min(last, until)), value)
        for period, first, last, value in held
        if first <= until and last >= after
    ]
    names = ("date", "realtime_start", "realtime_end", "value")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def pieces(held: Sequence[Held], size: int) -> Iterator[pl.DataFrame]:
    """Yield what is published in windows of so many vintages, each beginning with the last day of the one before."""
    days = {first for _, first, _, _ in held} | {last + DAY for _, _, last, _ in held if last < FOREVER}
    vintages = sorted(days)
    after = date(1776, 7, 4)
    for i in range(0, len(vintages), size):
        until = vintages[i : i + size][-1]
        yield releases(window(held, after, until), after=after, until=until)
        after = until


def truth(held: Sequence[Held]) -> list[tuple[str, str, str]]:
    """Return each release, and each day from which on a period was left out."""
    by_period: dict[str, list[Held]] = defaultdict(list)
    for row in held:
        by_period[row[0]].append(row)
    found = [(period, str(first), value) for period, first, _, value in held]
    for period, rows in by_period.items():
        starts = {first for _, first, _, _ in rows}
        found += [(period, str(end + DAY), ".") for _, _, end, _ in rows if end < FOREVER and end + DAY not in starts]
    return sorted(found)


def history(draw: Random, days: int) -> list[Held]:
    """Return the life of some periods: values of a few, so that many come back; withdrawn, left out, and back again."""
    held: list[Held] = []
    for number in range(12):
        period, day, value = f"2019-{number + 1:02d}-01", draw.randrange(days), draw.choice("AB")
        while day < days:
            length = draw.randint(1, 9)
            end = FOREVER if day + length >= days else START + (day + length - 1) * DAY
            held.append((period, START + day * DAY, end, value))
            day += length
            if draw.random() < 0.1:
                day += draw.randint(1, 5)  # left out
            value = draw.choice([other for other in "AB." if other != value])
    return held


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1900])
def test_windows_of_any_size_hold_each_release_once(size: int) -> None:
    for seed in range(6):
        held = history(Random(seed), days=60)
        found = pl.concat(pieces(held, size)).rows()
        assert sorted(found) == truth(held), seed


def test_what_holds_since_before_the_window_is_no_release() -> None:
    held = [("2019-01-01", START, START + 9 * DAY, "A"), ("2019-01-01", START + 10 * DAY, FOREVER, "B")]
    answer = window(held, START + 5 * DAY, START + 10 * DAY)
    assert answer["realtime_start"].to_list() == ["2020-01-06", "2020-01-11"]
    found = releases(answer, after=START + 5 * DAY, until=START + 10 * DAY)
    assert found.rows() == [("2019-01-01", "2020-01-11", "B")]


def test_a_value_that_comes_back_on_the_border_is_a_release() -> None:
    held = [
        ("2019-01-01", START, START + DAY, "A"),
        ("2019-01-01", START + 2 * DAY, START + 2 * DAY, "B"),
        ("2019-01-01", START + 3 * DAY, FOREVER, "A"),
    ]
    after = START + 2 * DAY
    assert releases(window(held, after, START + 3 * DAY), after=after, until=START + 3 * DAY).rows() == [
        ("2019-01-01", "2020-01-04", "A")
    ]


def test_a_row_that_cannot_be_read_is_kept_as_it_is() -> None:
    rows = {
        "date": ["x", "2019-01-01"],
        "realtime_start": [None, "soon"],
        "realtime_end": ["?", None],
        "value": ["1", "2"],
    }
    found = releases(pl.DataFrame(rows), after=START, until=START + DAY)
    assert sorted(found.rows()) == [("2019-01-01", "soon", "2"), ("x", None, "1")]


@pytest.mark.parametrize("series", ["CPIAUCSL", "RSAFS", "UNRATE"])
def test_real_intervals_cut_into_windows_come_together_again(shared_data: Path, series: str) -> None:
    path = shared_data / "macro/vintages/midasml_alfred_intervals_shared.csv.gz"
    rows = pl.read_csv(gzip.decompress(path.read_bytes())).filter(pl.col("series_id") == series)
    last = rows["realtime_end"].max()  # where the download ended
    held = [
        (period, date.fromisoformat(first), FOREVER if end == last else date.fromisoformat(end), str(value))
        for period, first, end, value in rows.select(
            "date", "realtime_start", "realtime_end", "value_pct_change"
        ).rows()
    ]
    for size in (5, 40):
        assert sorted(pl.concat(pieces(held, size)).rows()) == truth(held)

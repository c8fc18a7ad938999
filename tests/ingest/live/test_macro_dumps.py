"""What real vintages say on a day, read from the files row by row, and what the lake says."""

import csv
import gzip
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from backsight_features.lake import Lake
from backsight_features.schemas import MACRO
from backsight_ingest.layouts import load
from backsight_ingest.pull import pull

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")

Known = dict[date, float]


def read(path: Path, layout: str, lake: Lake) -> pl.DataFrame:
    (account,), _ = pull(lake, load(layout), [path], settings={}, now=NOW, tell=lambda _: None)
    assert (account.status, account.quarantined) == ("ok", 0)
    return lake.scan(MACRO).sort("available_at", "ingested_at").collect()


def known_at(facts: pl.DataFrame, series: str, units: str, day: date) -> Known:
    """Return what the lake knows at the end of a day in New York."""
    end = datetime.combine(day + timedelta(days=1), datetime.min.time(), NEW_YORK).astimezone(UTC)
    of_it = facts.filter(pl.col("series") == series, pl.col("units") == units, pl.col("available_at") <= end)
    last = of_it.unique("observed_at", keep="last", maintain_order=True)
    return {at.date(): value for at, value in last.select("observed_at", "value").iter_rows()}


def test_first_second_and_third_releases_of_output(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "macro/vintages/gdpc1_releases_first_second_third.csv"
    facts = read(path, "gdp-releases", Lake(tmp_path))
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    at_end_of = cache(lambda day: known_at(facts, "GDPC1", "lin", day))
    checked = 0
    for row in rows:
        quarter = date.fromisoformat(row["observation_date"])
        for release in ("first", "second", "third"):
            if not row[f"{release}_release_date"]:
                continue
            day = date.fromisoformat(row[f"{release}_release_date"])
            assert at_end_of(day)[quarter] == float(row[f"{release}_release"]), (quarter, release)
            assert (quarter in at_end_of(day - timedelta(days=1))) == (release != "first"), (quarter, release)
            checked += 1
    assert checked > 900


@pytest.mark.parametrize("series", ["CPIAUCSL", "INDPRO", "UNRATE"])
def test_real_intervals_on_every_day(series: str, shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "macro/vintages/midasml_alfred_intervals_shared.csv.gz"
    facts = read(path, "alfred-intervals", Lake(tmp_path)).filter(pl.col("series") == series)
    with gzip.open(path, "rt", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["series_id"] == series]
    starts = sorted({date.fromisoformat(row["realtime_start"]) for row in rows})
    # Between two vintages nothing changes; so the days of vintages and those before them stand for all.
    days = {day - timedelta(days=before) for day in starts for before in (0, 1)}
    for day in sorted(days):
        held = {
            date.fromisoformat(row["date"]): float(row["value_pct_change"])
            for row in rows
            if row["realtime_start"] <= str(day) <= row["realtime_end"]
        }
        assert known_at(facts, series, "pch", day) == held, day
    assert len(starts) > 100

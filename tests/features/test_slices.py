"""A join in slices of time gives what one join over everything gives."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from backsight_features.asof import as_of
from backsight_features.store.slices import SlicedJoin
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

T0 = datetime(2024, 1, 1, tzinfo=UTC)
US = pl.Datetime("us", "UTC")


def instant(minutes: int | None) -> datetime | None:
    return None if minutes is None else T0 + timedelta(minutes=minutes)


# Few, so that ties are common, some far away, so that the years between are empty, and some beyond what ns can hold.
minutes = st.sampled_from([*range(12), *range(12), 5_000_000, -5_000_000, 500_000_000, -500_000_000, 500_000_001, None])
keys = st.sampled_from(["a", "a", "b", "c", None])
FACTS = {"key": pl.String, "event": US, "created": US, "x": pl.Int64, "name": pl.String, "more": pl.Float64}


def joined(rows: pl.DataFrame, facts: pl.DataFrame, **terms: Any) -> SlicedJoin:
    def read(columns: Sequence[str], since: datetime | None, until: datetime | None) -> pl.LazyFrame:
        seen = facts.lazy()
        if since is not None:
            seen = seen.filter(pl.col("event").dt.convert_time_zone("UTC") >= since)
        if until is not None:
            seen = seen.filter(pl.col("event").dt.convert_time_zone("UTC") <= until)
        return seen.select(columns)

    return SlicedJoin(rows, read, facts.schema, at="at", event="event", values=["x", "name"], **terms)


CASES: dict[str, st.SearchStrategy[Any]] = {
    "facts": st.lists(
        st.fixed_dictionaries(
            {
                "key": keys,
                "event": minutes.map(instant),
                "created": minutes.map(instant),
                "x": st.one_of(st.none(), st.integers(0, 2)),
                "name": st.sampled_from(["p", "q", None]),
                "more": st.sampled_from([0.0, 1.0, None]),
            }
        ),
        max_size=30,
    ),
    "rows": st.lists(st.fixed_dictionaries({"key": keys, "at": minutes.map(instant)}), max_size=20),
    "created": st.booleans(),
    "as_known": st.booleans(),
    "keyed": st.booleans(),
    "ttl": st.one_of(st.none(), st.integers(1, 6).map(lambda m: timedelta(minutes=m))),
    "units": st.tuples(*[st.sampled_from(["ms", "us", "us", "ns"])] * 3),
    "memory": st.sampled_from([1, 500, 2_000]),
    "ties": st.sampled_from([["x", "name"], ["more", "name", "x"]]),
}


@settings(max_examples=100, deadline=None)
@given(**CASES)
def test_slices_agree_with_one_join(**case: Any) -> None:
    agree(**case)


@pytest.mark.prove
@settings(max_examples=300, deadline=None)
@given(**CASES)
def test_slices_agree_with_one_join_hundreds_of_times(**case: Any) -> None:
    agree(**case)


def agree(
    facts: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    created: bool,
    as_known: bool,
    keyed: bool,
    ttl: timedelta | None,
    units: tuple[Any, Any, Any],
    memory: int,
    ties: list[str],
) -> None:
    def cast(frame: pl.DataFrame, column: str, unit: Any) -> pl.DataFrame:
        near = pl.col(column).is_between(instant(-5_000_000), instant(5_000_000))
        # What does not fit wraps around in polars.
        held = pl.when(near).then(column) if unit == "ns" else pl.col(column)
        return frame.with_columns(held.dt.cast_time_unit(unit))

    fact_frame = cast(cast(pl.DataFrame(facts, FACTS), "event", units[0]), "created", units[1])
    row_frame = cast(pl.DataFrame(rows, {"key": pl.String, "at": US}), "at", units[2])
    terms: dict[str, Any] = {
        "keys": [("key", "key")] if keyed else [],
        "created": "created" if created else None,
        "ties": ties,
        "ttl": ttl,
        "as_known": as_known,
    }
    expected = as_of(row_frame, fact_frame, at="at", event="event", values=["x", "name"], **terms)
    join = joined(row_frame, fact_frame, **terms)
    assert_frame_equal(join.whole(), expected)

    parts = list(join.slices(memory))
    got = pl.concat([expected.clear(), *parts])
    if join.order is not None:
        got = got.with_columns(place=join.order).sort("place").drop("place")
    assert_frame_equal(got, expected)
    if memory == 1:
        assert all(part.height == 1 for part in parts)


def test_no_slice_holds_more_facts_than_memory_allows() -> None:
    count = 100_000
    facts = pl.select(
        key=pl.repeat("a", count),
        event=pl.lit(T0, US) + pl.duration(seconds=pl.int_range(count) ** 2 // 1000),  # ever sparser
        x=pl.int_range(count),
        name=pl.lit("p"),
    )
    rows = facts.select("key", at="event").sample(fraction=0.1, seed=0, shuffle=True)
    join = joined(rows, facts, keys=[("key", "key")], created=None, ties=["x"], ttl=None, as_known=False)
    assert join.fits(2**30, count)
    assert not join.fits(2**20, count)
    parts = list(join.slices(2**20))
    assert len(parts) > 10
    assert max(part.estimated_size() for part in parts) < 2**20

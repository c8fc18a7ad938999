"""The as-of join by example, and in a world so small that ties and overtaking are common against the oracle."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from backsight_features.asof import Undecided, as_of, newest
from backsight_features.errors import BadInput
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

T0 = datetime(2024, 1, 1, tzinfo=UTC)


def instant(minutes: int | None) -> datetime | None:
    return None if minutes is None else T0 + timedelta(minutes=minutes)


MINUTE = 60 * 10**9  # in nanoseconds, as the oracle counts

# Few values, so that ties and overtaking are common; nulls rare, so that most facts count.
minutes = st.sampled_from([*range(8), *range(8), None]).map(lambda m: None if m is None else m * MINUTE)
symbols = st.sampled_from(["a", "a", "a", "b", None])
VALUES = {"x": pl.Int64, "x_y": pl.String}
FACTS = {"key": pl.String, "event": pl.Datetime("us", "UTC"), "created": pl.Datetime("us", "UTC"), **VALUES}
ROWS = {"key": pl.String, "at": pl.Datetime("us", "UTC")}


@settings(max_examples=300, deadline=None)
@given(
    facts=st.lists(
        st.fixed_dictionaries(
            {
                "key": symbols,
                "event": minutes,
                "created": minutes,
                "x": st.one_of(st.none(), st.integers(0, 2)),
                "x_y": st.sampled_from(["p", "q", None]),
            }
        ),
        max_size=30,
    ),
    rows=st.lists(st.fixed_dictionaries({"key": symbols, "at": minutes}), max_size=12),
    created=st.booleans(),
    ttl=st.one_of(st.none(), st.integers(1, 6).map(lambda m: timedelta(minutes=m))),
    as_known=st.booleans(),
    keyed=st.booleans(),
    units=st.tuples(*[st.sampled_from(["ms", "us", "ns"])] * 3),
    aware=st.booleans(),
    shuffle=st.randoms(),
)
def test_as_of_agrees_with_the_oracle(
    oracle: Any,
    facts: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    created: bool,
    ttl: timedelta | None,
    as_known: bool,
    keyed: bool,
    units: tuple[str, str, str],
    aware: bool,
    shuffle: Any,
) -> None:
    answers = oracle.as_of(
        rows,
        facts,
        keys=["key"] if keyed else [],
        values=list(VALUES),
        created=created,
        ttl=None if ttl is None else ttl // timedelta(microseconds=1) * 1000,
        as_known=as_known,
    )
    expected = [{name: answer[name] if answer else None for name in VALUES} for answer in answers]
    shuffled = list(facts)
    shuffle.shuffle(shuffled)
    zone = "UTC" if aware else None

    def frame(rows: list[dict[str, Any]], schema: dict[str, Any], **clocks: Any) -> pl.DataFrame:
        counted = pl.DataFrame(rows, schema | dict.fromkeys(clocks, pl.Int64))
        return counted.with_columns(
            pl.col(name).cast(pl.Datetime("ns", zone)).dt.cast_time_unit(unit) for name, unit in clocks.items()
        )

    fact_frame = frame(shuffled, FACTS, event=units[0], created=units[1])
    row_frame = frame(rows, ROWS, at=units[2])
    got = as_of(
        row_frame,
        fact_frame,
        at="at",
        event="event",
        keys=[("key", "key")] if keyed else [],
        values=list(VALUES),
        created="created" if created else None,
        ttl=ttl,
        as_known=as_known,
    )
    assert_frame_equal(got, pl.DataFrame(expected, VALUES))


def facts_of(*rows: tuple[str, int, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [(key, instant(minute), x) for key, minute, x in rows],
        {"key": pl.String, "event": pl.Datetime("us", "UTC"), "x": pl.Int64},
        orient="row",
    )


def ask(*rows: tuple[str, int]) -> pl.DataFrame:
    return pl.DataFrame([(key, instant(minute)) for key, minute in rows], ROWS, orient="row")


def test_rows_keep_order_and_duplicates() -> None:
    facts = facts_of(("a", 0, 1), ("a", 10, 2), ("b", 5, 3))
    rows = ask(("b", 5), ("a", 10), ("a", 9), ("a", 10), ("b", 4))
    got = as_of(rows, facts, at="at", event="event", keys=[("key", "key")], values=["x"])
    assert got["x"].to_list() == [3, 2, 1, 2, None]


def test_what_was_written_late_is_known_late_and_does_not_displace_what_is_newer() -> None:
    facts = pl.DataFrame(
        {
            "event": [instant(m) for m in (1, 5, 3, 5, 2)],
            "created": [instant(m) for m in (1, 6, 7, 9, None)],
            "x": [1, 5, 3, 55, 2],
        }
    )
    rows = ask(*[("a", minute) for minute in (0, 1, 5, 6, 7, 9)])
    got = as_of(rows, facts, at="at", event="event", created="created", values=["x"], as_known=True)
    assert got["x"].to_list() == [None, 1, 1, 5, 5, 55]
    got = as_of(rows, facts, at="at", event="event", created="created", values=["x"])
    assert got["x"].to_list() == [None, 1, 55, 55, 55, 55]


def test_a_nanosecond_decides() -> None:
    base = 1_700_000_000_000_000_000
    facts = pl.DataFrame({"event": pl.Series([base + 1], dtype=pl.Datetime("ns", "UTC")), "x": [1]})
    rows = pl.DataFrame({"at": pl.Series([base, base + 1], dtype=pl.Datetime("ns", "UTC"))})
    assert as_of(rows, facts, at="at", event="event", values=["x"])["x"].to_list() == [None, 1]


def test_what_nanoseconds_cannot_hold_is_hidden_not_leaked() -> None:
    facts = pl.DataFrame({"event": [datetime(3001, 1, 1, tzinfo=UTC), T0], "x": [2, 1]})
    rows = pl.DataFrame({"at": [datetime(3000, 1, 1, tzinfo=UTC)]})
    coarse = as_of(rows, facts, at="at", event="event", values=["x"])
    facts = pl.concat(
        [facts, pl.DataFrame({"event": [T0], "x": [0]}, schema_overrides={"event": pl.Datetime("us", "UTC")})]
    )
    fine = as_of(
        rows,
        facts.with_columns(created=pl.lit(T0).cast(pl.Datetime("ns", "UTC"))),
        at="at",
        event="event",
        created="created",
        values=["x"],
    )
    assert coarse["x"].to_list() == fine["x"].to_list() == [1]


def test_a_very_long_ttl_hides_nothing() -> None:
    got = as_of(
        ask(("a", 5)), facts_of(("a", 0, 1)), at="at", event="event", values=["x"], ttl=timedelta(days=999_999_999)
    )
    assert got["x"].to_list() == [1]


def test_wide_integers_and_lists_come_back_unchanged() -> None:
    facts = pl.DataFrame(
        {"event": [T0, T0], "x": [2**62 + 1, None], "v": [[1.5], [0.5, 2.0]]},
        schema_overrides={"x": pl.Int64, "v": pl.List(pl.Float32)},
    )
    got = as_of(pl.DataFrame({"at": [T0]}), facts, at="at", event="event", values=["x", "v"])
    assert got.rows() == [(2**62 + 1, [1.5])]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pl.Int32, pl.UInt64),
        (pl.Float64, pl.Int64),
        (pl.Categorical, pl.Enum(["7"])),
    ],
)
def test_keys_of_kindred_types_compare(ours: Any, theirs: Any) -> None:
    def key(dtype: Any) -> pl.Series:
        return pl.Series("key", [7]).cast(pl.String).cast(dtype) if dtype != pl.Int32 else pl.Series("key", [7])

    facts = pl.DataFrame({"key": key(theirs), "event": [T0], "x": [1]})
    rows = pl.DataFrame({"key": key(ours), "at": [T0]})
    got = as_of(rows, facts, at="at", event="event", keys=[("key", "key")], values=["x"])
    assert got["x"].to_list() == [1]


def test_a_key_that_is_null_throughout_finds_nothing() -> None:
    rows = pl.DataFrame({"key": [None], "at": [T0]})
    facts = facts_of(("a", 0, 1))
    keys = [("key", "key")]
    assert as_of(rows, facts, at="at", event="event", keys=keys, values=["x"])["x"].to_list() == [None]
    assert as_of(ask(("a", 1)), facts.with_columns(key=None), at="at", event="event", keys=keys, values=["x"])[
        "x"
    ].to_list() == [None]


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_key_whose_facts_have_no_instant_does_not_borrow_from_another(first: str) -> None:
    facts = pl.DataFrame(
        {"key": [first, "ab".replace(first, "")], "event": [None, T0], "x": [1, 2]},
        schema_overrides={"event": pl.Datetime("us", "UTC")},
    )
    for _ in range(20):  # the order in which keys are numbered is not fixed
        got = as_of(ask(("a", 5), ("b", 5)), facts, at="at", event="event", keys=[("key", "key")], values=["x"])
        assert got["x"].to_list() == ([None, 2] if first == "a" else [2, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": ["z"]}, r"no column 'z'; there are key, event, x"),
        ({"values": ["x", "x"]}, r"asked for twice: \['x'\]"),
        ({"event": "x"}, r"column 'x' is Int64; an instant must be a timestamp"),
        ({"keys": [("key", "x")]}, r"key 'key' is String, but 'x' in the facts is Int64"),
    ],
)
def test_what_cannot_be_joined_is_said(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"at": "at", "event": "event", "values": ["x"]} | change
    with pytest.raises(BadInput, match=message):
        as_of(ask(("a", 0)), facts_of(("a", 0, 1)), **arguments)


def test_newest_takes_the_last_event_then_the_last_created_then_the_greatest_value() -> None:
    facts = pl.DataFrame(
        {
            "key": ["b", "a", "a", "a", "b", None, "b"],
            "event": [instant(m) for m in (3, 9, 9, 1, 3, 0, None)],
            "created": [instant(m) for m in (5, None, 2, 9, 5, 1, 1)],
            "x": [7, 1, 2, 3, 8, 4, 9],
        }
    )
    got = newest(facts, event="event", created="created", keys=["key"])
    assert got.select("key", "x").rows() == [(None, 4), ("a", 2), ("b", 8)]
    assert newest(facts, event="event", created="created")["x"].to_list() == [2]
    assert newest(facts.clear(), event="event", keys=["key"]).height == 0


def test_only_what_instants_cannot_decide_needs_values() -> None:
    facts = facts_of(("a", 0, 1), ("b", 0, 2))
    rows = ask(("a", 0))
    got = as_of(rows, facts, at="at", event="event", keys=[("key", "key")], values=["x"], ties=[])
    assert got["x"].to_list() == [1]
    with pytest.raises(Undecided):
        as_of(rows, facts, at="at", event="event", values=["x"], ties=[])
    assert as_of(rows, facts, at="at", event="event", values=["x"], ties=["x"])["x"].to_list() == [2]
    with pytest.raises(Undecided):
        newest(facts, event="event", ties=[])

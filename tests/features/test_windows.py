"""Windows against a reference that looks at every state for every slot."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import UTC_US
from backsight_features.errors import BadInput
from backsight_features.windows import windows
from hypothesis import given, settings
from hypothesis import strategies as st

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEMA = {"symbol": pl.String, "observed_at": UTC_US, "available_at": UTC_US, "x": pl.Float32}


def states(*rows: tuple[str, float, float, float | None]) -> pl.DataFrame:
    """Symbol, close and instant in hours after T0, value."""
    return pl.DataFrame(
        [(symbol, T0 + close * HOUR, T0 + known * HOUR, x) for symbol, close, known, x in rows],
        SCHEMA,
        orient="row",
    )


def instants(*rows: tuple[str, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(symbol, T0 + at * HOUR) for symbol, at in rows], {"symbol": pl.String, "at": UTC_US}, orient="row"
    )


def cut(frame: pl.DataFrame, at: pl.DataFrame | None = None, length: int = 3) -> Any:
    return windows(frame, at, length=length, timeframe=HOUR, features=["x"])


def values(cutting: Any) -> list[list[float | None]]:
    return [[None if math.isnan(v) else v for v in row] for row in cutting.gather()[:, :, 0].tolist()]


def test_slots_gaps_and_undefined_features() -> None:
    frame = states(("a", 1, 1.1, 1), ("a", 2, 2.1, 2), ("a", 4, 4.1, None), ("b", 3, 3.1, 9))
    got = cut(frame, instants(("a", 4.1), ("b", 9), ("a", 4.05), ("a", 1.0), ("c", 5)))
    assert values(got) == [[2, None, None], [None, None, 9], [None, 1, 2], [None] * 3, [None] * 3]
    assert got.index.tolist()[0] == [1, 4, 2]
    assert got.observed_at.astype("datetime64[h]").astype(str).tolist() == [
        "2024-01-01T04", "2024-01-01T03", "2024-01-01T02", "NaT", "NaT",
    ]  # fmt: skip
    assert np.isnat(got.available_at[3:]).all()
    assert got.available_at[0] == np.datetime64(T0.replace(tzinfo=None) + 4.1 * HOUR)
    assert got.symbol.tolist() == ["a", "b", "a", "a", "c"]
    assert np.isnan(got.rows[-1]).all()


def test_a_correction_is_seen_from_when_it_was_known_and_not_before() -> None:
    frame = states(("a", 1, 1.1, 1), ("a", 2, 2.1, 2), ("a", 1, 2.5, 10), ("a", 3, 3.1, 3))
    got = cut(frame, instants(("a", 2.4), ("a", 2.5), ("a", 3.1), ("a", 1.2)))
    assert values(got) == [[None, 1, 2], [None, 10, 2], [10, 2, 3], [None, None, 1]]


def test_a_slot_corrected_many_times_steps_back_to_what_was_known() -> None:
    frame = states(("a", 1, 1.1, 1), *[("a", 2, 2 + i / 10, i) for i in range(1, 9)], ("b", 2, 9, 7))
    got = cut(frame, instants(*[("a", 2 + i / 10) for i in range(9)]), length=2)
    assert values(got) == [[None, 1], *[[1, i] for i in range(1, 9)]]


def test_without_instants_every_state_has_its_window() -> None:
    got = cut(states(("b", 1, 1.1, 5), ("a", 2, 2.2, 2), ("a", 1, 1.2, 1)), length=2)
    assert values(got) == [[None, 1], [1, 2], [None, 5]]
    assert got.symbol.tolist() == ["a", "a", "b"]
    assert (got.at == got.available_at).all()


def test_windows_share_rows() -> None:
    frame = states(*[("a", float(h), h + 0.1, h) for h in range(1, 400)])
    got = cut(frame, length=100)
    assert got.rows.shape == (400, 1)
    assert got.index.shape == (399, 100)
    assert got.index.dtype == np.int32
    assert got.gather(slice(0, 0)).shape == (0, 100, 1)
    assert got.gather(np.array([398]))[0, :, 0].tolist() == list(range(300, 400))


rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "a", "b"]),
        st.integers(0, 5),
        st.integers(0, 120),
        st.one_of(st.none(), st.integers(0, 99)),
    ),
    min_size=2,
    max_size=40,
    unique_by=lambda row: (row[0], row[2]),
)


@settings(deadline=None)
@given(rows=rows, asked=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 120)), max_size=8),
       length=st.integers(1, 12))  # fmt: skip
def test_windows_agree_with_brute_force(
    rows: list[tuple[str, int, int, int | None]], asked: list[tuple[str, int]], length: int
) -> None:
    # Instants in tenths of an hour; a state may even be known before its close: the function must not care.
    frame = states(*[(symbol, close, known / 10, x) for symbol, close, known, x in rows])
    got = cut(frame, instants(*[(symbol, at / 10) for symbol, at in asked]), length=length)
    expected = []
    for symbol, at in asked:
        seen = [row for row in rows if row[0] == symbol and row[2] <= at]
        newest = max((row[1] for row in seen), default=None)
        window: list[float | None] = []
        for lag in range(length - 1, -1, -1):
            there = [row for row in seen if newest is not None and row[1] == newest - lag]
            window.append(max(there, key=lambda row: row[2])[3] if there else None)
        expected.append(window)
    assert values(got) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "length 0"),
        ({"features": ["y"]}, "no column 'y'"),
        ({"states": states(("a", 1, 1, 1), ("a", 1.5, 2, 1))}, "'a' has a bar close at 2024-01-01T01:30"),
        ({"states": states(("a", 1, 2, 1), ("a", 2, 2, 1))}, "'a' has two states at 2024-01-01T02:00"),
        ({"states": states(("a", 1, 2, 1)).with_columns(pl.lit(None, UTC_US).alias("available_at"))}, "1 nulls"),
        ({"states": states(("a", 1, 2, 1)).cast({"observed_at": pl.Datetime("us")})}, "must be Datetime"),
    ],
)
def test_what_cannot_be_cut_is_said(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"states": states(("a", 1, 1, 1)), "length": 2, "features": ["x"]} | change
    with pytest.raises(BadInput, match=message):
        windows(arguments.pop("states"), timeframe=HOUR, **arguments)


def test_undefined_has_one_bit_pattern() -> None:
    odd = pl.Series("x", np.frombuffer(b"\x01\x00\xc0\xff", dtype=np.float32))
    got = cut(states(("a", 1, 1, 1)).with_columns(odd), length=1)
    assert got.gather().tobytes() == np.float32(np.nan).tobytes()


def test_mask_and_ages() -> None:
    frame = states(("a", 1, 1.1, 1), ("a", 2, 2.1, 2), ("a", 4, 4.1, None), ("a", 2, 4.3, 9))
    got = cut(frame, instants(("a", 4.2), ("a", 5), ("a", 1.0), ("a", 1.1)))
    assert got.mask.tolist() == [[True, False, True], [True, False, True], [False] * 3, [False, False, True]]
    hours = got.ages() / np.timedelta64(1, "h")
    np.testing.assert_allclose(hours[:, 0], [2.1, 0.7, np.nan, 0])
    np.testing.assert_array_equal(got.ages([1, 0]), got.ages()[[1, 0]])
    known = (got.slot_available_at([1])[0] - np.datetime64("2024-01-01T00:00")) / np.timedelta64(1, "h")
    np.testing.assert_allclose(known, [4.3, np.nan, 4.1])


def test_ages_are_cut_into_parts_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = states(*[("a", float(h), h + 0.1, None if h % 3 else h) for h in range(1, 60)])
    got = cut(frame, length=5)
    whole = got.ages()
    monkeypatch.setattr("backsight_features.windows._CHUNK", 7)
    np.testing.assert_array_equal(got.ages(), whole)
    assert len({str(age) for age in whole[:, 0]}) > 2

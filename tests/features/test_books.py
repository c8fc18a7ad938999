"""Formulas of order books on numbers that can be checked by eye."""

import polars as pl
import pytest
from backsight_features.books import imbalance, spread_bp


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        (99.0, 101.0, 200.0),  # 2 of 100
        (9_999.5, 10_000.5, 1.0),
        (4.0, 4.0, 0.0),
        (None, 101.0, None),
    ],
)
def test_spread_is_the_distance_in_parts_of_the_middle(
    bid: float | None, ask: float | None, expected: float | None
) -> None:
    book = pl.DataFrame({"bid": [bid], "ask": [ask]}, schema={"bid": pl.Float64, "ask": pl.Float64})
    assert book.select(spread_bp()).to_dict(as_series=False) == {"spread_bp": [expected]}


@pytest.mark.parametrize(
    ("bids", "asks", "expected"),
    [
        (3.0, 1.0, 0.5),  # (3 - 1) / (3 + 1)
        (1.0, 3.0, -0.5),
        (2.0, 2.0, 0.0),
        (5.0, 0.0, 1.0),
        (0.0, 5.0, -1.0),
        (0.0, 0.0, None),  # nothing to compare
        (None, 1.0, None),
    ],
)
def test_imbalance_is_the_difference_in_parts_of_the_sum(
    bids: float | None, asks: float | None, expected: float | None
) -> None:
    book = pl.DataFrame(
        {"bid_depth": [bids], "ask_depth": [asks]}, schema={"bid_depth": pl.Float64, "ask_depth": pl.Float64}
    )
    assert book.select(imbalance()).to_dict(as_series=False) == {"imbalance": [expected]}

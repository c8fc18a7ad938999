"""Spans of instants and their unions."""

from datetime import timedelta
from itertools import pairwise

import polars as pl
import pytest
from backsight_features.clocks import UTC_US, from_us
from backsight_features.spans import ALWAYS, FOREVER, Span, united
from hypothesis import given
from hypothesis import strategies as st

SPANS = st.lists(st.builds(Span, st.integers(0, 200), st.integers(0, 200)), max_size=60)


def instants(spans: list[Span]) -> set[int]:
    return {at for span in spans for at in range(span.start, span.stop)}


@given(SPANS, st.integers(0, 9))
def test_a_union_holds_every_instant_and_its_spans_are_apart(spans: list[Span], gap: int) -> None:
    union = united(spans, gap)
    assert instants(union) >= instants(spans)
    assert all(earlier.stop + gap < later.start for earlier, later in pairwise(union))
    assert len(union) <= 16
    if len(union) < 16 and gap == 0:
        assert instants(union) == instants(spans)


def test_of_too_many_the_nearest_become_one() -> None:
    # The distance from each to the next is 10, 20, 30 …
    starts = [5 * i * (i + 1) for i in range(20)]
    union = united(Span(start, start + 1) for start in starts)
    assert union == [Span(0, starts[4] + 1), *(Span(start, start + 1) for start in starts[5:])]


@pytest.mark.parametrize(
    ("span", "held"),
    [(Span(3, 5), [3, 4]), (Span(-FOREVER, 2), [0, 1]), (Span(8, FOREVER), [8, 9]), (ALWAYS, list(range(10)))],
)
def test_bounds(span: Span, held: list[int]) -> None:
    frame = pl.DataFrame({"at": [from_us(0) + timedelta(microseconds=us) for us in range(10)]}, schema={"at": UTC_US})
    found = frame.filter(span.holds("at"))["at"].dt.epoch("us").to_list()
    assert found == held

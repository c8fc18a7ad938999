"""The guide to the features lists what is computed."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from backsight_features import book, macro, market, text
from backsight_features.feature import Feature

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "features.md"
TABLES: dict[str, Sequence[Feature]] = {
    "market": market.FEATURES,
    "text": [feature for feature in text.FEATURES if feature.name.startswith("news_")],
    "macro": macro.FEATURES,
    "book": book.FEATURES,
}


def duration(length: timedelta | None) -> str:
    if length is None:
        return "all"
    if length == timedelta(0):
        return "0"
    hours = length // timedelta(hours=1)
    return f"{hours} h"


def table(features: Sequence[Feature]) -> list[str]:
    return [
        "| feature | formula | unit | lookback | max age |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| `{f.name}` | {f.description} | {f.unit} | {duration(f.lookback)} | {duration(f.max_age)} |"
            for f in features
        ),
    ]


@pytest.mark.parametrize("kind", TABLES)
def test_the_guide_lists_every_feature(kind: str) -> None:
    _, _, rest = GUIDE.read_text().partition(f"<!-- {kind} -->\n")
    listed, _, _ = rest.partition(f"\n<!-- /{kind} -->")
    assert listed.splitlines() == table(TABLES[kind])


def test_news_and_reddit_have_the_same_features() -> None:
    names = [feature.name for feature in text.FEATURES]
    assert [name.replace("news_", "reddit_") for name in names[:6]] == names[6:]


def test_no_name_is_used_twice_or_breaks_the_store() -> None:
    names = [feature.name for kind in (market, text, macro, book) for feature in kind.FEATURES]
    assert len(set(names)) == len(names)
    # Feast's joins crash on a column that ends so.
    assert not [name for name in names if name.endswith("_y")]

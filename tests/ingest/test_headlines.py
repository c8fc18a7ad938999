"""Headlines that tell the same are found, all of them, and those that only look alike are not taken for one."""

import itertools

import numpy as np
import polars as pl
import pytest
from backsight_ingest.headlines import alike, words


def similarity(one: str, other: str, by: tuple[str | None, str | None] = (None, None)) -> float | None:
    """Return how alike two headlines are, None where they do not tell the same."""
    sets = words(pl.Series([one, other]), pl.Series(by, dtype=pl.String))
    if sets.null_count():
        return None
    if sets[0].equals(sets[1]):
        return 1.0
    found = alike(sets)
    return found["similarity"].item() if found.height else None


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Bitcoin tops $60,000", "BITCOIN TOPS $60,000!", 1.0),
        ("AT&amp;T\u2019s bitcoin plan", "AT&T's Bitcoin Plan", 1.0),
        ("Bitcoin rises on inflation data", "UPDATE 1-Bitcoin rises on inflation data", 5 / 7),
        ("Bitcoin rises on inflation data", "BREAKING: Bitcoin rises on inflation data", 5 / 6),
        (
            "JPMorgan to let clients buy Bitcoin, Dimon says",
            "JPMorgan to let clients buy Bitcoin, says CEO Dimon",
            8 / 9,
        ),
        ("Strategy adds 7,390 BTC for $765M", "Strategy adds 7,390 BTC", 4 / 7),
        ("Miner gets $2.5B for new Bitcoin site", "Miner gets $2.5B for Bitcoin site in Texas", 7 / 10),
        ("比特币价格上涨至六万美元", "比特币价格上涨至六万美元左右", 12 / 14),
    ],
)
def test_the_same_told_in_other_words(one: str, other: str, expected: float) -> None:
    found = similarity(one, other)
    if expected < 2 / 3:
        assert found is None
    else:
        assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        (
            "the next in a row",
            "Price predictions 5/7: BTC, ETH, XRP, BNB, SOL",
            "Price predictions 5/9: BTC, ETH, XRP, BNB, SOL",
        ),
        (
            "another price",
            "Bitcoin falls below $61,000 as traders flee",
            "Bitcoin falls below $60,000 as traders flee now",
        ),
        ("the opposite", "Why is the crypto market up today?", "Why is the crypto market down today?"),
        ("another coin", "Why is the price of Bitcoin up today?", "Why is the price of XRP up today?"),
        ("half of it is other", "Bitcoin rises on inflation data", "Bitcoin rises on rate-cut bets"),
        ("a rubric", "Market wrap", "Market wrap"),
        ("nothing", "", ""),
    ],
)
def test_what_only_looks_alike(why: str, one: str, other: str) -> None:
    assert similarity(one, other) is None, why


@pytest.mark.parametrize(
    ("headline", "publisher", "left"),
    [
        ("Bitcoin hits record - The Daily Post", "The Daily Post", "bitcoin hits record"),
        ("Bitcoin hits record - CoinDesk", "coindesk.com", "bitcoin hits record"),
        ("Bitcoin hits record | CoinDesk", "CoinDesk", "bitcoin hits record"),
        ("Bitcoin hits record \u2014 CoinDesk: Bitcoin News", "CoinDesk", "bitcoin hits record"),
        ("Bitcoin hits record - analysts", "CoinDesk", "analysts bitcoin hits record"),
        ("Bitcoin hits record - CoinDesk", None, "bitcoin coindesk hits record"),
        ("Bitcoin hits record-high", "High", "bitcoin high hits record"),
        ("Bit\u200bcoin hits https://x.org/1 record", None, "bitcoin hits record"),
        ("Bitcoin hits 1,234,567.89 or 5,1", None, "1 1234567.89 5 bitcoin hits or"),
        ("Bitcoin hits hits hits record", None, "bitcoin hits record"),
        ("Bitcoin record", None, None),
        (None, "CoinDesk", None),
        ("[removed]", None, None),
    ],
)
def test_words(headline: str | None, publisher: str | None, left: str | None) -> None:
    found = words(pl.Series([headline], dtype=pl.String), pl.Series([publisher], dtype=pl.String))
    assert found.to_list() == [None if left is None else left.split()]


@pytest.mark.parametrize("seed", range(4))
def test_all_pairs_are_found_and_no_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocabulary = np.array([*"abcdefghijklmnopqrst", *"123"])
    weights = 1.0 / np.arange(1, vocabulary.size + 1)
    sizes = rng.integers(3, 13, 300)
    drawn = {
        tuple(sorted(rng.choice(vocabulary, size, replace=False, p=weights / weights.sum()).tolist())) for size in sizes
    }
    sets = sorted(drawn)
    found = {tuple(row) for row in alike(pl.Series(sets, dtype=pl.List(pl.String))).iter_rows()}
    assert len(found) > 30
    assert found == set(_one_by_one(sets))


def _one_by_one(sets: list[tuple[str, ...]]) -> list[tuple[int, int, float]]:
    """Return what `alike` should, by comparing each with each."""
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(map(set, sets)), 2):
        common, union = len(one & other), len(one | other)
        numbers = [{word for word in each if word.isdecimal()} for each in (one, other)]
        nested = numbers[0] <= numbers[1] or numbers[1] <= numbers[0]
        form = len(one - other) == len(other - one) == 1
        if 3 * common >= 2 * union and nested and not form:
            found.append((i, j, common / union))
    return found


def test_many_headlines_of_one_form_are_looked_at_part_by_part() -> None:
    sets = pl.Series([["acme", "report", "widget", f"{i}"] for i in range(3_000)], dtype=pl.List(pl.String))
    assert alike(sets).is_empty()


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert alike(pl.Series([["a", "b", "c"]] * count, dtype=pl.List(pl.String))).is_empty()

"""What a source adds is found where it adds something: order books that foretell the next bar, and others."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from backsight_features import book
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet
from backsight_model.verdict import TARGETS, Losses, decide, losses
from backsight_model.walk import walk

HOUR, HOURS = timedelta(hours=1), 1_800
START = np.datetime64("2023-01-01T00:00:00", "us")
LOOKS = 6
"""In an hour."""
STRENGTH = 1.5
"""Log odds of a rise in the next bar where one side of the book has all of its depth."""
SMALL = Settings(members=1, epochs=1, units=4, projection=4)


def looked(rng: np.random.Generator, lean: np.ndarray) -> pl.DataFrame:
    """Return looks at a book that leans to one side in each hour, -1 to 1, roughly so at each look; some come late."""
    hour = np.repeat(np.arange(lean.size), LOOKS)
    size = hour.size
    taken = START + hour * np.timedelta64(1, "h") + rng.integers(0, 3_600, size) * np.timedelta64(1, "s")
    side = np.clip(lean[hour] + 0.3 * rng.standard_normal(size), -1, 1)
    late = np.where(rng.random(size) < 0.05, rng.integers(0, 7_200, size), 0)
    spread, depth = rng.uniform(0.5, 3.0, size), rng.lognormal(size=size)
    clocks = {"observed_at": taken, "available_at": taken + late * np.timedelta64(1, "s"), "ingested_at": taken}
    return pl.DataFrame(
        {name: pl.Series(at).dt.replace_time_zone("UTC") for name, at in clocks.items()}
        | {"bid": 100 - spread / 200, "ask": 100 + spread / 200}
        | {"bid_depth": depth * (1 + side), "ask_depth": depth * (1 - side)}
    )


def states(looks: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return the features of the book at the instants at which the bars of `made_of` are known."""
    closes = START + np.arange(1, HOURS + 1) * np.timedelta64(1, "h") + np.timedelta64(15, "s")
    rows = book.book(looks, pl.Series(closes).dt.replace_time_zone("UTC"), "1h")
    return {name: rows[name].fill_null(np.nan).to_numpy() for name in rows.columns}


def lost(data: TrainingSet, service: str) -> Losses:
    made = walk(data, folds=1, embargo=HOUR, settings=SMALL, seed=1, done=lambda fold: None)
    return losses(data, made, service=service)


def over(one: Losses, other: Losses) -> dict[str, bool]:
    """Return in which targets a service is proven to be better than another, as `train --compare` asks."""
    claims = {claim.name: claim.proven for claim in decide(one, [other]).claims}
    return {target: claims[f"{target}: {one.service} over {other.service}"] for target in TARGETS}


def added(seed: int, made_of: Callable[..., TrainingSet]) -> tuple[dict[str, bool], dict[str, bool]]:
    """Return in what the book is proven to add, where it foretells the next bar and where it is another market's."""
    rng = np.random.default_rng(seed)
    lean, other = rng.uniform(-1, 1, (2, HOURS))
    p_up = 1 / (1 + np.exp(-STRENGTH * np.append(0.0, lean[:-1])))
    size = 0.006 * np.abs(rng.standard_normal(HOURS))
    moves = np.where(rng.random(HOURS) < p_up, size, -size)
    price = lost(made_of(moves, {}, horizon=1), "price_1h")
    foretold, luck = (
        over(lost(made_of(moves, states(looked(rng, leans)), horizon=1), "price_book_1h"), price)
        for leans in (lean, other)
    )
    return foretold, luck


@pytest.mark.slow
def test_the_book_adds_something_where_it_foretells_the_next_bar_and_nothing_where_it_does_not(
    made_of: Callable[..., TrainingSet],
) -> None:
    foretold, luck = added(1, made_of)
    assert foretold == {"volatility": False, "direction": True, "return": True}
    assert luck == {"volatility": False, "direction": False, "return": False}


@pytest.mark.prove
def test_ten_markets_whose_books_foretell_and_ten_whose_do_not(made_of: Callable[..., TrainingSet]) -> None:
    worlds = [added(seed, made_of) for seed in range(2, 12)]
    found = [sum(foretold["direction"] for foretold, _ in worlds), sum(any(luck.values()) for _, luck in worlds)]
    print(f"of 10: {found[0]} found, {found[1]} claimed by luck")
    assert found[0] == 10
    assert found[1] <= 2

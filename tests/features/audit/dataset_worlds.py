"""Clean tables that people train on: each knows nothing of what comes after its rows, and none may be convicted."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

HOURS = 2_200
HORIZON = 24
WARM_UP = 168
FIRST = datetime(2021, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class World:
    """A table, what its columns are, and what is claimed of a model."""

    frame: pl.DataFrame
    roles: dict[str, Any] = field(default_factory=dict)
    claims: tuple[str, ...] = ()

    def with_columns(self, **columns: Any) -> "World":
        return replace(self, frame=self.frame.with_columns(**columns))

    def named(self, **roles: Any) -> "World":
        return replace(self, roles={**self.roles, **roles})

    def numbers(self, name: str) -> np.ndarray:
        return self.frame[name].cast(pl.Float64).to_numpy()


def garch(rng: np.random.Generator, n: int, *, level: float = 0.006) -> np.ndarray:
    """Return log returns whose variance clusters, with fat tails."""
    shocks = rng.standard_t(5, n) / np.sqrt(5 / 3)
    moves, variance = np.empty(n), level**2
    for i, shock in enumerate(shocks):
        moves[i] = np.sqrt(variance) * shock
        variance = 0.02 * level**2 + 0.1 * moves[i] ** 2 + 0.88 * variance
    return moves


def autoregressive(rng: np.random.Generator, n: int, phi: float) -> np.ndarray:
    values, last = np.empty(n), 0.0
    for i, shock in enumerate(rng.standard_normal(n)):
        last = phi * last + shock
        values[i] = last
    return values


def split(n: int, gap: int, share: float = 0.7) -> pl.Series:
    """Return parts in order of time, with a gap of rows between them that are in neither."""
    cut = int(share * n)
    return pl.Series("part", ["train"] * (cut - gap) + [None] * gap + ["test"] * (n - cut))


def market(
    seed: int = 0,
    *,
    hours: int = HOURS,
    moves: np.ndarray | None = None,
    step: timedelta = timedelta(hours=1),
    horizon: int = HORIZON,
) -> World:
    """Return bars with honest features, the return ahead as label, and a purged split."""
    rng = np.random.default_rng(seed)
    n = hours + WARM_UP + horizon
    moves = garch(rng, n) if moves is None else moves(rng, n)
    inner = np.exp(np.abs(rng.normal(0, 0.002, (2, n))))
    close = 100 * np.exp(np.cumsum(moves))
    before = np.concatenate([[100.0], close[:-1]])
    at = [FIRST + step * i for i in range(n)]
    mood = autoregressive(rng, n, 0.9)
    frame = pl.DataFrame(
        {
            "time": at,
            "close": close,
            "high": np.maximum(close, before) * inner[0],
            "low": np.minimum(close, before) / inner[1],
            "volume": np.exp(3 + autoregressive(rng, n, 0.8) * 0.3 + 40 * np.abs(moves)),
            "mood": mood,
        }
    )
    log = pl.col("close").log()
    released = pl.Series(np.repeat(rng.normal(size=n // 700 + 2), 700)[200 : 200 + n])
    frame = frame.with_columns(
        ret_1=log.diff(),
        ret_24=log.diff(24),
        ret_1_lag_3=log.diff().shift(3),
        vol_24=log.diff().rolling_std(24),
        mood_mean_24=pl.col("mood").rolling_mean(24),
        z_120=(pl.col("close") - pl.col("close").rolling_mean(120)) / pl.col("close").rolling_std(120),
        hour=pl.col("time").dt.hour(),
        macro=released,
        label=log.shift(-horizon) - log,
    )
    frame = frame[WARM_UP : WARM_UP + hours]
    frame = frame.with_columns(split(frame.height, horizon))
    stated = {"time": "time", "label": "label", "horizon": step * horizon, "split": "part", "price": "close"}
    return World(frame=frame, roles=stated)


def real(bars: pl.DataFrame, ahead: str) -> World:
    """Return hourly bars (datetime, high, low, close, volume) with the features that people make of them."""
    log, high, low = pl.col("close").log(), pl.col("high"), pl.col("low")
    move = log.diff()
    labels = {"return": log.shift(-HORIZON) - log, "volatility": move.pow(2).rolling_sum(HORIZON).shift(-HORIZON).log()}
    frame = bars.select(
        "close",
        time=pl.col("datetime"),
        ret_1=move,
        ret_24=log.diff(24),
        size=move.abs(),
        range=(high / low).log(),
        har_24=move.pow(2).rolling_sum(24).log(),
        vol_168=move.rolling_std(168),
        volume=pl.col("volume").log1p(),
        rsi=move.clip(lower_bound=0).rolling_mean(14) / move.abs().rolling_mean(14),
        macd=pl.col("close").ewm_mean(span=12) - pl.col("close").ewm_mean(span=26),
        bands=(pl.col("close") - pl.col("close").rolling_mean(20)) / pl.col("close").rolling_std(20),
        stochastic=(pl.col("close") - low.rolling_min(14)) / (high.rolling_max(14) - low.rolling_min(14)),
        highest=high.rolling_max(24),
        label=labels[ahead],
    )[WARM_UP:-HORIZON]
    stated = {"time": "time", "label": "label", "horizon": timedelta(hours=HORIZON), "split": "part", "price": "close"}
    return World(frame=frame.with_columns(split(frame.height, HORIZON)), roles=stated)


CONTROLS: dict[str, Callable[[int], World]] = {}


def control(make: Callable[[int], World]) -> Callable[[int], World]:
    CONTROLS[make.__name__] = make
    return make


@control
def garch_walk(seed: int) -> World:
    return market(seed)


@control
def garch_walk_without_a_price(seed: int) -> World:
    return market(seed).named(price=None)


@control
def garch_walk_with_time_and_label_only(seed: int) -> World:
    return market(seed).named(price=None, split=None, horizon=None)


@control
def plain_random_walk(seed: int) -> World:
    return market(seed, moves=lambda rng, n: rng.normal(0, 0.005, n))


@control
def mean_reverting_price(seed: int) -> World:
    return market(seed, moves=lambda rng, n: np.diff(0.02 * autoregressive(rng, n + 1, 0.99)))


@control
def trending_price(seed: int) -> World:
    return market(seed, moves=lambda rng, n: rng.normal(0.003, 0.003, n))


@control
def seasonal_price(seed: int) -> World:
    def moves(rng: np.random.Generator, n: int) -> np.ndarray:
        hours = np.arange(n + 1)
        wave = 0.05 * np.sin(2 * np.pi * hours / 24) + 0.03 * np.sin(2 * np.pi * hours / 168)
        return np.diff(wave + 0.02 * autoregressive(rng, n + 1, 0.97))

    return market(seed, moves=moves)


@control
def regimes(seed: int) -> World:
    def moves(rng: np.random.Generator, n: int) -> np.ndarray:
        state = (np.cumsum(rng.random(n) < 0.005) % 2).astype(int)
        return rng.normal(np.array([0.0008, -0.001])[state], np.array([0.003, 0.012])[state])

    return market(seed, moves=moves)


@control
def jumps(seed: int) -> World:
    return market(seed, moves=lambda rng, n: rng.normal(0, 0.003, n) + (rng.random(n) < 0.01) * rng.normal(0, 0.05, n))


@control
def momentum(seed: int) -> World:
    def moves(rng: np.random.Generator, n: int) -> np.ndarray:
        return 0.005 * autoregressive(rng, n, 0.2)

    return market(seed, moves=moves)


@control
def a_real_but_modest_signal(seed: int) -> World:
    """The mood moves the next return: a right sign in 57 % of the hours."""
    rng = np.random.default_rng(seed + 1_000)
    n = HOURS + WARM_UP + HORIZON
    told = rng.normal(size=n)
    world = market(seed, moves=lambda rng, n: 0.005 * (0.22 * np.concatenate([[0], told[:-1]]) + rng.normal(size=n)))
    return world.with_columns(told=pl.Series(told[WARM_UP : WARM_UP + HOURS]))


@control
def next_hour(seed: int) -> World:
    return market(seed, horizon=1)


@control
def direction(seed: int) -> World:
    return market(seed).with_columns(label=(pl.col("label") > 0).cast(pl.Int8))


@control
def volatility_ahead(seed: int) -> World:
    world = market(seed)
    squares = np.cumsum(np.concatenate([[0.0], np.diff(np.log(world.numbers("close"))) ** 2]))
    ahead = np.full(len(squares), np.nan)
    ahead[:-HORIZON] = np.log(squares[HORIZON:] - squares[:-HORIZON])
    past = pl.col("ret_1").pow(2)
    return world.with_columns(
        label=pl.Series(ahead).fill_nan(None),
        size=pl.col("ret_1").abs(),
        ewma=past.ewm_mean(half_life=12).sqrt(),
        har_24=past.rolling_sum(24).log(),
        har_120=past.rolling_sum(120).log(),
    )


@control
def volatility_ahead_without_a_price(seed: int) -> World:
    return volatility_ahead(seed).named(price=None)


@control
def daily_bars(seed: int) -> World:
    return market(seed, hours=900, step=timedelta(days=1), horizon=1)


@control
def price_ahead(seed: int) -> World:
    """The label is a price, and so strongly autocorrelated; persistence is what is claimed to be beaten, and is."""
    world = market(seed, horizon=1).with_columns(label=pl.col("close").shift(-1))
    return replace(world, frame=world.frame[:-1], claims=("MAPE=0.1%",))


@control
def autocorrelated_columns(seed: int) -> World:
    rng = np.random.default_rng(seed + 7)
    many = {f"ar_{i}": pl.Series(autoregressive(rng, HOURS, 0.99)) for i in range(8)}
    return market(seed).with_columns(**many)


@control
def seasonal_columns(seed: int) -> World:
    rng = np.random.default_rng(seed + 8)
    hours = np.arange(HOURS)
    many = {
        f"wave_{i}": pl.Series(np.sin(2 * np.pi * hours / 24 + i) + 0.1 * i * autoregressive(rng, HOURS, 0.9))
        for i in range(6)
    }
    weekday = pl.col("time").dt.weekday()
    return market(seed).with_columns(
        **many, weekday=weekday, month=pl.col("time").dt.month(), sine=(2 * np.pi * pl.col("hour") / 24).sin()
    )


@control
def autoregressive_label(seed: int) -> World:
    """Nothing of a market: the next value of a series that goes back to its mean, from its past."""
    rng = np.random.default_rng(seed + 9)
    x = autoregressive(rng, HOURS + 60, 0.99)
    frame = pl.DataFrame({"time": [FIRST + timedelta(hours=i) for i in range(len(x))], "x": x}).with_columns(
        x_lag_1=pl.col("x").shift(1),
        x_mean_3=pl.col("x").rolling_mean(3),
        x_mean_25=pl.col("x").rolling_mean(25),
        other=pl.Series(autoregressive(rng, len(x), 0.99)),
        label=pl.col("x").shift(-1),
    )
    frame = frame[59:-1].with_columns(split(HOURS, 1))
    return World(frame=frame, roles={"time": "time", "label": "label", "horizon": timedelta(hours=1), "split": "part"})


@control
def seasonal_label(seed: int) -> World:
    """Load of a grid a day ahead: a strong rhythm of day and week, and what is known of it."""
    rng = np.random.default_rng(seed + 10)
    hours = np.arange(HOURS + 200)
    load = (
        10
        + 3 * np.sin(2 * np.pi * hours / 24)
        + np.cos(2 * np.pi * hours / 168)
        + 0.3 * autoregressive(rng, len(hours), 0.9)
    )
    frame = pl.DataFrame({"time": [FIRST + timedelta(hours=int(i)) for i in hours], "load": load}).with_columns(
        load_24=pl.col("load").shift(24),
        load_168=pl.col("load").shift(144),
        mean_24=pl.col("load").rolling_mean(24),
        hour=pl.col("time").dt.hour(),
        label=pl.col("load").shift(-24),
    )
    frame = frame[170:-24]
    frame = frame.with_columns(split(frame.height, 24))
    return World(frame=frame, roles={"time": "time", "label": "label", "horizon": timedelta(hours=24), "split": "part"})


@control
def several_symbols(seed: int) -> World:
    parts = [
        market(seed + 50 * i, hours=800).frame.with_columns(symbol=pl.lit(name), close=pl.col("close") * 10**i)
        for i, name in enumerate(("BTC-USD", "ETH-USD", "SOL-USD"))
    ]
    world = World(frame=pl.concat(parts), roles=market(seed, hours=300).roles)
    return world.named(symbol="symbol")


@control
def gaps_that_were_filled_with_the_past(seed: int) -> World:
    rng = np.random.default_rng(seed + 11)
    world = market(seed)
    holes = rng.random(HOURS) < 0.04
    holed = np.where(holes | np.roll(holes, 1), None, world.numbers("ret_24"))
    mood = np.where(rng.random(HOURS) < 0.05, None, world.numbers("mood"))
    return world.with_columns(
        ret_24=pl.Series(holed.astype(float)).fill_nan(None).forward_fill(),
        mood_raw=pl.Series(mood.astype(float)).fill_nan(None),
        mood_filled=pl.Series(mood.astype(float)).fill_nan(None).forward_fill().fill_null(0.0),
    )


@control
def gaps_that_were_left(seed: int) -> World:
    rng = np.random.default_rng(seed + 12)
    world = market(seed)
    return world.with_columns(
        mood=pl.when(pl.Series(rng.random(HOURS) < 0.1)).then(None).otherwise(pl.col("mood")),
        z_120=pl.when(pl.int_range(pl.len()) < 60).then(None).otherwise(pl.col("z_120")),
    )


@control
def monthly_values_as_they_were_released(seed: int) -> World:
    """A number a month, out on the 13th at half past one, and a daily index of the day before."""
    rng = np.random.default_rng(seed + 13)
    world = market(seed)
    at = world.frame["time"]
    month = (at - timedelta(days=12, hours=13, minutes=30)).dt.month().to_numpy()
    day = ((at - FIRST).dt.total_days()).to_numpy()
    mood = world.frame.group_by_dynamic("time", every="1d").agg(pl.col("mood").mean())
    yesterday = mood.with_columns(pl.col("time") + timedelta(days=1)).rename({"mood": "mood_yesterday"})
    frame = world.frame.with_columns(
        cpi=pl.Series(rng.normal(size=13)[month]), fear=pl.Series(rng.integers(0, 100, day.max() + 1)[day])
    ).join_asof(yesterday, on="time")
    return replace(world, frame=frame)


@control
def scalers_of_the_training_part(seed: int) -> World:
    world = market(seed)
    learnt = world.frame.filter(pl.col("part") == "train")
    columns = {}
    for name in ("ret_24", "vol_24", "mood", "volume"):
        values = learnt[name]
        columns[f"{name}_scaled"] = (pl.col(name) - values.mean()) / values.std()
        columns[f"{name}_unit"] = (pl.col(name) - values.min()) / (values.max() - values.min())
    filled = pl.when(pl.int_range(pl.len()) % 17 == 0).then(learnt["mood"].mean()).otherwise(pl.col("mood"))
    return world.with_columns(**columns, mood_filled=filled)


@control
def bounded_columns(seed: int) -> World:
    world = market(seed)
    rank = pl.col("close").rolling_rank(48) / 48
    return world.with_columns(
        stochastic=(
            (pl.col("close") - pl.col("close").rolling_min(14))
            / (pl.col("close").rolling_max(14) - pl.col("close").rolling_min(14))
        ).fill_nan(0.5),
        percentile=rank.fill_null(0.5),
        up=(pl.col("ret_1") > 0),
        count=pl.Series(np.random.default_rng(seed).poisson(2, HOURS)),
        since_start=pl.int_range(pl.len()),
        highest=pl.col("close").cum_max(),
    )


@control
def blocked_folds_with_gaps(seed: int) -> World:
    fold = np.arange(HOURS) * 5 // HOURS
    edge = (np.arange(HOURS) * 5 % HOURS) // 5 >= HOURS // 5 - HORIZON
    return market(seed).with_columns(part=pl.Series(np.where(edge, -1, fold)))


@control
def walk_forward_with_a_validation_part(seed: int) -> World:
    names = np.array(["train"] * 1_300 + ["gap"] * 24 + ["valid"] * 376 + ["gap"] * 24 + ["test"] * (HOURS - 1_724))
    return market(seed).with_columns(part=pl.Series(names))


@control
def predictions_with_skill(seed: int) -> World:
    world = market(seed)
    rng = np.random.default_rng(seed + 14)
    said = 0.3 * world.numbers("label") + rng.normal(0, 0.005, HOURS)
    return world.with_columns(said=pl.Series(said)).named(prediction="said")


@control
def quiet_market_that_stands_still(seed: int) -> World:
    """Hours in which nothing trades repeat each other to the last digit."""
    return market(seed, moves=lambda rng, n: rng.normal(0, 0.005, n) * (np.arange(n) // 30 % 3 > 0))

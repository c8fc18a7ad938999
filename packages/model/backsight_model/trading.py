"""What forecasts would have earned: positions one bar late, at a cost, against luck and against holding.

A forecast reaches `horizon` bars ahead and one is made at every bar, so that a position which follows the newest
would count each bar's return for many forecasts. Here the equity is cut into `horizon` equal parts. Each bar one part
takes the newest forecast and keeps it for `horizon` bars: what is held is the mean of the last `horizon` forecasts
(Jegadeesh and Titman 1993), and every bar is earned once. Several symbols share the equity: each has as much of it as
another, the share of one that cannot be traded yet, or any more, lies idle.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from math import isqrt
from typing import Any, TypedDict

import numpy as np
import polars as pl

from backsight_model import performance
from backsight_model.arrays import FloatArray, IntArray, TimeArray
from backsight_model.proof import LEVEL, Comparison, compare, holm
from backsight_model.training import TrainingSet
from backsight_model.walk import MODEL, Walk, apart

DELAY = 1
"""Bars between the close that a forecast was made at and the close that is traded at."""
USUAL_SHARE = 0.5
"""What volatility is aimed at, as a share of what was usual before the tape."""
YEAR = timedelta(days=365)
HOLD = "buy and hold"
RULES = {
    "sign": "direction",
    "sized by P(up)": "direction",
    "sign, volatility-targeted": "direction",
    "long, volatility-targeted": "volatility",
}
"""Ways to trade the forecasts, and whose skill each of them lives on. All of them count when p-values are corrected."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What it costs to trade, in basis points of what is traded, each time: to buy is one side, to sell another.

    The defaults are what a private client pays at a large spot exchange for a liquid pair. What a short position
    pays for what it borrows is not counted.

    Attributes
    ----------
    fee_bp : float
        Of the exchange, for orders that are filled at once: 10 at the lowest tier of the large ones, more at others.
    half_spread_bp : float
        From the middle to the price that is paid.
    slippage_bp : float
        By how much the price moves away while one trades.
    """

    fee_bp: float = 10.0
    half_spread_bp: float = 1.0
    slippage_bp: float = 1.0

    @property
    def per_side_bp(self) -> float:
        """All of it."""
        return self.fee_bp + self.half_spread_bp + self.slippage_bp


@dataclass(frozen=True, kw_only=True)
class Tape:
    """Consecutive bars that could be traded, n of them; where bars are missing, the next one holds the whole move.

    Attributes
    ----------
    closed_at : ndarray of shape (n,), datetime64[us]
        Close of each bar.
    returns : ndarray of shape (n,)
        Simple return from the close before to this one; 0 for the first.
    step : timedelta
        Length of a bar.
    """

    closed_at: TimeArray
    returns: FloatArray
    step: timedelta

    @classmethod
    def read(cls, bars: pl.DataFrame, *, first: np.datetime64, last: np.datetime64, step: timedelta) -> "Tape":
        """Return the tape of the bars that closed from `first` to `last`, corrected ones as they were corrected.

        Parameters
        ----------
        bars : DataFrame with `observed_at`, `close`
            All stored versions; of those of one close the last counts, as `bars.read` orders them.
        first, last : datetime64
            Closes, both included.
        step : timedelta
            Length of a bar.
        """
        kept = bars.unique("observed_at", keep="last").sort("observed_at")
        closed_at = kept["observed_at"].dt.replace_time_zone(None).dt.cast_time_unit("us").to_numpy()
        close = kept["close"].cast(pl.Float64).to_numpy()
        within = (closed_at >= first) & (closed_at <= last)
        closed_at, close = closed_at[within], close[within]
        returns = np.zeros(len(close))
        returns[1:] = close[1:] / close[:-1] - 1.0
        return cls(closed_at=closed_at, returns=returns, step=step)

    @property
    def per_year(self) -> float:
        """Bars a year."""
        return YEAR / self.step


@dataclass(frozen=True, kw_only=True)
class Traded:
    """How one rule did on a tape of n bars. Returns are shares of the equity; yearly ones are not compounded.

    Attributes
    ----------
    rule : str
    needs : str
        The target whose skill the rule lives on; empty for buy and hold.
    held : ndarray of shape (n,)
        Position over each bar as a share of the equity, negative where short; the sum over the symbols.
    gross, net : ndarray of shape (n,)
        Return over each bar before and after costs.
    exposure : float
        Mean size of the position.
    turnover : float
        How often the equity was traded in a year; from long to short counts two.
    gross_year, net_year : float
        Mean return times bars a year.
    sharpe, sortino : float
        Of the net returns, a year.
    sharpe_interval, sortino_interval : tuple of float
        95 %, by a block bootstrap.
    drawdown : float
        Largest loss from a height, after costs.
    break_even_bp : float or None
        The cost per side at which nothing would be left; below 0 where nothing was earned to begin with, None
        where nothing was traded.
    over_cash, over_hold : Comparison
        Net returns per bar against nothing, and against buy and hold.
    random_net_year : tuple of float
        5, 50 and 95 % quantiles of what the same positions earned at other times, after the same costs.
    random_p : float
        How often they earned as much.
    shifts : int
        How many other times were tried.
    """

    rule: str
    needs: str
    held: FloatArray
    gross: FloatArray
    net: FloatArray
    exposure: float
    turnover: float
    gross_year: float
    net_year: float
    sharpe: float
    sortino: float
    sharpe_interval: performance.Interval
    sortino_interval: performance.Interval
    drawdown: float
    break_even_bp: float | None
    over_cash: Comparison
    over_hold: Comparison
    random_net_year: tuple[float, float, float]
    random_p: float
    shifts: int

    @property
    def p_value(self) -> float:
        """The larger of the p-values against nothing and against random positions: both have to be small."""
        return max(self.over_cash.p_value, self.random_p)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values, without the series."""
        series = ("held", "gross", "net")
        return {name: value for name, value in asdict(self).items() if name not in series} | {"p_value": self.p_value}


@dataclass(frozen=True, kw_only=True)
class Trading:
    """All rules on one tape.

    Attributes
    ----------
    symbols : tuple of str
        What was traded, in equal shares.
    tape : Tape
        Its returns are those of equal shares.
    costs : Costs
    rules : tuple of Traded
        In the order of `RULES`.
    hold : Traded
        Long from the first bar that a forecast could have been traded to the last.
    """

    symbols: tuple[str, ...]
    tape: Tape
    costs: Costs
    rules: tuple[Traded, ...]
    hold: Traded

    @property
    def adjusted(self) -> dict[str, float]:
        """P-values by rule, corrected for the number of rules."""
        return holm({one.rule: one.p_value for one in self.rules})

    @property
    def best(self) -> Traded:
        """The rule that earned most after costs."""
        return max(self.rules, key=lambda one: one.net_year)

    def tradable(self, proven: dict[str, bool]) -> tuple[Traded, ...]:
        """Return the rules that earn more than they cost and more than luck, and live on skill that was proven."""
        return tuple(
            one
            for one in self.rules
            if proven[one.needs]
            and self.adjusted[one.rule] <= LEVEL
            and one.break_even_bp is not None
            and one.break_even_bp > self.costs.per_side_bp
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {
            "symbols": list(self.symbols),
            "costs": asdict(self.costs) | {"per_side_bp": self.costs.per_side_bp},
            "delay_bars": DELAY,
            "bars": len(self.tape.returns),
            "rules": [one.to_json() | {"adjusted": self.adjusted[one.rule]} for one in self.rules],
            "buy_and_hold": self.hold.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Book:
    """What is held of one symbol, n bars, as shares of what is its own of the equity.

    Attributes
    ----------
    tape : Tape
    held : dict of str to ndarray of shape (n,)
        Position over each bar, by rule; and of holding, under ``buy and hold``.
    """

    tape: Tape
    held: dict[str, FloatArray]


def trade_walk(data: TrainingSet, walked: Walk, bars: Mapping[str, pl.DataFrame], *, lag: int, costs: Costs) -> Trading:
    """Return what the model's forecasts of a walk would have earned on the bars that came.

    A forecast counts as made at the close before its instant, also where its newest bar is older: a bar that comes
    in hours late is not traded hours ago.

    Parameters
    ----------
    data : TrainingSet
    walked : Walk
    bars : dict of str to DataFrame with `observed_at`, `close`
        All stored versions of the bars on the grid, as `bars.read` orders them, by symbol.
    lag, costs
        See `trade`.
    """
    books = {symbol: _book_of(*each, bars[symbol]) for symbol, each in apart(data, walked).items()}
    return trade(books, horizon=data.horizon, lag=lag, costs=costs)


def _book_of(data: TrainingSet, walked: Walk, bars: pl.DataFrame) -> Book:
    windows, samples = data.windows, walked.samples
    step = np.timedelta64(windows.timeframe // timedelta(microseconds=1), "us")
    at, first = data.at[samples], windows.observed_at[samples[0]]
    closed_at = first + (at - first) // step * step
    known_before = data.log_rv[data.label_at <= at[0]]
    return book(
        Tape.read(bars, first=first, last=closed_at[-1] + (data.horizon + DELAY + 1) * step, step=windows.timeframe),
        closed_at,
        p_up=walked.p_up[MODEL],
        volatility=np.exp(0.5 * (walked.log_rv[MODEL] + walked.below_mean[MODEL])),
        usual=float(np.exp(0.5 * known_before.mean())),
        horizon=data.horizon,
    )


def book(
    tape: Tape, closed_at: TimeArray, *, p_up: FloatArray, volatility: FloatArray, usual: float, horizon: int
) -> Book:
    """Return what is held of one symbol by each rule.

    Parameters
    ----------
    tape : Tape
        From the first forecast's close on, to `horizon` and a few bars after the last.
    closed_at : ndarray of shape (m,), datetime64[us]
        Close of the newest bar that each forecast knew.
    p_up, volatility : ndarray of shape (m,)
        Forecast P(up), and root of the variance over the horizon.
    usual : float
        What the volatility over a horizon was before the tape, in the same unit.
    horizon : int
        Bars that a forecast reaches ahead and is held for.
    """
    side = np.sign(p_up - 0.5)
    size = np.minimum(1.0, USUAL_SHARE * usual / volatility)
    signals = dict(zip(RULES, (side, 2.0 * p_up - 1.0, side * size, size), strict=True))
    held = {rule: delayed(spread(tape, closed_at, signal, horizon=horizon)) for rule, signal in signals.items()}
    return Book(tape=tape, held=held | {HOLD: delayed(np.ones(len(tape.returns)))})


def trade(books: Mapping[str, Book], *, horizon: int, lag: int, costs: Costs) -> Trading:
    """Return what equal shares of some symbols would have earned by each rule.

    Parameters
    ----------
    books : dict of str to Book
        By symbol.
    horizon : int
        Bars that a forecast is held for, and the least shift of random positions.
    lag : int
        Lags counted in tests, and the fewest bars that are drawn together in resamples.
    costs : Costs
    """
    closed_at = np.unique(np.concatenate([one.tape.closed_at for one in books.values()]))
    share, step = 1.0 / len(books), next(iter(books.values())).tape.step
    returns = np.column_stack([_returns_on(closed_at, one.tape) for one in books.values()])
    held = {
        rule: share * np.column_stack([_held_on(closed_at, one.tape, one.held[rule]) for one in books.values()])
        for rule in (*RULES, HOLD)
    }
    tape = Tape(closed_at=closed_at, returns=share * returns.sum(axis=1), step=step)
    terms: _Terms = {"lag": lag, "apart": horizon, "costs": costs}
    hold = _account(tape, returns, HOLD, held.pop(HOLD), None, **terms)
    return Trading(
        symbols=tuple(books),
        tape=tape,
        costs=costs,
        rules=tuple(_account(tape, returns, rule, position, hold, **terms) for rule, position in held.items()),
        hold=hold,
    )


def _returns_on(closed_at: TimeArray, tape: Tape) -> FloatArray:
    """Return the returns of a tape on the closes of several: 0 where it has no bar."""
    returns = np.zeros(len(closed_at))
    returns[np.searchsorted(closed_at, tape.closed_at)] = tape.returns
    return returns


def _held_on(closed_at: TimeArray, tape: Tape, held: FloatArray) -> FloatArray:
    """Return what is held on the closes of several tapes: what was where a bar is missing, nothing before and after."""
    place = np.searchsorted(tape.closed_at, closed_at, side="right") - 1
    there = (place >= 0) & (closed_at <= tape.closed_at[-1])
    return np.where(there, held[place], 0.0)


def spread(tape: Tape, closed_at: TimeArray, signal: FloatArray, *, horizon: int) -> FloatArray:
    """Return the mean of the last `horizon` forecasts at each bar of a tape: shape (n,).

    A bar without a forecast counts as one that says nothing, so that what is held runs off where forecasts end.

    Parameters
    ----------
    tape : Tape
    closed_at, signal : ndarray of shape (m,)
        Where the forecasts were made, in time order, and what they ask for.
    horizon : int
    """
    step = np.timedelta64(tape.step // timedelta(microseconds=1), "us")

    def slot(at: TimeArray) -> IntArray:
        return np.asarray((at - closed_at[0]) // step, dtype=np.int64)

    places = slot(closed_at)
    asked = np.zeros(max(int(places[-1]), int(slot(tape.closed_at[-1:])[0])) + 1)
    asked[places] = signal
    summed = np.concatenate([np.zeros(horizon), np.cumsum(asked)])
    mean = (summed[horizon:] - summed[:-horizon]) / horizon
    return np.asarray(mean[slot(tape.closed_at)], dtype=np.float64)


def delayed(target: FloatArray) -> FloatArray:
    """Return what is held over each bar where a target is known at one close and traded `DELAY` closes later.

    >>> delayed(np.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [0.0, 0.0, 1.0, 2.0]
    """
    return np.concatenate([np.zeros(1 + DELAY), target])[: len(target)]


class _Terms(TypedDict):
    lag: int
    apart: int
    costs: Costs


def _account(
    tape: Tape,
    returns: FloatArray,
    rule: str,
    held: FloatArray,
    hold: Traded | None,
    *,
    lag: int,
    apart: int,
    costs: Costs,
) -> Traded:
    """Return how positions did, both `held` and `returns` of shape (n, symbols)."""
    n, share = len(held), 1e-4 * costs.per_side_bp
    each = np.abs(np.diff(held, axis=0, prepend=0.0))
    each[-1] += np.abs(held[-1])  # whatever is left is closed
    traded, gross = each.sum(axis=1), (held * returns).sum(axis=1)
    net = gross - share * traded
    by_luck = np.sum([performance.shifted(*pair, apart=apart) for pair in zip(held.T, returns.T, strict=True)], axis=0)
    low, middle, high = np.quantile(by_luck, [0.05, 0.5, 0.95]) if len(by_luck) else np.full(3, gross.mean())
    sharpe_interval, sortino_interval = performance.intervals(
        net, per_year=tape.per_year, block=max(lag, isqrt(n)), seed=0
    )
    nothing = np.zeros(n)
    return Traded(
        rule=rule,
        needs=RULES.get(rule, ""),
        held=held.sum(axis=1),
        gross=gross,
        net=net,
        exposure=float(np.abs(held).sum(axis=1).mean()),
        turnover=float(traded.mean()) * tape.per_year,
        gross_year=float(gross.mean()) * tape.per_year,
        net_year=float(net.mean()) * tape.per_year,
        sharpe=performance.sharpe(net, per_year=tape.per_year),
        sortino=performance.sortino(net, per_year=tape.per_year),
        sharpe_interval=sharpe_interval,
        sortino_interval=sortino_interval,
        drawdown=float(performance.drawdown(net).max()),
        break_even_bp=1e4 * float(gross.sum() / traded.sum()) if traded.sum() > 0 else None,
        over_cash=compare(-net, nothing, lag=lag, model=rule, reference="nothing"),
        over_hold=compare(-net, -(net if hold is None else hold.net), lag=lag, model=rule, reference=HOLD),
        random_net_year=(
            (float(low) - share * float(traded.mean())) * tape.per_year,
            (float(middle) - share * float(traded.mean())) * tape.per_year,
            (float(high) - share * float(traded.mean())) * tape.per_year,
        ),
        random_p=performance.rank(float(gross.mean()), by_luck),
        shifts=len(by_luck),
    )

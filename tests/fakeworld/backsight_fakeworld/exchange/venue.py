"""What all venues have in common: markets, bars as they show them, and errors."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Final

from backsight_fakeworld.exchange.markets import Bar, Gaps, Market, Trade, to_ms
from backsight_fakeworld.messages import Answer, Request

STEPS: Final[Mapping[str, int]] = {
    f"{number}{unit}": number * length
    for unit, length, numbers in (
        ("m", 60_000, (1, 3, 5, 15, 30)),
        ("h", 3_600_000, (1, 2, 3, 4, 6, 8, 12)),
        ("d", 86_400_000, (1, 3)),
        ("w", 7 * 86_400_000, (1, 2)),
    )
    for number in numbers
}
"""Length of a bar in ms by its name in ccxt."""

_WEEK: Final = STEPS["1w"]
_MONDAY: Final = 4 * STEPS["1d"]


class Venue(ABC):
    """An exchange as its public API shows it.

    Parameters
    ----------
    markets : mapping of str to Market
        By the venue's own name of the pair.
    gaps : callable
        From now to the stretches of time that the venue has no bars of.
    """

    name: ClassVar[str]
    pairs: ClassVar[Mapping[str, tuple[str, str]]]
    """Base and quote by the venue's own name of the pair."""
    omits_quiet: ClassVar[bool]
    """Whether there is no bar where nothing was traded."""
    monday_weeks: ClassVar[bool] = False

    def __init__(self, markets: Mapping[str, Market], gaps: Callable[[datetime], Gaps]) -> None:
        self.markets = markets
        self.gaps = gaps

    @abstractmethod
    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the venue's prefix, as at an instant."""

    def bars(self, market: Market, step: int, start: int, end: int, now: datetime) -> Iterator[Bar]:
        """Yield the bars that open in [start, end), in ms, oldest first; the last may be unfinished."""
        found = market.bars(step, start, end, now=to_ms(now), gaps=self.gaps(now), offset=self._offset(step))
        return (bar for bar in found if bar.trades or not self.omits_quiet)

    def bars_before(self, market: Market, step: int, end: int, now: datetime) -> Iterator[Bar]:
        """Yield the bars that open before an instant in ms, newest first."""
        found = market.bars_before(step, end, now=to_ms(now), gaps=self.gaps(now), offset=self._offset(step))
        return (bar for bar in found if bar.trades or not self.omits_quiet)

    def trades(self, market: Market, start: int, end: int, now: datetime) -> Iterator[Trade]:
        """Yield the trades of [start, end), in ms, oldest first."""
        return market.trades(start, min(end, to_ms(now)), gaps=self.gaps(now))

    def trades_before(self, market: Market, end: int, now: datetime) -> Iterator[Trade]:
        """Yield the trades before an instant in ms, newest first."""
        return market.trades_before(min(end, to_ms(now)), gaps=self.gaps(now))

    def _offset(self, step: int) -> int:
        return _MONDAY if self.monday_weeks and step % _WEEK == 0 else 0


def shown_levels(market: Market, levels: Sequence[tuple[int, int]]) -> list[list[str]]:
    """Return levels of a book as [price, amount]."""
    return [[market.show_price(price), market.show_amount(amount)] for price, amount in levels]

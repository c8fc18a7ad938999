"""What is known of single exchanges and is not said by ccxt: how their answers lie in time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_THURSDAY: Final = timedelta(0)
"""From the first instant of 1970, which was one."""
_MONDAY: Final = timedelta(days=4)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """How an exchange answers. What is said of none is true of no exchange: it is trusted with the least.

    Parameters
    ----------
    known : bool
        Whether its answers were looked at, so that one of another shape is a fault.
    whole_from_start : bool
        An answer that does not hold all that was asked for lacks its end. Otherwise it may lack its beginning, so that
        is asked for once more.
    skips : bool
        An answer begins with the first bar there is, however late that is.
    quiet : bool
        There is no bar of a stretch in which nothing was traded. Otherwise each one that is missing is a hole.
    recent : bool
        It gives one page of bars, the last, whatever is asked for.
    elsewhere : str
        Where bars can be had that it does not give any more.
    rebuilds : bool
        Bars can be made from its trades, which reach back to the first one.
    week : timedelta
        Where weeks begin.
    levels : int, optional
        Of an order book, on each side: the most that one request gets at a price that a job a minute can pay.
    """

    known: bool = True
    whole_from_start: bool = False
    skips: bool = False
    quiet: bool = False
    recent: bool = False
    elsewhere: str = ""
    rebuilds: bool = False
    week: timedelta = _MONDAY
    levels: int | None = None


UNKNOWN: Final = Traits(known=False)

TRAITS: Final[Mapping[str, Traits]] = {
    # Oldest first from the start asked for, over any gap; 1000 levels cost 50 of 6000 a minute.
    "binance": Traits(whole_from_start=True, skips=True, levels=1000),
    # Oldest first; the wish for a start is ignored where it lies before the last 720. Weeks as multiples of 7 days.
    "kraken": Traits(
        whole_from_start=True,
        quiet=True,
        recent=True,
        elsewhere="take older bars from its trades (--from-trades), or from its archive "
        "(backsight pull dump --layout kraken-ohlcvt)",
        rebuilds=True,
        week=_THURSDAY,
        levels=500,
    ),
    # Newest first, and an error where a span holds more than 350 bars: never a part of it.
    "coinbase": Traits(whole_from_start=True, quiet=True, levels=500),
    # The same with 300; a book is always of 50 levels.
    "coinbaseexchange": Traits(whole_from_start=True, quiet=True),
    # Oldest first from the start of a span; a book is always whole.
    "bitstamp": Traits(whole_from_start=True),
    # Oldest first when a start is asked for, over any gap.
    "bitfinex": Traits(whole_from_start=True, skips=True, quiet=True, levels=100),
}
"""By ccxt's name. What is said of an exchange was read in its documents and in ccxt's module of it."""

"""Markets of exchanges: from ccxt's name of one to the venue and the symbol of the lake."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from backsight_features.errors import BadInput

_NAME: Final = re.compile(r"(?P<base>[A-Z0-9]+)/(?P<quote>[A-Z0-9]+)(?::(?P<contract>[A-Z0-9-]+))?")


@dataclass(frozen=True, kw_only=True)
class Market:
    """What is traded on an exchange.

    Parameters
    ----------
    exchange : str
        As ccxt names it: ``binance``.
    name : str
        As ccxt names it: ``BTC/USDT``, and ``BTC/USDT:USDT`` for the perpetual swap that is settled in USDT.
    base, quote : str
        ``BTC`` and ``USDT``.
    contract : str
        What follows the colon: settlement, expiry, strike. "" for spot.
    """

    exchange: str
    name: str
    base: str
    quote: str
    contract: str

    @property
    def venue(self) -> str:
        """The venue in the lake; contracts have one of their own, as their prices are not those of spot."""
        return f"{self.exchange}-{self.contract.lower()}" if self.contract else self.exchange

    @property
    def symbol(self) -> str:
        """The symbol in the lake."""
        return f"{self.base}-{self.quote}"

    @property
    def variables(self) -> Mapping[str, str]:
        """What layouts know of it."""
        return {"venue": self.venue, "base": self.base, "quote": self.quote}


def market(exchange: str, name: str) -> Market:
    """Return what ccxt's name of a market says; whether the exchange has it is not known yet.

    >>> market("binance", "BTC/USDT:USDT").venue
    'binance-usdt'

    Raises
    ------
    BadInput
        If it is no such name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadInput(f"{name!r} is no market; write BTC/USDT for spot, or BTC/USDT:USDT for its perpetual swap")
    return Market(
        exchange=exchange, name=name, base=match["base"], quote=match["quote"], contract=match["contract"] or ""
    )

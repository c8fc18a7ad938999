"""ccxt's exceptions as errors of ours: by what the caller should do about them."""

import re
from collections.abc import Mapping
from typing import Final

import ccxt
from backsight_features.errors import BacksightError, BadInput

from backsight_ingest.live.faults import Refused, Transient

MEANING: Final[Mapping[type[Exception], type[BacksightError]]] = {
    ccxt.BaseError: Refused,
    ccxt.ExchangeError: Refused,
    ccxt.ArgumentsRequired: BadInput,
    ccxt.BadSymbol: BadInput,
    ccxt.NotSupported: BadInput,
    ccxt.OperationFailed: Transient,
}
"""Of a class that is not listed its nearest parent counts: ccxt sorts them by the same question."""

REFUSALS: Final = ("400", "401", "403", "404", "405", "407", "409", "410", "422", "451")
"""Statuses that ccxt takes for a passing outage; the same request gets the same answer."""

_ADDRESS: Final = re.compile(r"https?://\S+")
_SHOWN: Final = 200


def translated(error: ccxt.BaseError, exchange: str) -> BacksightError:
    """Return the error of ours that one of ccxt's means; its text is cut, and holds no address."""
    meaning = next(MEANING[kind] for kind in type(error).__mro__ if kind in MEANING)
    said = " ".join(_ADDRESS.sub("", str(error)).split()).removeprefix(f"{exchange} ")
    return meaning(f"{exchange}: {said[:_SHOWN] or type(error).__name__} ({type(error).__name__})")

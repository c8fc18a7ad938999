"""What is published, and what became of it."""

from dataclasses import dataclass
from datetime import datetime

from backsight_features.online.contract import Contract
from backsight_features.online.packed import pack, unpack
from backsight_features.store.shelf import Outcome, Prepared
from backsight_features.windows import Windows


@dataclass(frozen=True, kw_only=True)
class PublishedWindow:
    """What became of the window of one symbol.

    Parameters
    ----------
    symbol : str
        Whose window.
    outcome : str
        ``written``; ``corrected``, in place of one of the same instants with other content; ``unchanged``; or
        ``kept``, because what is online is newer.
    observed_at, available_at : datetime
        Of the window that was made: the close of its newest slot, and when its last state became known.
    """

    symbol: str
    outcome: Outcome
    observed_at: datetime
    available_at: datetime


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a call of `Store.publish` did.

    Parameters
    ----------
    service : str
        Whose features.
    length : int
        L, the slots of each window.
    at : datetime
        The instant as of which the windows were made.
    windows : tuple of PublishedWindow
        One per symbol, ordered by symbol.
    silent : tuple of str
        Symbols that were built, but of which nothing became known for L slots, as others went on: what is online of
        them, if anything, was left as it is. Ordered.
    """

    service: str
    length: int
    at: datetime
    windows: tuple[PublishedWindow, ...]
    silent: tuple[str, ...] = ()


def prepared(windows: Windows, contract: Contract) -> list[Prepared]:
    """Return every window, packed.

    Parameters
    ----------
    windows : Windows
        One per symbol, none of them empty.
    contract : Contract
        What is published with them.
    """
    slots = windows.slot_available_at()
    packed = [
        pack(
            windows.rows[windows.index[i]],
            slots[i],
            digest=contract.digest,
            contract=contract.checksum,
            observed_at=windows.observed_at[i],
            timeframe=windows.timeframe,
        )
        for i in range(len(windows))
    ]
    return [
        Prepared(symbol=symbol, data=data, window=unpack(data))
        for symbol, data in zip(windows.symbol, packed, strict=True)
    ]

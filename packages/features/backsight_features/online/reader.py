"""Windows for services: what `Store.online` hands out, without Feast."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from backsight_features.errors import BadInput, HeaderMismatch, Missing, NotServable
from backsight_features.online.contract import Contract, window_view_name
from backsight_features.online.feast_format import bytes_in, string_in
from backsight_features.online.gate import OnlineWindow, Unfit, admit
from backsight_features.online.packed import PackedWindow, unpack
from backsight_features.online.redis_shelf import RedisShelf
from backsight_features.online.sqlite_shelf import SqliteShelf

_SERVER: Final = re.compile(r"[^=/]*:\d+")
_MOST_SYMBOLS: Final = 10_000
_MOST_CONTRACTS: Final = 64


def connect(where: str | Path, *, project: str) -> "Reader":
    """Return a reader of the windows of a Feast project.

    Parameters
    ----------
    where : str or Path
        The file of the SQLite online store; or, as a text, the ``connection_string`` of the Redis online store:
        ``host:port,db=0,password=…,ssl=true``. A Redis server is first talked to when a window is read.
    project : str
        The project of the feature repo.

    Raises
    ------
    BadInput
        If there is no such file, or the text cannot be used.
    """
    if isinstance(where, str) and "://" in where:
        raise BadInput("a URL as connection string; Feast's begins with host:port, as in redis:6379,db=0")
    if isinstance(where, str) and any(_SERVER.fullmatch(part) for part in where.split(",")):
        return Reader(RedisShelf(where, project))
    return Reader(SqliteShelf(Path(where), project))


def utc(at: datetime) -> datetime:
    """Return an instant in UTC.

    Raises
    ------
    BadInput
        If it has no time zone.
    """
    if at.tzinfo is None:
        raise BadInput(f"instant {at} has no time zone; give it UTC")
    return at.astimezone(UTC)


def unpacked(service: str, symbol: str, data: bytes | memoryview | None) -> PackedWindow | NotServable:
    """Return the window that bytes hold, or why there is none, with a message that names it."""
    if not data:
        return Missing(f"no {service} window of {symbol!r} is online")
    try:
        return unpack(data)
    except HeaderMismatch as error:
        return HeaderMismatch(f"{service} window of {symbol!r}: {error}")


class Reader:
    """Reads windows and lets through what is fit; what a service is comes with its windows.

    Parameters
    ----------
    shelf : RedisShelf or SqliteShelf
        Where the windows lie.
    """

    def __init__(self, shelf: RedisShelf | SqliteShelf) -> None:
        self._shelf = shelf
        self._contracts: dict[tuple[str, int], Contract] = {}
        self._last: dict[str, Contract] = {}

    def __repr__(self) -> str:
        return f"Reader({self._shelf!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._shelf.close()

    def window(
        self, service: str, symbol: str, *, at: datetime, max_age: timedelta | None = None, unfit: Unfit = "raise"
    ) -> OnlineWindow:
        """Return the newest window of a symbol, if it may be used at an instant; arguments and errors as in `windows`.

        One round trip; one more where the service was not read before or has changed.
        """
        return self.windows(service, [symbol], at=at, max_age=max_age, unfit=unfit)[0]

    def windows(
        self,
        service: str,
        symbols: Sequence[str],
        *,
        at: datetime,
        max_age: timedelta | None = None,
        unfit: Unfit = "raise",
    ) -> tuple[OnlineWindow, ...]:
        """Return the newest window of every symbol, in the order given, in one round trip.

        All have the same features: where some were published before the features of the service changed, those are
        refused.

        Parameters
        ----------
        service : str
            Whose features.
        symbols : sequence of str
            Whose windows, 10,000 at most.
        at : datetime
            The instant of use, tz-aware.
        max_age : timedelta, optional
            How old the close of the newest bar may be; what was published with the window unless given, as a rule two
            bars and five minutes.
        unfit : str
            ``raise``: the first symbol that is not fit is an error. ``null``: what may not be used is NaN, and
            ``refused`` of a window says what and why (`gate.admit`).

        Raises
        ------
        Missing
            If nothing was published for a symbol; also with ``unfit="null"`` where no window of the service was ever
            read, for then nobody knows its features.
        Stale, FutureStamped, NonFinite, HeaderMismatch
            If what was published must not be used.
        SourceError, Busy
            If the online store does not answer now.
        BadInput
            If the instant has no time zone, there are too many symbols, or there is one text in place of many.
        """
        at = utc(at)
        if isinstance(symbols, str):
            raise BadInput(f"symbols is the text {symbols!r}; it must be a list, or ask for one with `window`")
        if len(symbols) > _MOST_SYMBOLS:
            raise BadInput(f"{len(symbols)} symbols at once; {_MOST_SYMBOLS} are read at most")
        view = window_view_name(service)
        found: list[PackedWindow | NotServable] = []
        strange = []
        newest: PackedWindow | None = None
        for i, value in enumerate(self._shelf.read(view, symbols) if symbols else []):
            window = _unpacked(service, symbols[i], value)
            found.append(window)
            if isinstance(window, PackedWindow) and (service, window.contract) not in self._contracts:
                strange.append(i)
        if strange:
            both = self._shelf.read_both(view, [symbols[i] for i in strange])
            for i, (value, text) in zip(strange, both, strict=True):
                found[i] = self._introduced(service, symbols[i], value, text)
        for window in found:
            if isinstance(window, PackedWindow) and (newest is None or window.order > newest.order):
                newest = window
        contract = self._last.get(service) if newest is None else self._contracts[service, newest.contract]
        if contract is None:
            # Whatever the policy: nobody knows what there is to fill with NaN.
            for window in found:
                if isinstance(window, NotServable):
                    raise window
            return ()
        self._last[service] = contract
        return tuple(
            [
                admit(window, contract, symbol=symbol, at=at, max_age=max_age, unfit=unfit)
                for symbol, window in zip(symbols, found, strict=True)
            ]
        )

    def _introduced(
        self, service: str, symbol: str, value: bytes | None, text: bytes | None
    ) -> PackedWindow | NotServable:
        """Return a window whose contract is known from now on."""
        window = _unpacked(service, symbol, value)
        if isinstance(window, NotServable) or (service, window.contract) in self._contracts:
            return window
        try:
            contract = Contract.parse(string_in(text or b""))
        except HeaderMismatch as error:
            return HeaderMismatch(f"{service} window of {symbol!r}: {error}")
        if contract.checksum != window.contract or contract.service != service:
            return HeaderMismatch(
                f"{service} window of {symbol!r} was not published with the contract beside it; publish it again"
            )
        if len(self._contracts) >= _MOST_CONTRACTS:
            self._contracts.clear()
        self._contracts[service, window.contract] = contract
        return window


def _unpacked(service: str, symbol: str, value: bytes | None) -> PackedWindow | NotServable:
    try:
        return unpacked(service, symbol, bytes_in(value) if value else None)
    except HeaderMismatch as error:
        return HeaderMismatch(f"{service} window of {symbol!r}: {error}")

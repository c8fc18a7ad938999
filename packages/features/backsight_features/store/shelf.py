"""Where the newest windows lie: two fields per symbol in a view of Feast's online store, whichever that is.

Redis compares and writes in one step, so any number of processes may publish there. For other online stores Feast has
no such step: one process publishes at a time, and reads back what it wrote.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final, Literal

import filelock
from feast import FeatureStore, FeatureView
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.message import DecodeError

from backsight_features.errors import BadInput, Busy, HeaderMismatch, Missing, SourceError
from backsight_features.masking import masked
from backsight_features.online.contract import CONTRACT, PACKED, Contract
from backsight_features.online.feast_format import ENTITY_KEY_VERSION, bytes_in, bytes_value, encoded, string_value
from backsight_features.online.packed import HEADER_SIZE, PackedWindow, unpack
from backsight_features.online.redis_shelf import RedisShelf, Replacement

Outcome = Literal["written", "corrected", "unchanged", "kept"]
"""See `store.PublishedWindow`."""

_UNREADABLE: Final = b"damaged"
"""Stands for a stored value that is none of Feast's; it is no window either."""
_BATCH: Final = 500
"""Windows that are in memory, and on their way, at once."""
_MOST_TRIES: Final = 20
_TAG_SIZE: Final = 6
"""Bytes of a ``Value`` before what it holds, at most."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A window that is ready to be stored.

    Parameters
    ----------
    symbol : str
        Whose it is.
    data : bytes
        As `packed.pack` returned it.
    window : PackedWindow
        The same, to be read.
    """

    symbol: str
    data: bytes
    window: PackedWindow


class Shelf:
    """The windows in the online store of a feature repo.

    Parameters
    ----------
    feast : FeatureStore
        The repo.
    folder : Path
        Where the lock of the publisher is; made when needed.
    """

    def __init__(self, feast: FeatureStore, folder: Path) -> None:
        self._feast = feast
        self._folder = folder

    def read(self, view: FeatureView, symbols: Sequence[str]) -> list[bytes | memoryview | None]:
        """Return the packed window of every symbol, or None where there is none, at once.

        Raises
        ------
        Missing
            If the online store has no place for the view.
        Busy
            If another process holds the database.
        SourceError
            If Redis does not answer, one server within 2 seconds.
        """
        if self._redis:
            # Feast's client waits for a server that hangs for ever, and seconds for one that is away.
            return [_held(value) for value in self._redis.read(self._name(view), symbols)]
        feast = self._feast
        with _named(view):
            try:
                rows = feast.provider.online_read(feast.config, view, [_key(symbol) for symbol in symbols], [PACKED])
            except DecodeError:
                # One of them; which, only a look at each can say.
                if len(symbols) > 1:
                    return [self.read(view, [symbol])[0] for symbol in symbols]
                return [_UNREADABLE]
        # Redis gives an empty value where there is none.
        return [fields[PACKED].bytes_val or None if fields and PACKED in fields else None for _, fields in rows]

    def publish(self, view: FeatureView, contract: Contract, windows: Sequence[Prepared]) -> list[Outcome]:
        """Store every window unless a newer one is there; a reader of a symbol sees the old or the new.

        Windows are ordered by `PackedWindow.order`. Of two with the same, the one that comes last is right: the
        features were computed again, or others are wanted now.

        Raises
        ------
        Busy
            If another process is publishing and the online store cannot compare and write in one step; or if many
            processes keep replacing the same windows.
        SourceError
            If the online store does not answer, or did not take what was written.
        """
        redis = self._redis
        with nullcontext() if redis else self._writing():
            batches = [windows[i : i + _BATCH] for i in range(0, len(windows), _BATCH)]
            return [
                outcome
                for batch in batches
                for outcome in (
                    self._publish_to_redis(redis, view, contract, batch)
                    if redis
                    else self._publish_through_feast(view, contract, batch)
                )
            ]

    def _publish_through_feast(
        self, view: FeatureView, contract: Contract, windows: Sequence[Prepared]
    ) -> list[Outcome]:
        feast = self._feast
        before = self.read(view, [one.symbol for one in windows])
        outcomes = [_outcome(held, _window(held), one) for held, one in zip(before, windows, strict=True)]
        changed = [one for one, done in zip(windows, outcomes, strict=True) if done in ("written", "corrected")]
        if not changed:
            return outcomes
        text = Value(string_val=contract.text)
        rows = [
            (_key(one.symbol), {PACKED: Value(bytes_val=one.data), CONTRACT: text}, one.window.available_at, None)
            for one in changed
        ]
        with _named(view):
            feast.provider.online_write_batch(feast.config, view, rows, None)
        after = self.read(view, [one.symbol for one in changed])
        lost = [one.symbol for one, held in zip(changed, after, strict=True) if held != one.data]
        if lost:
            raise SourceError(
                f"the online store did not take the {view.name} of {', '.join(lost)}; it may drop what has the event "
                "timestamp of what it holds"
            )
        return outcomes

    def _publish_to_redis(
        self, redis: RedisShelf, view: FeatureView, contract: Contract, windows: Sequence[Prepared]
    ) -> list[Outcome]:
        name = self._name(view)
        text = string_value(contract.text)
        outcomes: dict[str, Outcome] = {}
        waiting = list(windows)
        for _ in range(_MOST_TRIES):
            replacements = []
            for one, value in zip(waiting, redis.read(name, [one.symbol for one in waiting]), strict=True):
                held = _held(value)
                before = _window(held)
                outcomes[one.symbol] = outcome = _outcome(held, before, one)
                if outcome in ("written", "corrected"):
                    # The header has a checksum: it tells a whole window from any other.
                    head = slice(None) if before is None else slice(HEADER_SIZE + _TAG_SIZE)
                    replacements.append(
                        Replacement(
                            symbol=one.symbol,
                            before=(value or b"")[head],
                            packed=bytes_value(one.data),
                            contract=text,
                            available_at=one.window.available_at,
                        )
                    )
            done = dict(
                zip([one.symbol for one in replacements], redis.replace(name, replacements), strict=True)
                if replacements
                else []
            )
            # Another process was faster: look again at what is there now.
            waiting = [one for one in waiting if not done.get(one.symbol, True)]
            if not waiting:
                return [outcomes[one.symbol] for one in windows]
        raise Busy(f"other processes keep replacing {', '.join(one.symbol for one in waiting)}; try again later")

    def _name(self, view: FeatureView) -> str:
        """Return the name of a view in Redis."""
        return str(compute_versioned_name(view, self._feast.config.registry.enable_online_feature_view_versioning))

    @cached_property
    def _redis(self) -> RedisShelf | None:
        """The server where windows can be replaced in one step, if that is the online store."""
        config = self._feast.config
        if config.entity_key_serialization_version != ENTITY_KEY_VERSION:
            raise BadInput(
                f"entity_key_serialization_version is {config.entity_key_serialization_version}; windows are "
                f"published with version {ENTITY_KEY_VERSION}"
            )
        settings = config.online_store
        # A cluster and sentinels are left to Feast's client.
        if getattr(settings, "redis_type", None) != "redis":
            return None
        return RedisShelf(settings.connection_string, config.project, expire_seconds=settings.key_ttl_seconds)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self._folder / "publish.lock", timeout=0):
                yield
        except filelock.Timeout as error:
            raise Busy(f"another process is publishing to {self._folder}; try again later") from error


def _outcome(held: bytes | memoryview | None, before: PackedWindow | None, one: Prepared) -> Outcome:
    """Return what becomes of a window where these bytes, which are this window, are stored."""
    if held == one.data:
        return "unchanged"
    if before is None:
        # Nothing is stored, or nothing that can be read, which may be replaced.
        return "written"
    if before.order > one.window.order:
        return "kept"
    return "corrected" if before.order == one.window.order else "written"


def _window(data: bytes | memoryview | None) -> PackedWindow | None:
    try:
        return unpack(data) if data else None
    except HeaderMismatch:
        return None


def _held(value: bytes | None) -> bytes | memoryview | None:
    if not value:
        return None
    try:
        return bytes_in(value)
    except HeaderMismatch:
        return _UNREADABLE


@contextmanager
def _named(view: FeatureView) -> Iterator[None]:
    """Let no error of a vendor out."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            raise Missing(f"the online store has no place for {view.name}; run `backsight apply`") from error
        if "locked" in str(error):
            raise Busy(f"the online store is locked by another process: {error}") from error
        raise SourceError(f"the online store cannot be used: {error}") from error
    except _redis_errors() as error:
        raise SourceError(f"the online store does not answer: {type(error).__name__}: {masked(str(error))}") from None


def _redis_errors() -> tuple[type[Exception], ...]:
    """Return what Redis raises; nothing, where its client is not installed."""
    try:
        from redis.exceptions import RedisClusterException, RedisError
    except ImportError:
        return ()
    # A cluster that is away is none of its errors.
    return RedisError, RedisClusterException


@cache
def _key(symbol: str) -> EntityKey:
    return EntityKey(join_keys=["symbol"], entity_values=[Value(string_val=encoded(symbol).decode())])

"""Windows in Redis, in the hashes that Feast's ``type: redis`` reads and writes, and an atomic way to replace them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backsight_features.errors import BadInput, SourceError
from backsight_features.online.contract import CONTRACT, PACKED
from backsight_features.online.feast_format import entity_key, hash_field, stamp_field, timestamp

_TIMEOUT_SECONDS: Final = 2.0
_MOST_KEYS: Final = 100_000
_SECRETS: Final = ("password", "username")

# One step for Redis: nobody writes between the comparison and the write, and a reader sees all fields or none.
_REPLACE: Final = """
local held = redis.call('HGET', KEYS[1], ARGV[2]) or ''
if string.sub(held, 1, #ARGV[1]) ~= ARGV[1] or (ARGV[1] == '' and held ~= '') then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
if ARGV[8] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[8]) end
return 1
"""


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """What is to be stored in place of what.

    Parameters
    ----------
    symbol : str
        Whose window.
    before : bytes
        How the stored ``Value`` must begin now; empty where there must be none.
    packed, contract : bytes
        The two ``Value`` that come in its place.
    available_at : datetime
        The event timestamp that Feast sees, UTC.
    """

    symbol: str
    before: bytes
    packed: bytes
    contract: bytes
    available_at: datetime


class RedisShelf:
    """The windows of a Feast project in one Redis server; safe to share between threads.

    Parameters
    ----------
    connection_string : str
        As in ``feature_store.yaml``: ``host:port,db=0,password=…,ssl=true``; any argument of ``redis.Redis``. Both
        ``socket_timeout`` and ``socket_connect_timeout`` are 2 seconds unless given.
    project : str
        The project of the feature repo.
    expire_seconds : int, optional
        How long after a write a symbol is kept (Feast's ``key_ttl_seconds``); for ever unless given.

    Raises
    ------
    BadInput
        If the string cannot be used.
    """

    def __init__(self, connection_string: str, project: str, *, expire_seconds: int | None = None) -> None:
        # Here, so that reading from SQLite needs no Redis client.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        host, port, settings = _settings(connection_string)
        self._name = f"Redis at {host}:{port}"
        self._secrets = [str(settings[name]) for name in _SECRETS if settings.get(name)]
        self._project = project.encode()
        self._expire = b"" if expire_seconds is None else str(expire_seconds).encode()
        self._errors = redis.RedisError
        self._keys: dict[str, bytes] = {}
        self._fields: dict[str, tuple[bytes, bytes, bytes]] = {}
        once = {"retry": Retry(NoBackoff(), 1), "decode_responses": False}
        try:
            # What it returns is typed for two kinds of clients at once.
            self._client: Any = redis.Redis(host=host, port=port, **(settings | once))
        except TypeError as error:
            raise BadInput(f"connection string of {self._name}: {error}; see the arguments of redis.Redis") from None

    def __repr__(self) -> str:
        return f"<{self._name}, project {self._project.decode()}>"

    def read(self, view: str, symbols: Sequence[str]) -> list[bytes | None]:
        """Return the ``Value`` of the packed window of every symbol, or None, in one round trip.

        Raises
        ------
        SourceError
            If Redis does not answer in time, or refuses.
        """
        packed, _, _ = self._view(view)
        with self._named():
            if len(symbols) == 1:
                return [self._client.hget(self._key(symbols[0]), packed)]
            with self._client.pipeline(transaction=False) as pipe:
                for symbol in symbols:
                    pipe.execute_command("HGET", self._key(symbol), packed)
                found: list[bytes | None] = pipe.execute()
        return found

    def read_both(self, view: str, symbols: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """Return the ``Value`` of the packed window and of the contract of every symbol; errors as in `read`."""
        packed, contract, _ = self._view(view)
        with self._named(), self._client.pipeline(transaction=False) as pipe:
            for symbol in symbols:
                pipe.execute_command("HMGET", self._key(symbol), packed, contract)
            return [(one, other) for one, other in pipe.execute()]

    def replace(self, view: str, replacements: Sequence[Replacement]) -> list[bool]:
        """Write each where what is stored is still what it replaces, and return which were written.

        All in one round trip, each symbol atomically.

        Raises
        ------
        SourceError
            If Redis does not answer in time, or refuses; some may have been written then.
        """
        packed, contract, stamp = self._view(view)
        with self._named(), self._client.pipeline(transaction=False) as pipe:
            for one in replacements:
                fields = (packed, one.packed, contract, one.contract, stamp, timestamp(one.available_at))
                pipe.eval(_REPLACE, 1, self._key(one.symbol), one.before, *fields, self._expire)
            return [bool(written) for written in pipe.execute()]

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _key(self, symbol: str) -> bytes:
        key = self._keys.get(symbol)
        if key is None:
            key = entity_key(symbol) + self._project
            if len(self._keys) < _MOST_KEYS:
                self._keys[symbol] = key
        return key

    def _view(self, view: str) -> tuple[bytes, bytes, bytes]:
        fields = self._fields.get(view)
        if fields is None:
            fields = (hash_field(view, PACKED), hash_field(view, CONTRACT), stamp_field(view))
            self._fields[view] = fields
        return fields

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            text = str(error) or type(error).__name__
            for secret in self._secrets:
                text = text.replace(secret, "***")
            raise SourceError(f"{self._name}: {text}") from None


def _settings(connection_string: str) -> tuple[str, int, dict[str, Any]]:
    """Return host, port and the arguments of ``redis.Redis`` that a connection string of Feast says."""
    parts = connection_string.split(",")
    nodes = [part for part in parts if "=" not in part]
    if len(nodes) != 1:
        raise BadInput(f"connection string of {len(nodes)} servers; it must name one, as in redis:6379,db=0")
    host, _, port = nodes[0].rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput("connection string that does not begin with host:port; it must, as in redis:6379,db=0")
    settings: dict[str, Any] = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _TIMEOUT_SECONDS}
    for part in parts:
        name, equals, text = part.partition("=")
        if equals:
            settings[name] = _value(name, text)
    return host, int(port), settings


def _value(name: str, text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    # Feast makes a number of a password of digits; the server wants the digits.
    return text if name in _SECRETS and not isinstance(value, str) else value

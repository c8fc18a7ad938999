"""Windows in Redis, in the hashes that Feast's ``type: redis`` reads and writes, and an atomic way to replace them."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backsight_features.errors import BadInput, SourceError
from backsight_features.online.contract import CONTRACT, PACKED
from backsight_features.online.feast_format import entity_key, hash_field, stamp_field, timestamp

_TIMEOUT_SECONDS: Final = 2.0
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
        self._lost = redis.ConnectionError
        self._process = os.getpid()
        self._idle: list[Any] = []
        self._fields: dict[str, tuple[bytes, bytes, bytes]] = {}
        once = {"retry": Retry(NoBackoff(), 0), "decode_responses": False}
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
        fields = self._view(view)[:1]
        return self._ask([self._command(b"HGET", symbol, fields) for symbol in symbols])

    def read_both(self, view: str, symbols: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """Return the ``Value`` of the packed window and of the contract of every symbol; errors as in `read`."""
        fields = self._view(view)[:2]
        found = self._ask([self._command(b"HMGET", symbol, fields) for symbol in symbols])
        return [(packed, contract) for packed, contract in found]

    def replace(self, view: str, replacements: Sequence[Replacement]) -> list[bool]:
        """Write each where what is stored is still what it replaces, and return which were written.

        All in one round trip, each symbol atomically.

        Raises
        ------
        SourceError
            If Redis does not answer in time, or refuses; some may have been written then.
        """
        packed, contract, stamp = self._view(view)
        pipe = self._client.pipeline(transaction=False)
        for one in replacements:
            fields = (packed, one.packed, contract, one.contract, stamp, timestamp(one.available_at))
            pipe.eval(_REPLACE, 1, self._key(one.symbol), one.before, *fields, self._expire)
        try:
            return [bool(written) for written in pipe.execute()]
        except self._errors as error:
            raise self._named(error) from None

    def close(self) -> None:
        """Give the connections back."""
        while self._idle:
            self._idle.pop().disconnect()
        self._client.close()

    def _ask(self, commands: Sequence[bytes]) -> list[Any]:
        """Return the replies to commands that are sent at once.

        Below the methods of the client, which take longer than Redis does; they send and read in the same way.
        """
        sent = b"".join(commands)
        for again in (True, False):
            connection = self._connection()
            complete = False
            try:
                connection.send_packed_command([sent])
                found = [connection.read_response() for _ in commands]
                complete = True
                return found
            except self._lost as error:
                # As a rule the server closed a connection that nobody used; reading is safe to repeat.
                if not again:
                    raise self._named(error) from None
            except self._errors as error:
                raise self._named(error) from None
            finally:
                if not complete:
                    # Replies that nobody has read must not be taken for those to the next command.
                    connection.disconnect()
                self._idle.append(connection)
        raise AssertionError("the second try returns or raises")

    def _connection(self) -> Any:
        """Return a connection that nobody uses: not in another thread, and not in the process that forked this one."""
        if self._process != os.getpid():
            self._process, self._idle = os.getpid(), []
        try:
            return self._idle.pop()
        except IndexError:
            return self._client.connection_pool.make_connection()

    def _command(self, name: bytes, symbol: str, fields: tuple[bytes, ...]) -> bytes:
        key = self._key(symbol)
        return b"*%d\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (2 + len(fields), len(name), name, len(key), key) + b"".join(
            [b"$%d\r\n%b\r\n" % (len(field), field) for field in fields]
        )

    def _key(self, symbol: str) -> bytes:
        return entity_key(symbol) + self._project

    def _view(self, view: str) -> tuple[bytes, bytes, bytes]:
        fields = self._fields.get(view)
        if fields is None:
            fields = (hash_field(view, PACKED), hash_field(view, CONTRACT), stamp_field(view))
            self._fields[view] = fields
        return fields

    def _named(self, error: Exception) -> SourceError:
        """Return the error with the name of the server and without secrets."""
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return SourceError(f"{self._name}: {text}")


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

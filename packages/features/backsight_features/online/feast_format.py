"""Feast's keys, fields and values as bytes, without Feast: entity keys of version 3, and two kinds of its ``Value``.

Contract-tested against Feast in ``tests/features/test_online_format.py``.
"""

import struct
from datetime import UTC, datetime
from typing import Final

import mmh3

from backsight_features.errors import BadInput, HeaderMismatch

ENTITY_KEY_VERSION: Final = 3
"""The serialization of entity keys that this module knows, ``entity_key_serialization_version`` of a feature repo."""

_STRING: Final = 2
"""Of Feast's ``ValueType``; also the number of the field that holds a text in its ``Value``."""
_BYTES_TAG: Final = 0x0A
_STRING_TAG: Final = 0x12
_LENGTH: Final = struct.Struct("<I")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JOIN_KEY: Final = b"symbol"
_PREFIX: Final = struct.pack("<III", 1, _STRING, len(_JOIN_KEY)) + _JOIN_KEY + struct.pack("<I", _STRING)


def encoded(symbol: str) -> bytes:
    """Return a symbol in UTF-8.

    Raises
    ------
    BadInput
        If it has none: Python keeps bytes of a command line that are no UTF-8 as half characters.
    """
    try:
        return symbol.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"symbol {symbol!r} is no text: {error.reason}") from error


def entity_key(symbol: str) -> bytes:
    """Return the key of the entity whose join key ``symbol`` has this value; errors as in `encoded`."""
    text = encoded(symbol)
    return _PREFIX + _LENGTH.pack(len(text)) + text


def hash_field(view: str, feature: str) -> bytes:
    """Return the name of a feature's field in a Redis hash."""
    return _LENGTH.pack(mmh3.hash(f"{view}:{feature}", signed=False))


def stamp_field(view: str) -> bytes:
    """Return the name of the field of a Redis hash that holds the event timestamp of a view."""
    return f"_ts:{view}".encode()


def bytes_value(data: bytes) -> bytes:
    """Return a ``Value`` that holds bytes."""
    return _tagged(_BYTES_TAG, data)


def string_value(text: str) -> bytes:
    """Return a ``Value`` that holds a text."""
    return _tagged(_STRING_TAG, text.encode())


def timestamp(at: datetime) -> bytes:
    """Return the protobuf ``Timestamp`` of an instant."""
    seconds, micros = divmod((at - _EPOCH) // (datetime.resolution), 1_000_000)
    # The default of a field, zero, is left out; a negative number is written as 64 bits.
    parts = [(0x08, seconds & (1 << 64) - 1), (0x10, micros * 1000)]
    return b"".join(bytes([tag]) + _varint(number) for tag, number in parts if number)


def bytes_in(value: bytes) -> memoryview:
    """Return the bytes that a ``Value`` holds, not copied.

    Raises
    ------
    HeaderMismatch
        If it holds anything else.
    """
    return _untagged(_BYTES_TAG, value)


def string_in(value: bytes) -> str:
    """Return the text that a ``Value`` holds.

    Raises
    ------
    HeaderMismatch
        If it holds anything else.
    """
    try:
        return str(_untagged(_STRING_TAG, value), "utf-8")
    except UnicodeDecodeError as error:
        raise HeaderMismatch(f"stored text is no UTF-8: {error}") from error


def _tagged(tag: int, data: bytes) -> bytes:
    return bytes([tag]) + _varint(len(data)) + data


def _untagged(tag: int, value: bytes) -> memoryview:
    if not value or value[0] != tag:
        raise HeaderMismatch(f"stored value of {len(value)} bytes is none of Feast's of the kind expected")
    size = 0
    for position, byte in enumerate(value[1:6]):
        size |= (byte & 0x7F) << 7 * position
        if byte < 0x80:
            start = position + 2
            break
    else:
        raise HeaderMismatch(f"stored value of {len(value)} bytes does not say its length")
    if start + size != len(value):
        raise HeaderMismatch(f"stored value has {len(value)} bytes; by its length it should have {start + size}")
    return memoryview(value)[start:]


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])

"""What a set of rows says, as one number: the same for the same rows, however they are ordered and in what files.

Each row is hashed by its values, column by column, and the hashes are added up; so no row has to be sorted, and a
billion of them need no more memory than one batch.
"""

import hashlib
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

_Hashes = npt.NDArray[np.uint64]

_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_MIXERS: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS: Final = (np.uint64(30), np.uint64(27), np.uint64(31))
_ABSENT: Final = np.uint64(0x6A09E667F3BCC909)
"""Stands for null."""

_SUMS: Final = pl.Schema({"rows": pl.Int64(), "one": pl.UInt64(), "other": pl.UInt64()})


class Fingerprint(NamedTuple):
    """How many rows there are, and what they say.

    Parameters
    ----------
    rows : int
        Their number.
    sha256 : str
        Of the names and types of the columns, the number of rows, and two sums over hashes of the rows. It tells rows
        apart that became other ones by chance or mistake, not those that somebody made up to have the same sums.
    """

    rows: int
    sha256: str


def fingerprint(rows: pl.LazyFrame) -> Fingerprint:
    """Return the fingerprint of rows; their order does not matter."""
    schema = rows.collect_schema()
    sums = rows.map_batches(_summed, schema=_SUMS, streamable=True).collect(engine="streaming")
    count, one, other = (sum(sums[name].to_list()) for name in _SUMS)
    told = repr(([(name, str(kind)) for name, kind in schema.items()], count, one % 2**64, other % 2**64))
    return Fingerprint(rows=count, sha256=hashlib.sha256(told.encode()).hexdigest())


def _summed(batch: pl.DataFrame) -> pl.DataFrame:
    hashes = np.zeros(batch.height, dtype=np.uint64)
    for column in batch:
        hashes = _mixed((hashes ^ _hashed(column)) * _ODD)
    return pl.DataFrame(
        {"rows": [batch.height], "one": [hashes.sum()], "other": [_mixed(hashes ^ _ABSENT).sum()]}, schema=_SUMS
    )


def _hashed(column: pl.Series) -> _Hashes:
    """Return a number for each value, spread over all bits where values are."""
    if column.dtype == pl.String:
        distinct = column.unique().drop_nulls()
        numbers = pl.Series([xxhash.xxh3_64_intdigest(text.encode()) for text in distinct], dtype=pl.UInt64)
        values = column.replace_strict(distinct, numbers, default=None, return_dtype=pl.UInt64)
    elif column.dtype == pl.Float64:
        values = column.reinterpret(signed=False)
    else:
        values = column.to_physical().cast(pl.Int64).reinterpret(signed=False)
    there = _mixed(values.fill_null(0).to_numpy().view(np.uint64) + _ODD)
    return np.where(column.is_null().to_numpy(), _ABSENT, there)


def _mixed(numbers: _Hashes) -> _Hashes:
    """Return numbers whose every bit depends on every bit of the given ones (Steele, Lea, Flood 2014)."""
    for shift, mixer in zip(_SHIFTS, _MIXERS, strict=False):
        numbers = (numbers ^ (numbers >> shift)) * mixer
    return numbers ^ (numbers >> _SHIFTS[2])

"""Which rows of a table are learnt from and which are judged."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from backsight_features.errors import BadInput
from backsight_features.rolling import BoolArray, IntArray

_LEARNT: Final = ("train", "fit", "learn")
_JUDGED: Final = ("test", "valid", "val", "eval", "dev", "holdout", "hold-out", "oos", "final")
_MOST_FOLDS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a split.

    Attributes
    ----------
    name : str
        Column that says so.
    fold : ndarray of shape (n,)
        Number of the part of each row, from 0; -1 where it is in none.
    names : tuple of str
        Of the parts.
    learnt : tuple of int
        Parts that are learnt from; empty where they are folds, each judged by what learnt from the others.
    """

    name: str
    fold: IntArray
    names: tuple[str, ...]
    learnt: tuple[int, ...]

    @property
    def rounds(self) -> tuple[tuple[BoolArray, BoolArray], ...]:
        """Rows that are learnt from, and rows that are judged, of each round; shape (n,) each."""
        used = self.fold >= 0
        if self.learnt:
            learnt = np.isin(self.fold, self.learnt)
            return ((learnt, used & ~learnt),)
        return tuple((used & (self.fold != one), self.fold == one) for one in range(len(self.names)))


def parts_of(column: pl.Series, *, where: str) -> Parts:
    """Return the parts that a column names.

    Names that begin with ``train`` or ``fit`` are learnt from, with ``valid`` or ``test`` judged; numbers are folds; of
    true and false the name of the column says which is which. Null, empty and other names are in neither part.

    >>> parts = parts_of(pl.Series("part", ["train", "purged", "test"]), where="table")
    >>> parts.names, parts.fold.tolist(), parts.learnt
    (('test', 'train'), [1, -1, 0], (1,))

    Raises
    ------
    BadInput
        If nothing is learnt from or nothing judged.
    """
    name, kind = column.name, column.dtype
    yes = "train" if any(one in name.lower() for one in _LEARNT) else "test"
    binary = kind.is_integer() and set(column.drop_nulls().unique().to_list()) <= {0, 1}
    if kind == pl.Boolean or (binary and any(one in name.lower() for one in (*_LEARNT, *_JUDGED))):
        no = "test" if yes == "train" else "train"
        truth = column.cast(pl.Boolean)
        column = truth.cast(pl.String).replace({"true": yes, "false": no})
    elif kind.is_numeric():
        return _folds(column, name, where)
    texts = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    names = sorted(one for one in texts.drop_nulls().unique().to_list() if one.startswith((*_LEARNT, *_JUDGED)))
    learnt = tuple(i for i, one in enumerate(names) if one.startswith(_LEARNT))
    if not learnt or len(learnt) == len(names):
        found = ", ".join(sorted(map(str, column.unique().to_list()))[:5])
        raise BadInput(f"{where}: the split {name!r} holds {found}; name parts train and test, or number folds")
    number = {one: i for i, one in enumerate(names)}
    fold = texts.replace_strict(number, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()
    return Parts(name=name, fold=fold, names=tuple(names), learnt=learnt)


def _folds(column: pl.Series, name: str, where: str) -> Parts:
    values = column.cast(pl.Float64).fill_nan(None)
    numbers = values.drop_nulls().unique().sort()
    numbers = numbers.filter(numbers >= 0)
    if not 2 <= numbers.len() <= _MOST_FOLDS:
        raise BadInput(f"{where}: the split {name!r} numbers {numbers.len()} folds; there must be 2 to {_MOST_FOLDS}")
    fold = values.replace_strict(
        numbers.to_list(), list(range(numbers.len())), default=-1, return_dtype=pl.Int64
    ).fill_null(-1)
    return Parts(name=name, fold=fold.to_numpy(), names=tuple(f"fold {one:g}" for one in numbers), learnt=())

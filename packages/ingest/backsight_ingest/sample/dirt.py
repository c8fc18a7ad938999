"""Faults of real files, put into clean lines at random places and counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backsight_ingest.sample.draws import BoolArray, IntArray

Fault = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Dirty:
    """Lines with faults.

    Parameters
    ----------
    lines : list of str
        In their order.
    counts : dict of str to int
        How many lines have which fault, and how many came before.
    rejected, repeated : int
        Lines that no reader can take for a fact, and lines that say again what one before them said.
    """

    lines: list[str]
    counts: dict[str, int]
    rejected: int
    repeated: int


def gaps(rng: np.random.Generator, n: int, lengths: Sequence[int]) -> BoolArray:
    """Return which of ``n`` hours are left once gaps of the given lengths are cut out, one per stretch of hours."""
    kept = np.ones(n, dtype=np.bool_)
    stretch = n // (len(lengths) + 1)
    for i, length in enumerate(lengths):
        at = (i + 1) * stretch + int(rng.integers(-stretch // 4, stretch // 4 + 1))
        kept[at : at + length] = False
    return kept


def spoil(rng: np.random.Generator, lines: list[str], faults: dict[str, tuple[int, Fault]], repeats: int) -> Dirty:
    """Return lines of which some are spoiled and some, sound ones, are repeated later in the file.

    Parameters
    ----------
    rng : Generator
        Where chance comes from.
    lines : list of str
        Without a header.
    faults : dict of str to (int, Fault)
        Per name how many lines it hits, and what it makes of one.
    repeats : int
        Sound lines that come twice.
    """
    spoiled = list(lines)
    hit: IntArray = rng.choice(len(lines), size=sum(count for count, _ in faults.values()) + repeats, replace=False)
    first = 0
    for count, fault in faults.values():
        for at in hit[first : first + count]:
            spoiled[at] = fault(spoiled[at])
        first += count
    for at in np.sort(hit[first:])[::-1]:
        spoiled.insert(min(int(at) + 25, len(spoiled)), spoiled[at])
    counts = {name: count for name, (count, _) in faults.items()}
    return Dirty(lines=spoiled, counts=counts | {"repeated": repeats}, rejected=sum(counts.values()), repeated=repeats)

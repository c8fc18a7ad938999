"""SEntFiN's headlines: one label each, near-duplicates on one side of the split.

SEntFiN 1.0 (Sinha, Kedas, Kumar and Malo, 2022; MIT licence) labels the entities of a headline, not the headline.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer

LABELS: Final = ("positive", "negative", "neutral")
SHARES: Final = {"train": 0.75, "validation": 0.10, "held-out": 0.15}
NEAR: Final = 0.7
"""Cosine of two headlines' TF-IDF vectors from which on they count as near-duplicates."""

LARGEST_HELD_OUT: Final = 20
"""Headlines of a group of near-duplicates; larger ones are series, like a broker's daily calls, and only trained on."""

_DECISION: Final = re.compile(r"['\"]([^:]*?|.*?)['\"]:\s*['\"](positive|negative|neutral)['\"](?=[,}])")
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A headline, its label as a position in `LABELS`, and the names in it that were labelled."""

    title: str
    label: int
    entities: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What the file gives.

    Parameters
    ----------
    rows, repeated, disagreeing : int
        Rows of the file, of which have a title that stood there before, of which have entities whose labels differ.
    parts : dict of str to list of Headline
        By the names of `SHARES`.
    """

    rows: int
    repeated: int
    disagreeing: int
    parts: dict[str, list[Headline]]


def read(path: Path, *, seed: int) -> Corpus:
    """Return the headlines of SEntFiN's CSV file, split by groups of near-duplicates."""
    rows = pl.read_csv(path, columns=["Title", "Decisions"])
    first = rows.unique("Title", keep="first", maintain_order=True)
    found = [(title, _DECISION.findall(said)) for title, said in first.iter_rows()]
    kept = [
        Headline(
            title=title,
            label=LABELS.index(decisions[0][1]),
            entities=tuple(name for name, _ in decisions if name in title),
        )
        for title, decisions in found
        if len({label for _, label in decisions}) == 1
    ]
    side = _sides(_groups([each.title for each in kept]), seed=seed)
    parts = {name: [each for each, at in zip(kept, side, strict=True) if at == name] for name in SHARES}
    return Corpus(
        rows=rows.height, repeated=rows.height - first.height, disagreeing=first.height - len(kept), parts=parts
    )


def _groups(titles: Sequence[str]) -> np.ndarray:
    """Return a number for each title, the same for near-duplicates, directly or by way of others."""
    plain = [_NUMBER.sub("0", title.lower()) for title in titles]
    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(plain)
    near = coo_array((vectors @ vectors.T) >= NEAR)
    return np.asarray(connected_components(near, directed=False)[1])


def _sides(groups: np.ndarray, *, seed: int) -> list[str]:
    """Return the side of each headline; groups are shuffled and dealt out until each side has its share."""
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = np.concatenate([order[sizes[order] > LARGEST_HELD_OUT], order[sizes[order] <= LARGEST_HELD_OUT]])
    before = (np.cumsum(sizes[order]) - sizes[order]) / len(groups)
    bounds = np.cumsum(list(SHARES.values()))[:-1]
    side = np.empty(len(sizes), dtype=np.int64)
    side[order] = np.searchsorted(bounds, before, side="right")
    names = tuple(SHARES)
    return [names[at] for at in side[groups]]

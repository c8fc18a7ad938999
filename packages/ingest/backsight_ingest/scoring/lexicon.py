"""A stand-in for a language model: words that sound good against words that sound bad.

It exists so that a demo needs no download. It is no FinBERT, is never chosen unasked, and scores under its own name.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import numpy as np
import polars as pl

from backsight_ingest.scoring.scorer import FloatArray

_RULE: Final = "1"
"""Counts in the revision: another way to count is another scorer."""

_REACH: Final = 2
"""Words that a word like *not* turns around."""

_WORD: Final = r"[a-z]+(?:'t)?"


class LexiconStandIn:
    """Counts words: with p good ones and n bad ones the probabilities are p, n and 1, over their sum.

    A word like *not*, or one that ends with *n't*, turns the next two around.

    Examples
    --------
    >>> LexiconStandIn().score(["Strong gains", "No gains", "A meeting"]).round(2).tolist()
    [[0.67, 0.0, 0.33], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]]
    """

    name = "lexicon-standin"

    def __init__(self) -> None:
        text = (files("backsight_ingest") / "scoring" / "lexicon.toml").read_text(encoding="utf-8")
        words = {name: sorted(set(listed.split())) for name, listed in tomllib.loads(text).items()}
        self._positive, self._negative, self._turns = words["positive"], words["negative"], words["turns"]
        rule = f"{_RULE} {_REACH} {_WORD}"
        said = "|".join([rule, *(" ".join(words[name]) for name in ("positive", "negative", "turns"))])
        self._revision = hashlib.sha256(said.encode()).hexdigest()[:12]

    @property
    def revision(self) -> str:
        """First 12 hex digits of the SHA-256 of the rule and the words."""
        return self._revision

    def score(self, sentences: Sequence[str]) -> FloatArray:
        """Return the probabilities of each sentence; see `scorer.Scorer`."""
        word = pl.col("word")
        turns = word.is_in(self._turns) | word.str.ends_with("'t")
        near = pl.any_horizontal(turns.shift(i).over("text") for i in range(1, _REACH + 1)).fill_null(False)
        verdict = word.is_in(self._positive).cast(pl.Int8) - word.is_in(self._negative).cast(pl.Int8)
        plain = word.str.to_lowercase().str.replace_all("\u2019", "'", literal=True)
        words = (
            pl.DataFrame({"word": pl.Series(sentences, dtype=pl.String)})
            .with_row_index("text")
            .with_columns(plain.str.extract_all(_WORD))
            .explode("word")
            .drop_nulls("word")
            .select("text", verdict=pl.when(near).then(-verdict).otherwise(verdict))
        )
        at, said = words["text"].to_numpy(), words["verdict"].to_numpy()
        counts = (np.bincount(at[said == sign], minlength=len(sentences)) for sign in (1, -1))
        weights = np.column_stack([*counts, np.ones(len(sentences))])
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)

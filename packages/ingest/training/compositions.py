"""Sentences made by rule, so that a network that learns from a few thousand headlines meets more words and sources.

Three kinds: headlines with other names and words left out, hand-written patterns with their places filled, and words of
a lexicon amid others, judged by the lexicon's own arithmetic.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from sentfin import LABELS, Headline

Target = tuple[float, float, float]
"""Probabilities in the order of `LABELS`."""

_PLACE: Final = re.compile(r"\{(\w+)\}")
_WORD: Final = re.compile(r"[a-z]+")
_SEEN_OFTEN: Final = 10
"""Headlines from which on they decide in which sense a word is used: *share* sounds good only elsewhere."""

_SWING: Final = (1, -1, 0)
_SWAYED: Final = 0.25
"""Share of a word's headlines that has to lean the lexicon's way for the word to be among those it is asked about."""

_TURNS: Final = ("not", "never", "no", "isn't", "without", "hardly")
_BOOSTS: Final = {"very": 1.3, "extremely": 1.4, "really": 1.3, "so": 1.2, "slightly": 0.7, "somewhat": 0.7}
_TURNED: Final = -0.74
_SPREAD: Final = 15.0


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text and the probabilities it should get."""

    text: str
    target: Target


class Composer:
    """Makes up sentences; the same seed makes the same ones.

    Parameters
    ----------
    headlines : sequence of Headline
        Those that are trained on.
    lexicon : mapping of str to float
        Words and how good they sound, as VADER's: -4 to 4.
    seed : int
        Of everything drawn.
    """

    def __init__(self, headlines: Sequence[Headline], *, lexicon: Mapping[str, float], seed: int) -> None:
        listed = tomllib.loads((Path(__file__).parent / "phrases.toml").read_text(encoding="utf-8"))
        self._words = {name: words.split("|") for name, words in listed["words"].items()}
        self._patterns = {label: listed[label]["patterns"].strip().splitlines() for label in LABELS}
        self._names = [name for each in headlines for name in each.entities]
        self._calm = [each for each in headlines if LABELS[each.label] == "neutral"]
        self._rng = np.random.default_rng(seed)
        self._sounds = _agreeing(headlines, lexicon)
        self._plain = list(self._sounds)
        self._good = [word for word, sound in self._sounds.items() if sound > 0]
        self._ill = [word for word, sound in self._sounds.items() if sound < 0]

    @property
    def words(self) -> list[str]:
        """Words of patterns and lexicon, each once, in a fixed order: they belong into the vocabulary."""
        patterns = [line for lines in self._patterns.values() for line in lines]
        filled = " ".join([*patterns, *(word for words in self._words.values() for word in words)]).lower()
        return sorted({*_WORD.findall(_PLACE.sub(" ", filled)), *self._sounds, *_WORD.findall(" ".join(_TURNS))})

    def headline(self, each: Headline) -> str:
        """Return a headline with other names at times, and words left out at times."""
        title = each.title
        # Longer texts say more than one thing; what is neutral does not change the rest.
        if self._rng.random() < 0.15:
            calm = self._calm[int(self._rng.integers(len(self._calm)))].title
            title = f"{title} ; {calm}" if self._rng.random() < 0.5 else f"{calm} ; {title}"
        for name in each.entities:
            if self._rng.random() < 0.5:
                title = title.replace(name, self._name())
        words = title.split()
        if self._rng.random() < 0.3 and len(words) > 4:
            left = self._rng.random(len(words)) >= 0.12
            words = [word for word, stays in zip(words, left, strict=True) if stays] or words
        return " ".join(words)

    def pattern(self) -> Example:
        """Return a hand-written pattern with its places filled."""
        label = int(self._rng.integers(len(LABELS)))
        line = self._one(self._patterns[LABELS[label]])
        text = _PLACE.sub(lambda place: self._one(self._words[place.group(1)]), line)
        if self._rng.random() < 0.2:
            text = f"{self._one(self._words['filler'])} {text}"
        return Example(text=" ".join(text.split()), target=certain(label, 0.95))

    def lexical(self) -> Example:
        """Return words of the lexicon amid others, with the lexicon's verdict on them."""
        shape = self._rng.random()
        if shape < 0.2:
            return Example(text=self._babble(), target=certain(LABELS.index("neutral"), 0.8))
        total, said = 0.0, []
        first = self._good if self._rng.random() < 0.5 else self._ill
        for _ in range(int(self._rng.integers(1, 4))):
            word = self._one(first if self._rng.random() < 0.7 else self._plain)
            sound = self._sounds[word]
            if self._rng.random() < 0.15:
                boost = self._one(list(_BOOSTS))
                word, sound = f"{boost} {word}", sound * _BOOSTS[boost]
            if self._rng.random() < 0.15:
                word, sound = f"{self._one(_TURNS)} {word}", sound * _TURNED
            total += sound
            said.append(word)
        if shape < 0.45:
            text = f"{self._one(self._words['filler'])} the {self._one(self._words['thing'])} is {' and '.join(said)}"
        elif shape < 0.55:
            text = f"{self._one(self._words['coin'])} {' '.join(said)}"
        else:
            words = self._calm[int(self._rng.integers(len(self._calm)))].title.split()
            for word in said:
                words.insert(int(self._rng.integers(len(words) + 1)), word)
            text = " ".join(words)
        return Example(text=text, target=_verdict(total))

    def _babble(self) -> str:
        """Return words of two neutral headlines in any order: what says nothing is neutral, however long."""
        chosen = [self._calm[int(at)].title for at in self._rng.integers(len(self._calm), size=2)]
        words = np.array(" ".join(chosen).split())
        return " ".join(self._rng.permutation(words)[: int(self._rng.integers(5, 30))])

    def _name(self) -> str:
        if self._rng.random() < 0.5:
            return self._one(self._names)
        return self._one(self._words[self._one(("coin", "house", "firm"))])

    def _one(self, words: Sequence[str]) -> str:
        return words[int(self._rng.integers(len(words)))]


def _agreeing(headlines: Sequence[Headline], lexicon: Mapping[str, float]) -> dict[str, float]:
    """Return the words of the lexicon that headlines do not use in another sense, in alphabetical order."""
    counts, swings = Counter[str](), Counter[str]()
    for each in headlines:
        words = set(_WORD.findall(each.title.lower()))
        counts.update(words)
        swings.update(dict.fromkeys(words, _SWING[each.label]))
    plain = sorted(word for word in lexicon if _WORD.fullmatch(word) and len(word) > 2)
    return {
        word: lexicon[word]
        for word in plain
        if counts[word] < _SEEN_OFTEN or swings[word] * np.sign(lexicon[word]) > _SWAYED * counts[word]
    }


def certain(label: int, share: float) -> Target:
    """Return probabilities with ``share`` for one label and the rest for the others."""
    rest = (1.0 - share) / 2
    first, second, third = (share if at == label else rest for at in range(3))
    return first, second, third


def _verdict(total: float) -> Target:
    """Return VADER's compound score of a sum of sounds, as probabilities."""
    compound = total / (total * total + _SPREAD) ** 0.5
    if abs(compound) < 0.05:
        return certain(2, 0.9)
    strong = 0.5 + 0.45 * min(1.0, abs(compound) / 0.6)
    weak = (1.0 - strong) * 0.2
    calm = 1.0 - strong - weak
    return (strong, weak, calm) if compound > 0 else (weak, strong, calm)

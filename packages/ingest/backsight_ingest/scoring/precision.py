"""Faster precisions of a classifier: asked for by name, part of the identity, and let through a gate.

float32 is what a model says. In another precision it says something a little different, so its scores are other facts
under another revision, and it is refused where the difference matters or where a score depends on its neighbours.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from backsight_features.errors import BadInput

from backsight_ingest.scoring import checksums, quantise
from backsight_ingest.scoring.probes import probes
from backsight_ingest.scoring.scorer import Scorer

FP32: Final = "fp32"
INT8: Final = "int8"
PRECISIONS: Final = (FP32, INT8)
"""float32, which is the default, and 8-bit whole numbers with one scale per token."""

MOST_FLIPS: Final = 0.01
"""Share of sentences whose likeliest label may be another one than in float32."""

MOST_DEVIATION: Final = 0.02
"""How far scores, positive less negative, may be from those in float32 in the mean."""

MOST_APART: Final = 1e-6
"""How far a probability may be apart alone and in a batch."""

_ALONE: Final = 12


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How two classifiers differ on the same sentences.

    Parameters
    ----------
    flips : float
        Share of sentences with another likeliest label.
    deviation : float
        Mean absolute difference of scores, positive less negative.
    """

    flips: float
    deviation: float


def revised(revision: str, precision: str) -> str:
    """Return the revision of a model's scores in a precision.

    Raises
    ------
    BadInput
        If there is no such precision.

    Examples
    --------
    >>> revised("0123abc", "fp32"), revised("0123abc", "int8")
    ('0123abc', '0123abc+int8.1')
    """
    _check_name(precision)
    return revision if precision == FP32 else f"{revision}+{quantise.RULE}"


def in_precision(model: Path, precision: str, *, opened: Callable[[Path], Scorer], target: Path) -> Path:
    """Return the ONNX file of a float32 classifier in a precision: itself, or one made now or earlier.

    What is made has passed the gate: on the probe sentences its labels and scores are near to those of float32, and
    the same alone as in a batch. That takes a minute or two for a model of BERT-base size on two cores, once.

    Parameters
    ----------
    model : Path
        The ONNX file in float32.
    precision : str
        One of `PRECISIONS`.
    opened : callable
        From an ONNX file to the scorer that runs it, for the gate.
    target : Path
        Where the file is kept; name it by what the scores depend on, see `revised`.

    Raises
    ------
    BadInput
        If there is no such precision, the file cannot be rewritten, the result does not pass the gate, or it is
        not the one that did.
    """
    _check_name(precision)
    if precision == FP32:
        return model
    manifest = target.with_suffix(f".{checksums.MANIFEST}")
    if manifest.is_file():
        checksums.check(checksums.sums(target.parent, [target.name]), manifest)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed after the gate: a file that is there is whole and has passed.
    draft = target.with_suffix(f".{os.getpid()}.part")
    try:
        quantise.quantise(model, draft)
        fast = opened(draft)
        check_neighbours(fast)
        check_parity(fast, opened(model))
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    checksums.write(checksums.sums(target.parent, [target.name]), manifest)
    return target


def check_parity(fast: Scorer, exact: Scorer) -> Parity:
    """Return how far a classifier is from the same one in float32, on the probe sentences.

    Raises
    ------
    BadInput
        If that is more than `MOST_FLIPS` or `MOST_DEVIATION`.
    """
    sentences = probes()
    found, expected = fast.score(sentences), exact.score(sentences)
    flips = float((found.argmax(axis=1) != expected.argmax(axis=1)).mean())
    deviation = float(np.abs((found - expected) @ np.array([1.0, -1.0, 0.0])).mean())
    # Written so that NaN is refused.
    if not (flips <= MOST_FLIPS and deviation <= MOST_DEVIATION):
        raise BadInput(
            f"{fast.name}@{fast.revision} is too far from float32: of {len(sentences)} probe sentences {flips:.1%} get "
            f"another label (at most {MOST_FLIPS:.0%}) and the mean score differs by {deviation:.3f} (at most "
            f"{MOST_DEVIATION}); use the precision {FP32}"
        )
    return Parity(flips=flips, deviation=deviation)


def check_neighbours(scorer: Scorer) -> float:
    """Return how far the probabilities of probe sentences are apart alone and among all others.

    Raises
    ------
    BadInput
        If that is more than `MOST_APART`, as with dynamic int8, whose scale is found for a whole batch.
    """
    sentences = sorted(probes(), key=len)
    together = scorer.score(sentences)
    at = np.linspace(0, len(sentences) - 1, _ALONE).astype(int)
    alone = np.concatenate([scorer.score([sentences[i]]) for i in at])
    apart = float(np.abs(alone - together[at]).max())
    if not apart <= MOST_APART:
        raise BadInput(
            f"{scorer.name}@{scorer.revision}: a probability changes by {apart:.2g} with what else is in the batch (at "
            f"most {MOST_APART:.0e}), as with dynamic int8, whose scale is found for a whole batch; such scores cannot "
            f"be repeated. Use the precision {FP32} or {INT8} of the float32 model"
        )
    return apart


def _check_name(precision: str) -> None:
    if precision not in PRECISIONS:
        raise BadInput(
            f"no precision {precision}; there are {' and '.join(PRECISIONS)}. bf16 and int8 with a scale per batch "
            "are left out: their scores depend on the batch"
        )

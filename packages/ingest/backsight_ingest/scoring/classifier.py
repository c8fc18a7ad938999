"""A sentence classifier such as FinBERT, run by ONNX Runtime."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from backsight_features.errors import BadInput
from tokenizers import Tokenizer

from backsight_ingest.prefetch import prefetched
from backsight_ingest.scoring.scorer import FloatArray

IntArray = npt.NDArray[np.int64]

MOST_TOKENS: Final = 64
"""Tokens that are read at once, as FinBERT was trained; a longer sentence is read in pieces and gets their mean.

A change of this is one of `preparation.RULE`."""

_TOKENS_PER_BATCH: Final = 1024
"""Speed is the same from 256 to 4,096; memory grows with it."""

_SENTENCES_AT_ONCE: Final = 8192
"""Sentences that are cut into tokens while the model works on those before; they are sorted by length."""

_PROVIDERS: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    # TF32 has ten bits of mantissa: scores would be others than those of a processor.
    ("CUDAExecutionProvider", {"use_tf32": "0"}),
    ("CPUExecutionProvider", {}),
)
_PARTS: Final = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""What the tokenizers call the inputs of a model."""

_PROBES: Final = (
    "Profit up.",
    "The board will meet next week to discuss the results of the past quarter in some detail.",
)
_SAME: Final = 1e-5
"""How far the score of a sentence may be apart alone and in a batch; float32 sums differ by their order in places."""


class OnnxClassifier:
    """A model in ONNX with its tokenizer.

    Parameters
    ----------
    name, revision : str
        As they will stand in the scores.
    model : Path
        The ONNX file.
    tokenizer : Path
        Folder with the tokenizer's files.
    outputs : tuple of int
        Columns of the logits that stand for positive, negative and neutral.

    Raises
    ------
    BadInput
        If a file cannot be used, or a sentence's scores depend on what stands in the same batch.
    """

    def __init__(
        self, *, name: str, revision: str, model: Path, tokenizer: Path, outputs: tuple[int, int, int]
    ) -> None:
        self.name = name
        self.revision = revision
        self._outputs = outputs
        self._session = _session(model)
        self._inputs = [each.name for each in self._session.get_inputs()]
        if unknown := sorted(set(self._inputs) - set(_PARTS)):
            raise BadInput(f"{model} wants {', '.join(unknown)}; a text classifier takes {', '.join(_PARTS)}")
        self._tokenizer = _tokenizer(tokenizer)
        self._check_independence(model)

    @property
    def device(self) -> str:
        """ONNX Runtime's name of what the model runs on."""
        return str(self._session.get_providers()[0])

    def score(self, sentences: Sequence[str]) -> FloatArray:
        """Return the probabilities of each sentence; see `scorer.Scorer`."""
        slices = (
            self._pieces(sentences[start : start + _SENTENCES_AT_ONCE])
            for start in range(0, len(sentences), _SENTENCES_AT_ONCE)
        )
        return np.concatenate([np.empty((0, 3)), *map(self._scored, prefetched(slices))])

    def _pieces(self, sentences: Sequence[str]) -> "_Pieces":
        first = self._tokenizer.encode_batch_fast(list(sentences))
        pieces = [piece for each in first for piece in (each, *each.overflowing)]
        owner = np.repeat(np.arange(len(first)), [1 + len(each.overflowing) for each in first])
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        count = int(lengths.sum())
        flat = {
            name: np.fromiter(chain.from_iterable(getattr(each, _PARTS[name]) for each in pieces), np.int64, count)
            for name in self._inputs
        }
        return _Pieces(len(sentences), owner, lengths, starts, flat)

    def _scored(self, pieces: "_Pieces") -> FloatArray:
        each = np.empty((len(pieces.lengths), 3))
        for batch in batches(pieces.lengths):
            logits = np.asarray(self._session.run(None, pieces.padded(batch))[0], dtype=np.float64)
            each[batch] = _softmax(logits)[:, self._outputs]
        # A piece counts by its tokens, those that begin and end it left out.
        weights = np.maximum(pieces.lengths - 2, 1)
        total = np.zeros((pieces.sentences, 3))
        np.add.at(total, pieces.owner, each * weights[:, None])
        return np.asarray(total / total.sum(axis=1, keepdims=True))

    def _check_independence(self, model: Path) -> None:
        alone = np.concatenate([self.score([probe]) for probe in _PROBES])
        together = self.score(_PROBES)
        apart = float(np.abs(alone - together).max())
        if not apart < _SAME:
            raise BadInput(
                f"{model}: a sentence's score changes by {apart:.3f} with what else is in its batch, as dynamic int8 "
                "does; use a float32 export"
            )


class _Pieces(NamedTuple):
    """Tokens of sentences, those of a long one in pieces.

    Parameters
    ----------
    sentences : int
        How many.
    owner : ndarray of shape (n,)
        The sentence of each piece.
    lengths, starts : ndarray of shape (n,)
        Tokens of each piece, and where they begin.
    flat : dict of str to ndarray
        By the model's inputs, of all pieces one after the other.
    """

    sentences: int
    owner: IntArray
    lengths: IntArray
    starts: IntArray
    flat: dict[str, IntArray]

    def padded(self, batch: IntArray) -> dict[str, IntArray]:
        """Return the model's inputs of some pieces, filled up with tokens that the model does not look at."""
        lengths = self.lengths[batch]
        at = np.arange(lengths.max())
        held = at < lengths[:, None]
        places = np.where(held, self.starts[batch][:, None] + at, 0)
        return {name: np.where(held, values[places], 0) for name, values in self.flat.items()}


def batches(lengths: IntArray) -> Iterator[IntArray]:
    """Yield indices of pieces of like length: little padding is the cheapest speed there is.

    Parameters
    ----------
    lengths : ndarray of shape (n,)
        Tokens of each.
    """
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order]
    start = 0
    while start < len(order):
        # The last one is the longest, and all are filled up to it.
        cost = (
            np.arange(1, min(len(order) - start, _TOKENS_PER_BATCH) + 1) * ascending[start : start + _TOKENS_PER_BATCH]
        )
        size = max(int(np.searchsorted(cost, _TOKENS_PER_BATCH, side="right")), 1)
        yield order[start : start + size]
        start += size


def _softmax(logits: FloatArray) -> FloatArray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = _threads()
    # Every batch has another shape: what is kept for one is of no use to the next.
    options.enable_mem_pattern = False
    present = onnxruntime.get_available_providers()
    providers = [each for each in _PROVIDERS if each[0] in present]
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=providers)
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise BadInput(f"{model} is no ONNX model that can be run: {error}") from None


def _threads() -> int:
    # By OpenMP's variable Spark says how many cores a task has, beside others on the same machine.
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() else len(os.sched_getaffinity(0))


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        # Where the file is there, to load transformers as well would take longer than all the rest.
        file = folder / "tokenizer.json"
        found = Tokenizer.from_file(str(file)) if file.is_file() else _made(folder)
    except Exception as error:  # the tokenizers' own exceptions have no common base
        raise BadInput(f"{folder} has no usable tokenizer: {error}") from None
    found.enable_truncation(MOST_TOKENS)
    found.no_padding()
    return found


def _made(folder: Path) -> Tokenizer:
    """Return the tokenizer that transformers makes of older files, such as a vocabulary."""
    # It would say on every run that PyTorch, which nobody needs here, is not installed.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if not isinstance(backend := getattr(made, "backend_tokenizer", None), Tokenizer):
        raise BadInput(f"{type(made).__name__} is not one of the fast tokenizers")
    return backend

"""A sentence classifier such as FinBERT, run by ONNX Runtime.

A text is scored sentence by sentence, as these models were trained, and gets the mean of its sentences' probabilities.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from backsight_features.errors import BadInput

from backsight_ingest.scoring.scorer import FloatArray

RULE: Final = "s1"
"""How sentences make up a text's score; part of the revision."""

MOST_TOKENS: Final = 64
"""Tokens of a sentence that are read."""

MOST_SENTENCES: Final = 24
"""Sentences of a text that are read."""

_TOKENS_PER_BATCH: Final = 1024
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=\S)")
_PROBES: Final = (
    "Profit up.",
    "The board will meet next week to discuss the results of the past quarter in some detail.",
)
_SAME: Final = 1e-3


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
        If a file cannot be used, or a text's scores depend on what stands in the same batch.
    """

    def __init__(
        self, *, name: str, revision: str, model: Path, tokenizer: Path, outputs: tuple[int, int, int]
    ) -> None:
        self.name = name
        self.revision = revision
        self._outputs = outputs
        self._session = _session(model)
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._tokenizer = _tokenizer(tokenizer)
        self._check_independence(model)

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Return the probabilities of each text; see `scorer.Scorer`."""
        if not texts:
            return np.empty((0, 3))
        parts = [_SENTENCE_END.split(text)[:MOST_SENTENCES] for text in texts]
        owner = np.repeat(np.arange(len(texts)), [len(part) for part in parts])
        each = self._sentences([sentence for part in parts for sentence in part])
        total = np.zeros((len(texts), 3))
        np.add.at(total, owner, each)
        return np.asarray(total / total.sum(axis=1, keepdims=True))

    def _sentences(self, sentences: Sequence[str]) -> FloatArray:
        encoded = self._tokenizer(list(sentences), truncation=True, max_length=MOST_TOKENS, padding=False)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        scores = np.empty((len(sentences), 3))
        for batch in _batches(lengths):
            chosen = {key: [values[i] for i in batch] for key, values in encoded.items() if key in self._inputs}
            padded = self._tokenizer.pad(chosen, padding="longest", return_tensors="np")
            feed = {key: np.asarray(value, dtype=np.int64) for key, value in padded.items() if key in self._inputs}
            logits = np.asarray(self._session.run(None, feed)[0], dtype=np.float64)
            scores[batch] = _softmax(logits)[:, self._outputs]
        return scores

    def _check_independence(self, model: Path) -> None:
        alone = np.concatenate([self._sentences([probe]) for probe in _PROBES])
        together = self._sentences(_PROBES)
        apart = float(np.abs(alone - together).max())
        if not apart < _SAME:
            raise BadInput(
                f"{model}: a text's score changes by {apart:.3f} with what else is in its batch, as dynamic int8 does; "
                "use a float32 export"
            )


def _batches(lengths: Sequence[int] | np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield indices of sentences of like length: little padding is the cheapest speed there is."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        size = 1
        while start + size < len(order) and (size + 1) * lengths[order[start + size]] <= _TOKENS_PER_BATCH:
            size += 1
        yield order[start : start + size]
        start += size


def _softmax(logits: FloatArray) -> FloatArray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise BadInput(f"{model} is no ONNX model that can be run: {error}") from None


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder} has no usable tokenizer: {error}") from None

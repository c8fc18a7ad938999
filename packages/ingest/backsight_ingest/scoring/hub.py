"""Model files: of a local folder, or of a model hub at a pinned revision."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from backsight_features.errors import BadInput, SourceError

from backsight_ingest.scoring import checksums

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_ONNX: Final = ("model.onnx", "onnx/model.onnx")
_SAFE: Final = "model.safetensors"
_PICKLED: Final = "pytorch_model.bin"
_CONFIG: Final = "config.json"
_TOKENIZER: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
)


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model on disk.

    Parameters
    ----------
    name : str
        The hub's id, or the folder's name.
    revision : str
        The hub's commit, or the first 40 hex digits of the SHA-256 of the folder's files.
    folder : Path
        Has ``config.json`` and the tokenizer's files.
    weights : Path
        ONNX, safetensors, or PyTorch's pickled format.
    id2label : dict of str to str
        Label of each output.
    """

    name: str
    revision: str
    folder: Path
    weights: Path
    id2label: dict[str, str]

    @property
    def is_onnx(self) -> bool:
        """Whether the weights are an ONNX graph."""
        return self.weights.suffix == ".onnx"


def local(folder: Path) -> ModelFiles:
    """Return the model of a folder.

    Raises
    ------
    BadInput
        If it lacks a file, has weights only as a pickle, or has a manifest ``SHA256SUMS`` that says otherwise.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder; name one with config.json, a tokenizer and model.onnx")
    present = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file()}
    weights = _weights(present, str(folder), weights_sha256=None)
    used = checksums.sums(folder, {_CONFIG, weights, *_TOKENIZER, *_beside(weights)} & present)
    if checksums.MANIFEST in present:
        checksums.check(used, folder / checksums.MANIFEST)
    digest = hashlib.sha256()
    for name, digits in used.items():
        digest.update(f"{name}\0{digits}\n".encode())
    return ModelFiles(
        name=folder.resolve().name,
        revision=digest.hexdigest()[:40],
        folder=folder,
        weights=folder / weights,
        id2label=_id2label(folder),
    )


def download(model: str, revision: str, *, cache: Path, weights_sha256: str | None) -> ModelFiles:
    """Return the model of a hub at one commit, downloaded to ``cache`` unless it is there.

    Parameters
    ----------
    model : str
        The hub's id, like ``ProsusAI/finbert``.
    revision : str
        A whole commit: a branch or a tag can move, and with it every score.
    cache : Path
        Where files are kept.
    weights_sha256 : str or None
        Of the weights, needed where they are a pickle; checked where given.

    Raises
    ------
    BadInput
        If the revision is no commit, the hub has no such model or file, the weights have another hash, or a file is
        not the one that was downloaded.
    SourceError
        If the hub cannot be reached.
    """
    if not _COMMIT.fullmatch(revision):
        raise BadInput(f"revision {revision!r} can move; pin {model} by its whole commit, 40 hex digits")
    hub = _Hub(model=model, revision=revision, cache=cache)
    config = hub.fetch(_CONFIG)
    if config is None:
        raise BadInput(f"{model}@{revision} has no {_CONFIG}")
    held = {name for name in _TOKENIZER if hub.fetch(name) is not None}
    # In the order of preference: what is not wanted is not downloaded, a pickle last.
    ranked = (*_ONNX, _SAFE, *((_PICKLED,) if weights_sha256 is not None else ()))
    got = next((name for name in ranked if hub.fetch(name) is not None), None)
    held |= {_CONFIG, got} if got else {_CONFIG, *((_PICKLED,) if hub.exists(_PICKLED) else ())}
    weights = _weights(held, f"{model}@{revision}", weights_sha256=weights_sha256)
    held = {name for name in held | {weights, *_beside(weights)} if hub.fetch(name) is not None}
    folder = config.parent
    found = checksums.sums(folder, held)
    if weights_sha256 is not None and found[weights] != weights_sha256.lower():
        raise BadInput(f"{model} {weights} has SHA-256 {found[weights]}, expected {weights_sha256.lower()}")
    manifest = cache / f"{model.replace('/', '--')}--{revision}.{checksums.MANIFEST}"
    if manifest.is_file():
        checksums.check(found, manifest)
    else:
        checksums.write(found, manifest)
    return ModelFiles(
        name=model, revision=revision, folder=folder, weights=folder / weights, id2label=_id2label(folder)
    )


def _weights(present: set[str], where: str, *, weights_sha256: str | None) -> str:
    if _CONFIG not in present:
        raise BadInput(f"{where} has no {_CONFIG}")
    if not present & set(_TOKENIZER):
        raise BadInput(f"{where} has no tokenizer, e.g. tokenizer.json or vocab.txt")
    for name in (*_ONNX, _SAFE):
        if name in present:
            return name
    if _PICKLED not in present:
        raise BadInput(f"{where} has no weights: model.onnx, onnx/model.onnx or {_SAFE}")
    if weights_sha256 is None:
        raise BadInput(f"{where} has its weights only as {_PICKLED}, a pickle; pin them with --weights-sha256")
    return _PICKLED


def _beside(weights: str) -> tuple[str, ...]:
    """Return the names of files that an ONNX graph may keep its large tensors in."""
    return (f"{weights}_data", f"{weights}.data") if weights.endswith(".onnx") else ()


def _id2label(folder: Path) -> dict[str, str]:
    try:
        config: Any = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        labels = config.get("id2label", {})
        return {str(number): str(label) for number, label in labels.items()}
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{folder / _CONFIG} is no model configuration: {error}") from None


@dataclass(frozen=True, kw_only=True)
class _Hub:
    """One commit of one model on a hub. What was fetched once, or found missing, is not asked for again."""

    model: str
    revision: str
    cache: Path

    def fetch(self, name: str) -> Path | None:
        """Return the path of a file, None where the commit has no such file."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        known = try_to_load_from_cache(self.model, name, cache_dir=self.cache, revision=self.revision)
        if isinstance(known, str):
            return Path(known)
        if known is not None:
            return None
        with self._errors(name):
            try:
                return Path(hf_hub_download(self.model, name, revision=self.revision, cache_dir=self.cache))
            except LocalEntryNotFoundError:
                # It is also an EntryNotFoundError, but means that the hub did not answer.
                raise
            except EntryNotFoundError:
                return None

    def exists(self, name: str) -> bool:
        """Return whether the commit has a file, without downloading it."""
        from huggingface_hub import file_exists

        with self._errors(name):
            return bool(file_exists(self.model, name, revision=self.revision))

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            HTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            yield
        except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, HFValidationError) as error:
            raise BadInput(f"the hub gives no {self.model} at {self.revision}: {error}") from None
        except (HfHubHTTPError, HTTPError, OSError) as error:
            told = f"{name} of {self.model} at {self.revision} is not in {self.cache}"
            raise SourceError(f"{told}, and cannot be read from the hub now: {error}") from None

"""From what the command line names to a scorer."""

from pathlib import Path

from backsight_ingest.scoring.classifier import OnnxClassifier
from backsight_ingest.scoring.export import exported
from backsight_ingest.scoring.hub import ModelFiles, download, local
from backsight_ingest.scoring.labels import columns


def from_folder(folder: Path, *, cache: Path) -> OnnxClassifier:
    """Return the classifier of a local folder; see `hub.local` and `export.exported` for what it raises."""
    return _classifier(local(folder), cache=cache)


def from_hub(model: str, revision: str, *, cache: Path, weights_sha256: str | None = None) -> OnnxClassifier:
    """Return the classifier of a hub at one commit; see `hub.download` and `export.exported` for what it raises."""
    files = download(model, revision, cache=cache / "hub", weights_sha256=weights_sha256)
    return _classifier(files, cache=cache)


def _classifier(files: ModelFiles, *, cache: Path) -> OnnxClassifier:
    # Before the export, which takes minutes.
    outputs = columns(files.id2label, model=files.name)
    return OnnxClassifier(
        name=files.name,
        revision=files.revision,
        model=exported(files, cache=cache / "onnx"),
        tokenizer=files.folder,
        outputs=outputs,
    )

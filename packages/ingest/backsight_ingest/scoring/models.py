"""From what the command line names to a scorer."""

from pathlib import Path

from backsight_ingest.scoring import embedded
from backsight_ingest.scoring.classifier import OnnxClassifier
from backsight_ingest.scoring.export import exported
from backsight_ingest.scoring.hub import ModelFiles, download, local
from backsight_ingest.scoring.labels import columns
from backsight_ingest.scoring.precision import FP32, in_precision, revised


def shipped() -> OnnxClassifier:
    """Return the small classifier that comes with the package; see its model card."""
    return _classifier(local(embedded.folder()), name=embedded.NAME)


def from_folder(folder: Path, *, cache: Path, precision: str = FP32) -> OnnxClassifier:
    """Return the classifier of a local folder.

    Parameters
    ----------
    folder : Path
        See `hub.local` for what it has to hold, and what is raised if it does not.
    cache : Path
        Where files are kept that are made of the model's; see `export.exported` and `precision.in_precision`.
    precision : str
        One of `precision.PRECISIONS`.
    """
    return _classifier(local(folder), cache=cache / "onnx", precision=precision)


def from_hub(
    model: str, revision: str, *, cache: Path, weights_sha256: str | None = None, precision: str = FP32
) -> OnnxClassifier:
    """Return the classifier of a hub at one commit; see `hub.download`, and `from_folder` for the rest."""
    files = download(model, revision, cache=cache / "hub", weights_sha256=weights_sha256)
    return _classifier(files, cache=cache / "onnx", precision=precision)


def _classifier(
    files: ModelFiles, *, name: str = "", cache: Path | None = None, precision: str = FP32
) -> OnnxClassifier:
    revision = revised(files.revision, precision)
    # Before the export, which takes minutes.
    outputs = columns(files.id2label, model=files.name)

    def opened(model: Path) -> OnnxClassifier:
        return OnnxClassifier(
            name=name or files.name, revision=revision, model=model, tokenizer=files.folder, outputs=outputs
        )

    if cache is None:
        return opened(files.weights)
    model = exported(files, cache=cache)
    target = cache / f"{files.name.replace('/', '--')}--{revision}.onnx"
    return opened(in_precision(model, precision, opened=opened, target=target))

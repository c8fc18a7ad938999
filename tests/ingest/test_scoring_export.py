"""Weights without an ONNX file: exported once where PyTorch is, refused with the cure where it is not."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
from backsight_features.errors import BadInput
from backsight_ingest.scoring.export import exported
from backsight_ingest.scoring.hub import ModelFiles, local
from backsight_ingest.scoring.models import from_folder

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch: pip install 'backsight-ingest[torch]'")

TEXTS = ["up", "down up flat", "up up up up up up up up up down", "flat flat"]


@pytest.fixture
def folder(tmp_path: Path, tiny_model) -> Path:
    """Return config and tokenizer of a BERT without its weights."""
    folder = tmp_path / "bert"
    tiny_model.write_tokenizer(folder)
    tiny_model.write_config(folder)
    return folder


def _bert(folder: Path):
    """Return a BERT with random weights, large enough that its verdicts differ."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(str(folder)))
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(20.0) if weights.dim() > 1 else weights.add_(0.1)
    return model.eval()


def _expected(folder: Path, model) -> np.ndarray:
    """Return what PyTorch says, one text at a time: positive, negative, neutral."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    with torch.inference_mode():
        logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    return torch.softmax(logits, dim=1).numpy()[:, [1, 2, 0]]


@pytest.mark.skipif(HAS_TORCH, reason="PyTorch is installed here")
def test_without_torch_the_cure_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match=r"pip install 'backsight-ingest\[torch\]'"):
        from_folder(folder, cache=tmp_path / "cache")


@needs_torch
def test_the_exported_graph_says_what_the_model_says(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = _bert(folder)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    scores = from_folder(folder, cache=tmp_path / "cache").score(TEXTS)
    expected = _expected(folder, model)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert expected.std(axis=0).max() > 0.01, "a model that says the same of all texts tests nothing"


@needs_torch
def test_an_export_is_kept(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(_bert(folder).state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    files = local(folder)
    first = exported(files, cache=tmp_path / "cache")
    made = first.stat().st_mtime_ns
    assert exported(files, cache=tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == made
    assert files.revision in first.name
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {first.name, f"{first.stem}.SHA256SUMS"}
    first.write_bytes(first.read_bytes() + b" ")
    with pytest.raises(BadInput, match="the file was changed"):
        exported(files, cache=tmp_path / "cache")


def _pickled(folder: Path) -> ModelFiles:
    return ModelFiles(
        name="someone/bert", revision="a" * 40, folder=folder, weights=folder / "pytorch_model.bin", id2label={}
    )


@needs_torch
def test_pickled_weights_are_read_as_weights_only(folder: Path, tmp_path: Path) -> None:
    import torch

    torch.save(_bert(folder).state_dict(), folder / "pytorch_model.bin")
    assert exported(_pickled(folder), cache=tmp_path / "cache").is_file()


class _Planted:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@needs_torch
def test_a_planted_pickle_does_not_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    content = pickle.dumps(_Planted(mark))
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(BadInput, match="cannot be loaded as a text classifier"):
        exported(_pickled(folder), cache=tmp_path / "cache")
    assert not mark.exists()


@needs_torch
def test_weights_of_something_else_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: value for name, value in _bert(folder).state_dict().items() if not name.startswith("classifier")}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"lacks 2 weights of a text classifier, the first is classifier"):
        from_folder(folder, cache=tmp_path / "cache")

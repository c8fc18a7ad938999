"""A one-off export of a PyTorch classifier to ONNX, so that scoring itself needs no PyTorch."""

import os
import warnings
from pathlib import Path
from typing import Any, Final

from backsight_features.errors import BadInput

from backsight_ingest.scoring import checksums
from backsight_ingest.scoring.hub import ModelFiles

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_OPSET: Final = 17


def exported(files: ModelFiles, *, cache: Path) -> Path:
    """Return the model's ONNX file: its own, or one exported to ``cache`` now or earlier.

    Parameters
    ----------
    files : ModelFiles
        The model.
    cache : Path
        Folder of exported files, keyed by name and revision.

    Raises
    ------
    BadInput
        If an export is needed and PyTorch is not installed, the weights do not make a classifier, or the file is not
        the one that was exported.
    """
    if files.is_onnx:
        return files.weights
    target = cache / f"{files.name.replace('/', '--')}--{files.revision}.onnx"
    manifest = target.with_suffix(f".{checksums.MANIFEST}")
    if manifest.is_file():
        checksums.check(checksums.sums(cache, [target.name]), manifest)
        return target
    try:
        import torch
    except ImportError:
        raise BadInput(
            f"{files.name} has no ONNX file, and exporting {files.weights.name} needs PyTorch: "
            "pip install 'backsight-ingest[torch]'"
        ) from None
    model, tokenizer = _loaded(files)
    sample = tokenizer(["Profit up.", "A longer line of text."], padding=True, return_tensors="pt")
    names = [name for name in _INPUTS if name in sample]
    cache.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: a file that is there is whole.
    draft = target.with_suffix(f".{os.getpid()}.part")
    with torch.inference_mode(), warnings.catch_warnings():
        # The tracer warns about shapes that it takes for constants and the exporter about its own age; the result is
        # compared with the model by its users.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(sample[name] for name in names),
            str(draft),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names} | {"logits": {0: "texts"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    draft.replace(target)
    checksums.write(checksums.sums(cache, [target.name]), manifest)
    return target


def _loaded(files: ModelFiles) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder = str(files.folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config.return_dict = False
        if files.weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(files.weights)
        else:
            state = torch.load(files.weights, map_location="cpu", weights_only=True)
        # Eager attention is what the exporter and ONNX Runtime's optimiser understand.
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        left = model.load_state_dict(state, strict=False)
    except Exception as error:  # unpickling, parsing and building fail in too many ways to list
        raise BadInput(f"{files.weights} cannot be loaded as a text classifier: {error}") from None
    lacking = [name for name in left.missing_keys if not name.endswith("position_ids")]
    if lacking:
        raise BadInput(f"{files.weights} lacks {len(lacking)} weights of a text classifier, the first is {lacking[0]}")
    return model.eval(), tokenizer

"""The classifier as an ONNX graph: weights stored as float16 under the network's own names, computed in float32."""

import warnings
from pathlib import Path
from typing import Final

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import BertForSequenceClassification

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_OPSET: Final = 17


def write(model: BertForSequenceClassification, path: Path) -> None:
    """Write the graph; the model's weights have to be float16 numbers, see `network.halve`."""
    model.config.return_dict = False
    _export(model, path)
    model.config.return_dict = True
    graph = onnx.load(path)
    lacking = set(model.state_dict()) - {weights.name for weights in graph.graph.initializer}
    if lacking:
        raise ValueError(f"the exporter merged or renamed weights: {', '.join(sorted(lacking))}")
    _store_as_float16(graph.graph)
    for node in graph.graph.node:
        # Where in whose file system a node was traced concerns nobody.
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _export(model: BertForSequenceClassification, path: Path) -> None:
    sample = torch.tensor([[2, 7, 8, 3], [2, 7, 3, 0]])
    present = (sample != 0).long()
    with torch.inference_mode(), warnings.catch_warnings():
        # The tracer warns about shapes that it takes for constants, the exporter about its own age; the tests compare
        # the graph with the network.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (sample, present, torch.zeros_like(sample)),
            str(path),
            input_names=list(_INPUTS),
            output_names=["logits"],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in _INPUTS} | {"logits": {0: "texts"}},
            opset_version=_OPSET,
            do_constant_folding=False,
            dynamo=False,
        )


def _store_as_float16(graph: onnx.GraphProto) -> None:
    """Turn each float32 weight into a float16 one of the same name and a Cast; ONNX Runtime folds these at load."""
    casts = []
    for weights in graph.initializer:
        if weights.data_type != TensorProto.FLOAT:
            continue
        name = weights.name
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights).astype("float16"), name))
        for node in graph.node:
            node.input[:] = [f"{name}.float32" if each == name else each for each in node.input]
        casts.append(helper.make_node("Cast", [name], [f"{name}.float32"], to=TensorProto.FLOAT))
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *rest])

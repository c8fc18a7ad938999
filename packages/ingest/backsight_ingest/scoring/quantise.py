"""An ONNX classifier whose matrix products are of whole numbers, with one scale per token.

The activations of each token get a scale of their own, the weights one per output. Sums of whole numbers are exact, so
what else stands in the batch cannot matter. The usual dynamic int8 finds one scale for the whole batch, where it does.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from backsight_features.errors import BadInput

RULE: Final = "int8.1"
"""How numbers are rounded; part of the revision of what is scored with them."""

_ACTIVATION: Final = 127
_WEIGHT: Final = 127
_PAIR: Final = 128
"""Processors without VNNI add two neighbouring products in 16 bits, and 255 x 128 is the most that fits."""

_CENTRE: Final = 128
_WIDTH: Final = 255
_GELU_LEAST: Final = 0.17
"""GELU is never below its negative: all 256 numbers can serve what is above."""

_GELU_DEPTH: Final = 4
_TINY: Final = 1e-12
_DOMAIN: Final = "com.microsoft"
_AXES_ARE_INPUT: Final = 18
"""Operator set from which on ReduceMax takes its axes as an input."""


def quantise(model: Path, target: Path) -> None:
    """Write a float32 classifier with its products of activations and constant weights in int8.

    What is small stays in float32: embeddings, attention, norms and the head.

    Parameters
    ----------
    model : Path
        The ONNX file in float32.
    target : Path
        The file to write.

    Raises
    ------
    BadInput
        If the package onnx is not installed, or the file has no float32 product with constant weights.
    """
    try:
        import onnx
    except ImportError:
        raise BadInput(
            f"{model.name} in int8 has to be made once, which needs the package onnx: "
            "pip install 'backsight-ingest[quantise]'"
        ) from None
    try:
        loaded = onnx.load(str(model))
    except Exception as error:  # protobuf's own exceptions have no common base
        raise BadInput(f"{model} is no ONNX model that can be read: {error}") from None
    _rewrite(loaded, model)
    onnx.save(loaded, str(target))


def rounded(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return weights as whole numbers, and the scale of each output.

    They lie within 127 of 0, and sums of the weights of inputs 0 and 1, 2 and 3 and so on within 128, so that no
    processor's sums overflow and all give the same.

    Parameters
    ----------
    weights : ndarray of shape (n_inputs, n_outputs)

    Returns
    -------
    whole : ndarray of shape (n_inputs, n_outputs)
    scales : ndarray of shape (n_outputs,)

    Examples
    --------
    >>> whole, scales = rounded(np.array([[1.27, 0.6], [-0.31, 0.68]], dtype=np.float32))
    >>> whole.tolist(), bool(np.allclose(scales, 0.01, rtol=0.01))
    ([[127, 60], [-31, 67]], True)
    """
    even = len(weights) // 2 * 2
    pairs = np.abs(weights[0:even:2] + weights[1:even:2]).max(axis=0, initial=0)
    # Rounding two of them may add up to one.
    scales = np.maximum(np.abs(weights).max(axis=0) / _WEIGHT, pairs / (_PAIR - 1))
    scales = np.maximum(scales, _TINY).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def _rewrite(model: Any, path: Path) -> None:
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {each.name: each for each in graph.initializer}
    chosen = [node for node in graph.node if node.op_type == "MatMul" and _is_matrix(constants.get(node.input[1]))]
    if not chosen:
        raise BadInput(
            f"{path} has no product with constant float32 weights, so nothing to round: an int8 precision needs the "
            "model's float32 ONNX file, not one that is quantised or fused already"
        )
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    makers = {name: node for node in graph.node for name in node.output}
    new: dict[str, list[Any]] = {}
    known: set[str] = set()
    for i, node in enumerate(chosen):
        source, weights = node.input
        gelu = _is_gelu(source, makers)
        whole, scales = rounded(numpy_helper.to_array(constants[weights]))
        graph.initializer.append(numpy_helper.from_array(whole, f"int8_{i}_weights"))
        graph.initializer.append(numpy_helper.from_array(scales, f"int8_{i}_scales"))
        if gelu:
            shift = np.float32(-_GELU_LEAST) * scales * whole.sum(axis=0, dtype=np.int64)
            graph.initializer.append(numpy_helper.from_array(shift.astype(np.float32), f"int8_{i}_shift"))
        first = [] if source in known else _activations(source, opset, gelu=gelu)
        known.add(source)
        new[node.output[0]] = [*first, *_product(source, i, node.output[0], gelu=gelu)]
    graph.initializer.extend(_shared(opset))
    nodes = [each for node in graph.node for each in new.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    if all(each.domain != _DOMAIN for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


def _is_gelu(source: str, makers: Mapping[str, Any]) -> bool:
    """Return whether activations come from a GELU: as one operator, or with the error function a few steps back."""
    names = {source}
    for _ in range(_GELU_DEPTH):
        nodes = [makers[name] for name in names if name in makers]
        if any(node.op_type in ("Erf", "Gelu", "FastGelu", "BiasGelu") for node in nodes):
            return True
        names = {name for node in nodes if node.op_type in ("Mul", "Add") for name in node.input}
    return False


def _is_matrix(constant: Any) -> bool:
    from onnx import TensorProto

    return constant is not None and constant.data_type == TensorProto.FLOAT and len(constant.dims) == 2


def _shared(opset: int) -> Iterator[Any]:
    from onnx import numpy_helper

    numbers = {"one": 1, "tiny": _TINY, "most": _ACTIVATION, "width": _WIDTH, "least": _GELU_LEAST}
    for name, number in numbers.items():
        yield numpy_helper.from_array(np.array(number, dtype=np.float32), f"int8_{name}")
    for name, middle in (("centre", _CENTRE), ("zero", 0)):
        yield numpy_helper.from_array(np.array(middle, dtype=np.uint8), f"int8_{name}")
    if opset >= _AXES_ARE_INPUT:
        yield numpy_helper.from_array(np.array([-1], dtype=np.int64), "int8_last")


def _activations(source: str, opset: int, *, gelu: bool) -> Iterator[Any]:
    """Yield nodes from activations to whole numbers, around 128 or from 0 on, and the step of each token."""
    from onnx import helper

    positive = f"{source}_positive"
    yield (
        helper.make_node("Add", [source, "int8_least"], [positive])
        if gelu
        else helper.make_node("Abs", [source], [positive])
    )
    if opset >= _AXES_ARE_INPUT:
        yield helper.make_node("ReduceMax", [positive, "int8_last"], [f"{source}_max"], keepdims=1)
    else:
        yield helper.make_node("ReduceMax", [positive], [f"{source}_max"], axes=[-1], keepdims=1)
    yield helper.make_node("Max", [f"{source}_max", "int8_tiny"], [f"{source}_span"])
    yield helper.make_node("Div", [f"{source}_span", "int8_width" if gelu else "int8_most"], [f"{source}_step"])
    yield helper.make_node("Div", [positive if gelu else source, f"{source}_step"], [f"{source}_steps"])
    middle = "int8_zero" if gelu else "int8_centre"
    yield helper.make_node("QuantizeLinear", [f"{source}_steps", "int8_one", middle], [f"{source}_whole"])


def _product(source: str, number: int, output: str, *, gelu: bool) -> Iterator[Any]:
    from onnx import helper

    own = f"int8_{number}"
    yield helper.make_node(
        "MatMulIntegerToFloat",
        [f"{source}_whole", f"{own}_weights", "int8_one", f"{own}_scales", "int8_zero" if gelu else "int8_centre"],
        [f"{own}_sums"],
        domain=_DOMAIN,
    )
    yield helper.make_node("Mul", [f"{own}_sums", f"{source}_step"], [f"{own}_moved" if gelu else output])
    if gelu:
        yield helper.make_node("Add", [f"{own}_moved", f"{own}_shift"], [output])


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)

"""Int8 ONNX files that are right on every CPU, made from the float32 file with onnxruntime's tools.

x86 CPUs without VNNI (AMD up to Zen 3, for one) multiply unsigned by signed bytes, add two neighbouring products and
keep the sum in 16 bits: above 32767 it saturates, and the output is wrong without a word (oneDNN, "Nuances of int8
computations"). Weights therefore use 7 of their 8 bits: 2 * 255 * 64 = 32640 fits.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unmask.errors import Unequal
from unmask.export.exportable import Exportable

LARGEST = 64  # magnitude of int8 weights with which no sum of two products leaves 16 bits
QUANTIZED = ["MatMul", "Gemm"]  # not the patch convolution: little to gain, and the first layer bears it worst
SCHEME = {"op_types_to_quantize": QUANTIZED, "per_channel": True, "reduce_range": True}  # reduced: 7 bits


def quantize(source: Path, target: Path, subject: Exportable, pixels: str, large: bool) -> None:
    """Quantises weights to int8 with one scale per output. Activations get scales from each batch (dynamic), or fixed
    ones measured on the images (static).

    Only products with constant weights are quantised: in attention both factors are activations, which use all 8 bits.
    pixels: name of the input. large: the weights go into a file of their own.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    logging.getLogger().addFilter(_quiet)
    options: dict[str, Any] = {**SCHEME, "weight_type": QuantType.QInt8, "use_external_data_format": large}
    options["extra_options"] = {"MatMulConstBOnly": True}
    try:
        if subject.quantize == "dynamic":
            quantize_dynamic(source, target, **options)
        else:  # which takes no notice of MatMulConstBOnly
            between = between_activations(onnx.load(source, load_external_data=False))
            reader: Any = _Images(subject.given(subject.images), pixels)
            quantize_static(source, target, reader, quant_format=QuantFormat.QDQ, nodes_to_exclude=between, **options)
    finally:
        logging.getLogger().removeFilter(_quiet)


def between_activations(model: Any) -> list[str]:
    """Names of the products in an ONNX model whose second factor is not constant."""
    constant = {weight.name for weight in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in QUANTIZED and node.input[1] not in constant]


def refuse_saturating(path: Path) -> None:
    """Raises Unequal if products of an int8 file would saturate on some CPU, whether or not on this one."""
    import onnx

    graph = onnx.load(path).graph
    weights = {weight.name: weight for weight in graph.initializer}
    largest = {
        name: int(np.abs(onnx.numpy_helper.to_array(weight).astype(np.int32)).max(initial=0))
        for name, weight in weights.items()
        if weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) > 1  # zero points of activations use all bits
    }
    origin = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            weight = node.input[1]
        elif node.op_type in ("MatMul", "Gemm", "Conv") and {*node.input[:2]} <= {*origin}:
            weight = origin[node.input[1]]
        else:
            continue
        if weight not in largest:
            raise _unsafe(path, f"{node.name} multiplies by something else than int8 weights")
    if not largest:
        raise _unsafe(path, "it holds no int8 weights")
    worst = max(largest, key=lambda name: largest[name])
    if largest[worst] > LARGEST:
        raise _unsafe(path, f"weights of {worst} reach {largest[worst]}, allowed is {LARGEST}")


def _unsafe(path: Path, why: str) -> Unequal:
    return Unequal(
        f"{path.name} would be wrong on CPUs without VNNI, where sums of products saturate: {why}; it was deleted;"
        " leave int8 out with --precision fp32,fp16"
    )


def _quiet(record: logging.LogRecord) -> bool:
    """Silences onnxruntime's advice to preprocess the model, which helps only convolutions and pooling."""
    return "pre-processing" not in record.getMessage()


class _Images:
    """Hands the images one by one to onnxruntime's calibration."""

    def __init__(self, images: Tensor, name: str):
        self.rest, self.name = iter(images.split(1)), name

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.rest, None)
        return None if image is None else {self.name: image.numpy()}

"""Int8 files are right on every CPU: no sum of two products leaves the 16 bits that CPUs without VNNI have for it."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from support.exportmaking import subject
from support.photos import photo

from unmask import registry
from unmask.errors import Unequal
from unmask.export import quantization
from unmask.export.formats import onnx as onnx_files
from unmask.models.classifier import Classifier
from unmask.models.encoder import create_encoder
from unmask.models.segmenter import Segmenter

TRANSLATED, translate = {}, onnx_files._translate
FILE = Path(__file__).parents[2] / "benchmarks" / "int8.py"
MAKERS = {
    "encoder": lambda encoder: encoder,
    "linear": lambda encoder: Classifier(encoder, ["a", "b"], pooling="cls", norm="batch"),
    "attentive": lambda encoder: Classifier(encoder, ["a", "b", "c"], pooling="attentive", norm="none"),
    "segmenter": lambda encoder: Segmenter(encoder, ["a", "b"], [0, 1], head="light(channels=8)", window=(32, 32)),
}

HEADS = [kind for kind in MAKERS if kind != "encoder"]


@pytest.fixture(name="int8", scope="module")
def _int8():
    spec = importlib.util.spec_from_file_location("int8", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["int8"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def raw():
    return torch.from_numpy(np.stack([photo(seed, 32, 32) for seed in range(4)])).permute(0, 3, 1, 2).float()


@cache
def model_of(kind):
    torch.manual_seed(0)
    model = "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"
    encoder = create_encoder(model, image_size=(32, 32), patch_size=8, mean=(120.0,) * 3, std=(60.0,) * 3)
    return MAKERS[kind](encoder)


def written(raw, folder, kind="encoder", quantize="dynamic"):
    what = subject(model_of(kind), raw, precision=("fp32", "int8"), quantize=quantize)
    part = registry.find("export", "onnx")()
    if kind not in TRANSLATED:  # by torch, for seconds
        TRANSLATED[kind] = translate(what)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_files, "_translate", lambda _: TRANSLATED[kind])
        part.write(what, folder)
    return what, part, folder / "model-int8.onnx"


def weights(path):
    """Int8 matrices of a file by name, k n: those that a Gemm takes transposed are turned."""
    graph = onnx.load(path).graph
    turned = {
        node.input[1]
        for node in graph.node
        if node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    }
    origin = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    turned = {origin.get(name) for name in turned}
    arrays = {w.name: onnx.numpy_helper.to_array(w) for w in graph.initializer if w.data_type == onnx.TensorProto.INT8}
    return {name: array.T if name in turned else array for name, array in arrays.items() if array.ndim == 2}


def saturates(int8, weight):
    """Whether 16 bits change the product with the worst activations: 255 wherever a weight has one sign, else 0."""
    for sign in (1, -1):
        activations = (255 * (sign * weight.T > 0)).astype(np.uint8)  # n k: a row for every column of the weights
        exact = np.einsum("nk,kn->n", activations.astype(np.int64), weight.astype(np.int64))
        if not np.array_equal(np.diagonal(int8.pairwise(activations, weight)), exact):
            return True
    return False


@pytest.mark.parametrize("quantize", ["dynamic", "static"])
@pytest.mark.parametrize("kind", ["encoder", *(pytest.param(kind, marks=pytest.mark.slow) for kind in HEADS)])
def test_no_int8_product_can_saturate(int8, kind, quantize, raw, tmp_path):
    what, part, path = written(raw, tmp_path, kind, quantize)
    arrays = weights(path)
    assert len(arrays) >= 8
    assert all(abs(array.astype(int)).max() > 60 for array in arrays.values())  # and the bits that there are are used
    assert not [name for name, array in arrays.items() if saturates(int8, array)]
    assert len(part.open(what, tmp_path)) == 2


@pytest.mark.parametrize("quantize", ["dynamic", "static"])
def test_weights_of_eight_bits_are_refused_on_any_cpu(int8, quantize, raw, tmp_path, monkeypatch):
    monkeypatch.setitem(quantization.SCHEME, "reduce_range", False)
    what, part, path = written(raw, tmp_path, quantize=quantize)
    assert all(saturates(int8, array) for array in weights(path).values())
    with pytest.raises(Unequal, match=r"model-int8\.onnx would be wrong on CPUs without VNNI.* reach 12\d, allowed"):
        part.open(what, tmp_path)[-1].refuse()


@pytest.mark.parametrize(("reduce_range", "right"), [(True, True), (False, False)])
def test_a_cpu_that_saturates_gets_the_same_features(int8, reduce_range, right, raw, tmp_path, monkeypatch):
    monkeypatch.setitem(quantization.SCHEME, "reduce_range", reduce_range)
    what, _, path = written(raw, tmp_path)
    exact = ReferenceEvaluator(onnx.load(path))
    saturating = ReferenceEvaluator(onnx.load(path), new_ops=[int8.MatMulInteger])
    one, other = (np.concatenate(x.run(None, {"pixels": raw.numpy()})[:1]) for x in (exact, saturating))
    assert np.array_equal(one, other) == right
    expected = what.reference(raw)["patch_tokens"].numpy()
    assert (np.linalg.norm(other - expected) < 0.05 * np.linalg.norm(expected)) == right


def test_products_within_attention_stay_in_float(raw, tmp_path):
    """Both sides are activations, which use 8 bits: two of 255 * 127 saturate."""
    _, _, path = written(raw, tmp_path, quantize="static")
    graph = onnx.load(path).graph
    given = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    constant = {w.name for w in graph.initializer}
    origin = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    kinds = [
        origin[node.input[1]] in constant if node.input[1] in given else "float"
        for node in graph.node
        if node.op_type == "MatMul"
    ]
    assert sorted(map(str, kinds)) == ["True"] * 8 + ["float"] * 4


def test_quantised_products_of_two_activations_are_refused(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "between_activations", lambda model: [])
    what, part, _ = written(raw, tmp_path, quantize="static")
    with pytest.raises(Unequal, match="multiplies by something else than int8 weights"):
        part.open(what, tmp_path)[-1].refuse()


def test_a_file_without_int8_weights_is_refused(raw, tmp_path):
    what, part, path = written(raw, tmp_path)
    path.write_bytes((tmp_path / "model-fp32.onnx").read_bytes())
    with pytest.raises(Unequal, match="holds no int8 weights"):
        part.open(what, tmp_path)[-1].refuse()


@pytest.mark.slow
def test_the_benchmark_compares_the_bits(int8, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["int8.py", "--smoke"])
    threads = torch.get_num_threads()
    int8.main()
    torch.set_num_threads(threads)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "dynamic" in line]
    errors = {row[1].strip(): float(row[3].split()[0]) for row in rows}
    assert errors["7 bits, dynamic"] < 0.02 < 0.1 < errors["8 bits, dynamic"]

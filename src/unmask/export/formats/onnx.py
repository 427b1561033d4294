"""ONNX, by torch's dynamo exporter; fp16 and int8 files are made from the fp32 file with onnxruntime's tools.

The batch is dynamic. Position tables are constants, so the image size is fixed.
"""

import json
import logging
import re
import warnings
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.export.detector_onnx import REMARK, backbone_of, export_whole
from unmask.export.exportable import EXACT, Exportable, Format, Opened, Outputs
from unmask.export.quantization import quantize, refuse_saturating

__all__ = ["Onnx"]
INPUT, BACKBONE = "pixels", "backbone-fp32.onnx"
TOLERANCE = {"fp32": EXACT, "fp16": 0.02, "int8": 0.25}  # share of the largest output; what that costs, --on says
REMEDY = "try --quantize static or dynamic for int8, or leave this precision out with --precision"
LARGE = 1_500_000_000  # bytes of weights above which they go beside the graph: a protobuf holds 2 GB


class Onnx(Format):
    needs = ("onnx", "onnxscript", "onnxruntime")
    library = "onnx"

    def refuse(self, subject: Exportable) -> str:
        """Accepts whatever can be traced; an operator that ONNX lacks shows while writing."""
        if subject.detector and subject.encoder.own.get("relative"):
            raise UserError(
                "--to onnx: a detector with relative positions has tables for one size alone, and cannot be taken out;"
                " train it without --relative"
            )
        return REMARK.format("onnx") if subject.detector else ""

    def write(self, subject: Exportable, folder: Path) -> None:
        """Writes one file per precision."""
        for name in ("torch.onnx", "onnxscript", "onnx_ir"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if subject.detector:
            export_whole(subject, _file(folder, "fp32"), INPUT)
            _note(_file(folder, "fp32"), subject)
            part = backbone_of(subject)
            _translate(part).save(folder / BACKBONE, external_data=False)
            _note(folder / BACKBONE, part)
            return
        first = _file(folder, "fp32")
        program = _translate(subject)
        program.model.metadata_props.update(facts(subject))
        size = sum(value.numel() * value.element_size() for value in subject.model.state_dict().values())
        program.save(first, external_data=size > LARGE)
        for precision in subject.precision:
            if precision == "fp16":
                _halve(first, _file(folder, precision), size > LARGE)
            if precision == "int8":
                quantize(first, _file(folder, precision), subject, INPUT, size > LARGE)
                if size <= LARGE:
                    _note(_file(folder, precision), subject, quantization=subject.quantize)
        if "fp32" not in subject.precision:
            for file in folder.glob(f"{first.name}*"):
                file.unlink()

    def open(self, subject: Exportable, folder: Path) -> list[Opened]:
        """Opens in onnxruntime, on the CPU."""
        files = []
        if subject.detector:
            part = backbone_of(subject)
            files.append(Opened(folder / BACKBONE, _call(folder / BACKBONE, part), EXACT, timed=True, subject=part))
        for precision in ("fp32",) if subject.detector else subject.precision:
            path, exact = _file(folder, precision), precision == "fp32"
            opened = Opened(
                path, _call(path, subject), TOLERANCE[precision], timed=True, remedy="" if exact else REMEDY
            )
            refuse = partial(refuse_saturating, path) if precision == "int8" else None
            files.append(replace(opened, optional=not exact, refuse=refuse))
        return files

    def how(self, subject: Exportable, folder: str) -> str:
        """Needs onnxruntime only."""
        path = _file(Path(folder), "fp32" if subject.detector else subject.precision[0])
        names = ", ".join(subject.outputs)
        return (
            f'import onnxruntime\n\nsession = onnxruntime.InferenceSession("{path}")\n'
            f'{names} = session.run(None, {{"{INPUT}": prepare("image.jpg")}})'
        )


def _note(path: Path, subject: Exportable, **more: str) -> None:
    """Stores metadata in a file."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, facts(subject) | more)
    onnx.save(model, path)


def _translate(subject: Exportable) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own code
        try:
            translated: Any = torch.onnx.export(
                subject.program, dynamo=True, verbose=False, input_names=[INPUT], output_names=list(subject.outputs)
            )
        except torch.onnx.errors.OnnxExporterError as error:
            model = subject.encoder.arguments["model_name"]
            why = str(error.__cause__ or error).strip().splitlines()[0]
            raise UserError(f"--to onnx: torch cannot translate {model}: {why}; what works: torch_export") from error
    _tidy(translated.model)
    return translated


def _tidy(model: Any) -> None:
    """Names the first axis batch, and removes the source lines that torch records for every node: they hold paths of
    this machine. model: of onnx_ir, changed in place."""
    batch = str(model.graph.inputs[0].shape[0])
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    for value in [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]:
        value.metadata_props.clear()
        for axis, size in enumerate(value.shape or ()):
            if isinstance(name := getattr(size, "value", None), str):  # None: not known, and each another
                value.shape[axis] = re.sub(rf"\b{batch}\b", "batch", name)


def facts(subject: Exportable) -> dict[str, str]:
    """Metadata of a file, which onnxruntime returns as `custom_metadata_map`."""
    encoder = subject.encoder
    inside = subject.normalize == "inside"
    facts = {
        "input": "raw pixels, 0 to 255, float32" if inside else "(raw pixels - mean) / std, float32",
        "mean": json.dumps(encoder.mean.tolist()),
        "std": json.dumps(encoder.std.tolist()),
    }
    classes = getattr(subject.model, "classes", None)
    return facts | ({"classes": json.dumps(classes, ensure_ascii=False)} if classes else {})


def _file(folder: Path, precision: str) -> Path:
    return folder / f"model-{precision}.onnx"


def _call(path: Path, subject: Exportable) -> Any:
    import onnxruntime

    @cache
    def session() -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # so that times can be compared
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call(raw: Tensor) -> Outputs:
        values = session().run(None, {INPUT: subject.given(raw).numpy()})
        return {name: torch.from_numpy(np.asarray(value)) for name, value in zip(subject.outputs, values)}

    return call


def _halve(source: Path, target: Path, large: bool) -> None:
    """Converts weights and computation to fp16; input and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights below fp16's smallest number, which become that number
        model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    onnx.save(model, target, save_as_external_data=large, location=f"{target.name}.data" if large else None)

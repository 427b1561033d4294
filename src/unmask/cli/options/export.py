"""`unmask export RUN --to timm,hf,onnx,torch_export`: weights out, checked before success is said."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError, closest
from unmask.plain import (
    Batch,
    ImagePlaces,
    Names,
    NonNegativeInt,
    PartOf,
    Place,
    PositiveInt,
    WeightsPlace,
    check_fields,
    settle,
    texts,
)

__all__ = ["Export"]

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Export(ConfigOption):
    """Write the model for timm, Hugging Face, ONNX or torch.export.

    Every file is checked against the model.
    """

    run: Positional[WeightsPlace]  # folder of a run, pretrained or transferred
    _: KW_ONLY
    # formats, required: timm, hf, onnx, torch_export; several with commas or spaces
    to: Annotated[Names, PartOf("export")] = ()
    out: Place | None = None  # folder that gets a folder for each format; by default RUN/export
    # images to check the files with; by default some of the run's data, or of demo if it is gone
    images: ImagePlaces = ()
    # labelled data to measure the accuracy of the model and of each file on; by default it is not measured
    on: ImagePlaces = ()
    # onnx, torch_export: inside: the model takes raw pixels; outside: normalised ones
    normalize: Literal["inside", "outside"] = "inside"
    precision: Names = PRECISIONS  # onnx: fp32, fp16, int8
    # int8: dynamic: scales for each batch; static: fixed ones, measured on the images
    quantize: Literal["dynamic", "static"] = "dynamic"
    most: PositiveInt | None = None  # number of training images of --on to use, drawn at random; by default all
    batch: Batch = 64  # images at a time, for --on
    seed: NonNegativeInt = 0  # seed of masks in the check, and of splits where the data of --on has none

    def __post_init__(self):
        for name in ("to", "precision"):
            names = [part for text in texts(getattr(self, name)) for part in text.split(",")]
            settle(self, name, tuple(dict.fromkeys(part.strip() for part in names if part.strip())))
        if not self.to:
            raise UserError("say to what: unmask export RUN --to timm,hf,onnx,torch_export")
        for name in self.precision:
            if name not in PRECISIONS:
                near = closest(name, PRECISIONS)
                raise UserError(f"no precision {name!r} for onnx{near} There are: {', '.join(PRECISIONS)}")
        if not self.precision:
            raise UserError(f"--precision needs at least one of {', '.join(PRECISIONS)}")
        settle(self, "images", texts(self.images))
        settle(self, "on", texts(self.on))
        settle(self, "out", Path(self.out) if self.out is not None else Path(self.run) / "export")
        check_fields(self)

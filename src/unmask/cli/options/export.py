"""`unmask export RUN --to timm,hf,onnx,torch_export`: weights out, checked before success is said."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError, closest
from unmask.plain import (
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
    """Write the model for timm, Hugging Face transformers, ONNX or torch.export; every file is checked against it."""

    run: Positional[WeightsPlace]  # folder of a run, pretrained or transferred
    _: KW_ONLY
    to: Annotated[Names, PartOf("export")] = ()  # formats: timm, hf, onnx, torch_export; several with commas or spaces
    out: Place | None = None  # folder for one folder per format; by default export in the run's
    images: ImagePlaces = ()  # images for the check; by default some of the run's data, or of demo if those are gone
    on: ImagePlaces = ()  # labelled data on which the accuracy of the model and of each file is measured
    normalize: Literal["inside", "outside"] = "inside"  # onnx, torch_export: take raw pixels, or normalised ones
    precision: Names = PRECISIONS  # onnx: fp32, fp16, int8
    quantize: Literal["dynamic", "static"] = "dynamic"  # int8: scales per batch, or fixed ones from the images
    most: PositiveInt | None = None  # training images of --on to use at the most, drawn at random
    batch: PositiveInt = 64  # images at a time, for --on
    seed: NonNegativeInt = 0  # of masks in the check, and of splits where the data of --on has none

    def __post_init__(self):
        for name in ("to", "precision"):
            asked = [part for text in texts(getattr(self, name)) for part in text.split(",")]
            settle(self, name, tuple(dict.fromkeys(part.strip() for part in asked if part.strip())))
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

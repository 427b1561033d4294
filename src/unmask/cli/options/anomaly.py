"""`unmask anomaly fit RUN NORMALS` and `unmask anomaly apply FOLDER IMAGES`: where images are unlike normal ones."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError, closest
from unmask.plain import (
    Counts,
    Exists,
    ImagePlaces,
    InnerShare,
    Names,
    NonNegativeFloat,
    NonNegativeInt,
    Place,
    PositiveInt,
    WeightsPlace,
    check_fields,
    numbers,
    settle,
    texts,
)

__all__ = ["Anomaly"]


ACTIONS = {
    "fit": "unmask anomaly fit RUN NORMALS... --out FOLDER",
    "apply": "unmask anomaly apply FOLDER IMAGES... --out RESULTS",
}
FIT = (
    "false_alarms",
    "held_out",
    "calibrate_on",
    "ratio",
    "sets",
    "normalize_errors",
    "layers",
    "memory",
    "blur",
    "tiles",
)
FIT += ("most", "seed")
CHOICES = {
    "method": ("rebuild", "features", "both"),
    "normalize_errors": ("place-texture", "place", "texture", "none"),
    "save_maps": ("npy", "tif"),
}
APPLY = ("on", "masks", "save_maps", "heatmaps")


@dataclass(frozen=True)
class Anomaly(ConfigOption):
    """Find what is unlike normal images: fit on normal ones, apply to others; heat maps, scores, a threshold.

    unmask anomaly fit RUN NORMALS... --out FOLDER: learn what normal images look like, and a threshold
    that held-out normal images exceed as rarely as --false-alarms says.

    unmask anomaly apply FOLDER IMAGES... --out RESULTS: heat maps, scores.csv and a report; with class folders, a
    labels.csv (--on) or masks of defects (--masks) also how well anomalies are told from normal images.
    """

    action: Positional[str] = ""  # fit or apply
    model: Positional[WeightsPlace] = ""  # fit: folder of a run; apply: folder that fit wrote
    images: Positional[ImagePlaces] = ()  # fit: normal images; apply: images to judge; anything that pretrain takes
    _: KW_ONLY
    out: Place | None = (
        None  # folder to write: the finder, by default RUN/anomaly; or results, by default FOLDER/results
    )
    method: str | None = None  # rebuild (errors of rebuilding), features (their distance), or both, the default
    normal: Names = ()  # names of the classes that are normal, where images have labels; by default good, normal, ...
    false_alarms: InnerShare = 0.05  # fit: share of normal images, and of their pixels, that may be flagged
    held_out: InnerShare = 0.3  # fit: share of the normal images that only the threshold is calibrated on
    calibrate_on: ImagePlaces = ()  # fit: other normal images for that, best such as pretraining never saw
    ratio: InnerShare | None = None  # fit: share of units hidden by each mask; by default the run's
    sets: PositiveInt = 4  # fit: sets of complementary masks; each hides every unit
    normalize_errors: str = "place-texture"  # fit: by what normal errors are known: place-texture, place, texture, none
    layers: Counts = ()  # fit: blocks whose features are compared, from 0, negative from the end; by default the middle
    memory: PositiveInt = 4000  # fit: units in the memory of normal features
    blur: NonNegativeFloat | None = None  # fit: deviation of a Gaussian over maps, pixels; by default 1/64 of the side
    tiles: NonNegativeInt = 0  # fit: overlapping tiles along an image's short side; 0: its centre alone
    most: PositiveInt = 2000  # fit: normal images that errors and features are taken of, at the most
    on: ImagePlaces = ()  # apply: labelled images, as folders of normal and anomalous ones or with a labels.csv
    masks: Annotated[Place | None, Exists()] = (
        None  # apply: folder with masks of defects, by the images' names; an image without is normal
    )
    save_maps: str | None = None  # apply: raw maps too, float32, one file per image: npy or tif
    heatmaps: NonNegativeInt = 200  # apply: heat maps drawn, of the most anomalous images and of mistakes
    seed: NonNegativeInt = 0  # fit: of masks, of what is held out, of the memory
    batch: PositiveInt = 32  # images at a time
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        for name in ("images", "calibrate_on", "on", "normal"):
            settle(self, name, texts(getattr(self, name)))
        settle(self, "layers", numbers(self.layers))
        settle(self, "out", Path(self.out) if self.out is not None else None)
        if self.action not in ACTIONS:
            given = f"no action {self.action!r}{closest(self.action, ACTIONS)}" if self.action else "say what to do."
            raise UserError(f"{given} There are: {'; '.join(ACTIONS.values())}")
        for name in APPLY if self.action == "fit" else FIT:
            if getattr(self, name) != Anomaly.__dataclass_fields__[name].default:
                other = "apply" if self.action == "fit" else "fit"
                raise UserError(f"--{name.replace('_', '-')} belongs to unmask anomaly {other}, not to {self.action}")
        if not str(self.model):
            raise UserError(f"name a folder: {ACTIONS[self.action]}")
        if not self.images and not self.on:
            raise UserError(f"name at least one image: {ACTIONS[self.action]}")
        if self.images and self.on:
            raise UserError("give images either as IMAGES or, with labels, by --on, not both")
        for name, allowed in CHOICES.items():
            given = getattr(self, name)
            if given is not None and given not in allowed:
                flag = name.replace("_", "-")
                raise UserError(f"no --{flag} {given!r}{closest(given, allowed)} There are: {', '.join(allowed)}")
        check_fields(self)

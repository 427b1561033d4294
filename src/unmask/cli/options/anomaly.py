"""`unmask anomaly fit RUN NORMALS` and `unmask anomaly apply FOLDER IMAGES`: where images are unlike normal ones."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.cli.shared_options import EncoderOptions
from unmask.errors import UserError, closest
from unmask.plain import (
    Batch,
    Counts,
    Few,
    ImagePlace,
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
FIT += ("most", "seed", "mean", "std", "weights_size", "student", "ema")
CHOICES = {
    "method": ("rebuild", "features", "both"),
    "normalize_errors": ("place-texture", "place", "texture", "none"),
    "save_maps": ("npy", "tif"),
}
APPLY = ("on", "masks", "save_maps", "heatmaps")


@dataclass(frozen=True)
class Anomaly(EncoderOptions):
    """Find images that are unlike normal ones, and where in them.

    unmask anomaly fit RUN NORMALS... --out FOLDER learns what normal images look like, and a threshold that held-out
    normal images exceed no more often than --false-alarms.

    unmask anomaly apply FOLDER IMAGES... --out RESULTS writes heat maps, scores.csv and a report; with labels (--on) or
    masks of defects (--masks) also how well anomalies are told from normal images.
    """

    action: Positional[str] = ""  # fit, on normal images, or apply, to others
    model: Positional[WeightsPlace] = ""  # fit: folder of a run; apply: the folder that fit wrote
    images: Positional[ImagePlaces] = ()  # fit: normal images; apply: images to judge; whatever pretrain takes
    _: KW_ONLY
    out: Place | None = None  # folder to write; by default RUN/anomaly for fit, FOLDER/results for apply
    method: str | None = None  # rebuild (reconstruction errors), features (their distance) or both; by default both
    # names of the classes that are normal, where images have labels; by default good, normal and the like
    normal: Names = ()
    false_alarms: InnerShare = 0.05  # fit: share of normal images, and of their pixels, that may be flagged
    held_out: InnerShare = 0.3  # fit: share of the normal images that only calibrate the threshold
    # fit: other normal images that calibrate it, ideally not seen in pretraining; by default those held out
    calibrate_on: ImagePlaces = ()
    ratio: InnerShare | None = None  # fit: share of patches that each mask hides; by default the run's
    sets: Few = 4  # fit: sets of complementary masks; in each set every patch is visible once
    # fit: what an error is compared with: usual errors at its place, in its texture, place-texture or none
    normalize_errors: str = "place-texture"
    # fit: blocks whose features are compared, from 0, or from -1 backwards; by default the middle ones
    layers: Counts = ()
    memory: PositiveInt = 4000  # fit: features of normal patches kept for comparison
    # fit: standard deviation in pixels of the Gaussian that smooths heat maps; by default 1/64 of the side
    blur: NonNegativeFloat | None = None
    tiles: NonNegativeInt = 0  # fit: overlapping tiles along an image's short side; 0: its centre alone
    most: PositiveInt = 2000  # fit: number of normal images that errors and features are taken from
    # apply: labelled images, in folders of normal and anomalous ones or with a labels.csv; by default images have no
    # labels
    on: ImagePlaces = ()
    # apply: folder with masks of defects, named like the images; an image without one is normal; by default there are
    # none
    masks: ImagePlace | None = None
    # apply: also write the raw float32 maps, one file per image: npy or tif; by default they are not written
    save_maps: str | None = None
    heatmaps: NonNegativeInt = 200  # apply: number of heat maps to draw, of the most anomalous images and of mistakes
    seed: NonNegativeInt = 0  # fit: seed of masks, of the images held out, and of the memory
    batch: Batch = 32  # images at a time
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

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

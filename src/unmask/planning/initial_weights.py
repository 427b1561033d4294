"""The starting weights of `--init`: none, or any that `weights/open.py` can open, and the settings that follow from
them."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unmask.data.modality import IMAGE, make_modality
from unmask.data.sheet import far_channels
from unmask.errors import UserError
from unmask.files import Json
from unmask.methods.settings import START
from unmask.models.decoder import essence
from unmask.models.ema import reset_teachers
from unmask.models.encoder import Encoder
from unmask.models.state import load_strictly
from unmask.planning.plan import Plan
from unmask.registry import find, parse
from unmask.runs.config import Config
from unmask.training.objective import Objective
from unmask.weights.canonical import State, Statistics, under
from unmask.weights.open import Opened, open_weights
from unmask.weights.reading import Reading

PIXELS = "pixels"
COLOURS = 3  # channels of weights that know red, green and blue


class Start:
    """No weights: MAE's random initialisation is kept."""

    lines: Sequence[str] = ()  # description of the weights
    facts: Json | None = None  # for config.json

    def guide(self, plan: Plan, channels: int) -> None:
        """Sets the options that must fit the weights. channels: of the data."""

    def statistics(self, data: Statistics, plan: Plan) -> Statistics:
        """Mean and std of the run, given those of its data."""
        return data

    def load(
        self, objective: Objective, decoder: str | None, bands: Sequence[str] | None, target: str | None = None
    ) -> None:
        """Loads the weights strictly. decoder, target: as for `new_decoder`; bands: names of the data's channels."""

    def new_decoder(self, decoder: str | None, objective: Objective, target: str | None) -> bool:
        """True if the encoder is trained but the decoder starts at random. decoder: text of the objective's, if it has
        one; target: likewise, "" if it has none, None where shapes alone are to tell."""
        return False


def initial(
    text: str,
    model: str | None = None,
    reading: Mapping[str, Any] = MappingProxyType({}),
    image_size: Any = None,
) -> Start:
    """The start that `--init` names. model: the requested timm name, if any.

    Raises UserError for weights that cannot be opened.
    """
    return (
        Start()
        if text in ("none", "")
        else FromWeights(open_weights(text, model=model, reading=Reading.of(reading), image_size=image_size))
    )


def start_of(config: Config) -> Start:
    """The start of a planned run: the encoder of the stage before it, else what `--init` names."""
    model, size, handed = config.model, config.data.image_size, config.method.handed or {}
    if START in handed:
        return initial(handed[START], model.name, image_size=size)
    return initial(model.init, model.name, model.reading(), size)


class FromWeights(Start):
    def __init__(self, opened: Opened):
        self.opened, self.lines = opened, opened.lines
        keys = ("source", "model", "licence", "remarks")
        self.facts = {key: getattr(opened, key) for key in keys} | {"layout": opened.weights.layout}

    def guide(self, plan: Plan, channels: int) -> None:
        opened, of = self.opened, f"of {self.opened.source}"
        named = make_modality(str(plan.settings.get("modality") or IMAGE)).colours(channels)
        if named and opened.channels == COLOURS:
            plan.choose("bands", list(named), "as the data names them: red, green and blue keep their filters")
        bands = plan.settings.get("bands")
        same = opened.weights.modality.split("(")[0] == str(plan.settings.get("modality") or IMAGE).split("(")[0]
        if not same and make_modality(str(plan.settings.get("modality") or IMAGE)).parts:
            raise UserError(
                f"--init {opened.source}: only weights of samples of several kinds are a start for such samples"
            )
        kind = plan.settings.get("modality")  # None before the data are looked at
        if kind and len(opened.grid.unit) > len(make_modality(kind).axes):
            words = (make_modality(text).word for text in (opened.weights.modality, kind))
            raise UserError(f"--init {opened.source}: weights for {'s cannot be brought to '.join(words)}s")
        plan.choose("model", opened.model, of)
        if same:
            plan.choose("image_size", list(opened.grid.size), of)
        plan.choose("patch_size", opened.grid.unit[-1], of)
        if bands:
            plan.choose("channels", len(bands), "as named with --bands")
        elif opened.channels == channels or {opened.channels, channels} <= {1, 3}:
            plan.choose("channels", opened.channels, of)
        else:
            why = (
                f"bands of the data; the filters of {opened.channels} channels are averaged over them (or name --bands)"
            )
            plan.choose("channels", channels, why)
        own, takes = opened.weights.decoder_part, _options_of(plan)
        if "decoder" not in takes or not same:
            return
        if opened.weights.predictor is not None:
            if "target" not in takes:  # else the method predicts something else than features
                plan.choose("decoder", opened.weights.predictor, of)
            return
        if opened.decoder is not None:
            size, patch = plan.settings["image_size"], plan.settings["patch_size"]
            text = opened.decoder_text(type(opened.grid)(tuple(side // patch for side in size), (patch, patch)))
            plan.choose("decoder", own if own and essence(own) == essence(text) else text, of)
        elif own is not None and opened.whole is not None:
            plan.choose("decoder", own, of)
        else:
            return
        if "target" not in takes or (opened.weights.target is None and own is not None and not opened.decoder):
            return  # what a method without targets has taught it, there is no name for
        raw, unknown = opened.weights.normalize is False, opened.weights.normalize is None
        why = "the usual one; the weights do not say what their decoder predicts" if unknown else f"of the decoder {of}"
        usual = "pixels(normalize=False)" if raw else "pixels"
        plan.choose("target", opened.weights.target or usual, why)

    def statistics(self, data: Statistics, plan: Plan) -> Statistics:
        settings = plan.settings
        mean, std = self.opened.normalisation(settings["channels"], settings.get("bands"), data)
        if far := far_channels(data, (mean, std)):
            plan.reasons["mean and std"] = (
                f"the data's, not the weights': they are far apart (channel {far[0] + 1}: mean {data[0][far[0]]:.4g},"
                f" std {data[1][far[0]]:.4g} in the data, {mean[far[0]]:.4g} and {std[far[0]]:.4g} with the weights)"
            )
            return data
        return mean, std

    def load(
        self, objective: Objective, decoder: str | None, bands: Sequence[str] | None, target: str | None = None
    ) -> None:
        """Loads a run's whole objective if the new one has the same structure; otherwise the encoder, and the decoder
        if it fits."""
        whole, own, part = self.opened.whole, objective.state_dict(), self.opened.weights.decoder_part
        new = self.new_decoder(decoder, objective, target)
        if (
            whole is not None
            and not (new if decoder is not None else part is not None)  # shapes alone are not enough
            and {k: v.shape for k, v in whole.items()} == {k: v.shape for k, v in own.items()}
        ):
            statistics = ("encoder.mean", "encoder.std")  # those of the settings
            objective.load_state_dict(whole | {key: own[key] for key in statistics})
            return
        self.opened.put(objective.encoder, bands)
        reset_teachers(objective)
        has_one = hasattr(objective, "decoder")
        if decoder is not None and not has_one and not self._other_architecture(decoder, objective.encoder):
            raise UserError(
                f"{self.opened.source} brings a decoder, and {type(objective).__name__} has none; give the encoder"
                " alone, such as --init RUN/encoder.safetensors"
            )
        if decoder is not None and not new:
            own_decoder, state = objective.get_submodule("decoder"), self._decoder_state(objective.encoder, bands)
            if getattr(own_decoder, "stored", False) and "position" not in state:
                state["position"] = own_decoder.get_buffer("position")
            load_strictly(own_decoder, state, f"{self.opened.source}, decoder")

    def new_decoder(self, decoder: str | None, objective: Objective, target: str | None) -> bool:
        """Where there is none of the same architecture, or it predicts something else."""
        own_decoder: Any = getattr(objective, "decoder", None)
        if decoder is None:
            return False
        if own_decoder is None or self._other_architecture(decoder, objective.encoder):
            return True
        of_pixels = self.opened.decoder and self.opened.weights.predictor is None
        predicted = self.opened.weights.target or (PIXELS if of_pixels else "")
        if target is not None and predicted != target and {_kind(predicted), _kind(target)} != {PIXELS}:
            return True
        shapes = [
            {key: value.shape for key, value in state.items() if key != "position"}
            for state in (self._decoder_state(objective.encoder), own_decoder.state_dict())
        ]
        return shapes[0] != shapes[1]

    def _other_architecture(self, decoder: str, encoder: Encoder) -> bool:
        opened, architecture = self.opened, essence(decoder)
        if opened.decoder is not None:
            return essence(opened.decoder_text(encoder.grid)) != architecture
        own, units = opened.weights.decoder_part, (opened.grid.unit, opened.channels)
        if own is None or opened.whole is None or "decoder.mask_token" not in opened.whole:
            return True
        return essence(own) != architecture or units != (encoder.grid.unit, encoder.channels)

    def _decoder_state(self, encoder: Encoder, bands: Sequence[str] | None = None) -> State:
        """The decoder's weights for an encoder, resized where they predict pixels."""
        if self.opened.decoder is not None:
            return self.opened.decoder_state(encoder.grid, encoder.channels, bands)
        return under(self.opened.whole or {}, "decoder.")


def _options_of(plan: Plan) -> Collection[str]:
    """Names of the options of a plan's method."""
    return inspect.signature(find("method", parse(plan.settings["method"])[0])).parameters


def _kind(target: str) -> str:
    """A target's name, the same for all that predict each pixel once."""
    name = parse(target)[0] if target else ""
    return PIXELS if name in (PIXELS, "frequency") else name

"""The starting weights of `--init`: none, or any that `weights/open.py` can open, and the settings that follow from
them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unmask.data.sheet import far_channels
from unmask.errors import UserError
from unmask.files import Json
from unmask.methods.settings import START
from unmask.models.decoder import essence
from unmask.models.ema import reset_teachers
from unmask.models.encoder import Encoder
from unmask.models.state import load_strictly
from unmask.planning.plan import Plan
from unmask.runs.config import Config
from unmask.training.objective import Objective
from unmask.weights.canonical import Statistics, under
from unmask.weights.open import Opened, open_weights
from unmask.weights.reading import Reading


class Start:
    """No weights: MAE's random initialisation is kept."""

    lines: Sequence[str] = ()  # description of the weights
    facts: Json | None = None  # for config.json

    def guide(self, plan: Plan, channels: int) -> None:
        """Sets the options that must fit the weights. channels: of the data."""

    def statistics(self, data: Statistics, plan: Plan) -> Statistics:
        """Mean and std of the run, given those of its data."""
        return data

    def load(self, objective: Objective, decoder: str | None, bands: Sequence[str] | None) -> None:
        """Loads the weights strictly. decoder: text of the objective's decoder; bands: names of the data's channels."""

    def new_decoder(self, decoder: str, encoder: Encoder) -> bool:
        """True if the encoder is trained but the decoder starts at random."""
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
        opened, bands = self.opened, plan.settings.get("bands")
        of = f"of {opened.source}"
        plan.choose("model", opened.model, of)
        plan.choose("image_size", list(opened.grid.size), of)
        plan.choose("patch_size", opened.grid.unit[0], of)
        if bands:
            plan.choose("channels", len(bands), "as named with --bands")
        elif opened.channels == channels or {opened.channels, channels} <= {1, 3}:
            plan.choose("channels", opened.channels, of)
        else:
            why = (
                f"bands of the data; the filters of {opened.channels} channels are averaged over them (or name --bands)"
            )
            plan.choose("channels", channels, why)
        own = opened.weights.decoder_part
        if opened.decoder is not None:
            size, patch = plan.settings["image_size"], plan.settings["patch_size"]
            text = opened.decoder_text(type(opened.grid)(tuple(side // patch for side in size), (patch, patch)))
            plan.choose("decoder", own if own and essence(own) == essence(text) else text, of)
        elif own is not None and opened.whole is not None:
            plan.choose("decoder", own, of)
        else:
            return
        raw, unknown = opened.weights.normalize is False, opened.weights.normalize is None
        why = "the usual one; the weights do not say what their decoder predicts" if unknown else f"of the decoder {of}"
        plan.choose("target", "pixels(normalize=False)" if raw else "pixels", why)

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

    def load(self, objective: Objective, decoder: str | None, bands: Sequence[str] | None) -> None:
        """Loads a run's whole objective if the new one has the same structure; otherwise the encoder, and the decoder
        if it fits."""
        whole, own, part = self.opened.whole, objective.state_dict(), self.opened.weights.decoder_part
        same = part is None or (
            decoder is not None and essence(part) == essence(decoder)
        )  # shapes alone are not enough
        if (
            whole is not None
            and same
            and {k: v.shape for k, v in whole.items()} == {k: v.shape for k, v in own.items()}
        ):
            statistics = ("encoder.mean", "encoder.std")  # those of the settings
            objective.load_state_dict(whole | {key: own[key] for key in statistics})
            return
        self.opened.put(objective.encoder, bands)
        reset_teachers(objective)
        if decoder is not None and not self.new_decoder(decoder, objective.encoder):
            encoder: Encoder = objective.encoder
            own_decoder: Any = getattr(objective, "decoder", None)
            if own_decoder is None:
                raise UserError(
                    f"{self.opened.source} brings a decoder, and {type(objective).__name__} has none; give the encoder"
                    " alone, such as --init RUN/encoder.safetensors"
                )
            if self.opened.decoder is None:
                assert whole is not None
                state = under(whole, "decoder.")
            else:
                state = self.opened.decoder_state(encoder.grid, encoder.channels, bands)
            if getattr(own_decoder, "stored", False) and "position" not in state:
                state["position"] = own_decoder.position
            load_strictly(own_decoder, state, f"{self.opened.source}, decoder")

    def new_decoder(self, decoder: str, encoder: Encoder) -> bool:
        opened, architecture = self.opened, essence(decoder)
        if opened.decoder is not None:
            return essence(opened.decoder_text(encoder.grid)) != architecture
        own, units = opened.weights.decoder_part, (opened.grid.unit, opened.channels)
        if own is None or opened.whole is None or "decoder.mask_token" not in opened.whole:
            return True
        return essence(own) != architecture or units != (encoder.grid.unit, encoder.channels)

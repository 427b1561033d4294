"""Tokenizers on the disk: those that a run made, and DALL-E's when its weights are given."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from unmask.errors import UserError, closest_place
from unmask.files import Json, parse_json, write_atomically
from unmask.models.encoder import create_encoder
from unmask.models.state import load_strictly, model_text
from unmask.models.tokenizer import Autoencoder, Tokenizer
from unmask.models.tokenizers.dalle import DallE
from unmask.registry import build
from unmask.weights.files import read_weights, require_finite

TOKENIZER = "tokenizer.safetensors"  # in the folder of a run that trained one
DALLE_LICENCE = "a modified MIT licence of OpenAI's"


@dataclass(frozen=True)
class OpenedTokenizer:
    tokenizer: Tokenizer  # in eval mode, on the CPU
    state: dict[str, Tensor]  # all of its tensors
    model: str  # what it is, as text
    layout: str
    licence: str | None


def save_tokenizer(tokenizer: Autoencoder, path: Path, licence: str | None) -> None:
    """Writes encoder, codebook and decoder, with what is needed to build them in the header. licence: of what it was
    learned from."""
    encoder, state = tokenizer.encoder, whole_state(tokenizer)
    facts: Json = {"tokenizer": tokenizer.text, "model": model_text(encoder), "licence": licence}
    facts |= {"image_size": list(encoder.input_size), "patch_size": encoder.grid.unit[0], "channels": encoder.channels}
    content = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(path, lambda part: save_file(content, part, metadata={"tokenizer": json.dumps(facts)}))


def whole_state(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Its tensors, its encoder's among them."""
    own = dict(tokenizer.state_dict())
    if isinstance(tokenizer, Autoencoder):
        own |= {f"encoder.{name}": value for name, value in tokenizer.encoder.state_dict().items()}
    return own


def open_tokenizer(source: str) -> OpenedTokenizer:
    """Opens the folder of a run that trained a tokenizer, a file of one, or a file of DALL-E's encoder.

    Raises UserError, one line, for what is none.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(f"{source}: there is no such file or folder{closest_place(path)}")
    file = path / TOKENIZER if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{source} has no {TOKENIZER}: only runs of the methods vqvae and vqkd make one (unmask pretrain DATA"
            f" --method vqvae --out {source}-tokenizer)"
        )
    state, header = read_weights(file)
    require_finite(state, source)
    if "tokenizer" in header:
        return _ours(state, parse_json(header["tokenizer"]), source)
    if "blocks.input.w" in state:
        return _dalle(state, source)
    shown = ", ".join(list(state)[:4])
    raise UserError(f"{source} holds no tokenizer that unmask knows (its tensors begin {shown}): it reads its own,"
                    " and the encoder of DALL-E")  # fmt: skip


def _ours(state: dict[str, Tensor], facts: Json, source: str) -> OpenedTokenizer:
    size = tuple(facts["image_size"])
    shape = {"patch_size": facts["patch_size"], "channels": facts["channels"]}
    encoder = create_encoder(facts["model"], image_size=size, **shape)
    tokenizer: Autoencoder = build("tokenizer", facts["tokenizer"], encoder=encoder)
    inside = {name.removeprefix("encoder."): v for name, v in state.items() if name.startswith("encoder.")}
    own = {name: value for name, value in state.items() if not name.startswith("encoder.")}
    load_strictly(encoder, inside, source)
    load_strictly(tokenizer, own, source)
    encoder.eval()
    return OpenedTokenizer(tokenizer.eval(), state, facts["tokenizer"], "unmask", facts.get("licence"))


def _dalle(state: dict[str, Tensor], source: str) -> OpenedTokenizer:
    """The published encoder: `torch.save(model.state_dict(), ...)` of its `encoder.pkl`, a whole pickled model that is
    not opened."""
    first, last = state["blocks.input.w"], state.get("blocks.output.conv.w")
    if last is None or first.ndim != 4:
        raise UserError(f"{source} begins like DALL-E's encoder and has no blocks.output.conv.w; is it complete?")
    depth = len({key.split(".")[2] for key in state if key.startswith("blocks.group_1.block_")})
    tokenizer = DallE(width=len(first), depth=depth, codes=len(last), channels=first.shape[1])
    renamed = {_renamed(name): value for name, value in state.items()}
    load_strictly(tokenizer, renamed, source)
    return OpenedTokenizer(tokenizer.eval(), state, tokenizer.text, "DALL-E's encoder", DALLE_LICENCE)


NAMES = (  # theirs -> ours
    (r"^blocks\.(input|output)\.(?:conv\.)?", r"\1."),
    (r"^blocks\.group_(\d+)\.block_(\d+)\.", lambda match: f"groups.{int(match[1]) - 1}.{int(match[2]) - 1}."),
    (r"\.id_path\.", ".skip."),
    (r"\.res_path\.conv_(\d+)\.", lambda match: f".convolutions.{int(match[1]) - 1}."),
    (r"\.w$", ".weight"),
    (r"\.b$", ".bias"),
)


def _renamed(name: str) -> str:
    for pattern, new in NAMES:
        name = re.sub(pattern, new, name)
    return name

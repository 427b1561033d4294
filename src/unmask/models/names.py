"""Names of timm's models, and the nearest to a wrong one, found without importing timm, which takes seconds.

timm registers a model by a decorator over a function of the same name; its sources are searched for these.
"""

import re
from collections.abc import Mapping
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from unmask.errors import UserError
from unmask.registry import find, names, parse

# Arguments by which timm would open other files or addresses; a name may come from a file
LOADING = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
USABLE = ("vision_transformer", "deit", "eva", "hiera")  # files of timm whose models can leave hidden patches out
REGISTERED = re.compile(r"^@register_model\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
SIZES = {"t": "tiny", "ti": "tiny", "s": "small", "m": "medium", "b": "base", "l": "large", "h": "huge", "g": "giant"}
FAMILIES = ("vit", "deit", "eva", "hiera", "dinov", "beit")  # words that sizes are glued to: vitb16, dinov2_vits14
CAN = (
    "timm's ViT, DeiT, DINOv2, SigLIP and CLIP towers (vit_*, deit*), EVA and DINOv3 (eva*, vit_*_dinov3); Hiera"
    " (hiera_*)"
)
EXAMPLES = "vit_tiny_patch16_224, vit_base_patch16_224, hiera_tiny_224"
NEAR = 0.6  # likeness of letters from which a name is worth suggesting


@cache
def timm_names() -> dict[str, str]:
    """Every model that timm registers -> the file that defines it; empty where timm's sources are not to be found."""
    spec = find_spec("timm")
    folders = spec.submodule_search_locations if spec else None
    files = sorted((Path(folders[0]) / "models").glob("*.py")) if folders else []
    return {name: file.stem for file in files for name in REGISTERED.findall(file.read_text(encoding="utf-8"))}


def require_values(model: str, options: Mapping[str, object]) -> None:
    """Raises UserError for an option of a timm model that is None: `timm.create_model` leaves such options out, so that
    the model's own value would count without a word."""
    if empty := [option for option, value in options.items() if value is None]:
        raise UserError(
            f"{model}: {empty[0]}=None does nothing, since timm leaves out what is None, and the model's own value"
            f" counts; leave {empty[0]} out, or give a value"
        )


def known_name(model: str) -> bool:
    """True for a model name that some encoder part accepts, with or without a tag and options."""
    return any(find("encoder", p).accepts(parse(model)[0]) for p in names("encoder"))


def usable_names() -> list[str]:
    """Models that encoders can be made of."""
    return [name for name, file in timm_names().items() if file in USABLE and not name.startswith("test_")]


def sees_wholes(model: str) -> bool:
    """True for a network whose only unit is the image: one of `encoders/maps.py`, by its text."""
    return model.partition("(")[0] == "maps"


def nearest_model(text: str) -> str | None:
    """The usable model that a name was probably meant to be: `ViT-B/16`, `vitb16` and `vit_base_patch_16` are
    vit_base_patch16_224. None where no family of usable models is named and the letters are not alike either."""
    name = re.split(r"[.(]", text.lower())[0]
    wanted = _words(name)
    if set(wanted) & {word for family in FAMILIES for word in _words(family)}:
        return max(sorted(usable_names(), key=lambda model: (len(model), model)), key=lambda model: _score(name, model))
    close = get_close_matches(name, timm_names(), n=1, cutoff=NEAR)
    return close[0] if close and timm_names()[close[0]] in USABLE else None


def require_model(text: str) -> None:
    """Raises UserError for a model that timm does not have, with the nearest, and for one that needs every patch. A
    dotted name may be a module of one's own, which is not looked at here."""
    name = parse(text)[0]
    base = name.split(".")[0]
    if timm_names().get(base, USABLE[0]) not in USABLE:
        raise UserError(
            f"{name} cannot be pretrained, with this or another method: its layers need the whole image (no place where"
            f" timm lets patches be dropped), and one kind of encoder serves all methods. Models that can: {CAN}"
        )
    if base in timm_names() or not timm_names() or ("." in name and not name.startswith("vit")):
        return
    if near := nearest_model(name):
        raise UserError(f"no model {name!r} in timm, did you mean {near!r}?")
    close = get_close_matches(name.lower(), timm_names(), n=1, cutoff=NEAR)
    other = f"; {close[0]}, the nearest, cannot be pretrained" if close else ""
    raise UserError(f"no model {name!r} in timm{other}. E.g. {EXAMPLES}")


def _score(name: str, candidate: str) -> float:
    """How well a known name answers: words in common, less those that only one of them has; then letters in common."""
    wanted, offered = _words(name), _words(candidate)
    common = sum(min(wanted.count(word), offered.count(word)) for word in set(wanted))
    extra = 0.3 * (len(offered) - common) + 0.5 * (len(wanted) - common)
    extra -= 0.1 * ("16" in offered) + 0.1 * ("224" in offered)  # the usual ones, where nothing else was said
    return common - extra + 0.5 * SequenceMatcher(None, name, candidate).ratio()


@cache
def _words(name: str) -> tuple[str, ...]:
    """`ViT-B/16` and `vit_base_patch16`: ("vit", "base", "16")."""
    words: list[str] = []
    for word in re.findall(r"[a-z]+|\d+", name.lower()):
        family = next((f for f in FAMILIES if word.startswith(f) and word[len(f) :] in ("", *SIZES)), None)
        parts = (family, word[len(family) :]) if family else (word,)
        words += [SIZES.get(part) or part for part in parts if part and part != "patch"]
    return tuple(words)

"""Licences of well-known weights, as published by their makers; printed whenever such weights are opened.

Where neither a name nor a model card tells, the layout of a file says whose weights it may hold, and so which licence
applies if it does.

The reference MAE code and weights are CC-BY-NC 4.0 by their repository. The hub's copies of the same models are tagged
apache-2.0, timm's cc-by-nc-4.0: whoever needs to know must ask the makers, so both are said.
"""

from collections.abc import Sequence
from pathlib import Path

from unmask.files import Json

NOT_COMMERCIAL = "CC-BY-NC 4.0, not for commercial use"
NOT_COMMERCIAL_RESEARCH = "FAIR Noncommercial Research License, not for commercial use"
APACHE = "Apache 2.0"
MIT = "MIT"
FAIR = f"{NOT_COMMERCIAL} (Meta's MAE weights)"
BOTH = (
    f"{FAIR}; the copies in the Hugging Face format are tagged apache-2.0, and their makers' repository says CC-BY-NC"
)
UNTRAINED = "random weights"  # the layout of a teacher that nobody trained
FAIR_FILES = ("mae_pretrain_vit_", "mae_visualize_vit_", "mae_finetuned_vit_")
FAIR_FOLDERS = ("vit-mae-base", "vit-mae-large", "vit-mae-huge")


def known_licence(name: str, stated: str | None = None) -> str | None:
    """The licence of weights by the name of their file, folder or model, else what is stated beside them, else None."""
    name = name.lower().rstrip("/").rsplit("/", 1)[-1]
    if name.startswith(FAIR_FILES):
        return f"{FAIR}, by the file's name"
    if name in FAIR_FOLDERS:
        return f"{BOTH}, by the folder's name"
    return stated


def by_layout(maker: str, licence: str) -> str:
    """What can be said of the licence of weights that their content alone tells. maker: e.g. "Meta's DINO"."""
    return f"{licence}, if these are {maker} weights, as their layout says; the file states no licence"


def stated_licence(folder: Path) -> str | None:
    """The licence that the model card of a folder states at its head, as in `license: apache-2.0`."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()[:40] if card.is_file() else []
    stated = next((line.partition(":")[2].strip() for line in lines if line.startswith("license:")), None)
    return f"{stated}, by its model card" if stated else None


def licence_of(teacher: Json) -> str:
    """The licence of a frozen teacher's weights, in words. teacher: as a run records it."""
    ours = {"unmask": "made by unmask, as its data allow", UNTRAINED: "none: nobody trained them"}
    return str(teacher["licence"] or ours.get(teacher["layout"], "unknown; ask whoever made them"))


def handed_on(licence: str | None, teachers: Sequence[Json]) -> str | None:
    """What a run's weights say of licences: that of the weights it started from, and those of its frozen teachers."""
    trained = [teacher for teacher in teachers if teacher["layout"] != UNTRAINED]
    stated = [f"{licence_of(t)}, of the teacher {Path(t['source']).name} that it learned from" for t in trained]
    return "; ".join([*([licence] if licence else []), *stated]) or None

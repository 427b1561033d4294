"""Commands that go on with what lies in their folder: whether they may."""

from pathlib import Path
from typing import Any

from unmask.errors import UserError


def refuse_other_settings(asked: dict[str, Any], then: dict[str, Any], chosen: dict[str, Any], out: Path) -> None:
    """A folder holds one run: what is asked now must be what was asked then, or what was chosen then."""

    def said(name: str) -> str:
        return f"{chosen.get(name)} (chosen)" if then.get(name) is None else str(then[name])

    differing = [
        f"  {name}: {said(name)} in the folder, {'chosen' if value is None else value} now"
        for name, value in asked.items()
        if name != "accumulate" and value != then.get(name) and value != chosen.get(name)
    ]
    if differing:
        raise UserError(
            f"{out} holds a run with other settings:\n" + "\n".join(differing) + "\n"
            "Give the same settings to continue it, or another folder with --out (--init RUN starts from its weights)."
        )


def absolute(place: str) -> str:
    """The same place named from the root, if it is there: so that it is the same from any folder."""
    local = Path(place).exists() or ("{" in place and ":" not in place)  # a brace range of shards
    return str(Path(place).resolve()) if place != "demo" and local else place

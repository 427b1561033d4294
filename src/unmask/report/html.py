"""Parts of self-contained pages: templates, images as data addresses, rows of the data sheet and of the plan."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from unmask.report.palette import PAGE


def sheet_rows(sheet: dict[str, Any]) -> list[tuple[str, str]]:
    """The data sheet's plain entries; lists of names are shown by their number."""
    rows = []
    for name, value in sheet.items():
        if isinstance(value, float):
            text = f"{value:.4g}"
        elif isinstance(value, list) and len(value) > 6:
            text = f"{len(value)} entries, see data_sheet.json"
        elif isinstance(value, dict):
            text = ", ".join(f"{k}: {_rounded(v)}" for k, v in list(value.items())[:8]) + (
                ", ..." if len(value) > 8 else ""
            )
        elif isinstance(value, list):
            text = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
        else:
            text = str(value)
        if text not in ("", "None"):
            rows.append((name.replace("_", " "), text))
    return rows


def _rounded(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


def plan_rows(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Setting, value, reason."""
    settings, reasons = config["settings"], config["reasons"]
    asked = config["asked"]

    def text(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    given = {name: "asked for" for name in ("data", "run", "on", "init") if asked.get(name)}
    return [(k, text(v), reasons.get(k) or given.get(k, "default")) for k, v in settings.items() if v is not None]


def image_address(source: Figure | Path) -> str | None:
    """An image as a data address, so that the page needs no other file."""
    if isinstance(source, Path):
        if not source.exists():
            return None
        content = source.read_bytes()
    else:
        buffer = BytesIO()
        source.savefig(buffer, format="png")
        content = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(content).decode()


def template(name: str) -> jinja2.Template:
    """A page beside this file; text is escaped, unknown names are errors."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["colours"] = PAGE
    return environment.get_template(name)

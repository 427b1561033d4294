"""The page of any run folder: pretraining has one, and each task brings its own `report.py`."""

from importlib import import_module
from pathlib import Path

from unmask.files import read_json
from unmask.report.training_page import write_training_page
from unmask.runs.run import CONFIG
from unmask.tasks.task import names


def write_report(out: Path) -> Path:
    """Writes `report.html` from what the folder holds so far; returns its path."""
    task = read_json(out / CONFIG).get("task")
    if task is None:
        return write_training_page(out)
    return import_module(f"unmask.tasks.{names()[task]}.report").write_page(out)

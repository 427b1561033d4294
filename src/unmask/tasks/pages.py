"""Writes the page of any run folder: pretraining has one, and each task has its own `report.py`."""

from pathlib import Path

from unmask.files import read_json
from unmask.runs.run import CONFIG
from unmask.runtime.progress import doing
from unmask.tasks.folders import task_module


def write_report(out: Path) -> Path:
    """Writes `report.html` from the current contents of the folder; returns its path."""
    doing("writing the report")
    task = read_json(out / CONFIG).get("task")
    if task is not None:
        return task_module(task, "report").write_page(out)
    from unmask.report.training_page import write_training_page  # brings Matplotlib, which training does without

    return write_training_page(out)

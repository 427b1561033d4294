"""The verb `predict`: finds out what was trained, and hands over to its lesson."""

from pathlib import Path
from typing import Any

from unmask import spec
from unmask.errors import UserError
from unmask.log import make_console
from unmask.run import TRAINED, Run, find_trained
from unmask.verbs.predict import Predict


def predicting(options: Predict) -> Any:
    """See `unmask.verbs.predict.predict`."""
    folder = find_trained(Path(options.run))
    task = Run(folder).config["task"]
    if options.threshold != Predict.threshold and task != "detect":
        raise UserError(f"--threshold is for detectors, and {folder} holds a {TRAINED[task]}: take it out")
    return spec.find(task, "unmask.lessons").predict(options, folder, make_console())

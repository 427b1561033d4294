"""The verb `predict`: finds out what was trained, and hands over to its lesson."""

from pathlib import Path
from typing import Any

from unmask import spec
from unmask.log import make_console
from unmask.run import Run, find_trained
from unmask.verbs.predict import Predict


def predicting(options: Predict) -> Any:
    """See `unmask.verbs.predict.predict`."""
    folder = find_trained(Path(options.run))
    lesson = spec.find(Run(folder).config["task"], "unmask.lessons")
    return lesson.predict(options, folder, make_console())

"""The verb `predict`: finds out what was trained, and hands over to its lesson."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.cli.options.predict import Predict
from unmask.cli.verb import verb
from unmask.errors import UserError
from unmask.runs.run import TRAINED, Run, find_trained
from unmask.tasks.task import find_task
from unmask.training.log import make_console

__all__ = ["predict"]
if TYPE_CHECKING:
    from unmask.models.classifier import Predictions


def predicting(options: Predict) -> Any:
    """See `unmask.cli.commands.predict.predict`."""
    folder = find_trained(Path(options.run))
    task = Run(folder).record["task"]
    if options.threshold != Predict.threshold and task != "detect":
        raise UserError(f"--threshold is for detectors, and {folder} holds a {TRAINED[task]}: take it out")
    return find_task(task).predict(options, folder, make_console())


@verb(Predict)
def predict(options: Predict) -> "Predictions":
    """Writes a table or a folder and returns what it holds. Bad images are named and left out, unless none is good.

    Raises UserError for what transfer did not make, DataError where no image can be read.
    """
    return predicting(options)

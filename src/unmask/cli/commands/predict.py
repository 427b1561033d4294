"""The command `predict`: opens a trained model and writes its task's predictions for images."""

from pathlib import Path
from typing import Any

from unmask.cli.continue_run import own, own_file
from unmask.cli.options.predict import Predict
from unmask.cli.outputs import choose_place, say_replaced
from unmask.cli.verb import verb
from unmask.data.modality import IMAGE
from unmask.errors import UserError
from unmask.files import CLASSIFY
from unmask.plain import texts
from unmask.runs.run import Run
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import doing, make_console
from unmask.tasks.classification.frozen import FrozenClassifier, open_frozen
from unmask.tasks.classification.zero_shot import classifier_of_words
from unmask.tasks.folders import model_noun
from unmask.tasks.open import find_trained, is_frozen_only, open_trained
from unmask.tasks.task import PredictOptions, find_task

__all__ = ["predict"]


@verb(Predict)
def predict(options: Predict) -> Any:
    """Writes predictions as a table or a folder and returns them. Bad images are named and left out, unless none is
    good.

    A run that nothing was trained from answers with the classifier on frozen features that `evaluate` kept. Raises
    UserError for a folder without either, DataError if no image can be read.
    """
    worded = bool(options.classes)
    frozen = worded or is_frozen_only(Path(options.run))
    folder = Path(options.run) if frozen else find_trained(Path(options.run))
    config = Run(folder).record | ({"task": CLASSIFY} if frozen else {})
    task = find_task(config["task"], config.get("modality", IMAGE))
    if options.threshold != Predict.threshold and not task.takes_threshold:
        noun = model_noun(config["task"])
        raise UserError(f"--threshold is for detectors, and {folder} holds a {noun}: take it out")
    name = task.predictions_place(None).name
    out = task.predictions_place(choose_place(folder, options.out, name))
    (own_file if out.suffix.lower() == ".csv" else own)(out, "predict", texts(options.images))
    here = machine(options.device, "32")  # the same on every machine, and equal to the model's own `predict`
    tune(here.device)
    console = make_console()
    say_replaced([out], console)
    doing("opening the model")
    if worded:
        model = classifier_of_words(folder, Run(folder).encoder(), texts(options.classes))
    else:
        model = open_frozen(folder) if frozen else open_trained(folder)
    model = model.to(here.device)
    if isinstance(model, FrozenClassifier):
        console.print(model.sentence(), soft_wrap=True, markup=False)
    settings = PredictOptions(texts(options.images), options.batch, options.threshold)
    return task.predict(model, config, settings, out, console)

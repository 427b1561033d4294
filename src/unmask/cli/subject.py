"""What commands judge images with: an encoder and its features, kept in an index; or the classifier that has it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console

from unmask.cli.continue_run import own
from unmask.cli.shared_options import IndexOptions, reading_of
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import each_once
from unmask.data.source import Source
from unmask.evaluation.best_features import choose_pooling
from unmask.files import CLASSIFY
from unmask.models.encoder import Encoder
from unmask.plain import Place
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import doing, make_say, tracked
from unmask.tasks.classification.classifier import ImageClassifier
from unmask.tasks.classification.finetune import answers
from unmask.tasks.open import load_encoder, open_classifier, task_of
from unmask.tasks.retrieval.index import Index, open_index_with_bar, say_bad


@dataclass(frozen=True)
class Subject:
    encoder: Encoder
    classifier: ImageClassifier | None  # where RUN is the folder of one
    device: str
    pooling: str  # of the features
    batch: int  # images at a time
    console: Console

    def index(self, folder: Path, source: Source) -> Index:
        """The features of all images of a source, of which bad ones are named and left out."""
        say = make_say(self.console)
        for remark in source.remarks:
            say(remark)
        own(folder, "index", flag="--index")
        index = open_index_with_bar(folder, self.encoder, source, self.pooling, self.batch, self.device, self.console)
        say_bad(index.bad, say)
        return index

    def answers(self, source: Source, numbers: list[int]) -> Float[np.ndarray, "n k"]:
        """The classifier's probabilities for some images of a source."""
        assert self.classifier is not None  # the caller has looked
        side = 4 * max(self.encoder.grid.size)
        samples = Samples(source, numbers, channels=self.encoder.channels, max_side=side)
        loader = each_once(samples, self.classifier.view, self.batch)
        batches = tracked(self.console, "asking the classifier", loader, len(loader))
        return answers(self.classifier, batches, self.device, None)


def open_subject(
    run: Place, options: IndexOptions, evaluator: str, console: Console, *, with_classifier: bool = False
) -> Subject:
    """The encoder of a run, or the classifier that its folder holds, with the features that are best for "knn" or
    "linear"; which these are is said."""
    device = machine(options.device, "32").device
    tune(device)
    doing("opening the encoder")
    reading = reading_of(options)
    is_classifier = with_classifier and not reading and task_of(Path(run)) == CLASSIFY
    classifier = open_classifier(Path(run)).to(device) if is_classifier else None
    encoder = classifier.encoder if classifier else load_encoder(run, **reading).to(device)
    pooling = choose_pooling(run, options.pooling, encoder, evaluator, make_say(console))
    return Subject(encoder, classifier, device, pooling, options.batch, console)

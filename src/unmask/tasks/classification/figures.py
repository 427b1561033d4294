"""A classifier's results as figures and words: confusion matrix, confident mistakes, one line."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from unmask.data.datasets.images import Samples
from unmask.data.modality import WholeWindow
from unmask.evaluation.one_class import one_class
from unmask.files import Json
from unmask.report.palette import BLUE, make_figure, save, style
from unmask.report.reconstruction import displayed, value_range
from unmask.report.words import cut_end, percent
from unmask.tasks.classification.classifier import Predictions
from unmask.tasks.classification.metrics import confident_mistakes

PREDICTIONS = "predictions_test.csv"
CONFUSION, MISTAKES, CLASSES = "confusion.png", "mistakes.png", "classes.png"
GALLERY = 24  # confident mistakes that are drawn
NAMED = 40  # classes up to which the matrix carries names and numbers


def draw_results(
    result: Json, predictions: Predictions, truth: np.ndarray, samples: Samples, out: Path, view: WholeWindow
) -> None:
    """Writes the images. truth: as `Samples.labels`, n or n k; view: of a sample, as it was judged."""
    draw_classes(result["per_class"], out / CLASSES)
    if "confusion" not in result:
        return
    draw_confusion(np.array(result["confusion"]), predictions.classes, out / CONFUSION)
    wrong = confident_mistakes(predictions.probabilities, truth, GALLERY)
    if wrong:
        draw_mistakes(wrong, truth, predictions, samples, out / MISTAKES, view)


def draw_confusion(matrix: np.ndarray, classes: list[str], path: Path) -> None:
    """True classes as rows, shares of each row in colour, counts as numbers. matrix: k k."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    number = len(classes)
    side = min(14.0, 2.6 + 0.42 * number)
    figure = make_figure(side + 1, side)
    axis = figure.subplots()
    drawn = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted class", ylabel="true class", title="Confusion on the test split, numbers of images")
    if number <= NAMED:
        axis.set_xticks(range(number), [cut_end(name, 24) for name in classes], rotation=45, ha="right", fontsize=8)
        axis.set_yticks(range(number), [cut_end(name, 24) for name in classes], fontsize=8)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if share[row, column] > 0.55 else "black"
                axis.annotate(f"{count:,}", (column, row), ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(drawn, ax=axis, shrink=0.7, label="share of the true class's images")
    save(figure, path)


def draw_mistakes(
    wrong: list[tuple[int, int, float]],
    truth: np.ndarray,
    predictions: Predictions,
    samples: Samples,
    path: Path,
    view: WholeWindow,
) -> None:
    """The most confident mistakes: mislabelled files show up here first."""
    columns = min(8, len(wrong))
    lines = -(-len(wrong) // columns)
    figure = make_figure(1.7 * columns, 2.15 * lines + 0.35)
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (place, answer, sure) in zip(axes.flat, wrong):
        sample = samples.image(place)
        image = samples.source.modality.shown(sample, view(sample))
        axis.imshow(displayed(image, *value_range(image)))
        said, true = predictions.classes[answer], predictions.classes[int(truth[place])]
        name = cut_end(Path(samples.names[place]).name, 22)
        axis.set_title(f"{cut_end(said, 20)} {sure:.0%}\ntrue: {cut_end(true, 18)}\n{name}", fontsize=7)
    figure.suptitle("The most confident mistakes: predicted class, true class, file", fontsize=9.5)
    save(figure, path)


def draw_classes(per_class: list[Json], path: Path) -> None:
    """One bar per class, the weakest first; at most 60."""
    key, title = ("recall", "recall") if "recall" in per_class[0] else ("auroc", "AUROC")
    entries = sorted((c for c in per_class if c[key] is not None), key=lambda c: c[key])[:60]
    if not entries:
        return
    figure = make_figure(7.5, 0.9 + 0.24 * len(entries))
    axis = figure.subplots()
    axis.barh(range(len(entries)), [100 * c[key] for c in entries], color=BLUE, height=0.72)
    axis.set_yticks(range(len(entries)), [f"{cut_end(c['name'], 24)} ({c['count']:,})" for c in entries], fontsize=8)
    for place, entry in enumerate(entries):
        axis.annotate(f"{100 * entry[key]:.0f}", (100 * entry[key], place), xytext=(3, 0), va="center", fontsize=7.5,
                      textcoords="offset points")  # fmt: skip
    axis.set(xlim=(0, 108), title=f"{title[0].upper()}{title[1:]} of each class, % (in brackets: test samples)")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.invert_yaxis()
    style(axis)
    save(figure, path)


def headline(result: Json, classes: list[str]) -> str:
    """The result in one line."""
    count = f"{result['count']:,} tested, {len(classes)} classes"
    if result["main"] == "auroc":
        area = "unknown" if result["auroc"] is None else f"{result['auroc']:.3f}"
        return f"AUROC {area} (mean over classes), exact match {_percent(result, 'exact_match')}; {count}."
    top5 = f", top-5 {100 * result['top5']:.1f} %" if "top5" in result else ""
    return one_class(result["confusion"], classes) + (
        f"Accuracy {_percent(result, 'accuracy')}{top5}, balanced {100 * result['balanced_accuracy']:.1f} %,"
        f" F1 {100 * result['f1']:.1f} %, calibration error {100 * result['calibration_error']:.1f} %; {count}."
    )


def _percent(result: Json, name: str) -> str:
    return percent(result[name], result["low"], result["high"])

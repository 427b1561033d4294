"""What was selected, as a table to fill in, a page to look at and one JSON file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unmask.data.source import Source
from unmask.errors import many
from unmask.files import Json, write_json, write_table
from unmask.studies.label_curve.forecast import Forecast
from unmask.studies.selection.candidates import LabelledImages
from unmask.studies.selection.pick import Pick
from unmask.tasks.retrieval.gallery import Cell, Line, draw_gallery, opened, write_page
from unmask.tasks.retrieval.index import Index
from unmask.tasks.retrieval.neighbours import nearest

TABLE, PNG, PAGE, RESULT = FILES = ("select.csv", "select.png", "select.html", "select.json")
SHOWN, ACROSS, MOST = 224, 6, 600  # pixels of an image of the page, images in a row, images on the page
FAR = 0.9  # distance between features of length 1 from which an image is called unlike


@dataclass(frozen=True)
class Chosen:
    """An image to label."""

    rank: int  # from 1
    path: str
    score: float
    reason: str
    distance: float  # to the nearest labelled or earlier chosen image, 0 to 2
    margin: float | None  # lead of the first class over the second; None without a classifier
    predicted: str  # the classifier's answer; empty without one
    nearest_labelled: str  # empty where nothing is labelled
    nearest_label: str
    similarity: float | None  # cosine of the features to it
    row: int = field(repr=False)  # in the index


@dataclass(frozen=True)
class Counts:
    images: int  # in the data
    bad: int
    labelled: int  # labelled images to compare with
    labelled_in_data: int  # images of the data that its own table labels
    copies_of_labelled: int


@dataclass(frozen=True)
class Selection:
    """What `unmask.select` returns."""

    out: Path
    by: str
    word: str  # what a sample is called
    chosen: list[Chosen]
    counts: Counts
    classifier: str  # what the margins are of, in words
    forecast: Forecast

    def sentences(self, wanted: int) -> list[str]:
        """What was done, and what to expect of the labels."""
        c = self.counts
        left_out = [
            text
            for number, text in (
                (c.labelled_in_data, f"{c.labelled_in_data:,} have a label"),
                (c.copies_of_labelled, f"{c.copies_of_labelled:,} are labelled ones or copies of such"),
                (c.bad, f"{c.bad:,} cannot be read"),
            )
            if number
        ]
        text = f"{many(len(self.chosen), self.word)} to label out of {c.images:,}"
        text += f" ({', '.join(left_out)})" if left_out else ""
        fewer = f"; {wanted:,} were wanted, but no more are left that are no near copies" if self.fewer(wanted) else ""
        return [f"{text}, by {self.by}{f' of {self.classifier}' if self.classifier else ''}{fewer}.", self.told()]

    def fewer(self, wanted: int) -> bool:
        return len(self.chosen) < wanted

    def told(self) -> str:
        return self.forecast.sentence()


def describe(
    picks: Sequence[Pick],
    pool: Index,
    source: Source,
    vectors: Float[np.ndarray, "n d"],  # of the pool, of length 1
    labelled: tuple[LabelledImages, Float[np.ndarray, "m d"]] | None,  # with their vectors
    answers: tuple[Sequence[str], Float[np.ndarray, "n k"]] | None,  # classes and probabilities of the pool
) -> list[Chosen]:
    """Picks with their names, reasons and the nearest labelled image."""
    rows = [pick.row for pick in picks]
    near = nearest(vectors[rows], labelled[1], 1) if labelled else None
    chosen = []
    for rank, pick in enumerate(picks, 1):
        first, doubt = "", ""
        if answers:
            order = np.argsort(-answers[1][pick.row], kind="stable")[:2]
            first = answers[0][int(order[0])]
            doubt = " or ".join(f"{answers[0][int(i)]} ({answers[1][pick.row, i]:.0%})" for i in order)
        at = int(near[1][rank - 1, 0]) if near else 0
        chosen.append(
            Chosen(
                rank=rank,
                path=source.items[pool.numbers[pick.row]].name,
                score=pick.score,
                reason="; ".join(text for text in (doubt, _distance_in_words(pick.distance, labelled is None)) if text),
                distance=pick.distance,
                margin=pick.margin,
                predicted=first,
                nearest_labelled=labelled[0].name(at) if labelled else "",
                nearest_label=labelled[0].label(at) if labelled else "",
                similarity=float(near[0][rank - 1, 0]) if near else None,
                row=pick.row,
            )
        )
    return chosen


def write_selection(selection: Selection, pool: Index, source: Source, wanted: int, settings: Json) -> None:
    """Writes the table, whose column `label` is empty and to be filled in, the pictures and the JSON file."""
    heading = ["path", "label", "rank", "score", "reason", "margin", "distance", "predicted"]
    heading += ["nearest_labelled", "nearest_label", "similarity"]
    rows = [
        [c.path, "", c.rank, f"{c.score:.6f}", c.reason, _number(c.margin), f"{c.distance:.4f}", c.predicted]
        + [c.nearest_labelled, c.nearest_label, _number(c.similarity)]
        for c in selection.chosen
    ]
    write_table(selection.out / TABLE, heading, rows)
    said = selection.sentences(wanted)
    shown = selection.chosen[:MOST]
    if len(shown) < len(selection.chosen):
        said.append(f"The first {MOST:,} are shown; {TABLE} has all.")
    lines = []
    for start in range(0, len(shown), ACROSS):
        group = shown[start : start + ACROSS]
        lines.append(Line(f"{group[0].rank} to {group[-1].rank}", [_cell(c, pool, source) for c in group]))
    draw_gallery(lines, selection.out / PNG, said[0])
    write_page(lines, selection.out / PAGE, f"{selection.word.capitalize()}s to label next", said)
    chosen = [{k: v for k, v in asdict(c).items() if k != "row"} for c in selection.chosen]
    facts = {"sentence": " ".join(said[:2]), "counts": asdict(selection.counts), "classifier": selection.classifier}
    forecast = asdict(selection.forecast) | {"sentence": selection.told()}
    write_json(selection.out / RESULT, facts | {"chosen": chosen, "forecast": forecast} | settings)


def _cell(chosen: Chosen, pool: Index, source: Source) -> Cell:
    image = pool.larger(chosen.row, source, SHOWN)
    near = f"nearest labelled: {chosen.nearest_label or chosen.nearest_labelled}" if chosen.nearest_labelled else ""
    words = (chosen.path, chosen.reason, near)
    return Cell(opened(image), tuple(word for word in words if word), f"{chosen.rank}.")


def _distance_in_words(distance: float, none_labelled: bool) -> str:
    if none_labelled and distance * distance >= 2 - 1e-9:
        return "unlike the others chosen"
    how = "unlike" if distance >= FAR else "some way from" if distance >= FAR / 2 else "near to"
    return f"{how} what is labelled or chosen before ({distance:.2f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

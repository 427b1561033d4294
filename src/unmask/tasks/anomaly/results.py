"""Results of `unmask anomaly apply`: verdicts on images, their accuracy where labels are known, files and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unmask.evaluation.intervals import wilson
from unmask.files import Json, write_table
from unmask.report import page
from unmask.report.page import image, note, section
from unmask.tasks.anomaly.conformal import Calibration
from unmask.tasks.anomaly.figures import MapOnImage, Scale, gallery, histogram
from unmask.tasks.anomaly.metrics import Auroc, of_images, of_pixels
from unmask.tasks.anomaly.model import VERDICTS, Anomalies, ImageMaps

RESULT, SCORES, PAGE = "results.json", "scores.csv", "report.html"
MEANING = (
    '"Promised" holds on average over draws of such images, if new normal ones are like them. Intervals are 95 %: of'
    " shares Wilson's, of areas by drawing test images again."
)
HIGHEST = "An image's score is the highest value of its map."
LEGEND = "The same colours mean the same in all images. White line: threshold of images; dotted: of pixels."


@dataclass(frozen=True)
class Share:
    """A share of images with Wilson's interval; 0 to 1."""

    share: float
    low: float
    high: float
    count: int  # images

    def __str__(self) -> str:
        share, low, high = (f"{100 * value:.1f}" for value in (self.share, self.low, self.high))
        return f"{share} % ({low} to {high}) of {self.count:,}"


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of one method; None where ground truth is missing."""

    false_alarms: Share | None = None  # of normal images
    found: Share | None = None  # of anomalous images
    images: Auroc | None = None
    pixels: Auroc | None = None
    pixel_false_alarms: float | None = None  # share of the pixels of normal images
    pixels_found: float | None = None  # share of a defect's pixels

    def to_json(self) -> Json:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class AnomalyResults(Anomalies):
    """Anomalies together with the images' ground truth."""

    labels: Int[np.ndarray, "n"]  # 0 normal, 1 anomalous, -1 unknown
    figures: dict[str, Accuracy]  # by method
    path: Path  # folder with all of this
    maps: list[Float[np.ndarray, "_ _"]] = field(default_factory=list)  # too large to be kept

    def drawing_order(self) -> list[int]:
        """Mistakes first, then the most anomalous."""
        order = np.argsort(-self.scores[self.method], kind="stable")
        wrong = {int(i) for i in order if self.labels[i] >= 0 and self.anomalous[i] != self.labels[i]}
        return [int(i) for i in order if int(i) in wrong] + [int(i) for i in order if int(i) not in wrong]

    def galleries(self) -> dict[str, list[int]]:
        """Title -> images, in the order to show them."""
        order = [int(i) for i in np.argsort(-self.scores[self.method], kind="stable")]
        return {
            "The most anomalous": order,
            "False alarms": [i for i in order if self.labels[i] == 0 and self.anomalous[i]],
            "Missed": [i for i in order[::-1] if self.labels[i] == 1 and not self.anomalous[i]],
        }

    def lines(self) -> list[str]:
        """The results in words."""
        flagged = f"{int(self.anomalous.sum()):,} of {len(self):,} images"
        lines = [f"{flagged} above the threshold of normal ones (method {self.method})."]
        for method, accuracy in self.figures.items():
            parts = []
            for words, area in (("AUROC of images", accuracy.images), ("of pixels", accuracy.pixels)):
                if area:
                    parts.append(f"{words} {area.auroc:.3f} ({area.low:.3f} to {area.high:.3f})")
            for words, share in (("anomalous ones found", accuracy.found), ("false alarms", accuracy.false_alarms)):
                if share:
                    parts.append(f"{words} {share}")
            if parts:
                lines.append(f"{method}: {', '.join(parts)}")
        return lines

    def to_json(self) -> Json:
        return {
            "method": self.method,
            "count": len(self),
            "anomalous": int(self.anomalous.sum()),
            "known": {"normal": int((self.labels == 0).sum()), "anomalous": int((self.labels == 1).sum())},
            "thresholds": self.thresholds,
            "figures": {method: accuracy.to_json() for method, accuracy in self.figures.items()},
            "lines": self.lines(),
        }


def measure(
    calibration: Calibration,
    scores: Float[np.ndarray, "n"],
    method: str,
    maps: Sequence[ImageMaps],
    labels: Int[np.ndarray, "n"],
    masks: Sequence[Bool[np.ndarray, "_ _"] | None],
) -> Accuracy:
    """The accuracy of a method, as far as there are labels and masks."""
    flagged, normal, anomalous = scores > calibration.image.threshold, labels == 0, labels == 1
    areas = of_images(scores, labels) if normal.any() and anomalous.any() else None
    accuracy = Accuracy(_share(flagged[normal]), _share(flagged[anomalous]), areas)
    pairs = [(map_.full(method).numpy(), mask) for map_, mask in zip(maps, masks) if mask is not None]
    if not any(mask.any() for _, mask in pairs):
        return accuracy
    pixels_of, truths = [pixels for pixels, _ in pairs], [mask for _, mask in pairs]
    above = [(pixels > calibration.pixel, mask) for pixels, mask in pairs]
    clean = [float(pixels.mean()) for pixels, mask in above if not mask.any()]
    hits = [float(pixels[mask].mean()) for pixels, mask in above if mask.any()]
    return Accuracy(
        accuracy.false_alarms,
        accuracy.found,
        areas,
        of_pixels(pixels_of, truths),
        float(np.mean(clean)) if clean else None,
        float(np.mean(hits)),
    )


def _share(flagged: Bool[np.ndarray, "n"]) -> Share | None:
    if not len(flagged):
        return None
    return Share(float(flagged.mean()), *wilson(int(flagged.sum()), len(flagged)), len(flagged))


def write_scores(results: AnomalyResults, maps: Sequence[ImageMaps], pixel: float, path: Path) -> None:
    """Columns: path, a score for each method, threshold and verdict, share of pixels above `pixel`, label if known."""
    method, verdicts, labelled = results.method, results.verdicts, bool((results.labels >= 0).any())
    heading = ["path", *results.scores, "method", "threshold", "verdict", "pixels_above", *["label"] * labelled]
    rows = []
    for row, name in enumerate(results.names):
        cells = [name, *(f"{scores[row]:.6g}" for scores in results.scores.values())]
        cells += [method, f"{results.thresholds[method]:.6g}", verdicts[row]]
        cells += [f"{float((maps[row].full(method) > pixel).float().mean()):.6f}"]
        rows.append(cells + [("", *VERDICTS)[results.labels[row] + 1]] * labelled)
    write_table(path, heading, rows)


def write_page(
    results: AnomalyResults,
    content: Mapping[str, Any],
    calibrations: Mapping[str, Calibration],
    galleries: Mapping[str, Sequence[MapOnImage]],
    held_out: Float[np.ndarray, "n"],
    scale: Scale,
) -> None:
    """held_out: scores of the held-out normal images, by the method whose verdict counts."""
    scores = results.scores[results.method]
    outlined = any(shown.mask is not None for images in galleries.values() for shown in images)
    legend = LEGEND + (" Blue: outline of the defect, where it is known." if outlined else "")
    first, *others = content["lines"]
    drawn = histogram(scores, results.labels, held_out, scale.threshold)
    page.write_page(
        results.path / PAGE,
        results.path.resolve().name,
        note(f"{content['count']:,} images judged by {content['settings']['model']} · verdict by {content['method']}"),
        page.verdict(first),
        *(note(line) for line in others),
        page.table(_rows(results, calibrations)),
        note(f"Thresholds come from {calibrations[results.method].image.count:,} held-out normal images. {MEANING}"),
        section("Scores", image(drawn, "histogram of scores"), note(HIGHEST)),
        *(
            section(title, image(gallery(images, scale), title), "" if number else note(legend))
            for number, (title, images) in enumerate(galleries.items())
        ),
        note(
            f"{content['drawn']:,} heat maps are in heatmaps/, all scores in scores.csv, all figures in results.json."
        ),
        kind="anomaly",
    )


def _rows(results: AnomalyResults, calibrations: Mapping[str, Calibration]) -> list[list[str]]:
    """Heading and a row per method, without columns that lack ground truth."""
    rows = [["method", "threshold", "promised", "false alarms seen", "anomalous found", "AUROC of images"]]
    rows[0] += ["AUROC of pixels"]
    for method, accuracy in results.figures.items():
        calibrated = calibrations[method].image
        row = [method, f"{calibrated.threshold:.4g}", f"at most {100 * calibrated.rate:.3g} %"]
        row += [str(share or "") for share in (accuracy.false_alarms, accuracy.found)]
        for area in (accuracy.images, accuracy.pixels):
            row.append(f"{area.auroc:.3f} ({area.low:.3f} to {area.high:.3f})" if area else "")
        rows.append(row)
    used = [i for i in range(len(rows[0])) if any(row[i] for row in rows[1:])]
    return [[row[i] for i in used] for row in rows]

"""The page of judged images: how many are anomalous, how right that is, the scores, galleries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.report import page
from unmask.report.page import image, note, section
from unmask.tasks.anomaly.figures import Scale, Seen, gallery, histogram
from unmask.tasks.anomaly.results import Spotted

RESULT, SCORES = "results.json", "scores.csv"
MEANING = (
    '"Promised" holds on average over draws of such images, if new normal ones are like them. Intervals are 95 %: of'
    " shares Wilson's, of areas by drawing test images again."
)
HIGHEST = "An image's score is the highest value of its map."
LEGEND = "The same colours mean the same in all images. White line: threshold of images; dotted: of pixels."


def write_page(
    spotted: Spotted,
    content: Mapping[str, Any],
    galleries: Mapping[str, Sequence[Seen]],
    held: np.ndarray,
    scale: Scale,
) -> Path:
    """held: scores of the held-out normal images, by the method whose verdict counts."""
    scores, name = spotted.scores[spotted.method], spotted.path.resolve().name
    first, *others = content["lines"]
    outlined = any(seen.mask is not None for images in galleries.values() for seen in images)
    legend = LEGEND + (" Blue: outline of the defect, where it is known." if outlined else "")
    held_out = content["promises"][content["method"]]["image"]["count"]
    drawn = histogram(scores, spotted.labels, held, scale.threshold)
    return page.write_page(
        spotted.path / "report.html",
        name,
        note(f"{content['count']:,} images judged by {content['settings']['model']} · verdict by {content['method']}"),
        page.verdict(first),
        *(note(line) for line in others),
        page.table(_rows(spotted, content["promises"])),
        note(f"Thresholds come from {held_out:,} held-out normal images. {MEANING}"),
        section(
            "Scores", image(drawn, "histogram of scores"), note("An image's score is the highest value of its map.")
        ),
        *(
            section(title, image(gallery(images, scale), title), "" if place else note(legend))
            for place, (title, images) in enumerate(galleries.items())
        ),
        note(
            f"{content['drawn']:,} heat maps are in heatmaps/, all scores in scores.csv, all figures in results.json."
        ),
        kind="anomaly",
    )


def _rows(spotted: Spotted, promises: Mapping[str, Any]) -> list[list[str]]:
    """Heading and a row per method; columns that nothing is known for are left out."""
    heading = ["method", "threshold", "promised", "false alarms seen", "anomalous found", "AUROC of images"]
    heading += ["AUROC of pixels"]
    rows = []
    for method, found in spotted.figures.items():
        image = promises[method]["image"]
        row = [method, f"{image['threshold']:.4g}", f"at most {100 * image['rate']:.3g} %"]
        for name in ("false_alarms", "found"):
            row.append(_share(found.get(name)))
        for name in ("images", "pixels"):
            one = found.get(name)
            row.append(f"{one['auroc']:.3f} ({one['low']:.3f} to {one['high']:.3f})" if one else "")
        rows.append(row)
    used = [i for i in range(len(heading)) if any(row[i] for row in rows)]
    return [[row[i] for i in used] for row in [heading, *rows]]


def _share(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    share, low, high = (f"{100 * found[name]:.1f}" for name in ("share", "low", "high"))
    return f"{share} % ({low} to {high}) of {found['count']:,}"

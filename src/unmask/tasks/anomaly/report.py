"""report.html of judged images: how many are anomalous, how right that is, the scores, galleries. Self-contained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask.files import write_atomically
from unmask.report.html import image_address, template
from unmask.tasks.anomaly.figures import Scale, Seen, gallery, histogram
from unmask.tasks.anomaly.results import Spotted

RESULT, SCORES = "results.json", "scores.csv"


def write_page(
    spotted: Spotted,
    content: Mapping[str, Any],
    galleries: Mapping[str, Sequence[Seen]],
    held: np.ndarray,
    scale: Scale,
) -> Path:
    """held: scores of the held-out normal images, by the method whose verdict counts."""
    scores = spotted.scores[spotted.method]
    page = template("anomaly.html.jinja").render(
        name=spotted.path.resolve().name,
        content=content,
        rows=_rows(spotted, content["promises"]),
        histogram=image_address(histogram(scores, spotted.labels, held, scale.threshold)),
        galleries={title: image_address(gallery(seen, scale)) for title, seen in galleries.items()},
        masks=any(one.mask is not None for seen in galleries.values() for one in seen),
    )
    path = spotted.path / "report.html"
    write_atomically(path, lambda part: part.write_text(page, encoding="utf-8"))
    return path


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

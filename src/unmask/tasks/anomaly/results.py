"""What `unmask anomaly apply` found: scores and verdicts of images, and how right they are where that is known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spotted:
    """Of n images, in the order given."""

    names: list[str]
    method: str  # whose verdict counts
    scores: dict[str, np.ndarray]  # method -> n
    thresholds: dict[str, float]  # method -> scores above it are anomalous
    labels: np.ndarray  # n: 0 normal, 1 anomalous, -1 unknown
    figures: dict[str, dict[str, Any]]  # method -> what is known of how right it is
    path: Path  # folder with all of this

    @property
    def anomalous(self) -> np.ndarray:
        """n, bool."""
        return self.scores[self.method] > self.thresholds[self.method]

    def __len__(self) -> int:
        return len(self.names)

    def worth_drawing(self) -> list[int]:
        """Mistakes first, then the most anomalous."""
        order = np.argsort(-self.scores[self.method], kind="stable")
        wrong = {int(i) for i in order if self.labels[i] >= 0 and self.anomalous[i] != self.labels[i]}
        return [int(i) for i in order if int(i) in wrong] + [int(i) for i in order if int(i) not in wrong]

    def galleries(self) -> dict[str, list[int]]:
        """Title -> places, in the order to show them."""
        score = self.scores[self.method]
        order = [int(i) for i in np.argsort(-score, kind="stable")]
        return {
            "The most anomalous": order,
            "False alarms": [i for i in order if self.labels[i] == 0 and self.anomalous[i]],
            "Missed": [i for i in order[::-1] if self.labels[i] == 1 and not self.anomalous[i]],
        }

    def lines(self) -> list[str]:
        """What can be said, for people."""
        flagged = int(self.anomalous.sum())
        lines = [f"{flagged:,} of {len(self):,} images are anomalous by {self.method}."]
        for method, found in self.figures.items():
            parts = []
            for name, words in (("images", "AUROC of images"), ("pixels", "of pixels")):
                if name in found:
                    f = found[name]
                    parts.append(f"{words} {f['auroc']:.3f} ({f['low']:.3f} to {f['high']:.3f})")
            for name, words in (("found", "anomalous ones found"), ("false_alarms", "false alarms")):
                if name in found:
                    f = found[name]
                    share, low, high = (f"{100 * f[key]:.1f}" for key in ("share", "low", "high"))
                    parts.append(f"{words} {share} % ({low} to {high}; {f['count']:,})")
            if parts:
                lines.append(f"{method}: {', '.join(parts)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "count": len(self),
            "anomalous": int(self.anomalous.sum()),
            "known": {"normal": int((self.labels == 0).sum()), "anomalous": int((self.labels == 1).sum())},
            "thresholds": self.thresholds,
            "figures": self.figures,
            "lines": self.lines(),
        }

"""Before and after: what continued pretraining changed, on the same images with the same masks.

With a new decoder, "before" is the end of its warm-up: until then the encoder has not changed, and a random decoder
would make any encoder look bad.
"""

import math
from pathlib import Path

import torch

from unmask.data.datasets.images import Images
from unmask.data.modality import make_modality
from unmask.files import Json, read_json, write_json
from unmask.masking.mask import Context, Mask
from unmask.report.reconstruction import PIXELS, draw, rows
from unmask.runs.config import Config
from unmask.seeds import mix
from unmask.training.objective import Objective, drawn_by

RESULT = "continued.json"
IMAGES, BATCH, SHOWN = 128, 32, 4


class Comparison:
    """Measures an objective twice and keeps both in `continued.json`."""

    def __init__(self, config: Config, objective: Objective, samples: Images, out: Path, device: torch.device):
        self.objective, self.samples, self.out, self.device = objective, samples, out, device
        self.view, self.seed = make_modality(config.data.modality).whole(config.data.image_size), config.training.seed
        self.warmup = config.method.decoder_warmup or 0

    def note(self, when: str, step: int, probe: dict[str, float]) -> None:
        """when: "before" or "after"; probe: accuracies measured at this step, if there is a probe."""
        path = self.out / RESULT
        content = read_json(path) | {when: {"step": step} | self._measure(when) | probe}
        content["images"] = min(IMAGES, len(self.samples))
        if "before" in content and "after" in content:
            content["sentence"] = sentence(content, self.warmup)
        write_json(path, content)

    @torch.no_grad()
    def _measure(self, when: str) -> dict[str, float]:
        model = drawn_by(self.objective)
        if model is None:
            return {}
        model.eval()
        count = min(IMAGES, len(self.samples))
        chosen = [i * len(self.samples) // count for i in range(count)]
        chance, total = torch.Generator().manual_seed(mix(self.seed, 0xBEF0)), 0.0
        batch = max(1, min(BATCH, PIXELS // math.prod(self.view.size)))
        for start in range(0, count, batch):
            part = chosen[start : start + batch]
            x = torch.stack([self.view(self.samples.image(i)).float() for i in part]).to(self.device)
            mask = model.mask.steady(
                len(x), model.encoder.grid_of(x), self.device, chance, model.with_gaps(x, Context())
            )
            total += float(model({"views": [x], "mask": mask})["loss"]) * len(part)
            if start == 0:
                titles = [Path(self.samples.names[i]).name for i in part[:SHOWN]]
                few = Mask(*(side[:SHOWN] for side in mask))
                draw(rows(model, x[:SHOWN], few, titles, true_statistics=True), self.out / f"panel_{when}.png")
        return {"loss": total / count}


def sentence(content: Json, warmup: int) -> str:
    """The change in one sentence, improvements and regressions alike."""
    before, after, parts = content["before"], content["after"], []
    if "loss" in before and "loss" in after:
        share = after["loss"] / before["loss"] - 1
        since = (
            f" (measured after the fresh decoder's {warmup} steps of warm-up, the encoder untouched)" if warmup else ""
        )
        parts.append(
            f"on the same {content['images']} images and masks the loss went from {before['loss']:.4f}{since} to"
            f" {after['loss']:.4f} ({share:+.1%})"
        )
    better = []
    for name in sorted(before):
        if name.startswith("probe_") and name in after:
            gain = after[name] - before[name]
            better.append(gain > 0)
            parts.append(
                f"{name.removeprefix('probe_')} accuracy from {before[name]:.1%} to {after[name]:.1%}"
                f" ({100 * gain:+.1f} points)"
            )
    if better:
        verdict = "Continuing helped" if all(better) else "Continuing helped by one measure and not by another"
        verdict = verdict if any(better) else "Continuing did not help the features"
    elif "loss" in before and "loss" in after:
        verdict = "Continuing helped the model to rebuild this data" if after["loss"] < before["loss"] else (
            "Continuing did not help the model to rebuild this data")  # fmt: skip
    else:
        verdict = "Continued"
    ask = "" if better else " Whether the features are better, only labels tell: --probe LABELLED."
    return f"{verdict}: {', '.join(parts)}.{ask}"

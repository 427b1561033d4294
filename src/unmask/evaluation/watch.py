"""Watches a run while it trains: frames of a filmstrip, the exported encoder, and the optional probe."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from unmask.data.datasets.images import Images
from unmask.data.modality import make_modality
from unmask.evaluation.before_after import Comparison
from unmask.evaluation.collapse import choose, feature_health
from unmask.masking.mask import Context, Mask
from unmask.report.reconstruction import draw, film_frame, hidden_pixels, rows, strip
from unmask.runs.config import Config
from unmask.runs.run import write_kept
from unmask.runtime.machine import autocast_dtype
from unmask.seeds import mix
from unmask.training.objective import Objective, Rebuilder, drawn_by

if TYPE_CHECKING:
    from unmask.evaluation.online_probe import Probe

FRAMES, IMAGES = 8, 6
FILM = "film"
CHEAP = 60  # images trained on for each that is looked at for collapse: a percent of the work; none in tiny runs


class Watch:
    """Called after every step; acts on some. It always draws the same images with the same masks."""

    def __init__(
        self,
        config: Config,
        objective: Objective,
        samples: Images,
        out: Path,
        device: torch.device,
        probe: "Probe | None" = None,
    ):
        training, steps = config.training, config.training.steps
        self.config, self.objective, self.out, self.device = config, objective, out, device
        self.modality = make_modality(config.data.modality)
        self.every = max(1, steps // FRAMES)
        self.first = {1, max(2, steps // 50)}  # early on, images change fastest
        self.probe_steps = 0
        if training.probe_every:
            self.probe_steps = max(1, round(training.probe_every * config.data.count / training.batch))
        count = min(IMAGES, len(samples))
        chosen = [i * len(samples) // count for i in range(count)]
        view = self.modality.whole(config.data.image_size)
        shown = [view(samples.image(i)).float() for i in chosen]
        self.images, self.titles = torch.stack(shown), [Path(samples.names[i]).name for i in chosen]
        self.mask: Mask | None = None
        self.samples = samples
        self.looked_at = choose(samples, self.every * training.batch // CHEAP)
        self.probe = probe
        continues = config.record.weights is not None
        self.comparison = Comparison(config, objective, samples, out, device) if continues else None

    def begin(self) -> None:
        """Called once, before the first step."""
        if self.comparison and not self.comparison.warmup:
            self._compare("before", 0)

    def _compare(self, when: str, step: int, seen: dict[str, float] | None = None) -> None:
        if self.comparison:
            self.comparison.note(when, step, seen or (self._probe() if self.probe_steps else {}))

    def due(self, step: int, steps: int) -> bool:
        """True if it acts after this step; the same in every process, though only the first one acts."""
        probes = bool(self.probe_steps) and step % self.probe_steps == 0
        compares = self.comparison is not None and step == self.comparison.warmup
        return step >= steps or step in self.first or step % self.every == 0 or probes or compares

    def __call__(self, step: int, steps: int) -> dict[str, float]:
        finished = step >= steps
        if step in self.first or step % self.every == 0 or finished:
            self._frame(step)
        health = {}
        if step % self.every == 0:
            self.export()
            if self.looked_at:
                shown = (self.samples, self.looked_at, self.config.data.image_size, self.device)
                health = feature_health(self.objective.kept, *shown)
        scores = self._probe() if self.probe_steps and (finished or step % self.probe_steps == 0) else {}
        if self.comparison and step == self.comparison.warmup:
            self._compare("before", step, scores)
        if finished:
            self._compare("after", step, scores)
        accuracies = [value for name, value in scores.items() if name.startswith("probe_")]
        return scores | health | ({"score": sum(accuracies) / len(accuracies)} if accuracies else {})

    def export(self) -> None:
        """Writes the current encoder."""
        write_kept(self.config, self.objective, self.out)

    @torch.no_grad()
    def panel(self) -> None:
        """Writes panel.png, if the method can reconstruct: with the masks that its sampler draws now."""
        if model := drawn_by(self.objective):
            x, _ = self._ready(model)
            mask = model.draw({"views": [x]}, self._chance())
            draw(rows(model, x, mask, self.titles, true_statistics=True), self.out / "panel.png")

    @torch.no_grad()
    def _frame(self, step: int) -> None:
        model = drawn_by(self.objective)
        if model is None:
            return
        x, mask = self._ready(model)
        folder = self.out / FILM
        if not (folder / "input.png").exists():
            strip(x, x, folder / "input.png", self.modality.text)
            grey = (
                torch.nan if self.modality.pictured or self.modality.lines else x.amin() + 0.62 * (x.amax() - x.amin())
            )
            masked = torch.where(hidden_pixels(model, mask), grey, x)
            strip(masked, x, folder / "masked.png", self.modality.text)
        film_frame(model, x, mask, folder / f"{step:08d}.png")

    def _ready(self, model: Rebuilder) -> tuple[torch.Tensor, Mask]:
        model.eval()
        x = self.images.to(self.device)
        if self.mask is None:  # drawn once, by chance alone, so that every frame and every resumed run has the same
            told = model.with_gaps(x, Context())
            steady: Mask = model.mask.steady(len(x), model.encoder.grid_of(x), self.device, self._chance(), told)
            self.mask = steady
        return x, self.mask

    def _chance(self) -> torch.Generator:
        """On the CPU, so that all devices draw the same."""
        return torch.Generator().manual_seed(mix(self.config.training.seed, 0xF11))

    def _probe(self) -> dict[str, float]:
        assert self.probe is not None  # made where probe_steps are
        autocast = autocast_dtype(self.config.runtime.precision)
        return self.probe(self.objective.kept, self.device, autocast)

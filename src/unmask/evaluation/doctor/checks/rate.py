"""A learning rate that was not scaled to the batch. Linear rule: Goyal et al. 2017; root: see `optim.peak_rate`."""

from unmask.evaluation.doctor.subject import Finding, Subject
from unmask.training.schedule import peak_rate

__all__ = ["rate"]
LINEAR = 1.5e-4 / 256  # MAE's rate per image of the batch, He et al. 2021, table 8
MOST = 4.0  # times what the rules say, up or down


def rate(subject: Subject) -> list[Finding]:
    """Between the two rules anything is right; far outside of both, the batch was forgotten."""
    subject.of_pretraining()
    lr, batch, width = subject.setting("lr"), subject.setting("batch"), _width(subject)
    linear, root = LINEAR * batch, peak_rate(batch, width)
    low, high = min(linear, root) / MOST, max(linear, root) * MOST
    if low <= lr <= high:
        return []
    usual = f"usual for it: {min(linear, root):.2g} to {max(linear, root):.2g}"
    what = f"the learning rate {lr:.2g} is far too {'low' if lr < low else 'high'} for a batch of {batch} ({usual})"
    return [Finding(what, f"give the rate per 256 images instead, which is scaled: --blr {root * 256 / batch:.2g}")]


def _width(subject: Subject) -> int:
    table = subject.opened.weights.encoder
    return next((v.shape[0] for k, v in table.items() if k.startswith("patch_embed") and k.endswith("weight")), 384)

"""Faults of training: its learning rate, warm-up, loss and data loading."""

from statistics import fmean, median

from unmask.data.modality import IMAGE
from unmask.data.settings import cheaper
from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.training.log import ENOUGH, ROLLED_BACK, little_learnt
from unmask.training.schedule import peak_rate

__all__ = ["rate", "steps", "trivial", "waiting", "warmup"]
LINEAR_RATE = 1.5e-4 / 256  # MAE's learning rate per image of the batch, He et al. 2021, table 8
RATE_FACTOR = 4.0  # factor beyond the rules, up or down
MANY_SPIKES = 0.01  # share of steps
TRIVIAL = {"data_mean": "the average of the data", "visible_mean": "the average of the visible patches"}
BETTER = 0.98  # of the trivial loss
LAST_RECORDS = 5  # over which the loss is averaged
MAX_WAITING = 0.10  # share of the time
MAX_WARMUP = 0.5  # of the run


def rate(subject: Subject) -> list[Finding]:
    """A learning rate far outside of the linear rule (Goyal et al. 2017) and the root rule (`schedule.peak_rate`).

    Any rate between the two rules is plausible; far outside of both, the rate was probably not scaled to the batch.
    """
    subject.of_pretraining()
    lr, batch, width = subject.setting("lr"), subject.setting("batch"), _width(subject)
    linear, root = LINEAR_RATE * batch, peak_rate(batch, width)
    low, high = min(linear, root) / RATE_FACTOR, max(linear, root) * RATE_FACTOR
    if low <= lr <= high:
        return []
    usual = f"usual for it: {min(linear, root):.2g} to {max(linear, root):.2g}"
    fault = f"the learning rate {lr:.2g} is far too {'low' if lr < low else 'high'} for a batch of {batch} ({usual})"
    return [Finding(fault, f"give the rate per 256 images instead, which is scaled: --blr {root * 256 / batch:.2g}")]


def _width(subject: Subject) -> int:
    table = subject.opened.weights.encoder
    if "patch_embed.part" in table:  # the filters of several parts lie side by side
        return table["patch_embed.part"].shape[1]
    return next((v.shape[0] for k, v in table.items() if k.startswith("patch_embed") and k.endswith("weight")), 384)


def steps(subject: Subject) -> list[Finding]:
    """Many updates skipped as spikes, or a run that was rolled back. Non-finite values belong to `numbers`."""
    records, last = subject.records, subject.steps[-1]["step"]
    spikes = sum(record.get("event") == "skipped" and record.get("why") == "spike" for record in records)
    back = [record for record in records if record.get("event") == ROLLED_BACK]
    findings = []
    if spikes > MANY_SPIKES * last:
        fault = f"{spikes:,} of {last:,} updates were left out because their loss was far above the recent ones"
        findings.append(
            Finding(fault, "if the data is as it should be, a lower --lr or --clip 1; if such losses are, --spike off")
        )
    if back:
        fault = f"the run went back {len(back)} times to an earlier state, last at step {back[-1]['from']}"
        findings.append(
            Finding(fault, "a lower --lr or --clip 1 keeps it stable; look at the batches named in metrics.jsonl")
        )
    return findings


def trivial(subject: Subject) -> list[Finding]:
    """A loss no better than predicting the average image or the average visible unit, measured on the run's data."""
    context = subject.of_pretraining().get("context") or {}
    levels = {words: context[name] for name, words in TRIVIAL.items() if name in context}
    losses = [record["loss"] for record in subject.steps if "loss" in record]
    if not levels or not losses:
        raise Unknown("the run has no losses of trivial predictors to compare with")
    words, level = min(levels.items(), key=lambda item: item[1])
    loss = fmean(losses[-LAST_RECORDS:])
    if loss < BETTER * level:
        explained = 1 - loss / context["data_mean"] if "data_mean" in context else 1.0
        return [] if explained >= ENOUGH else [Finding(*little_learnt(explained))]
    fault = f"the loss {loss:.3f} is no better than {words} ({level:.3f}): nothing is learned yet"
    return [
        Finding(fault, "train for longer, or try five times the --lr; look at data_sheet.json whether images are empty")
    ]


def waiting(subject: Subject) -> list[Finding]:
    """A run that waits for its data, judged on its second half, when caches are filled and workers started."""
    shares = [record["waiting"] for record in subject.steps if "waiting" in record]
    if not shares:
        raise Unknown("the run recorded no waiting times")
    share = median(shares[len(shares) // 2 :])
    if share <= MAX_WAITING:
        return []
    workers = subject.config["settings"].get("workers")
    settings = subject.config["settings"]
    modality = settings.get("modality") or IMAGE
    remedy = "pack the data once (unmask pack DATA OUT.pack) and train on the pack, or give more --workers"
    if modality != IMAGE:
        remedy = f"give more --workers; cheaper to read: {cheaper(modality, settings['image_size'])}"
    return [Finding(f"{share:.0%} of the time goes by waiting for data, with {workers} workers", remedy)]


def warmup(subject: Subject) -> list[Finding]:
    """A warm-up about as long as the run: the learning rate hardly reaches its peak."""
    epochs, batch = subject.setting("warmup"), subject.setting("batch")
    steps = subject.config["fit"]["steps"]
    long = epochs * subject.config["data"]["count"] / batch
    if long <= MAX_WARMUP * steps:
        return []
    return [
        Finding(
            f"the warm-up takes {long:,.0f} of {steps:,} steps",
            f"a twentieth is usual: --warmup {epochs * 0.05 * steps / long:.2g} epochs, or train for longer",
        )
    ]

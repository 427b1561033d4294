"""A loss no better than knowing nothing: what the average image, or the average of what is visible, would score."""

from statistics import fmean

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown

__all__ = ["trivial"]
NAMES = {"data_mean": "the average of the data", "visible_mean": "the average of the visible units"}
BETTER = 0.98  # of the trivial loss
LAST = 5  # records


def trivial(subject: Subject) -> list[Finding]:
    """Compares the last losses with the trivial predictors that were measured on the run's own data."""
    context = subject.of_pretraining().get("context") or {}
    known = {words: context[name] for name, words in NAMES.items() if name in context}
    losses = [record["loss"] for record in subject.steps if "loss" in record]
    if not known or not losses:
        raise Unknown("the run has no losses of trivial predictors to compare with")
    words, level = min(known.items(), key=lambda item: item[1])
    loss = fmean(losses[-LAST:])
    if loss < BETTER * level:
        return []
    what = f"the loss {loss:.3f} is no better than {words} ({level:.3f}): nothing is learned yet"
    return [
        Finding(what, "train for longer, or try five times the --lr; look at data_sheet.json whether images are empty")
    ]

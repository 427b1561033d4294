"""A warm-up as long as the run, or nearly: the learning rate never gets to where it should be."""

from unmask.evaluation.doctor.subject import Finding, Subject

__all__ = ["warmup"]
MOST = 0.5  # of the run


def warmup(subject: Subject) -> list[Finding]:
    """Compares the steps of both."""
    epochs, batch = subject.setting("warmup"), subject.setting("batch")
    steps = subject.config["fit"]["steps"]
    long = epochs * subject.config["data"]["count"] / batch
    if long <= MOST * steps:
        return []
    return [
        Finding(
            f"the warm-up takes {long:,.0f} of {steps:,} steps",
            f"a twentieth is usual: --warmup {epochs * 0.05 * steps / long:.2g} epochs, or train for longer",
        )
    ]

"""Steps that did not count: many left out, or a run that had to go back."""

from unmask.evaluation.doctor.subject import Finding, Subject
from unmask.training.log import ROLLED_BACK

__all__ = ["steps"]
MANY = 0.01  # share of steps


def steps(subject: Subject) -> list[Finding]:
    """Counts spikes that were left out, and times of going back. What is not finite is the business of `numbers`."""
    records, last = subject.records, subject.steps[-1]["step"]
    spikes = sum(record.get("event") == "skipped" and record.get("why") == "spike" for record in records)
    back = [record for record in records if record.get("event") == ROLLED_BACK]
    found = []
    if spikes > MANY * last:
        what = f"{spikes:,} of {last:,} updates were left out because their loss was far above the recent ones"
        found.append(
            Finding(what, "if the data is as it should be, a lower --lr or --clip 1; if such losses are, --spike off")
        )
    if back:
        what = f"the run went back {len(back)} times to an earlier state, last at step {back[-1]['from']}"
        found.append(
            Finding(what, "a lower --lr or --clip 1 keeps it stable; look at the batches named in metrics.jsonl")
        )
    return found

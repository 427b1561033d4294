"""Numbers that ran over: weights or gradients that are not finite, as from a precision with too small a range."""

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown

__all__ = ["numbers"]
MANY = 0.001  # share of steps


def numbers(subject: Subject) -> list[Finding]:
    """Weights of any origin, and a run's steps whose loss or gradient was not finite."""
    if subject.kind == "data":
        raise Unknown("it is data, without weights")
    found = []
    weights = subject.opened.weights
    state = subject.opened.whole or {**weights.encoder, **(weights.decoder or {})}
    broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        found.append(
            Finding(f"weights are not finite: {broken[0]}{more}", "go back to an earlier checkpoint of the run")
        )
    if subject.kind == "run":
        events = [r for r in subject.records if r.get("event") == "skipped" and r.get("why", "non-finite") != "spike"]
        last = subject.steps[-1]["step"]
        if len(events) > MANY * last:
            precision = subject.config["settings"].get("precision")
            remedy = "--precision 32" if precision != "32" else "a lower --lr, or --clip 1"
            what = (
                f"{len(events):,} of {last:,} steps had a loss or gradient that is not finite, in precision {precision}"
            )
            found.append(Finding(what, f"start again from its last good weights with --init and {remedy}"))
    return found

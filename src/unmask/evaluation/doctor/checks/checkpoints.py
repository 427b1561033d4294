"""Checkpoints that are not what was written."""

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.training.checkpoint import ASIDE, Damaged, verify

__all__ = ["checkpoints"]


def checkpoints(subject: Subject) -> list[Finding]:
    """Reads all of them and compares checksums; counts those that a run set aside."""
    if subject.kind != "run":
        raise Unknown("it is no run")
    paths = sorted(subject.path.glob("*.ckpt"))
    broken = [path.name for path in subject.path.glob(f"*{ASIDE}")]
    if not paths and not broken:
        raise Unknown("the run has not saved anything yet")
    for path in paths:
        try:
            verify(path)
        except Damaged as error:
            broken.append(f"{path.name} ({error})")
    if not broken:
        return []
    remedy = (
        "check the disk (smartctl, dmesg); the run goes on from the newest good one by itself; then delete the others"
    )
    return [Finding(f"damaged: {', '.join(broken)}", remedy)]

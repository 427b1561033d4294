"""A run that waits for its data: the device idles while images are read and decoded."""

from statistics import median

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown

__all__ = ["waiting"]
MOST = 0.10  # share of the time


def waiting(subject: Subject) -> list[Finding]:
    """Looks at the second half of the run, past caches that fill and processes that start."""
    shares = [record["waiting"] for record in subject.steps if "waiting" in record]
    if not shares:
        raise Unknown("the run recorded no waiting times; it was made by an older version")
    share = median(shares[len(shares) // 2 :])
    if share <= MOST:
        return []
    workers = subject.config["settings"].get("workers")
    remedy = "pack the data once (unmask pack DATA OUT.pack) and train on the pack, or give more --workers"
    return [Finding(f"{share:.0%} of the time goes by waiting for data, with {workers} workers", remedy)]

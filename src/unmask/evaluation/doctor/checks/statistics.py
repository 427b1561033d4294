"""Mean and std that are not those of the data: the network sees images too bright, too dark or too flat."""

from unmask.errors import UserError
from unmask.evaluation.doctor.subject import Finding, Subject, Unknown

__all__ = ["statistics"]
SHIFT, LEAST, MOST = 0.5, 0.5, 2.0  # in standard deviations of the data; and the ratio of the deviations


def statistics(subject: Subject) -> list[Finding]:
    """Compares what the weights are normalised with, with the data sheet."""
    if subject.kind == "data":
        raise Unknown("it is data, without weights")
    mean, std = subject.config.get("mean"), subject.config.get("std")
    if not mean or not std:
        encoder = subject.encoder
        mean, std = encoder.mean.tolist(), encoder.std.tolist()
    try:
        true_mean, true_std = subject.sheet.statistics(len(mean))
    except UserError as error:
        raise Unknown(str(error)) from error
    found = []
    for channel, (m, s, tm, ts) in enumerate(zip(mean, std, true_mean, true_std)):
        if ts > 0 and not (abs(m - tm) <= SHIFT * ts and LEAST <= s / ts <= MOST):
            found.append(f"channel {channel}: {m:.4g} +- {s:.4g}, the data has {tm:.4g} +- {ts:.4g}")
    if not found:
        return []
    remedy = "start a run without --init, which measures them; for weights, pass statistics=(mean, std) in raw units"
    return [Finding(f"mean and std are not the data's; {'; '.join(found[:3])}", remedy)]

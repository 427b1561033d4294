"""Faults of data: bad files, duplicates, statistics of other data."""

from collections import Counter

from unmask.errors import UserError
from unmask.evaluation.doctor.subject import Finding, Subject, Unknown

__all__ = ["duplicates", "files", "statistics"]
MANY_BAD = 0.01  # share of the images
FLAT = 0.01  # standard deviation / possible range, below which an image counts as empty
MANY_COPIES = 0.05  # share of the images
SHIFT, MIN_RATIO, MAX_RATIO = 0.5, 0.5, 2.0  # in standard deviations of the data; and the ratio of the deviations


def duplicates(subject: Subject) -> list[Finding]:
    """Exact copies: of test images in the training data, which inflate results, and of many images."""
    sheet = subject.sheet
    findings = []
    if sheet.test_in_train:
        fault = f"{sheet.test_in_train:,} val or test images are also in train"
        findings.append(Finding(fault, "take them out of train: results on them mean nothing"))
    if sheet.num_duplicates > MANY_COPIES * max(sheet.num_good, 1):
        example = f", e.g. {' and '.join(sheet.duplicates[0][:2])}" if sheet.duplicates else ""
        fault = f"{sheet.num_duplicates:,} of {sheet.num_good:,} images are exact copies of others{example}"
        findings.append(
            Finding(fault, "delete the copies, named in data_sheet.json: an epoch is smaller than it looks")
        )
    return findings


def files(subject: Subject) -> list[Finding]:
    """Files that cannot be decoded, and images without content."""
    sheet, findings = subject.sheet, []
    if len(sheet.bad) > MANY_BAD * sheet.checked:
        reason, count = Counter(reason for _, _, reason in sheet.bad).most_common(1)[0]
        fault = f"{len(sheet.bad):,} of {sheet.checked:,} files cannot be used ({count:,}: {reason})"
        findings.append(Finding(fault, "mend or delete them; bad_files.txt of a run lists all with their reasons"))
    low, high = sheet.value_range
    deviations = [value for channels in sheet.std.values() for value in channels]
    raw = sheet.word == "image" and not {"32", "64"} & set(sheet.bits)  # of up to 16 bits, which end at 255
    possible = 255.0 if raw else high - low
    if deviations and max(deviations) <= FLAT * max(possible, 1e-9):
        fault = f"values hardly differ (std {max(deviations):.3g} in a range of {low:g} to {high:g})"
        findings.append(Finding(fault, "look at some images: masks, blank pages, or values scaled to another range?"))
    return findings


def statistics(subject: Subject) -> list[Finding]:
    """A mean and std that do not fit the data: the network sees images too bright, too dark or too flat."""
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
    channels = []
    for channel, (m, s, tm, ts) in enumerate(zip(mean, std, true_mean, true_std)):
        if ts > 0 and not (abs(m - tm) <= SHIFT * ts and MIN_RATIO <= s / ts <= MAX_RATIO):
            channels.append(f"channel {channel}: {m:.4g} +- {s:.4g}, the data has {tm:.4g} +- {ts:.4g}")
    if not channels:
        return []
    remedy = "start a run without --init, which measures them; for weights, pass statistics=(mean, std) in raw units"
    return [Finding(f"mean and std are not the data's; {'; '.join(channels[:3])}", remedy)]

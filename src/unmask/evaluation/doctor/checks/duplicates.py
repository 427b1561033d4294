"""Copies: of test images in the training data, which make results too good, and of many images in general."""

from unmask.evaluation.doctor.subject import Finding, Subject

__all__ = ["duplicates"]
MANY = 0.05  # share of the images


def duplicates(subject: Subject) -> list[Finding]:
    """Exact copies by content, as the data sheet counts them."""
    sheet = subject.sheet
    found = []
    if sheet.test_in_train:
        what = f"{sheet.test_in_train:,} val or test images are also in train"
        found.append(Finding(what, "take them out of train: results on them mean nothing"))
    if sheet.num_duplicates > MANY * max(sheet.num_good, 1):
        example = f", e.g. {' and '.join(sheet.duplicates[0][:2])}" if sheet.duplicates else ""
        what = f"{sheet.num_duplicates:,} of {sheet.num_good:,} images are exact copies of others{example}"
        found.append(Finding(what, "delete the copies, named in data_sheet.json: an epoch is smaller than it looks"))
    return found

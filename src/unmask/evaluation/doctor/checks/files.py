"""Files that cannot be used, and data without content."""

from collections import Counter

from unmask.evaluation.doctor.subject import Finding, Subject

__all__ = ["files"]
MANY = 0.01  # share of the images
FLAT = 0.01  # standard deviation over the possible range, below which images hardly show anything


def files(subject: Subject) -> list[Finding]:
    """Counts what could not be decoded, and looks whether values differ at all."""
    sheet, found = subject.sheet, []
    if len(sheet.bad) > MANY * sheet.checked:
        reason, count = Counter(reason for _, _, reason in sheet.bad).most_common(1)[0]
        what = f"{len(sheet.bad):,} of {sheet.checked:,} files cannot be used ({count:,}: {reason})"
        found.append(Finding(what, "mend or delete them; bad_files.txt of a run lists all with their reasons"))
    low, high = sheet.value_range
    deviations = [value for channels in sheet.std.values() for value in channels]
    possible = high - low if "32" in sheet.bits or "64" in sheet.bits else 255.0  # up to 16 bits, raw units end there
    if deviations and max(deviations) <= FLAT * max(possible, 1e-9):
        what = f"values hardly differ (std {max(deviations):.3g} in a range of {low:g} to {high:g})"
        found.append(Finding(what, "look at some images: masks, blank pages, or values scaled to another range?"))
    return found

"""The page of an audit: the result in careful words, a figure and tables for each column, and how it was computed."""

from pathlib import Path

from markupsafe import Markup

from unmask.report.page import facts, folded, image, note, paragraph, section, table, verdict, write_page
from unmask.report.words import percent
from unmask.studies.auditing.figures import draw_column
from unmask.studies.auditing.measures import BINS, FALSE_ALARMS, NEIGHBOURS, SMALL
from unmask.studies.auditing.results import CAUTION, CORRECTION, Audit, ColumnAudit, rows

LEGEND = (
    "Dots are groups, with 95 % intervals; the grey line beside each is the same measure of all other images. Orange:"
    " differs from the rest, after the correction for many tests."
)
READING = (
    "A linear probe that reads the group from the features does not show that the classifier uses it; where group and"
    " label go together, it may read the label."
)


def write_audit(audit: Audit, path: Path) -> Path:
    """Writes the page, which needs no other file."""
    count = sum(len(group.measures) for column in audit.columns for group in column.groups)
    head = facts(
        [
            ("test images", f"{audit.count:,}"),
            ("accuracy of all", percent(audit.accuracy)),
            ("columns", str(len(audit.columns))),
            ("comparisons", str(count)),
        ]
    )
    columns = [_column(column) for column in audit.columns]
    judged = note(f"Judged: {audit.classifier}, on {', '.join(audit.settings.get('on', []))}.")
    return write_page(path, "Are groups treated alike?", verdict(_summary(audit)), head, judged, *columns, _method())


def _summary(audit: Audit) -> str:
    """The differences by name, or that there are none, and what neither says."""
    differing = [
        f"{column.column} {group.value} ({', '.join(names)})"
        for column in audit.columns
        for group in column.groups
        if (names := [measure.name for measure in group.measures if measure.differs])
    ]
    if differing:
        return f"The model treats these groups differently from the rest: {'; '.join(differing)}. {CAUTION}"
    return (
        "No group differs from the rest by more than chance would make. That is no proof that all are treated alike:"
        " small groups can hide a difference."
    )


def _column(column: ColumnAudit) -> Markup:
    lines = rows(column)
    return section(
        f"By {column.column}",
        paragraph(column.sentence()),
        image(draw_column(column), f"each measure of each group by {column.column}", LEGEND),
        note("In percent, with 95 % intervals; * differs from the rest."),
        table(lines, ("", "n")),
        folded("Every comparison, with p values", table(_comparisons(column), ("", "", "n"))),
        _data(column),
    )


def _comparisons(column: ColumnAudit) -> list[list[str]]:
    heading = [column.column, "measure", "group, %", "all others, %", "p", "adjusted p", "differs"]
    lines = [
        [
            group.value,
            m.name,
            percent(m.value, m.low, m.high, unit=""),
            percent(m.rest, unit=""),
            f"{m.p:.3f}",
            f"{m.adjusted:.3f}",
            "yes" if m.differs else "no",
        ]
        for group in column.groups
        for m in group.measures
    ]
    return [heading, *lines]


def _data(column: ColumnAudit) -> Markup:
    """What the data has to do with it: shares, association, and whether features tell the group."""
    names = list(dict.fromkeys(name for shares in column.shares.values() for name in shares))
    lines = [[column.column, *(f"of the {kind} images, %" for kind in column.shares)]]
    lines += [[name, *(f"{100 * s.get(name, 0.0):.1f}" for s in column.shares.values())] for name in names]
    told = [["", "value", "against"]]
    if column.association is not None and column.association_p is not None:
        p = f"chi-squared test: p {column.association_p:.3f}"
        told.append(
            ["group and label, Cramer's V (0: unrelated, 1: one tells the other)", f"{column.association:.2f}", p]
        )
    if column.reading is not None:
        r = column.reading
        against = f"always the commonest: {percent(r.commonest)}"
        told.append(["group read from the features by a linear probe", percent(r.accuracy, r.low, r.high), against])
    return Markup("\n").join(
        block
        for block in (
            Markup("<h3>Did the data?</h3>"),
            table(lines, ("", "n")),
            table(told, ("", "n", "why")) if len(told) > 1 else Markup(""),
            note(READING) if column.reading is not None else Markup(""),
        )
        if block
    )


def _method() -> Markup:
    return section(
        "How this was computed",
        note(
            "Accuracy has Wilson's interval, the other measures a bootstrap over the images of the group. Calibration"
            f" error: in {BINS} bins of confidence. Retrieval: of the {NEIGHBOURS} nearest other test images the share"
            " with the same label. Under corruption: as unmask stress tested the same images, where it did."
        ),
        note(
            "Every group is set against all other images by a permutation test. Correction for many tests:"
            f" {CORRECTION}; what is {FALSE_ALARMS:g} or less after that is called a difference, so that about one in"
            f" {round(1 / FALSE_ALARMS)} of those is a false alarm. Groups of fewer than {SMALL} images are marked as"
            " few."
        ),
    )

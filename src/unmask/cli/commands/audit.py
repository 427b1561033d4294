"""The command `audit`: index the labelled images, ask the model, compare its groups, count those of the data, write."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from unmask.cli.continue_run import own
from unmask.cli.options.audit import Audit as AuditOptions
from unmask.cli.outputs import below, choose_place, require_folder, say_replaced
from unmask.cli.subject import Subject, open_subject
from unmask.cli.verb import verb
from unmask.data.datasets.draws import hold_out
from unmask.data.source import Source, open_source
from unmask.errors import DataError, UserError, closest
from unmask.files import read_json, write_json, write_table
from unmask.models.state import weights_hash
from unmask.plain import plain, texts
from unmask.runs.run import CONFIG
from unmask.runtime.progress import doing, make_console, make_say
from unmask.studies.auditing.columns import choose_columns, group_columns
from unmask.studies.auditing.measures import GroupAudit, Left, adjust, answered, judge_groups
from unmask.studies.auditing.page import write_audit
from unmask.studies.auditing.results import Audit, ColumnAudit, association, read_groups, rows, shares_of
from unmask.studies.label_curve.forecast import penalty
from unmask.studies.robustness.by_image import read_shares
from unmask.studies.robustness.results import table
from unmask.tasks.classification.classifier import ImageClassifier
from unmask.tasks.retrieval.index import index_folder
from unmask.tasks.retrieval.neighbours import Scale

__all__ = ["audit"]
RESULT, TABLE, PAGE = FILES = ("audit.json", "audit.csv", "audit.html")


@dataclass(frozen=True)
class _Images:
    """The labelled images."""

    source: Source
    numbers: list[int]  # in the source
    features: Float[np.ndarray, "n d"]
    labels: list[str]
    is_test: Bool[np.ndarray, "n"]
    columns: list[dict[str, str]]

    def values(self, column: str, mask: Bool[np.ndarray, "n"]) -> list[str]:
        return [row.get(column, "") for row, is_in in zip(self.columns, mask) if is_in]


@verb(AuditOptions)
def audit(options: AuditOptions) -> Audit:
    """Writes audit.html, audit.json and audit.csv into OUT and returns what they hold.

    Raises UserError for a table or a column that does not exist, a table that names an image twice or one that is not
    there, and a column that has fewer than two groups of two test images; DataError for data without labels.
    """
    console, out = make_console(), require_folder(choose_place(options.run, options.out, "audit"))
    own(out, "audit", texts(options.on))
    say, run = make_say(console), Path(options.run)
    subject = open_subject(run, options, "linear", console, with_classifier=True)
    source = open_source(texts(options.on), subject.encoder.modality)
    columns, unlabelled = _columns(source, options)
    shared = below(run) / "audit" if options.out is None else out
    index = subject.index(index_folder(options.index, run, shared, texts(options.on), subject.pooling), source)
    images = _labelled(source, index.numbers, index.features, columns, subject.classifier, options)
    names = choose_columns(_test_columns(images), [text for text in texts(options.groups) if not _is_table(text)])
    if not names:
        raise UserError(
            "no column makes groups of the test images: give --groups a table with the columns path and, e.g., site, or"
            " add such columns to labels.csv (2 to 20 different values; more, if they are named)"
        )
    say_replaced([out / file for file in FILES], console)
    out.mkdir(parents=True, exist_ok=True)
    result = _judged(images, names, unlabelled, subject, options)
    _write(result, out)
    for column in result.columns:
        console.print(table(f"{column.column}, in percent; * differs from the rest", rows(column)))
    say(result.sentence())
    say(f"Written: {', '.join(str(out / file) for file in FILES)}")
    return result


def _test_columns(images: _Images) -> list[dict[str, str]]:
    """The columns of the test images."""
    return [row for row, is_in in zip(images.columns, images.is_test) if is_in]


def _labelled(
    source: Source,
    numbers: list[int],
    features: Float[np.ndarray, "n d"],
    columns: list[dict[str, str]],
    model: ImageClassifier | None,
    options: AuditOptions,
) -> _Images:
    """The readable images with one label each. Without a test split val is judged on; without either a quarter is held
    out, or every image where a classifier did not learn from them."""
    if source.multi_label:
        raise UserError(f"{source.where} has several labels per image; audits are for one")
    kept = [row for row, number in enumerate(numbers) if source.items[number].label is not None]
    if not kept:
        raise DataError(f"no image in {source.where} has a label: use class folders, or a labels.csv")
    items = [source.items[numbers[row]] for row in kept]
    labels, splits = [item.label or "" for item in items], [item.split for item in items]
    test = next((split for split in ("test", "val") if split in splits), None)
    if test:
        is_test = np.array([split == test for split in splits])
    elif model is None:
        is_test = np.zeros(len(labels), bool)
        is_test[hold_out(np.unique(labels, return_inverse=True)[1], 0.25, options.seed)[1]] = True
    else:
        learnt = read_json(Path(options.run) / CONFIG).get("asked", {}).get("on", [])
        if {str(Path(place).resolve()) for place in learnt} & {str(Path(p).resolve()) for p in texts(options.on)}:
            raise UserError(
                f"{source.where} has no test split, and {options.run} learnt from it: name other images, or divide them"
                " into folders train and test"
            )
        is_test = np.ones(len(labels), bool)
    own_columns = [columns[numbers[row]] for row in kept]
    return _Images(source, [numbers[row] for row in kept], features[kept], labels, is_test, own_columns)


def _judged(
    images: _Images,
    names: list[str],
    unlabelled: list[dict[str, str]],
    subject: Subject,
    options: AuditOptions,
) -> Audit:
    model = subject.classifier
    classes, probabilities = _asked(images, subject)
    truth = np.array([classes.index(label) for label, test in zip(images.labels, images.is_test) if test])
    vectors = Scale(images.features)(images.features)
    tested = [images.source.items[n].name for n, test in zip(images.numbers, images.is_test) if test]
    corrupted = read_shares(Path(options.run), weights_hash(model), tested) if model else None
    given = answered(probabilities, truth, vectors[images.is_test], corrupted)
    doing("comparing groups")
    judged = [judge_groups(images.values(name, images.is_test), given, name, options.seed) for name in names]
    groups = adjust([groups for groups, _ in judged])
    columns = [_column(images, name, group, left, unlabelled) for name, group, (_, left) in zip(names, groups, judged)]
    name = Path(options.run).name
    who = f"the classifier {name}" if model else f"a linear classifier on frozen features of {name}"
    return Audit(len(truth), float(given.right.mean()), who, columns, plain(options))


def _asked(images: _Images, subject: Subject) -> tuple[list[str], Float[np.ndarray, "n k"]]:
    """Classes and probabilities of the test images."""
    told = sorted({label for label, test in zip(images.labels, images.is_test) if test})
    if subject.classifier is None:
        learnt = [label for label, test in zip(images.labels, images.is_test) if not test]
        classes = sorted(set(learnt))
        if len(classes) < 2:
            raise DataError(f"{images.source.where} has {len(classes)} classes to learn; audits take two or more")
        y = np.array([classes.index(label) for label in learnt])
        x = images.features[~images.is_test]
        probabilities = penalty(x, y).fit_probabilities(x, y, images.features[images.is_test])[1]
    else:
        numbers = [number for number, test in zip(images.numbers, images.is_test) if test]
        classes, probabilities = subject.classifier.classes, subject.answers(images.source, numbers)
    if foreign := [label for label in told if label not in classes]:
        raise UserError(
            f"test images are of a class that was not learnt: {', '.join(foreign[:5])}{closest(foreign[0], classes)}"
        )
    return list(classes), probabilities


def _is_table(text: str) -> bool:
    return text.lower().endswith((".csv", ".tsv"))


def _columns(source: Source, options: AuditOptions) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The columns of the labelled images, and of the unlabelled ones, where they are named."""
    tables = [Path(text) for text in texts(options.groups) if _is_table(text)]
    if not options.unlabelled:
        return group_columns(source, tables), []
    unlabelled = open_source(texts(options.unlabelled), source.modality.text)
    return group_columns(source, tables, [unlabelled]), group_columns(unlabelled, tables, [source])


def _column(
    images: _Images, name: str, groups: list[GroupAudit], left: list[Left], counted: list[dict[str, str]]
) -> ColumnAudit:
    learnt, tested = images.values(name, ~images.is_test), images.values(name, images.is_test)
    unlabelled = [row.get(name, "") for row in counted]
    cramer, p = association(learnt + tested, _in_order(images.labels, images.is_test))
    train, test = (images.features[~images.is_test], learnt), (images.features[images.is_test], tested)
    return ColumnAudit(
        column=name,
        groups=groups,
        left_out=left,
        unknown=sum(not value for value in tested),
        shares=shares_of({"labelled": learnt, "test": tested, "unlabelled": unlabelled}),
        association=cramer,
        association_p=p,
        reading=read_groups(train, test),
    )


def _in_order(labels: list[str], is_test: Bool[np.ndarray, "n"]) -> list[str]:
    """Labels of what was learnt from, then those of the test images."""
    pairs = list(zip(labels, is_test))
    return [label for label, test in pairs if not test] + [label for label, test in pairs if test]


def _write(result: Audit, out: Path) -> None:
    write_json(out / RESULT, result.to_json())
    heading = ["column", "group", "images", "measure", "value", "low", "high", "rest", "p", "adjusted_p", "differs"]
    lines = [
        [column.column, group.value, group.count, m.name, m.value, m.low, m.high, m.rest, m.p, m.adjusted, m.differs]
        for column in result.columns
        for group in column.groups
        for m in group.measures
    ]
    write_table(out / TABLE, heading, lines)
    write_audit(result, out / PAGE)

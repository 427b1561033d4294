"""Pages made of blocks, numbers in words, and colours from one palette."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import unmask
from unmask.report import page
from unmask.report.palette import BLUE, SERIES, rgb, training_curves
from unmask.report.run_page import plan_rows, sheet_rows
from unmask.report.words import cut_end, cut_start, percent, points

VOID = {"meta", "img", "br"}


class Balanced(HTMLParser):
    """Every element that is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_of_every_kind_of_block_is_sound_and_text_is_escaped(tmp_path):
    evil = "<i>&"
    blocks = [
        page.note(evil),
        page.verdict(evil),
        page.facts([(evil, evil)]),
        page.image("data:image/png;base64,", evil, evil),
        page.table([[evil, evil], [evil, evil]], ("", "n"), marked="<i>"),
        page.folded(evil, page.code(evil)),
        page.gallery([("data:image/png;base64,", [evil], evil)]),
    ]
    path = page.write_page(tmp_path / "page.html", evil, page.section(evil, *blocks), kind="test")
    text = path.read_text(encoding="utf-8")
    parsed = Balanced(text)
    assert parsed.open == []
    assert {"h1", "h2", "table", "details", "figure", "img", "pre"} <= set(parsed.tags)
    assert evil not in text
    assert text.count("&lt;i&gt;&amp;") == 18  # in the browser's title too
    assert '<tr class="us"><td>' in text
    assert BLUE in text.split("</style>")[0]


def test_a_section_without_content_leaves_no_heading():
    assert page.section("Images", page.image(None, "none"), page.table([]), page.note("")) == ""
    assert page.folded("As a table", page.table([])) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.8127), "81.3 %"),
        (percent(0.8127, 0.79, 0.83), "81.3 % (79.0-83.0)"),
        (percent(0.8127, 0.79, 0.83, unit=""), "81.3 (79.0-83.0)"),
        (points(0.031, -0.01, 0.052), "+3.1 points, -1.0 to +5.2"),
        (cut_start("folder/image.png", 8), "…age.png"),
        (cut_end("a long class", 7), "a long…"),
        (cut_end("short", 5), "short"),
    ],
)
def test_numbers_and_names_are_written_for_people(text, expected):
    assert text == expected


def test_training_curves_leave_out_what_no_record_has():
    records = [{"step": i, "epoch": i, "loss": 1 / i} for i in (1, 2)] + [{"step": 2, "val_map": 0.5}]
    figure = training_curves(records, {"loss": "all", "masks": "masks"}, {"val_map": "mAP"}, "losses", "scores", 100)
    assert [[line.get_label() for line in axis.lines] for axis in figure.axes] == [["all"], ["mAP"]]
    assert figure.axes[1].lines[0].get_ydata().tolist() == [50]
    assert len(training_curves(records[:2], {"loss": "loss"}, {"val_map": "mAP"}, "losses", "scores").axes) == 1
    assert training_curves([], {"loss": "loss"}, {}, "losses", "scores") is None


def test_colours_come_from_the_palette():
    assert rgb(BLUE) == (0, 114, 178)
    assert len(set(SERIES)) == len(SERIES)
    root = Path(unmask.__file__).parent
    many = {"tasks/retrieval/atlas.py"}  # twenty colours for twenty classes of a map
    written = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"[\"']#[0-9A-Fa-f]{6}[\"']", path.read_text(encoding="utf-8"))
    }
    assert written - many == {"report/palette.py"}


def test_a_data_sheet_speaks_in_words_with_units():
    sheet = {
        "where": "photos/",
        "min_size": [40, 50],
        "mean": {"1": [125.0], "3": [140.56, 119.1, 114.0]},
        "new_name": 1,
    }
    assert sheet_rows(sheet) == [
        ("data", "photos/"),
        ("smallest height and width, pixels", "40, 50"),
        ("mean", "as 1 channel: 125; as 3 channels: 140.6, 119.1, 114"),
        ("new name", "1"),
    ]


@pytest.mark.parametrize(("init", "why"), [("none", "default"), ("weights.pth", "asked for")])
def test_only_what_was_given_is_called_asked_for(init, why):
    config = {"settings": {"init": init, "seed": 0}, "reasons": {}, "asked": {"init": init, "seed": 0}}
    assert plan_rows(config) == [("init", init, why), ("seed", "0", "default")]

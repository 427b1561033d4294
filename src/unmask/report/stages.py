"""The section of a run's page on the trainings that came before it, or on the run that it is a stage of."""

from pathlib import Path

from markupsafe import Markup

from unmask.files import REPORT, STAGE, STAGES, Json, read_json
from unmask.report.page import note, section
from unmask.runs.run import SUMMARY
from unmask.training.log import METRICS, duration, read


def stages_section(out: Path) -> Markup:
    """Links the pages of the stages of a run, with what each is for and took; or says of what run it is a stage."""
    own = read_json(out / STAGE)
    if own:
        text = Markup('Training {} of {} of <a href="../../{}">a run</a>: {}.{}').format(
            own["number"], own["of"], REPORT, own["says"], _reused(own)
        )
        return note(text)
    paths = sorted((out / STAGES).glob(f"*/{STAGE}"), key=lambda path: read_json(path)["number"])
    items = [Markup("<li>{}</li>").format(_line(path.parent)) for path in paths]
    if not items:
        return Markup("")
    return section("Before this training", Markup("<ol>{}</ol>").format(Markup("").join(items)))


def _line(folder: Path) -> Markup:
    stage, summary = read_json(folder / STAGE), read_json(folder / SUMMARY)
    link = Markup('<a href="{0}/{1}/{2}">{3}</a>').format(STAGES, folder.name, REPORT, stage["method"])
    took = "not finished"
    if summary:
        losses = [record["loss"] for record in read(folder / METRICS) if "loss" in record]
        took = f"{summary['steps']:,} steps in {duration(summary['seconds'])}"
        took += f", loss {losses[-1]:.4f}" if losses else ""
    return Markup("{}: {}; {:.0%} of the budget, {}.{}").format(
        link, stage["says"], stage["share"], took, _reused(stage)
    )


def _reused(stage: Json) -> str:
    return f" Made before by another run, and used again: {stage['reused']}." if stage.get("reused") else ""

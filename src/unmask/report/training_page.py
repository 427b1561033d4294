"""report.html of a pretraining run, built only from the files in its folder."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from unmask.errors import many
from unmask.files import Json, read_json
from unmask.report.page import code, facts, folded, image, note, paragraph, section, table, verdict, write_page
from unmask.report.palette import BLUE, GREY, VERMILION, make_figure, style
from unmask.report.reconstruction import filmstrip
from unmask.report.run_page import PAGE, SHEET, plan_table, sheet_table, versions
from unmask.report.stages import stages_section
from unmask.runs.config import Config
from unmask.runs.run import SUMMARY, Run
from unmask.training.log import ENOUGH, METRICS, ROLLED_BACK, duration, little_learnt, read
from unmask.training.timing import waiting_advice, waiting_share
from unmask.weights.licence import licence_of

Records = Sequence[Json]
MODEL = "this model"
YARDSTICKS = {
    "unit_mean": "true mean of each hidden patch",
    "visible_mean": "average visible patch",
    "nearest": "copy of the nearest visible patch",
}


def write_training_page(out: Path) -> Path:
    """Writes `report.html` from the current contents of the run folder; returns its path."""
    run, name = Run(out), out.resolve().name
    config = run.config
    records = list(read(out / METRICS))
    steps = [r for r in records if "loss" in r and "epoch" in r]  # not skipped updates
    frames = _frames(out)
    if len(frames) > 2:
        filmstrip(frames, out / "filmstrip.png")
    state, word = "finished" if read_json(out / SUMMARY) else "not finished", config.data.word
    waited = waiting_share(records)
    advice = waiting_advice(waited, config.data, config.runtime.device, config.record.machine.cores)
    curves = _curves(steps, records, config) if steps else None
    return write_page(
        out / PAGE,
        name,
        note(f"{config.method.name} on {many(config.data.count, word)} · {config.model.name} · {state}"),
        facts(_numbers(config, records, steps, waited)),
        note(advice or ""),
        note(_little_learnt(steps)),
        stages_section(out),
        _evaluation(out, name),
        _labels(out),
        _before_after(out, config),
        _teachers(config),
        section("What it rebuilds", image(out / "panel.png", "input, masked, rebuilt"), _undrawn(config)),
        section(f"The same {word}s over training", image(out / "filmstrip.png", "filmstrip of reconstructions")),
        section("Curves", image(curves, "loss and speed over epochs")),
        _context(config, steps),
        section("Data sheet", sheet_table(read_json(out / SHEET)), _bad_files(out)),
        section("Plan", plan_table(run.record)),
        section("Cost and command", paragraph(_cost(config, steps)), code(config.record.command), versions(run.record)),
        section("Use the encoder", code(_snippet(config.model.timm)), note(_normalisation(config, name))),
    )


def _numbers(config: Config, records: Records, steps: Records, waited: float | None) -> list[tuple[str, str]]:
    if not steps:
        return []
    last, numbers = steps[-1], []
    numbers.append((_loss_word(config), f"{last['loss']:.4f}"))
    if "explained" in last:
        numbers.append(("of the variance explained", f"{100 * last['explained']:.1f} %"))
    numbers.append((f"epochs, {last['step']:,} steps", f"{last['epoch']:.1f}"))
    numbers.append((f"on {config.record.machine.name}", duration(last["seconds"])))
    numbers.append(("peak memory", f"{last['memory_mb']:,} MB"))
    if waited is not None:
        numbers.append(("of the time waiting for data", f"{100 * waited:.0f} %"))
    counts = {"times gone back to an earlier state": sum(record.get("event") == ROLLED_BACK for record in records)}
    counts["updates left out"] = last["skipped"]
    return numbers + [(words, str(count)) for words, count in counts.items() if count]


def _little_learnt(steps: Records) -> str:
    """A warning where the run explains little of the variance, however far it came."""
    explained = steps[-1].get("explained", 1.0) if steps else 1.0
    if explained >= ENOUGH:
        return ""
    what, remedy = little_learnt(explained)
    return f"{what[0].upper()}{what[1:]}. What to do: {remedy}."


def _evaluation(out: Path, name: str) -> Markup:
    evaluation = read_json(out / "evaluation.json")
    if not evaluation:
        command = Markup("<code>unmask evaluate {} --on LABELLED</code>").format(name)
        return note(Markup("Not judged yet. With labelled images: {}").format(command))
    drawn = image(out / "evaluation.png", "accuracy of the encoder and its rivals")
    return section("Did pretraining help?", verdict(evaluation["sentence"]), drawn, table(evaluation["table"]))


def _labels(out: Path) -> Markup:
    labels = read_json(out / "labels.json")
    drawn = image(out / "labels.png", "accuracy against labels per class") if labels else ""
    return section("How many labels does pretraining save?", verdict(labels.get("sentence", "")), drawn)


def _before_after(out: Path, config: Config) -> Markup:
    if config.record.weights is None:
        return Markup("")
    continued, weights = read_json(out / "continued.json"), config.record.weights
    origin = f"{weights['source']} ({weights['layout']}, {weights['model']})"
    licence = config.record.licence or "unknown"
    before = f"Before, step {continued['before']['step']}" if "before" in continued else "Before"
    return section(
        "Before and after",
        paragraph(f"It went on from {origin}. Licence of these weights: {licence}."),
        verdict(continued.get("sentence", "")),
        image(out / "panel_before.png", "rebuilt before", before),
        image(out / "panel_after.png", "rebuilt after", f"After, the same {config.data.word}s and masks"),
        *(note(remark) for remark in weights["remarks"]),
    )


def _teachers(config: Config) -> Markup:
    """The frozen weights that it learned from."""
    lines = [
        f"{teacher['source']} ({teacher['model']}). Licence of these weights: {licence_of(teacher)}. SHA-256 of its"
        f" tensors: {teacher['sha256']}."
        for teacher in config.record.teachers
    ]
    return section("What it learned from", *map(paragraph, lines)) if lines else Markup("")


def _undrawn(config: Config) -> Markup:
    """Why nothing is drawn, where the method could rebuild and its target is no pixels."""
    what = config.record.words.get("undrawn")
    return note(f"Not drawn: what it predicts for hidden patches are {what}, no pixels.") if what else Markup("")


def _curves(steps: Records, records: Records, config: Config) -> Figure:
    probes = [r for r in records if any(key.startswith("probe_") for key in r)]
    figure = make_figure(11, 3.4)
    loss, rate, *rest = figure.subplots(1, 3 if probes else 2, width_ratios=[2.2, 1, 1][: 3 if probes else 2])
    epochs = [r["epoch"] for r in steps]
    loss.plot(epochs, [r["loss"] for r in steps], color=BLUE, lw=1.6, label=_loss_word(config))
    top = max(r["loss"] for r in steps)
    for name, words in YARDSTICKS.items():
        value = config.record.context.get(name)
        if value is not None and value < 1.6 * max(top, 1.0):
            loss.axhline(value, color=GREY, lw=0.9, ls="--")
            text = {"ha": "right", "fontsize": 7.5, "color": GREY}
            loss.annotate(words, (epochs[-1], value), xytext=(0, 2), textcoords="offset points", **text)
    beside = ", and what trivial predictors reach on this data" if config.record.context else ""
    loss.set(xlabel="epoch", ylabel=_loss_word(config), title=f"Loss{beside}")
    rate.plot(epochs, [r["images_per_second"] for r in steps], color=BLUE, lw=1.2)
    rate.set(xlabel="epoch", title=f"{config.data.word.capitalize()}s per second", ylim=(0, None))
    if probes:
        batch, count = config.training.batch, config.data.count
        keys = sorted({key for r in probes for key in r if key.startswith("probe_")})
        for key, color in zip(keys, (VERMILION, BLUE, GREY)):
            points = [(r["step"] * batch / count, 100 * r[key]) for r in probes if key in r]
            rest[0].plot(*zip(*points), "o-", color=color, label=key.removeprefix("probe_"), ms=4)
        rest[0].legend(frameon=False, fontsize=8)
        rest[0].set(xlabel="epoch", title="Probe accuracy, %")
    for axis in figure.axes:
        style(axis)
    return figure


def _loss_word(config: Config) -> str:
    return config.record.words.get("loss", "loss")


def _context(config: Config, steps: Records) -> Markup:
    """This model's loss among those of trivial predictors, and the share of variance explained."""
    context = config.record.context
    if not steps or not context.get("data_mean"):
        return Markup("")
    variance = context["data_mean"]
    losses = {words: context[name] for name, words in YARDSTICKS.items() if name in context}
    losses |= {"average of the data (the zero point)": variance, MODEL: steps[-1]["loss"]}
    lines = [(who, f"{loss:.4f}", f"{100 * (1 - loss / variance):.1f} %") for who, loss in losses.items()]
    lines.sort(key=lambda line: losses[line[0]])
    return section(
        "The loss in context",
        table([("predictor", "mean squared error", "variance explained"), *lines], kinds=("", "n"), marked=MODEL),
        note(
            'Measured on hidden patches of this data. "True mean" and "average of the data" know what a model cannot:'
            " they are yardsticks."
        ),
    )


def _cost(config: Config, steps: Records) -> str:
    expected, where = config.record.expected, f"on {config.record.machine.name}, precision {config.runtime.precision}"
    text = f"Expected {duration(expected.seconds)} and {expected.memory_mb:,} MB"
    if steps:
        text += f"; took {duration(steps[-1]['seconds'])} and {steps[-1]['memory_mb']:,} MB"
    return f"{text}, {where}."


def _snippet(timm: Json) -> str:
    arguments = {k: v for k, v in timm.items() if k != "model_name"}
    keywords = ", ".join(f"{k}={tuple(v) if isinstance(v, list) else v!r}" for k, v in arguments.items())
    name = timm["model_name"]
    return f'import timm\nnet = timm.create_model("{name}", checkpoint_path="encoder.safetensors", {keywords})'


def _normalisation(config: Config, name: str) -> Markup:
    mean, std = (", ".join(str(round(value, 3)) for value in values) for values in (config.data.mean, config.data.std))
    load = Markup('<code>unmask.load("{}")</code>').format(name)
    return Markup("It expects pixels (0..255) minus {}, divided by {}; or let {} do that.").format(mean, std, load)


def _frames(out: Path) -> list[tuple[str, Path]]:
    folder = out / "film"
    fixed = [(name, folder / f"{name}.png") for name in ("input", "masked")]
    steps = [(f"step {int(path.stem):,}", path) for path in sorted(folder.glob("[0-9]*.png"))]
    return [frame for frame in fixed + steps if frame[1].exists()]


def _bad_files(out: Path) -> Markup:
    """The first few files that were left out."""
    path = out / "bad_files.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[:40] if path.exists() else []
    return folded("Bad files", code("\n".join(lines))) if len(lines) > 1 else Markup("")

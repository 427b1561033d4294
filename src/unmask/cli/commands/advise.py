"""The command `advise`: look at images and machine, decide by the table, try, plan and measure, say and write."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from unmask.cli.commands.compare import compare
from unmask.cli.commands.pretrain import asked_for
from unmask.cli.continue_run import absolute, own
from unmask.cli.main import parse
from unmask.cli.options.advise import Advise
from unmask.cli.outputs import choose_place, require_folder, say_replaced
from unmask.cli.verb import verb
from unmask.data.shards.stream import is_stream
from unmask.data.source import Source
from unmask.errors import DataError, UserError
from unmask.files import Json, write_json
from unmask.plain import texts
from unmask.planning.initial_weights import Start, initial
from unmask.runtime.machine import Machine, machine, tune
from unmask.runtime.progress import doing, make_console, progress
from unmask.studies.advice import commands, cost
from unmask.studies.advice.answer import Advice, AtHand, looked_at, settings_of, unknowns, weights_at_hand, with_weights
from unmask.studies.advice.commands import Places
from unmask.studies.advice.facts import Facts, LabelCounts, count_labels, gather
from unmask.studies.advice.look import Look, find_other_kind, look_at_kind, look_at_sample
from unmask.studies.advice.other_kinds import KindAdvice, advise_on
from unmask.studies.advice.page import trial_section, write_advice_page, write_kind_page
from unmask.studies.advice.published import on_disk
from unmask.studies.advice.table import Statement, decide
from unmask.studies.advice.trial import JUDGED, Trial, design_trial, measured_statements, remarks
from unmask.tasks.open import load_encoder
from unmask.weights.known import require_known
from unmask.weights.timm_models import untrained

__all__ = ["advise"]

PAGE, RESULT, TRIAL = "advice.html", "advice.json", "trial"


@dataclass(frozen=True)
class Seen:
    """What the advice is based on."""

    look: Look
    labels: LabelCounts
    machine: Machine
    places: Places


@verb(Advise)
def advise(options: Advise) -> Advice | KindAdvice:
    """Prints the advice, writes it as a page and as JSON, and returns it. Nothing is fetched.

    Raises UserError for data or weights that cannot be opened, DataError for images that cannot be used and for
    labelled data without labels.
    """
    console, out = make_console(), require_folder(choose_place(".", options.out, "advice"))
    against = texts(options.against)
    for name in against:
        require_known(name)
    own(out, "advise", (*texts(options.data), *texts(options.on)))
    if (source := find_other_kind(texts(options.data), options.modality)) is not None:
        return _advise_on_kind(options, source, out, console)
    seen = _see(options, console)
    facts, _ = decide(gather(seen.look.sheet, seen.look.appearance, seen.labels, seen.machine, options.kind))
    first = cost.draft_plan(seen.look, _asked(seen.places, {}), seen.machine, Start())
    facts = cost.with_plan(facts, first, seen.look)
    facts, _ = decide(facts)
    trial = _try(options, seen, facts, out)
    measured = measured_statements(trial, facts) if trial else []
    facts, _ = decide(facts, measured)
    weights = weights_at_hand(facts, against, trial.weights if trial else ())
    advice = _advice(seen, facts, measured, weights, trial)
    say_replaced([out / PAGE, out / RESULT], console)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RESULT, advice.to_json())
    write_advice_page(out / PAGE, advice, seen.look, *([trial_section(trial)] if trial else []))
    console.print(advice.text(), soft_wrap=True, markup=False, highlight=False)
    console.print(f"Written: {out / PAGE}, {out / RESULT}", soft_wrap=True)
    return advice


def _advise_on_kind(options: Advise, source: Source, out: Path, console: Console) -> KindAdvice:
    """Prints and writes the advice on what are no images."""
    word, data = source.modality.word, texts(options.data)
    for name in ("kind", "against", "minutes"):
        if getattr(options, name):
            raise UserError(f"--{name} is for images, and these are {word}s; take it out. unmask compare tries methods")
    labels = count_labels(texts(options.on) or data, required=bool(options.on), modality=source.modality.text)
    with progress(console, f"looking at the {word}s") as update:
        sheet = look_at_kind(source, update)
    on = (texts(options.on) or data) if labels.counts else ()
    places = Places(data, on, options.device, lambda name: choose_place(".", None, name))
    advice = advise_on(sheet, labels, source.modality, places, options.modality)
    say_replaced([out / PAGE, out / RESULT], console)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RESULT, advice.to_json())
    write_kind_page(out / PAGE, advice)
    console.print(advice.text(), soft_wrap=True, markup=False, highlight=False)
    console.print(f"Written: {out / PAGE}, {out / RESULT}", soft_wrap=True)
    return advice


def _see(options: Advise, console: Console) -> Seen:
    """Labels first: they are counted without decoding an image."""
    data, here = texts(options.data), machine(options.device, "auto")
    tune(here.device)
    on = texts(options.on) or (() if is_stream(data) else data)
    labels = count_labels(on, required=bool(options.on)) if on else LabelCounts("", {}, 0)
    if options.minutes is not None and len(labels.counts) < 2:
        raise DataError("--minutes judges trials on labelled images: give --on LABELLED, with two classes or more")
    with progress(console, "looking at the images") as update:
        look = look_at_sample(data, update)
    labelled = bool(labels.counts) or labels.annotated != "none"
    places = Places(data, on if labelled else (), options.device, lambda name: choose_place(".", None, name))
    return Seen(look, labels, here, places)


def _asked(places: Places, options: commands.Options) -> Json:
    """All options of `pretrain`, as its command line would give them."""
    device = {} if places.device == "auto" else {"device": places.device}
    return asked_for(parse(commands.pretraining_words(places, {**device, **options})))


def _try(options: Advise, seen: Seen, facts: Facts, out: Path) -> Trial | None:
    """A small comparison in OUT/trial, where `--minutes` asks for one; the same command goes on with it."""
    if options.minutes is None:
        return None
    design = design_trial(options.minutes, facts)
    if (reading := seen.look.seconds * facts.images) > 0.2 * 60 * options.minutes:
        raise UserError(
            f"--minutes {options.minutes:g}: reading all {facts.images:,} images takes about {reading / 60:.1f} minutes"
            " alone; give more, or a part of the data"
        )
    against = tuple(dict.fromkeys(map(absolute, (*texts(options.against), *on_disk()))))  # as `compare` names them
    try:
        comparison = compare(
            options.data,
            on=options.on,
            out=out / TRIAL,
            methods=design.methods,
            hours=design.hours,
            against=against,
            evaluators=("knn", "linear"),
            labels_per_class=design.labels_per_class,
            points=1,
            labels=JUDGED,
            test=JUDGED,
            device=options.device,
            max_bad=1.0,
        )
    except UserError as error:
        raise type(error)(f"the trial that --minutes {options.minutes:g} asks for cannot be made: {error}") from error
    assert comparison is not None  # only a dry run gives none
    return Trial(design, comparison.results, comparison.path, against)


def _advice(seen: Seen, facts: Facts, measured: list[Statement], weights: AtHand, trial: Trial | None) -> Advice:
    """Plans and measures what the decisions cost, and puts the answer together."""
    doing("planning")
    start = initial(weights.name) if facts.start == "continue" and weights.here else Start()
    init = "" if isinstance(start, Start) and start.facts is None else weights.name
    options = commands.pretraining_options(facts, seen.places, seen.labels.several, init)
    draft = cost.draft_plan(seen.look, _asked(seen.places, options), seen.machine, start)
    training = cost.forecast(draft, start)
    facts, statements = decide(cost.with_length(facts, draft, training), measured)
    planned = cost.plan_choices(draft)
    return Advice(
        where=seen.look.sheet.where,
        facts=facts,
        labels=seen.labels,
        looked_at=looked_at(facts, seen.labels, seen.look.sheet, seen.machine),
        statements=with_weights(statements, weights),
        settings=settings_of(planned),
        costs=[
            *_costs_of_weights(seen, facts, weights, options),
            ("pretraining from scratch" if init == "" else f"continuing from {init}", training),
        ],
        not_known=unknowns(facts, statements, remarks(trial, facts) if trial else ()),
        commands=commands.make_commands(facts, seen.places, weights, options, planned),
    )


def _costs_of_weights(
    seen: Seen, facts: Facts, weights: AtHand, options: commands.Options
) -> list[tuple[str, cost.Cost]]:
    """Of features and of a classifier on them, or of going on from weights that are not here yet. Measured with a
    network of the shape of the weights. options: of `pretrain`."""
    if facts.start == "continue" and not weights.here:
        grid = untrained(weights.name).grid
        shape = {"model": weights.name.split(".")[0], "image_size": grid.size, "patch_size": grid.unit[0]}
        draft = cost.draft_plan(seen.look, _asked(seen.places, {**options, **shape}), seen.machine, Start())
        return [(f"continuing from {weights.name}", cost.forecast(draft, Start()))]
    if facts.start != "published":
        return []
    encoder = load_encoder(weights.name) if weights.own else untrained(weights.name)
    features = cost.features_cost(encoder, facts.images, seen.machine.device)
    costs = [(f"features of {weights.name}", features)]
    if facts.classes > 1:
        costs.append((f"a classifier on {weights.name}", cost.classifier_cost(features, facts, seen.labels)))
    return costs

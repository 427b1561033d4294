"""The command `advise`: look at the images and the machine, decide by the table, plan and measure, say and write."""

from unmask.cli.commands.pretrain import asked_for
from unmask.cli.continue_run import own
from unmask.cli.options.advise import Advise
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.outputs import choose_place, require_folder, say_replaced
from unmask.cli.verb import verb
from unmask.data.shards.stream import is_stream
from unmask.files import write_json
from unmask.models.encoder import Encoder
from unmask.plain import texts
from unmask.planning.initial_weights import Start, initial
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import make_console, progress
from unmask.studies.advice.answer import Advice, AtHand, looked_at, settings_of, unknowns, weights_at_hand, with_weights
from unmask.studies.advice.commands import Places, make_commands, pretraining_options
from unmask.studies.advice.cost import (
    Cost,
    classifier_cost,
    draft_plan,
    features_cost,
    forecast,
    plan_choices,
    with_length,
    with_plan,
)
from unmask.studies.advice.facts import LabelCounts, count_labels, gather
from unmask.studies.advice.look import look_at_sample
from unmask.studies.advice.page import write_advice_page
from unmask.studies.advice.table import decide
from unmask.tasks.open import load_encoder
from unmask.weights.known import require_known
from unmask.weights.timm_models import untrained

__all__ = ["advise"]

PAGE, RESULT = "advice.html", "advice.json"


@verb(Advise)
def advise(options: Advise) -> Advice:
    """Prints the advice, writes it as a page and as JSON, and returns it. Nothing is fetched.

    Raises UserError for data or weights that cannot be opened, DataError for images that cannot be used and for
    labelled data without labels.
    """
    console, out = make_console(), require_folder(choose_place(".", options.out, "advice"))
    data, against = texts(options.data), texts(options.against)
    for weights in against:
        require_known(weights)
    own(out, "advise", (*data, *texts(options.on)))
    here = machine(options.device, "auto")
    tune(here.device)
    on = texts(options.on) or (() if is_stream(data) else data)
    labels = count_labels(on, required=bool(options.on)) if on else LabelCounts("", {}, 0)
    with progress(console, "looking at the images") as update:
        look = look_at_sample(data, update)
    facts, _ = decide(gather(look.sheet, look.appearance, labels, here, options.kind))
    weights = weights_at_hand(facts, against)
    start = initial(weights.name) if facts.start == "continue" and weights.here else Start()
    draft = draft_plan(look, asked_for(Pretrain(data, device=options.device)), here, start)
    facts, _ = decide(with_plan(facts, draft, look))
    labelled = bool(facts.classes) or facts.annotated != "none"
    places = Places(data, on if labelled else (), options.device, lambda name: choose_place(".", None, name))
    chosen = pretraining_options(facts, places, labels.several, "" if isinstance(start, Start) else weights.name)
    draft = draft_plan(look, asked_for(Pretrain(data, **chosen)), here, start)
    cost = forecast(draft, start)
    facts, statements = decide(with_length(facts, draft, cost))
    costs: list[tuple[str, Cost]] = []
    if facts.start == "published":
        encoder, labelled_count = _encoder(weights), sum(labels.counts.values())
        costs.append((f"features of {weights.name}", features_cost(encoder, facts.images, here.device)))
        if facts.classes > 1:
            one_pass = features_cost(encoder, labelled_count, here.device)
            costs.append((f"a classifier on {weights.name}", classifier_cost(one_pass, facts, labelled_count)))
    costs.append(("pretraining", cost))
    advice = Advice(
        where=look.sheet.where,
        facts=facts,
        labels=labels,
        looked_at=looked_at(facts, labels, look.sheet, here),
        statements=with_weights(statements, weights),
        settings=settings_of(plan_choices(draft)),
        costs=costs,
        not_known=unknowns(facts, statements, measured=False),
        commands=make_commands(facts, places, weights, chosen, plan_choices(draft)),
    )
    say_replaced([out / PAGE, out / RESULT], console)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RESULT, advice.to_json())
    write_advice_page(out / PAGE, advice, look)
    console.print(advice.text(), soft_wrap=True, markup=False, highlight=False)
    console.print(f"Written: {out / PAGE}, {out / RESULT}", soft_wrap=True)
    return advice


def _encoder(weights: AtHand) -> Encoder:
    """A network of the shape of the weights; the weights themselves where they are a person's own."""
    return load_encoder(weights.name) if weights.own else untrained(weights.name)

"""Which features of an encoder to use: those that `unmask evaluate` found best on the validation split, where it has.

evaluation.json says for each evaluator which layer and pooling that was, and for which weights; evaluation.safetensors
beside it holds the attentive pooling that was learnt.
"""

from collections.abc import Callable
from pathlib import Path

from unmask.evaluation.attentive import Probed
from unmask.evaluation.compare import best_candidate
from unmask.evaluation.features import ATTENTIVE, check_poolings
from unmask.evaluation.frozen.knn import Knn
from unmask.files import LEARNT, Json, read_json
from unmask.models.classifier import AttentivePool
from unmask.models.encoder import Encoder, LearntPool
from unmask.models.state import load_strictly, weights_hash
from unmask.plain import Place
from unmask.weights.files import read_weights

AUTO, PLAIN = "auto", "mean"  # PLAIN: where nothing was evaluated
RESULT = "evaluation.json"
POOL = "pool."  # before the names of the attentive pooling's weights
ON_ATTENTIVE = "knn on attentive"
SERVES = {"knn": ("knn", ON_ATTENTIVE), "linear": ("linear", ATTENTIVE)}  # for neighbours; for what is learnt on top


def best_features(scores: list[Json], subject: str, probed: Probed | None = None) -> dict[str, Json]:
    """By evaluator, without its settings: the pooling chosen on the validation split and its accuracy there.

    probed: the attentive probe of the subject. Its vectors are tried for neighbours too.
    """
    best = {
        score["evaluator"].split("(")[0]: _entry(score["pooling"], score["setting"], score["val_accuracy"])
        for score in scores
        if score["competitor"] == subject
    }
    if probed is not None:
        best[ATTENTIVE] = _entry(ATTENTIVE, probed.setting, probed.val_accuracy)
        train, val = probed.train, probed.val
        accuracy, knn = best_candidate(Knn(), (train.vectors, train.labels), (val.vectors, val.labels))
        best[ON_ATTENTIVE] = _entry(ATTENTIVE, str(knn), accuracy)
    return best


def _entry(pooling: str, setting: str, val_accuracy: float) -> Json:
    whiten = "whiten=True" in setting
    return {"pooling": pooling, "setting": setting, "val_accuracy": val_accuracy, "whiten": whiten}


def best_in_words(best: dict[str, Json]) -> str:
    """What was best on the validation split, and what it is used for."""
    by, chosen = max(best.items(), key=lambda pair: pair[1]["val_accuracy"])
    others = ", ".join(
        f"{name} on {entry['pooling']} {entry['val_accuracy']:.1%}"
        if entry["pooling"] not in name
        else f"{name} {entry['val_accuracy']:.1%}"
        for name, entry in best.items()
        if name != by
    )
    text = f"Best frozen features on the validation split: {chosen['pooling']}, by {by} ({chosen['val_accuracy']:.1%}"
    return f"{text}; {others}). embed, search, map, select, audit and predict use what is best for them."


def best_for(run: Place, encoder: Encoder, evaluator: str) -> Json | None:
    """What was best for "knn" or "linear", with its name under "by"; of another evaluator where neither of its kind was
    tried; None where these weights were not evaluated."""
    content = read_json(Path(run) / RESULT)
    best: dict[str, Json] = content.get("features", {})
    if not best or content.get("weights") != weights_hash(encoder):
        return None
    names = [name for name in SERVES[evaluator] if name in best] or list(best)
    by = max(names, key=lambda name: best[name]["val_accuracy"])
    return best[by] | {"by": by, "on": content["on"]}


def attach_pool(run: Place, encoder: Encoder) -> None:
    """Gives the encoder the attentive pooling that was learnt for these very weights, if there is one."""
    path = Path(run) / LEARNT
    if not path.is_file():
        return
    state, header = read_weights(path)
    own = {name.removeprefix(POOL): value for name, value in state.items() if name.startswith(POOL)}
    if own and header.get("weights") == weights_hash(encoder):
        pool = AttentivePool(encoder.dim)
        load_strictly(pool, own, str(path))
        encoder.learnt_pool = LearntPool(pool.to(encoder.mean.device).eval().requires_grad_(False), weights_hash(pool))


def is_whitened(run: Place, encoder: Encoder) -> bool:
    """Whether whitened features were better for neighbours; False where these weights were not evaluated by kNN."""
    best = best_for(run, encoder, "knn")
    return best is not None and bool(best["whiten"])


def choose_pooling(
    run: Place, pooling: str, encoder: Encoder, evaluator: str, say: Callable[[str], object] = lambda text: None
) -> str:
    """`pooling`, or for "auto" the best of an evaluator ("knn" for neighbours, "linear" for what is learnt on top); of
    another one where that was not asked; "mean" where the weights were not evaluated. Says which and why. Where it is
    the attentive one, the encoder has it from then on.

    Raises UserError for a pooling that the encoder does not have.
    """
    if pooling in (AUTO, ATTENTIVE):
        attach_pool(run, encoder)
    if pooling != AUTO:
        check_poolings(encoder, [pooling])
        return pooling
    best = best_for(run, encoder, evaluator)
    if best is None:
        was_evaluated = bool(read_json(Path(run) / RESULT).get("features"))
        why = f"{RESULT} is of other weights" if was_evaluated else "evaluate RUN --on LABELLED finds the best"
        say(f"Features: {PLAIN} ({why})")
        return PLAIN
    check_poolings(encoder, [best["pooling"]])
    say(
        f"Features: {best['pooling']}, the best by {best['by']} on the validation split of {', '.join(best['on'])}"
        f" ({best['val_accuracy']:.1%})"
    )
    return str(best["pooling"])

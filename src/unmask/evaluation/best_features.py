"""Which features of an encoder to use: those that `unmask evaluate` found best on the validation split, where it has.

evaluation.json says for each evaluator which layer and pooling that was, and for which weights.
"""

from collections.abc import Callable
from pathlib import Path

from unmask.evaluation.features import check_poolings
from unmask.files import Json, read_json
from unmask.models.encoder import Encoder
from unmask.models.state import weights_hash
from unmask.plain import Place

AUTO, PLAIN = "auto", "mean"  # PLAIN: where nothing was evaluated
RESULT = "evaluation.json"


def best_features(scores: list[Json], subject: str) -> dict[str, Json]:
    """By evaluator, without its settings: the pooling chosen on the validation split and its accuracy there."""
    return {
        score["evaluator"].split("(")[0]: {
            **{name: score[name] for name in ("pooling", "setting", "val_accuracy")},
            "whiten": score["setting"].endswith("whiten)"),
        }
        for score in scores
        if score["competitor"] == subject
    }


def is_whitened(run: Place, encoder: Encoder) -> bool:
    """Whether whitened features were better for neighbours; False where these weights were not evaluated by kNN."""
    content = read_json(Path(run) / RESULT)
    best: dict[str, Json] = content.get("features", {})
    return bool(best.get("knn", {}).get("whiten")) and content.get("weights") == weights_hash(encoder)


def choose_pooling(
    run: Place, pooling: str, encoder: Encoder, evaluator: str, say: Callable[[str], object] = lambda text: None
) -> str:
    """`pooling`, or for "auto" the best of an evaluator ("knn" for neighbours, "linear" for what is learnt on top); of
    another one where that was not asked; "mean" where the weights were not evaluated. Says which and why.

    Raises UserError for a pooling that the encoder does not have.
    """
    if pooling != AUTO:
        check_poolings(encoder, [pooling])
        return pooling
    content = read_json(Path(run) / RESULT)
    best: dict[str, Json] = content.get("features", {})
    if not best or content.get("weights") != weights_hash(encoder):
        why = f"{RESULT} is of other weights" if best else "evaluate RUN --on LABELLED finds the best"
        say(f"Features: {PLAIN} ({why})")
        return PLAIN
    by = evaluator if evaluator in best else next(iter(best))
    chosen = best[by]
    check_poolings(encoder, [chosen["pooling"]])
    say(
        f"Features: {chosen['pooling']}, the best by {by} on the validation split of {', '.join(content['on'])}"
        f" ({chosen['val_accuracy']:.1%})"
    )
    return str(chosen["pooling"])

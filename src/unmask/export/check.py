"""Compares the outputs of an exported model with those of the model it was made from."""

import torch
from scipy.optimize import linear_sum_assignment

from unmask.errors import Unequal, many
from unmask.export.exportable import Exportable, Opened, Outputs

CLEAR = 1e-3  # gap between scores that no rounding closes
NEAR = 0.5  # pixels between two boxes of one object


def compare(subject: Exportable, opened: Opened, label: str) -> dict[str, dict[str, float]]:
    """Largest differences by output, for the whole batch of images and for the first image alone.

    Raises Unequal if one is larger than the tolerance allows, is not a number, or has another shape. The tolerance is a
    share of the largest value over all images: those of a single image may all be near zero, as logits often are.
    """
    differences: dict[str, dict[str, float]] = {}
    subject = opened.subject or subject
    pairs = [_comparable(subject, subject.reference(raw), opened.call(raw)) for raw in subject.trials()]
    largest = {
        name: max(float(reference[name].float().abs().max()) for reference, _ in pairs if reference[name].numel())
        for name in pairs[0][0]
        if any(reference[name].numel() for reference, _ in pairs)
    }
    for (reference, got), raw in zip(pairs, subject.trials()):
        for name, value in got.items():
            right = reference[name].float()
            if value.shape != right.shape:
                raise Unequal(
                    f"{label}: {name} has shape {tuple(value.shape)}, the model's {tuple(right.shape)}; not kept"
                )
            if not right.numel():  # no object in this image, says either
                continue
            error, allowed = float((value.float() - right).abs().max()), opened.tolerance * largest[name]
            if not error <= allowed:
                remedy = f"; {opened.remedy}" if opened.remedy else ""
                raise Unequal(
                    f"{label} does not give what the model gives: {name} is off by {error:.3g}, allowed is"
                    f" {allowed:.3g}, on {many(len(raw), 'sample')}; it was deleted{remedy}"
                )
            worst = differences.setdefault(name, {"max_abs_error": 0.0, "allowed": allowed})
            worst["max_abs_error"] = max(worst["max_abs_error"], error)
            worst["allowed"] = max(worst["allowed"], allowed)
    return differences or {name: {"max_abs_error": 0.0, "allowed": 0.0} for name in pairs[0][0]}


def _comparable(subject: Exportable, reference: Outputs, got: Outputs) -> tuple[Outputs, Outputs]:
    """Outputs as they are; for a detector, the objects above the lowest clear gap between scores, in matching order.

    Near a threshold the last digit decides whether an object is reported, which of two boxes suppresses the other, and
    which of two equal scores comes first. So one object in fifty, and one in any image, may be missing on either side.
    """
    if subject.detector is None or not len(reference["scores"]):
        return reference, got
    scores = reference["scores"].sort(descending=True).values
    clear = ((scores[:-1] - scores[1:]) > CLEAR).nonzero()
    least = float(scores[clear[-1]] + scores[clear[-1] + 1]) / 2 if len(clear) else 0.0
    reference, got = ({n: v[outputs["scores"] > least] for n, v in outputs.items()} for outputs in (reference, got))
    far = (reference["boxes"][:, None] - got["boxes"]).abs().amax(dim=2)
    cost = far + (reference["labels"][:, None] != got["labels"]) * 1e6
    mine, others = (torch.from_numpy(indices) for indices in linear_sum_assignment(cost.numpy()))
    near = cost[mine, others] < NEAR
    count = max(len(reference["scores"]), len(got["scores"]))
    if int(near.sum()) >= count - max(1, count // 50):
        mine, others = mine[near], others[near]
    return {name: value[mine] for name, value in reference.items()}, {name: v[others] for name, v in got.items()}

"""A decoder that never learned: images drawn with it show noise, whatever the encoder knows.

So it comes out when weights without a decoder are loaded into a model that has one. A fresh decoder gives itself away:
its biases are exactly zero and the scales of its norms exactly one, and the first step of training changes all of them.
"""

from torch import Tensor

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown

__all__ = ["decoder"]


def decoder(subject: Subject) -> list[Finding]:
    """Looks at the decoder of a run, or of weights that bring one."""
    opened = subject.opened
    inside = "decoder."
    state = (
        {key.removeprefix(inside): value for key, value in opened.whole.items() if key.startswith(inside)}
        if opened.whole
        else opened.decoder
    )
    if not state:
        raise Unknown("there is no decoder: features are all that these weights are good for")
    if not _fresh(state):
        return []
    remedy = "do not judge by images; train the decoder: unmask pretrain DATA --init WEIGHTS --decoder-warmup 500"
    return [Finding("the decoder is at its random start: what it draws is noise", remedy)]


def _fresh(state: dict[str, Tensor]) -> bool:
    biases = [value for key, value in state.items() if key.endswith("bias") and value.ndim == 1]
    scales = [value for key, value in state.items() if "norm" in key and key.endswith("weight") and value.ndim == 1]
    return bool(biases) and all(not value.any() for value in biases) and all(bool((v == 1).all()) for v in scales)

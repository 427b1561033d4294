"""What every dense head keeps."""

import pytest
from support.segmenting import batch, segmenter

from unmask.registry import names
from unmask.tasks.segmentation.objective import Segment

HEADS = names("head")


@pytest.mark.parametrize("protocol", ["full", "linear"])
@pytest.mark.parametrize("head", ["linear", "light(channels=16)", "upernet(channels=16, auxiliary_channels=8)"])
def test_every_trained_parameter_of_every_head_gets_a_gradient(head, protocol):
    task = Segment(segmenter(head), protocol=protocol, layer_decay=0.5)
    task.train()
    task(batch())["loss"].backward()
    for name, parameter in task.named_parameters():
        inside = name.startswith("segmenter.encoder")
        assert parameter.requires_grad == (not (inside and protocol == "linear") and not _idle(name, head)), name
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == parameter.requires_grad, name
    assert task.encoder.training == (protocol == "full")
    scale = {name: task.treatment(name, p)[0] for name, p in task.named_parameters()}
    assert scale["segmenter.encoder.net.pos_embed"] == 0.5**5
    assert scale["segmenter.encoder.net.blocks.3.norm1.weight"] == 0.5
    assert {value for name, value in scale.items() if not name.startswith("segmenter.encoder")} == {1.0}


def _idle(name, head):
    """The encoder's last norm, where the head takes maps without it."""
    return head != "linear" and name.startswith("segmenter.encoder.net.norm.")

"""What every dense head keeps."""

import pytest
import torch
from support.segmenting import NAMES, batch, segmenter

from unmask.registry import find, names, parse
from unmask.tasks.segmentation.objective import Segment

SMALLER = {"light": "light(channels=16)", "upernet": "upernet(channels=16, auxiliary_channels=8)"}
HEADS = [SMALLER.get(name, name) for name in names("head") if 2 in find("head", name).axes]


@pytest.mark.parametrize("protocol", ["full", "linear"])
@pytest.mark.parametrize("head", HEADS)
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
    return not find("head", parse(head)[0]).norm and name.startswith("segmenter.encoder.net.norm.")


@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_finite_logits_for_images_of_any_size_also_in_bf16(head):
    model = segmenter(head).eval()
    for height, width in ((32, 32), (40, 56), (17, 33)):
        pixels = torch.randint(0, 256, (2, 3, height, width)).byte()
        with torch.no_grad():
            logits = model(pixels)
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(pixels)
        assert logits.shape == (2, len(NAMES), height, width)
        assert logits.isfinite().all()
        torch.testing.assert_close(rough.float(), logits, rtol=0.1, atol=0.1)

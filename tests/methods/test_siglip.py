"""SigLIP: its loss is transformers', equal captions are no negatives, images without one do not count."""

import pytest
import torch
from support.methods import small_method, views_of

from unmask.errors import UserError
from unmask.methods.losses.pairs import NONE, find_captions, sigmoid_loss
from unmask.methods.siglip import numbered, powers

FEW = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_loss_and_gradients_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    text = {"vocab_size": 40, "max_position_embeddings": 6, "projection_size": 16, **FEW}
    vision = {"image_size": 16, "patch_size": 8, **FEW}
    theirs = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        theirs.logit_scale.fill_(1.7)
        theirs.logit_bias.fill_(-3.0)
    pixels, ids = torch.randn(5, 3, 16, 16), torch.randint(0, 40, (5, 6))
    out = theirs(pixel_values=pixels, input_ids=ids, return_loss=True)
    out.loss.backward()
    wanted = {name: p.grad.clone() for name, p in theirs.named_parameters() if p.grad is not None}
    theirs.zero_grad()
    again = theirs(pixel_values=pixels, input_ids=ids)
    scale = theirs.logit_scale.exp().squeeze()
    loss = sigmoid_loss(
        3.0 * again.image_embeds, 0.5 * again.text_embeds, scale, theirs.logit_bias.squeeze(), torch.arange(1, 6)
    )  # lengths do not matter
    loss.backward()
    torch.testing.assert_close(loss, out.loss)
    for name, p in theirs.named_parameters():
        if name in wanted:
            torch.testing.assert_close(p.grad, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


def test_temperature_and_bias_begin_as_in_the_paper():
    method = small_method("siglip")
    torch.testing.assert_close(method.log_scale.exp(), torch.tensor(10.0))
    assert method.bias.item() == -10


def test_an_equal_caption_of_another_image_is_no_negative_and_an_image_without_one_does_not_count():
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(4, 8, generator=generator) for _ in range(2))
    scale, bias = torch.tensor(5.0), torch.tensor(-1.0)
    text[3] = text[1]
    units = [torch.nn.functional.normalize(x, dim=1) for x in (image, text)]
    logits = scale * units[0] @ units[1].T + bias
    signs = 2 * torch.eye(4) - 1
    losses = -torch.nn.functional.logsigmoid(signs * logits)
    losses[1, 3] = losses[3, 1] = 0
    torch.testing.assert_close(sigmoid_loss(image, text, scale, bias, torch.tensor([5, 6, 7, 6])), losses.sum() / 4)
    without = sigmoid_loss(image, text, scale, bias, torch.tensor([5, NONE, 7, 6]))
    rows = torch.tensor([0, 2, 3])
    torch.testing.assert_close(without, sigmoid_loss(image[rows], text[rows], scale, bias, torch.tensor([5, 7, 6])))
    assert sigmoid_loss(image, text, scale, bias, torch.full((4,), NONE)) == 0
    assert find_captions(text, text, torch.tensor([5, 6, 7, 6])) == 1


def test_captions_are_told_apart_by_their_tokens():
    tokens = torch.tensor([[5, 3, 1, 0], [3, 5, 1, 0], [5, 3, 1, 0], [0, 0, 0, 0]])
    first, second, third, none = numbered(tokens, torch.tensor(powers(4))).tolist()
    assert first == third != second
    assert none == NONE


def test_padding_changes_nothing():
    method = small_method("siglip").eval()
    short = torch.tensor([[7, 9, 1]])
    padded = torch.nn.functional.pad(short, (0, 5))
    torch.testing.assert_close(method.text(padded), method.text(short))


def test_images_without_captions_learn_to_be_rebuilt_beside_those_with():
    method = small_method("siglip(mae=1.0)")
    batch = views_of(method)
    batch["tokens"][:] = 0
    outputs = method(batch)
    assert outputs["loss"] == outputs["rebuilt"] > 0
    assert method.drawable
    assert not small_method("siglip").drawable


def test_parts_of_mae_are_refused_where_nothing_is_hidden():
    with pytest.raises(UserError, match=r"--mask does nothing.*siglip\(mae=1.0\)"):
        small_method("siglip", mask="random")

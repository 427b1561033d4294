"""Whole methods against independent code, losses and gradients: transformers' SimMIM and BEiT, lightly's I-JEPA."""

import pytest
import torch
from support.methods import small_method, tokenizer_file
from support.parity import NEEDS, gradients_as_weights, opened, require_equal_gradients, scrambled
from torch.nn.functional import layer_norm, smooth_l1_loss

from unmask.masking.grid import take
from unmask.masking.mask import Mask, hide_top
from unmask.models.encoder import create_encoder
from unmask.registry import build

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
IMAGES = {"image_size": 32, "patch_size": 8}


def raw_images(seed=1, count=3):
    return torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed)).byte()


def test_simmims_loss_and_gradients_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    config = transformers.ViTConfig(**SIZES, **IMAGES, encoder_stride=8, layer_norm_eps=1e-6)
    theirs = scrambled(transformers.ViTForMaskedImageModeling(config)).train()
    method = build("method", "simmim", encoder=opened(theirs, tmp_path / "weights"))
    kernel, bias = theirs.decoder[0].weight, theirs.decoder[0].bias

    def reordered(x):  # their pixels of a patch lie channel first, ours last
        return x.unflatten(0, (3, 8, 8)).movedim(0, 2).flatten(0, 2).flatten(1).squeeze(1)

    with torch.no_grad():
        method.mask_token.copy_(theirs.vit.embeddings.mask_token.flatten())
        method.predict_units.weight.copy_(reordered(kernel))
        method.predict_units.bias.copy_(reordered(bias[:, None]))
    x, mask = raw_images(), hide_top(torch.rand(3, 16, generator=torch.Generator().manual_seed(2)), 0.6)
    loss = method({"views": [x], "mask": mask})["loss"]
    masked = torch.zeros(3, 16, dtype=torch.bool).scatter(1, mask.hidden, True)
    wanted = theirs(method.encoder.normalize(x), bool_masked_pos=masked).loss
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    loss.backward()
    wanted.backward()
    require_equal_gradients(method.encoder, gradients_as_weights(theirs, tmp_path / "gradients"))
    close = {"rtol": 1e-4, "atol": 1e-7}
    torch.testing.assert_close(method.mask_token.grad, theirs.vit.embeddings.mask_token.grad.flatten(), **close)
    torch.testing.assert_close(method.predict_units.weight.grad, reordered(kernel.grad), **close)
    torch.testing.assert_close(method.predict_units.bias.grad, reordered(bias.grad[:, None]), **close)


def test_beits_loss_and_gradients_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    options = {"use_absolute_position_embeddings": True, "use_mask_token": True}
    config = transformers.BeitConfig(**SIZES, **IMAGES, **options, vocab_size=12, drop_path_rate=0.0)
    theirs = scrambled(transformers.BeitForMaskedImageModeling(config)).train()
    method = build("method", "beit", encoder=opened(theirs, tmp_path / "weights"), tokenizer=str(tokenizer_file()))
    with torch.no_grad():
        method.mask_token.copy_(theirs.beit.embeddings.mask_token.flatten())
        method.predict_ids.load_state_dict(theirs.lm_head.state_dict())
    x, mask = raw_images(), hide_top(torch.rand(3, 16, generator=torch.Generator().manual_seed(2)), 0.4)
    ids = torch.randint(0, 12, (3, 16), generator=torch.Generator().manual_seed(4))
    loss = method({"views": [x], "mask": mask, "ids": ids})["loss"]
    masked = torch.zeros(3, 16, dtype=torch.bool).scatter(1, mask.hidden, True)
    wanted = theirs(method.encoder.normalize(x), bool_masked_pos=masked, labels=ids[masked]).loss
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    loss.backward()
    wanted.backward()
    require_equal_gradients(method.encoder, gradients_as_weights(theirs, tmp_path / "gradients"))
    close = {"rtol": 1e-4, "atol": 1e-7}
    torch.testing.assert_close(method.mask_token.grad, theirs.beit.embeddings.mask_token.grad.flatten(), **close)
    torch.testing.assert_close(method.predict_ids.weight.grad, theirs.lm_head.weight.grad, **close)


def test_beit_hides_75_of_196_patches():
    encoder = create_encoder("vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)")
    method = build("method", "beit", encoder=encoder, tokenizer=str(tokenizer_file()))
    assert method.mask(2, encoder.grid, "cpu").hidden.shape == (2, 75)


def test_ijepas_loss_and_gradients_are_those_of_lightlys_predictor_on_its_masks(monkeypatch):
    modules = pytest.importorskip("lightly.models.modules.ijepa_timm", reason=NEEDS)
    collator = pytest.importorskip("lightly.data.ijepa_collate", reason=NEEDS).IJEPAMaskCollator
    torch.manual_seed(0)
    model = "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2, class_token=False)"
    encoder = create_encoder(model, image_size=(64, 64), patch_size=8, mean=(127.0,) * 3, std=(60.0,) * 3)
    method = build("method", "ijepa", encoder=encoder, decoder="full(dim=16, depth=2, heads=2)")
    theirs = modules.IJEPAPredictorTIMM(num_patches=64, depth=2, mlp_dim=24, predictor_embed_dim=16, num_heads=2)
    torch.testing.assert_close(method.decoder.position, theirs.decoder.pos_embed[0], rtol=1e-5, atol=1e-6)
    names = {"predictor_embed": "embed", "predictor_proj": "predict", "decoder.": ""}

    def ours(name):
        for old, new in names.items():
            name = name.replace(old, new)
        return name

    state = {ours(name): value for name, value in theirs.state_dict().items() if name != "decoder.pos_embed"}
    method.decoder.load_state_dict(state, strict=False)
    masks = collator((64, 64), 8, (0.85, 1.0), (0.15, 0.2), (0.75, 1.5), nenc=1, npred=4, min_keep=2)
    _, (seen,), targets = masks([torch.zeros(1)] * 3)
    monkeypatch.setattr(method.mask, "blocks", lambda *_: (seen, torch.stack(targets, dim=1)))
    x = torch.randint(0, 256, (3, 3, 64, 64)).float()
    loss = method({"views": [x]})["loss"]
    trained = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    gradients = dict(zip(trained, torch.autograd.grad(loss, trained.values())))

    with torch.no_grad():
        features = method.teacher(x).units
        features = layer_norm(features, features.shape[-1:])
    wanted = torch.cat([take(features, target) for target in targets])
    tokens = encoder(x, Mask(seen, torch.cat(targets, dim=1)))
    other = smooth_l1_loss(theirs(tokens.units.clone(), [seen], targets), wanted)
    torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-7)
    other.backward()
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            mine = gradients[f"decoder.{ours(name)}"]
            torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-7)
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(gradients[f"encoder.{name}"], parameter.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "start", "key"),
    [("byol", 0.99, "momentum"), ("mocov3", 0.99, "momentum"), ("dino", 0.996, "momentum"), ("ibot", 0.996, "momentum")]
    + [("dinov2", 0.992, "momentum"), ("dino", 0.04, "weight_decay"), ("ijepa", 0.04, "weight_decay")],
)
def test_schedules_are_lightlys_cosine(name, start, key):
    lightly = pytest.importorskip("lightly.utils.scheduler", reason=NEEDS)
    method, steps, end = small_method(name), 101, 1.0 if key == "momentum" else 0.4
    for step in (0, 1, 17, 50, 99, 100):
        wanted = lightly.cosine_schedule(step, steps, start, end)
        assert method.schedules(step / (steps - 1))[key] == pytest.approx(wanted, rel=1e-9), step


def test_schedules_that_are_no_cosine_follow_their_formula():
    dino, ijepa = small_method("dino"), small_method("ijepa")
    temperatures = [dino.schedules(progress)["teacher_temperature"] for progress in (0, 0.05, 0.1, 0.7, 1)]
    assert temperatures == pytest.approx([0.04, 0.055, 0.07, 0.07, 0.07])  # the first tenth: 30 of 300 epochs
    assert [ijepa.schedules(p)["momentum"] for p in (0, 0.25, 1)] == pytest.approx([0.996, 0.997, 1.0])

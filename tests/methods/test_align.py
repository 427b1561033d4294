"""Alignment with a frozen encoder of images: CLIP's loss, parts are seen alone, incomplete pairs do not count."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.methods import small_encoder, small_method, teacher_file, views_of
from torch.nn.functional import normalize

from unmask.data.modality import make_modality
from unmask.errors import UserError
from unmask.methods import align
from unmask.methods.align import Align
from unmask.methods.losses.pairs import distance_of_pairs, find_partners, guessing_of_pairs, info_nce_of_pairs
from unmask.models.encoder import create_encoder
from unmask.weights.open import open_weights

FEW = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
MODEL = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)"
MEANS, STDS = ((120.0, 110.0, 100.0), (-5.0,), (50.0,)), ((60.0, 50.0, 40.0), (3.0,), (20.0,))
FACTS = f"sizes=((32, 32), (16, 8), (32, 32)), units=((8, 8), (8, 8), (8, 8)), means={MEANS}, stds={STDS}"
TEXT = f"multimodal(rgb=image, sound=audio(rate=4000, seconds=0.16, bands=8), depth=image, {FACTS})"
RGB, SOUND, DEPTH = 0, 1, 2


def joint_encoder(text=TEXT):
    modality = make_modality(text)
    sizes = {"image_size": (modality.layout.length,), "patch_size": (modality.layout.width,), "channels": 1}
    return create_encoder(MODEL, **sizes, **modality.for_encoder)


def aligned(**options):
    torch.manual_seed(0)
    return Align(joint_encoder(), of=str(teacher_file()), **options).train()


def rows(count=5, missing=(), seed=1):
    """Raw samples; missing: pairs of a sample and a part."""
    layout, chance = make_modality(TEXT).layout, torch.Generator().manual_seed(seed)
    samples = []
    for row in range(count):
        views = [torch.randn(part.channels, *part.grid.size, generator=chance) for part in layout.parts]
        views = [None if (row, place) in missing else view for place, view in enumerate(views)]
        samples.append(layout.pack(views))
    return torch.stack(samples)


def test_loss_and_gradients_are_those_of_clip_in_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    text = {"vocab_size": 40, "max_position_embeddings": 6, "eos_token_id": 2, **FEW}
    vision = {"image_size": 16, "patch_size": 8, **FEW}
    theirs = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    with torch.no_grad():
        theirs.logit_scale.fill_(1.7)
    pixels, ids = torch.randn(5, 3, 16, 16), torch.randint(3, 40, (5, 6))
    out = theirs(pixel_values=pixels, input_ids=ids, return_loss=True)
    out.loss.backward()
    wanted = {name: p.grad.clone() for name, p in theirs.named_parameters() if p.grad is not None}
    theirs.zero_grad()
    again = theirs(pixel_values=pixels, input_ids=ids)
    there = torch.ones(5, dtype=torch.bool)
    loss = info_nce_of_pairs(3 * again.image_embeds, again.text_embeds, theirs.logit_scale.exp(), there)
    loss.backward()  # lengths do not matter
    torch.testing.assert_close(loss, out.loss)
    for name, p in theirs.named_parameters():
        if name in wanted:
            torch.testing.assert_close(p.grad, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


def test_pairs_that_are_not_complete_do_not_count_and_are_no_wrong_answers():
    chance = np.random.default_rng(0)
    first, second = (chance.standard_normal((6, 8)) for _ in range(2))
    there = np.array([True, False, True, True, False, True])
    a, b = (x[there] / np.linalg.norm(x[there], axis=1, keepdims=True) for x in (first, second))
    logits = 7.0 * a @ b.T
    ways = [np.log(np.exp(way).sum(axis=1)) - np.diag(way) for way in (logits, logits.T)]
    tensors = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in (first, second)]
    scale = torch.tensor(7.0, requires_grad=True)
    loss = info_nce_of_pairs(*tensors, scale, torch.tensor(there))
    assert loss.item() == pytest.approx(np.mean(ways), rel=1e-5)
    loss.backward()
    assert all(x.grad[~there].abs().max() == 0 and x.grad.isfinite().all() for x in tensors)
    assert scale.grad.isfinite()
    assert distance_of_pairs(*tensors, torch.tensor(there)).item() == pytest.approx(1 - (a * b).sum(axis=1).mean())
    none = torch.zeros(6, dtype=torch.bool)
    assert info_nce_of_pairs(*tensors, torch.tensor(7.0), none) == 0
    assert distance_of_pairs(*tensors, none) == 0
    assert find_partners(tensors[0], tensors[0], torch.tensor(there)) == 1
    assert find_partners(tensors[0], -tensors[0], torch.tensor(there)) == 0
    assert guessing_of_pairs(torch.tensor(there)).item() == pytest.approx(np.log(4))


def test_a_part_is_seen_alone_and_every_part_learns_the_image():
    method, x = aligned(), rows()
    other = rows(seed=2)
    first, end = method.encoder.grid.spans[SOUND]
    width = method.encoder.grid.unit[0]
    mixed = other.clone()
    mixed[..., first * width : end * width] = x[..., first * width : end * width]
    torch.testing.assert_close(method.of_part(mixed, SOUND), method.of_part(x, SOUND))
    assert not torch.allclose(method.of_part(mixed, RGB), method.of_part(x, RGB))
    outputs = method({"views": [x]})
    outputs["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.requires_grad and not p.grad.any()] == []
    embedded = method.embed({"views": [x]})
    losses = [info_nce_of_pairs(own, embedded["image"], method.scale, embedded["there"][:, 0] > 0)
              for own in embedded["parts"].unbind(dim=1)]  # fmt: skip
    torch.testing.assert_close(outputs["loss"], torch.stack(losses).mean())
    assert method.words["accuracy"] == "sound and depth that find their image"


def test_a_sample_without_its_image_or_a_part_is_as_if_it_were_not_there():
    method, missing = aligned(), [(1, RGB), (3, SOUND)]
    x = rows(missing=missing)
    embedded = method.embed({"views": [x]})
    assert embedded["there"].tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert all(value.isfinite().all() for value in embedded.values())
    alone = method.embed({"views": [x[[0, 2, 4]]]})
    there = embedded["there"][:, SOUND].bool()
    loss = info_nce_of_pairs(embedded["parts"][:, SOUND], embedded["image"], method.scale, there)
    complete = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(
        loss, info_nce_of_pairs(alone["parts"][:, SOUND], alone["image"], method.scale, complete)
    )
    method({"views": [x]})["loss"].backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


def test_the_teacher_sees_the_raw_image_and_its_vectors_are_freed_of_what_all_share():
    method, x = aligned(), rows(missing=[(2, RGB)])
    layout = make_modality(TEXT).layout
    images = torch.stack([layout.raw(RGB, layout.unpack(row)[RGB]) for row in x[[0, 1, 3, 4]]])
    with torch.no_grad():
        encoder = open_weights(teacher_file()).encoder()
        wanted = encoder(images).units.mean(dim=1)
    torch.testing.assert_close(method.of_images(x)[[0, 1, 3, 4]], wanted, rtol=1e-4, atol=1e-4)
    method.prepare(iter([{"views": [x]}]))
    freed = (wanted - wanted.mean(dim=0)) / wanted.std(dim=0, unbiased=False)
    torch.testing.assert_close(method.of_images(x)[[0, 1, 3, 4]], freed, rtol=1e-2, atol=1e-2)
    assert not any("teacher" in name for name in method.state_dict())


def test_another_part_can_be_the_image():
    assert (aligned().place, aligned(image="rgb").place) == (RGB, RGB)
    with pytest.raises(UserError, match=r"align\(image='rbg'\), did you mean 'rgb'"):
        aligned(image="rbg")
    with pytest.raises(UserError, match=r"Parts that are images: rgb, depth"):
        aligned(image="sound")


def test_temperature_begins_as_in_clip_and_has_its_limit():
    method = small_method("align")
    assert method.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        method.log_scale.fill_(9.0)
    assert method.scale.item() == pytest.approx(100)


def test_images_alone_are_aligned_with_the_teachers_view_of_them():
    method = small_method("align")
    batch = views_of(method)
    embedded = method.embed(batch)
    assert embedded["parts"].shape[1] == 1
    units = normalize(embedded["image"], dim=1)
    assert find_partners(units, units, torch.ones(4, dtype=torch.bool)) == 1


def test_what_cannot_be_aligned_is_refused():
    with pytest.raises(UserError, match="align needs an encoder of images"):
        Align(small_encoder())
    sound = make_modality("audio(rate=4000, seconds=0.16, bands=8)")
    encoder = create_encoder(MODEL, image_size=(16, 8), patch_size=8, channels=1, **sound.for_encoder)
    with pytest.raises(UserError, match="these are recordings alone: give folders of equal names"):
        Align(encoder, of=str(teacher_file()))
    two = "sizes=((16, 8), (32,)), units=((8, 8), (8,)), means=((0.0,), (0.0,)), stds=((1.0,), (1.0,))"
    encoder = joint_encoder(f"multimodal(sound=audio(rate=4000, seconds=0.16, bands=8), ecg=signal, {two})")
    with pytest.raises(UserError, match="a part that is an image; the parts are sound=audio, ecg=signal"):
        Align(encoder, of=str(teacher_file()))
    for seen in (("rgb",), ("sound", "depth")):
        with pytest.raises(UserError, match="align needs rgb and another part to be seen"):
            Align(joint_encoder(TEXT.replace(", sizes=", f", seen={seen}, sizes=")), of=str(teacher_file()))
    with pytest.raises(UserError, match="name a trained one"):
        Align(joint_encoder(), of="random")


def test_an_encoder_of_recordings_is_no_teacher(monkeypatch):
    sound = make_modality("audio(rate=4000, seconds=0.16, bands=8)")
    encoder = create_encoder(MODEL, image_size=(16, 8), patch_size=8, channels=1, **sound.for_encoder)
    monkeypatch.setattr(align, "PooledTeacher", lambda *given: SimpleNamespace(encoder=encoder, dim=encoder.dim))
    with pytest.raises(UserError, match="it needs an encoder of images; that is one of recordings"):
        Align(joint_encoder(), of=str(teacher_file()))

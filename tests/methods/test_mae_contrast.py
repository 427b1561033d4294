"""MAE with contrastive learning: neighbours against lightly's, losses, what is frozen, and the stages."""

import pytest
import torch
from support.methods import small_encoder, small_method, views_of
from support.small import SMALL, sheet_of
from torch.nn.functional import cosine_similarity, log_softmax, normalize

import unmask
from unmask.data.transform import make_transform
from unmask.errors import UserError
from unmask.methods.families.neighbours import Neighbours
from unmask.methods.mae_contrast import MAEContrast
from unmask.models.encoder import create_encoder
from unmask.planning.method import plan_method
from unmask.planning.plan import Plan
from unmask.registry import build
from unmask.runtime.machine import Machine

TUNED = "mae_contrast(mode='tuned')"


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(size=12, dim=6, rounds=4, batch=3):
    queue, keys = Neighbours(size, dim), [random(batch, dim, seed=number) for number in range(rounds)]
    for part in keys:
        queue.note(part)
        queue.move(torch.tensor(True))
    return queue, keys


def test_neighbours_are_lightlys():
    modules = pytest.importorskip("lightly.models.modules", reason="lightly is not installed")
    queue, keys = filled()
    bank = modules.NNMemoryBankModule(size=(12, 6))
    bank(keys[0], update=False)  # makes the bank, of chance
    bank.bank.copy_(normalize(torch.cat(keys), dim=1))  # full of the same projections
    query = random(5, 6, seed=9)
    torch.testing.assert_close(queue.nearest(query), bank(query, update=False))


def test_the_queue_holds_the_latest_and_only_of_steps_that_count():
    queue, keys = filled(size=8, rounds=4)  # 12 rows into 8 places
    held = {tuple(row) for row in queue.rows.tolist()}
    assert held == {tuple(row) for row in normalize(torch.cat(keys)[-8:], dim=1).tolist()}
    before = {key: value.clone() for key, value in queue.state_dict().items()}
    queue.note(random(3, 6, seed=20))
    queue.move(torch.tensor(False))
    assert all(torch.equal(value, before[key]) for key, value in queue.state_dict().items())
    queue.note(random(30, 6, seed=21))  # more than it holds: the last ones stay
    queue.move(torch.tensor(True))
    assert torch.equal(queue.rows.sort(dim=0).values, normalize(random(30, 6, seed=21)[-8:], dim=1).sort(dim=0).values)


def test_a_positive_is_one_of_the_nearest_by_chance_and_the_query_itself_while_there_are_none():
    queue, keys = filled()
    query = random(4, 6, seed=9)
    order = (normalize(query, dim=1) @ normalize(torch.cat(keys), dim=1).T).argsort(dim=1, descending=True)
    rows = normalize(torch.cat(keys), dim=1)
    for place, chance in enumerate((0.0, 0.4, 0.9)):
        torch.testing.assert_close(queue.nearest(query, 3, torch.full((4,), chance)), rows[order[:, place]])
    empty = Neighbours(12, 6)
    torch.testing.assert_close(empty.nearest(query, 3, torch.rand(4)), normalize(query, dim=1))
    empty.note(keys[0][:1])
    empty.move()
    torch.testing.assert_close(empty.nearest(query, 3, torch.tensor([0.0, 0.5, 0.9, 0.99])), rows[:1].expand(4, -1))


def test_the_loss_of_the_head_is_nnclrs_written_out():
    method = small_method("mae_contrast(mode='head', queue=50)")
    method.queue.note(random(40, method.head.out_dim, seed=5))
    method.queue.move()
    features = random(5, 2, 24, seed=1)
    loss = method.compare({"features": features, "chance": torch.rand(5, 2)})["loss"]
    both = torch.cat([features[:, 0], features[:, 1]])
    predictions, keys = method.predictor(method.head(both)), method.teacher.module["head"](both)
    total = torch.zeros(())
    for first, second in ((0, 1), (1, 0)):
        for i in range(5):
            key = keys[5 * first + i]
            neighbour = max(method.queue.rows, key=lambda row: float(cosine_similarity(row, key, dim=0)))
            cosines = cosine_similarity(neighbour[None], predictions[5 * second : 5 * second + 5], dim=1)
            total = total - log_softmax(cosines / 0.15, dim=0)[i]
    torch.testing.assert_close(loss, total / 10, rtol=1e-4, atol=1e-5)


def test_the_joint_loss_is_the_reconstructions_and_the_contrast_of_completed_features():
    method = small_method("mae_contrast(contrast=0.5)")
    batch = views_of(method, count=6)
    torch.manual_seed(3)
    outputs = method(batch)
    torch.manual_seed(3)
    embeddings = method.embed(batch)
    queries = normalize(method.predictor(method.head(embeddings["queries"])), dim=1)
    keys = normalize(method.teacher.module["head"](embeddings["keys"]), dim=1)
    contrast = -log_softmax(queries @ keys.T / 0.07, dim=1).diagonal().mean()
    torch.testing.assert_close(outputs["loss"], outputs["rebuilt"] + 0.5 * contrast)
    plain = build("method", "mae", encoder=method.encoder, decoder=method.decoder)
    mask = method.draw(batch)
    rebuilt = plain({"views": batch["views"][:1], "mask": mask})["loss"]
    torch.testing.assert_close(method({**batch, "mask": mask})["rebuilt"], rebuilt)
    torch.testing.assert_close(method({"views": batch["views"][:1], "mask": mask})["loss"], rebuilt)


def test_only_the_head_learns_on_a_frozen_encoder_and_the_upper_half_with_it_afterwards():
    encoder = small_encoder()
    blocks = len(encoder.net.blocks)
    deep = create_encoder("vit_tiny_patch16_224(depth=4, embed_dim=24)", image_size=(32, 32), patch_size=8)
    head = MAEContrast(encoder, "head", head="mlp(hidden=8, out=4)", predictor="mlp(hidden=8, out=4)").train()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training
    assert blocks == 1
    tuned = MAEContrast(deep, "tuned", head="mlp(hidden=8, out=4)", predictor="mlp(hidden=8, out=4)")
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("encoder.net.blocks.0.", "encoder.net.blocks.1.")) for name in trained)
    assert not any("patch_embed" in name or "cls_token" in name for name in trained)
    assert all(any(name.startswith(f"encoder.net.blocks.{number}.") for name in trained) for number in (2, 3))
    rate = {name: tuned.treatment(name, parameter)[0] for name, parameter in tuned.named_parameters()}
    assert rate["encoder.net.blocks.3.attn.qkv.weight"] == pytest.approx(0.65)
    assert rate["encoder.net.blocks.2.attn.qkv.weight"] == pytest.approx(0.65**2)
    assert {rate[name] for name in trained if name.startswith(("head", "predictor"))} == {1.0}
    assert head.state_dict().keys() == MAEContrast(small_encoder(), "tuned").state_dict().keys()


def test_the_second_view_is_the_first_moved_by_a_few_pixels():
    image = (255 * torch.rand(3, 70, 70, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
    text = "shifted(jitter=(0.0, 0.0, 0.0, 0.0), solarise=0, blur=0, shift=0.25)"
    transform = make_transform((text,), size=(32, 32), channels=1, patch=8, crop=1.0, flip=False)
    moves = set()
    for seed in range(6):
        first, second = transform(image[:1], torch.Generator().manual_seed(seed))
        same = [
            (down, right)
            for down in range(9)
            for right in range(9)
            if torch.equal(first[:, down:, right:], second[:, : 32 - down, : 32 - right])
        ]
        assert len(same) == 1
        moves.add(same[0])
    assert len(moves) > 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mae_contrast(queue=64)", "queue has no meaning in mae_contrast\\(mode='joint'\\)"),
        ("mae_contrast(mode='tuned', mask='random')", "mask has no meaning"),
        ("mae_contrast(mode='head', contrast=0.5)", "contrast has no meaning"),
        ("mae_contrast(mode='both')", "mode is 'joint' or 'head' or 'tuned'"),
        ("mae_contrast(predictor='mlp(out=8)')", "8 numbers and the head 256"),
    ],
)
def test_options_that_do_not_go_together_are_refused(text, says):
    with pytest.raises(UserError, match=says):
        build("method", text, encoder=small_encoder())


def test_the_plan_chooses_a_queue_for_the_number_of_images_and_says_so():
    blank = {"method": TUNED, "mask": None, "target": None, "decoder": None, "lr": None, "blr": None, "recipe": None}
    for images, size in ((300, 128), (10_000_000, 65_536), (9, 16)):
        plan = Plan(dict(blank))
        machine = Machine("cpu", "a CPU", 1, 2**30, "32", "")
        plan_method(plan, sheet_of(count=images), machine, small_encoder())
        assert plan.settings["method"] == f"mae_contrast(mode='tuned', queue={size})"
        assert "at most half" in plan.reasons["queue"]
        assert plan.settings["decoder"] is None
    plan = Plan({**blank, "method": "mae_contrast(mode='tuned', queue=7)"})
    plan_method(plan, sheet_of(count=300), Machine("cpu", "a CPU", 1, 2**30, "32", ""), small_encoder())
    assert plan.settings["method"] == "mae_contrast(mode='tuned', queue=7)"


def test_the_stages_are_mae_and_the_head_with_the_same_widths():
    first, second = MAEContrast.stages({"mode": "tuned", "temperature": 0.2, "nearest": 5})
    assert first.method == "mae"
    assert second.method == "mae_contrast(mode='head', temperature=0.2)"
    assert 0 < first.share + second.share < 1
    assert MAEContrast.stages({}) == MAEContrast.stages({"mode": "head"}) == ()


@pytest.mark.slow
def test_three_trainings_in_a_row_hand_on_encoder_head_and_queue(photos, tmp_path):
    options = {key: value for key, value in SMALL.items() if key != "decoder"} | {"workers": 0, "steps": 12}
    text = "mae_contrast(mode='tuned', head='mlp(hidden=16, out=8)', predictor='mlp(hidden=16, out=8)')"
    run = unmask.pretrain(photos, out=tmp_path / "run", method=text, **options | {"batch": 8})
    folders = sorted((run.path / "stages").iterdir())
    assert [folder.name for folder in folders] == ["1-mae", "2-mae_contrast"]
    mae, head, tuned = unmask.load(folders[0]), unmask.load(folders[1]), run.encoder()
    for key, value in mae.net.state_dict().items():
        assert torch.equal(value, head.net.state_dict()[key])  # frozen
    assert any(not torch.equal(value, tuned.net.state_dict()[key]) for key, value in mae.net.state_dict().items())
    assert run.objective().queue.begin == 8  # of 16 places: 8 were filled by the stage before, and 16 more came


def test_the_nearest_neighbour_is_the_same_in_bf16():
    queue, angles = Neighbours(8, 2), torch.linspace(0.1, 0.2, 8)
    queue.rows.copy_(torch.stack([angles.cos(), angles.sin()], dim=1))
    queue.filled.fill_(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(queue.nearest(queue.rows), queue.rows)

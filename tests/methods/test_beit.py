"""BEiT and the ids it predicts: hidden patches only, tokenizers of any size, frozen, refused where they cannot work."""

import json

import pytest
import torch
from support.methods import PATCH, SIDE, small_encoder, small_method, tokenizer_file, views_of
from support.small import SMALL
from torch.nn.functional import cross_entropy, interpolate

import unmask
from unmask.errors import UserError
from unmask.masking.grid import take
from unmask.masking.mask import hide_top
from unmask.methods.beit import BEiT, views_for
from unmask.methods.families.tokens import Untrained, is_learned
from unmask.planning.method import with_absolute_paths
from unmask.registry import build, find
from unmask.runs.run import Run
from unmask.training import checkpoint
from unmask.weights.frozen_tokenizer import FrozenTokenizer
from unmask.weights.tokenizers import open_tokenizer

OPTIONS = {key: value for key, value in SMALL.items() if key != "decoder"} | {"steps": 4}
TOKENIZER = "vqvae(codes=12, dim=8, decoder='full(dim=16, depth=1, heads=2)')"


def test_the_loss_is_the_cross_entropy_of_the_ids_of_hidden_patches_alone():
    beit = small_method("beit").eval()
    batch = views_of(beit) | {"mask": hide_top(torch.rand(4, 16), 0.4)}
    logits, mask = beit.logits(batch["views"][0], batch["mask"]), batch["mask"]
    ids = beit.tokenizer(batch["views"][-1], beit.encoder.grid)
    by_hand = cross_entropy(logits.flatten(0, 1), take(ids[..., None], mask.hidden).flatten())
    assert logits.shape == (4, 7, 12)
    torch.testing.assert_close(beit(batch)["loss"], by_hand)
    other = ids.scatter(1, mask.visible, 0)  # ids of visible patches do not matter
    torch.testing.assert_close(beit(batch | {"ids": other})["loss"], by_hand)
    assert beit(batch | {"ids": (ids + 1) % 12})["loss"] != by_hand


def test_hidden_pixels_do_not_reach_the_predictions():
    beit = small_method("beit").eval()
    (x, *_), mask = views_of(beit)["views"], hide_top(torch.rand(4, 16), 0.4)
    x, grid = x.float(), beit.encoder.grid
    units = grid.cut(x)
    hidden = mask.hidden[..., None].expand(-1, -1, units.shape[2])
    other = grid.join(units.scatter(1, hidden, 255 * torch.rand(hidden.shape)))
    torch.testing.assert_close(beit.logits(other, mask), beit.logits(x, mask))


def test_a_tokenizer_of_another_patch_sees_the_image_at_a_size_that_gives_each_patch_one_id():
    student, opened = small_encoder(), open_tokenizer(str(tokenizer_file()))
    frozen = FrozenTokenizer(str(tokenizer_file()), student)
    x = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    assert frozen.size_for(student.grid) == (SIDE // PATCH * 4,) * 2
    small = interpolate(x.float(), (16, 16), mode="bilinear", antialias=True)
    assert torch.equal(frozen(x, student.grid), opened.tokenizer.ids(small))
    assert "16 x 16 pixels, so that each of the 4 x 4 patches has one id" in frozen.note
    wide = torch.randint(0, 256, (2, 3, 48, 32), dtype=torch.uint8)
    assert frozen(wide, student.grid_of(wide)).shape == (2, 24)


def test_beit_sees_one_crop_at_two_sizes_where_its_tokenizer_sees_less():
    assert small_method("beit").views == ("beit(second=0.5)",)
    assert views_for((32, 32), (32, 32)) == views_for((64, 64), (32, 32)) == ("crops(jitter=0.4)",)
    beit = small_method("beit").eval()
    batch = views_of(beit) | {"mask": hide_top(torch.rand(4, 16), 0.4)}
    assert [tuple(view.shape[2:]) for view in batch["views"]] == [(32, 32), (16, 16)]
    ids = open_tokenizer(str(tokenizer_file())).tokenizer.ids(batch["views"][1])
    assert torch.equal(beit(batch)["loss"], beit(batch | {"ids": ids})["loss"])


@pytest.mark.parametrize("text", ["beit", "mae(target=codes)", "simmim(target=codes)"])
def test_the_tokenizer_is_frozen_and_in_no_checkpoint(text):
    method = small_method(text)
    (frozen,) = (module for module in method.modules() if isinstance(module, FrozenTokenizer))
    before = frozen.sha256
    assert not any("tokenizer" in name for name, _ in method.named_parameters())
    assert not any("tokenizer" in name for name in method.state_dict())
    assert not any(module.training for module in (frozen.tokenizer, frozen.tokenizer.encoder))
    method(views_of(method))["loss"].backward()
    assert all(p.grad is None for p in (*frozen.tokenizer.parameters(), *frozen.tokenizer.encoder.parameters()))
    assert FrozenTokenizer(str(tokenizer_file()), small_encoder()).sha256 == before


def test_samples_of_other_units_are_brought_to_those_of_the_tokenizer():
    usual = FrozenTokenizer(str(tokenizer_file()), small_encoder())
    deep = FrozenTokenizer(str(tokenizer_file()), small_encoder(mean=127.0 * 257, std=60.0 * 257))
    x = torch.randint(0, 256, (2, 3, SIDE, SIDE))
    grid = small_encoder().grid
    assert torch.equal(usual(x.to(torch.uint8), grid), deep((x * 257).float(), grid))
    assert "brought to the mean and std" in deep.note


def test_stages_are_needed_only_where_the_tokenizer_is_learned_first(tmp_path):
    assert [stage.method for stage in BEiT.stages({})] == ["vqvae"]
    (stage,) = BEiT.stages({"tokenizer": "vqkd(of='clip.pth', codes=64)"})
    assert (stage.method, stage.option) == ("vqkd(of='clip.pth', codes=64)", "tokenizer")
    assert BEiT.stages({"tokenizer": str(tokenizer_file())}) == BEiT.stages({"tokenizer": "runs/tokens"}) == ()
    assert is_learned("vqvae")
    assert not is_learned("dalle")
    assert not is_learned("mae")


def test_a_folder_that_is_called_as_a_tokenizer_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vqvae").mkdir()
    assert [stage.method for stage in BEiT.stages({})] == ["vqvae"]
    assert with_absolute_paths("beit(tokenizer='vqvae')") == "beit(tokenizer='vqvae')"
    assert with_absolute_paths("beit(tokenizer='./vqvae')") == f"beit(tokenizer='{tmp_path}/vqvae')"
    assert BEiT.stages({"tokenizer": "./vqvae"}) == ()
    (tmp_path / "clip.pth").touch()
    nested = with_absolute_paths("beit(tokenizer=\"vqkd(of='clip.pth')\")")
    assert f"{tmp_path}/clip.pth" in nested


BRIGHT = '''
"""Brightness in a few steps. A toy."""
from unmask.masking.grid import Grid
from unmask.models.tokenizer import Tokenizer
__all__ = ["Bright"]
class Bright(Tokenizer):
    def __init__(self, steps=4):
        super().__init__()
        self.num_codes, self.channels, self.grid = steps, 3, Grid((8, 8), (4, 4))
    def ids(self, x):
        brightness = self.grid.covering(x.shape[2:]).cut(x.float()).mean(dim=2) / 256
        return (brightness * self.num_codes).long()
'''


@pytest.mark.slow
def test_a_tokenizer_may_be_a_part_from_outside(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bright.py").write_text(BRIGHT)
    first = unmask.pretrain(photos, out="beit", method="beit(tokenizer='./bright.py(steps=5)')", **OPTIONS)
    assert not (first.path / "stages").exists()
    objective = Run(first.path, parts=("./bright.py",)).objective()
    assert objective.predict_ids.out_features == 5
    options = OPTIONS | {"target": "codes(of='./bright.py')", "decoder": SMALL["decoder"]}
    assert unmask.pretrain(photos, out="mae", **options).finished
    with pytest.raises(UserError, match="is not run"):
        Run(first.path, parts=()).objective()


def test_a_tokenizer_that_nobody_trained_is_planned_with_and_never_trained_with():
    beit = build("method", f"beit(tokenizer={TOKENIZER!r})", encoder=small_encoder())
    assert isinstance(beit.tokenizer, Untrained)
    assert beit(views_of(beit))["loss"].isfinite()
    with pytest.raises(UserError, match="has to be trained before: unmask pretrain does it"):
        beit.before_step(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "beit(tokenizer='nowhere/tokens')"}, "nowhere/tokens: there is no such file or folder"),
        (
            {"method": "beit(tokenizer='vqvea')"},
            r"no tokenizer 'vqvea', did you mean 'vqvae'\? Give the folder of a run",
        ),
        ({"method": "beit(tokenizer='vqvae(cods=3)')"}, "no option 'cods'"),
        ({"method": "beit(tokenizer='vqvae(codes=1)')"}, "codes"),
        ({"method": "beit(tokenizer='vqkd')"}, "vqkd needs a teacher"),
        ({"method": "beit(tokenizer='vqkd(of=\"nowhere.pth\")')"}, "the teacher cannot be opened"),
        ({"target": "codes"}, "codes needs a tokenizer"),
        ({"target": "codes(of='vqvae')"}, "has to be trained first: unmask pretrain DATA --method"),
        ({"method": "beit", "steps": 1}, "too small for 2 trainings in a row"),
        ({"method": "beit", "model": "hiera_tiny_224", "image_size": 224, "patch_size": 32}, "drops them; use mae"),
        ({"method": "vqkd"}, "vqkd needs a teacher"),
    ],
)
def test_tokenizers_that_cannot_work_are_refused_before_the_data_is_read(options, words, tmp_path):
    small = {key: value for key, value in OPTIONS.items() if key != "decoder"} | options
    with pytest.raises(UserError, match=words):
        unmask.pretrain("anywhere", out=tmp_path / "run", **small)


def test_a_tokenizer_of_other_channels_is_refused_with_the_remedy(tmp_path):
    text = f"beit(tokenizer={str(tokenizer_file())!r})"
    with pytest.raises(UserError, match=r"sees 3 channels, the images have 1: give --channels 3, or train a tokenizer"):
        unmask.pretrain("anywhere", out=tmp_path / "run", method=text, channels=1, **OPTIONS)


@pytest.mark.slow
def test_a_run_that_made_a_tokenizer_is_used_by_others_as_long_as_it_stays_the_same(photos, tmp_path, capsys):
    run = unmask.pretrain(photos, out=tmp_path / "beit", method=f"beit(tokenizer={TOKENIZER!r})", **OPTIONS)
    made = run.path / "stages" / "1-vqvae"
    assert (made / "tokenizer.safetensors").exists()
    assert (made / "report.html").exists()
    objective = run.objective()
    assert objective.tokenizer.source == str(made)
    assert not any("tokenizer" in name for name in checkpoint.read_newest(run.path)[1]["objective"])
    own = find("method", "vqvae")
    stage = Run(made).objective()
    assert isinstance(stage, own)
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(stage.tokenizer.ids(x), objective.tokenizer(x, objective.encoder.grid))
    capsys.readouterr()
    decoder = SMALL["decoder"]
    options = OPTIONS | {"target": f"codes(of={str(made)!r})", "decoder": decoder}
    unmask.pretrain(photos, out=tmp_path / "mae", **options)
    assert "12 ids; sees images at 32 x 32 pixels" in " ".join(capsys.readouterr().out.split())
    (tokenizer,) = json.loads((tmp_path / "mae" / "config.json").read_text())["record"]["teachers"]
    assert tokenizer["source"] == str(made)
    assert (tmp_path / "mae" / "encoder.safetensors").stat().st_size < 1.1 * (
        made / "encoder.safetensors"
    ).stat().st_size
    unmask.pretrain(photos, out=tmp_path / "explicit", method=f"beit(tokenizer={str(made)!r})", **OPTIONS)
    assert not (tmp_path / "explicit" / "stages").exists()
    unmask.pretrain(photos, out=tmp_path / "other", method=TOKENIZER, **OPTIONS | {"seed": 1})
    (tmp_path / "other" / "tokenizer.safetensors").rename(made / "tokenizer.safetensors")
    with pytest.raises(UserError, match=r"the weights of the tokenizer .* are not those that the run was begun with"):
        Run(tmp_path / "mae").objective()

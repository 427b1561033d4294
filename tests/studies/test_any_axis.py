"""Axes of any option: what they change, what they refuse, and what is said of the growth with size."""

import numpy as np
import pytest
from support.configuring import config_of

from unmask.errors import UserError
from unmask.studies.ablation.any_axis import Text, needs_plan, read_axes
from unmask.studies.ablation.axes import BASELINE, Value
from unmask.studies.ablation.findings import Interval, Row
from unmask.studies.ablation.scaling import fit_law, laws, sentence

CONFIG = config_of(decoder="full(dim=32, depth=1, heads=2)", mask="random(ratio=0.75)", target="pixels")


def changes(text, config=CONFIG):
    return {value.label: dict(value.changes) for value in Text.parse(text).axis(config).values}


def test_an_option_of_a_part_changes_that_part_alone():
    assert changes("mask.ratio=0.9,0.5,0.75") == {
        "0.5": {"mask": "random(ratio=0.5)"},
        "0.75": {},
        "0.9": {"mask": "random(ratio=0.9)"},
    }
    assert changes("decoder.depth=1,4")["4"] == {"decoder": "full(dim=32, depth=4, heads=2)"}
    assert changes("method.symmetric=True")["True"] == {"method": "mae(symmetric=True)"}
    assert changes("target.normalize=False,True") == {"False": {"target": "pixels(normalize=False)"}, "True": {}}


def test_values_are_split_at_commas_outside_of_brackets():
    axis = Text.parse("target=pixels, pca(components=8), features(of='a,b')")
    assert axis.values == ("pixels", "pca(components=8)", "features(of='a,b')")
    assert changes("batch=4,16")["4"] == {"batch": 4}
    assert changes("crop-kind=random,whole")["whole"] == {"crop_kind": "whole"}
    assert changes("image-size=64x32")["64x32"] == {"image_size": (64, 32)}


def test_the_baseline_is_always_among_the_values_and_written_defaults_are_the_baseline():
    axis = Text.parse("mask.ratio=0.9,0.5").axis(CONFIG)
    assert [value.key == BASELINE for value in axis.values] == [False, True, False]
    assert [value.x for value in axis.values] == [0.5, 0.75, 0.9]
    assert changes("target=pixels(normalize=True),pca") == {"pixels(normalize=True)": {}, "pca": {"target": "pca"}}
    assert changes("length=1,2") == {"1": {}, "2": {"length": 2.0}}


def test_models_are_placed_by_their_parameters():
    small, large = (f"vit_tiny_patch16_224(depth=1, embed_dim={dim}, num_heads=2)" for dim in (16, 128))
    axis = Text.parse(f"model={large},{small}").axis(CONFIG)
    assert [value.label for value in axis.values if value.changes] == [small, large]
    assert axis.unit == "parameters of the encoder"
    assert axis.logarithmic
    assert all(needs_plan(value.changes) for value in axis.values if value.changes)
    assert not needs_plan({"mask": "block"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ratio", "an option and its values"),
        ("mask.ratio=", "an option and its values"),
        ("mask.ratio=0.5,,0.9", "an option and its values"),
        ("mask.ratio=0.5,0.5", "twice"),
        ("masks.ratio=0.5", "did you mean 'mask'"),
        ("learning_rate=0.1", "no option that can be varied"),
        ("patch=8", "patch_size"),
        ("mask.ration=0.5", "did you mean 'ratio'"),
        ("batch=4.5", "whole numbers above 0"),
        ("batch=many", "is no number"),
        ("crop=-1", "numbers above 0"),
        ("crop_kind=randm", "did you mean 'random'"),
        ("target=pixls", "did you mean 'pixels'"),
        ("image_size=64x64x64", "one number of pixels"),
        ("model.depth=1)", "whole number"),
        ("model=vit_tiny_patch16_224(depth=1", "cannot read"),
    ],
)
def test_what_cannot_be_varied_is_said(text, said):
    with pytest.raises(UserError, match=said):
        Text.parse(text).axis(CONFIG)


def test_an_axis_is_asked_for_once():
    with pytest.raises(UserError, match="twice"):
        read_axes(["target=pixels", "target=pca"])
    with pytest.raises(UserError, match="twice"):
        read_axes(["target=pixels,pca"], ["target"])


def test_a_power_law_is_found_where_there_is_one():
    sizes = np.array([1e4, 1e5, 1e6, 1e7])
    seeds = np.array([0.0, 0.01, -0.01])
    errors = 2 * sizes ** -(0.15 + seeds[:, None])
    law = fit_law(sizes, errors)
    assert law.exponent == pytest.approx(0.15, abs=1e-9)
    assert (law.low, law.high) == pytest.approx((0.15 - 0.02484, 0.15 + 0.02484), abs=1e-4)  # t 4.303 * 0.01 / sqrt(3)
    assert law.lacks == ""
    assert "too few" in fit_law(sizes[:3], errors[:, :3]).lacks
    assert "too small" in fit_law(sizes**0.1, errors).lacks
    assert "interval" in fit_law(sizes, errors[:1]).lacks
    assert "zero" in fit_law(sizes, np.array([[0.5, 0.4, 0.5, 0.4], [0.4, 0.5, 0.4, 0.5], [0.5, 0.5, 0.4, 0.4]])).lacks
    bent = np.array([[0.8, 0.8, 0.8, 0.1]] * 3) * (1 + seeds[:, None])
    assert "line" in fit_law(sizes, bent).lacks
    assert np.isfinite(fit_law(sizes, np.zeros((3, 4))).exponent)


def row(value, accuracies):
    of = Interval(float(np.mean(accuracies)), None, None, list(accuracies))
    return Row(value, [0, 1, 2], {"finetune": of, "linear": of}, {}, 1.0, 1.0, 1.0, None, {})


def test_the_growth_with_size_is_a_sentence_about_the_seeds_that_all_sizes_have():
    models = [f"vit_tiny_patch16_224(depth=1, embed_dim={dim}, num_heads=2)" for dim in (16, 32, 64, 128)]
    axis = Text.parse(f"model={','.join(models)}").axis(CONFIG)
    rows = [row(v, 1 - 0.9 * (v.x / 1e3) ** -np.array([0.2, 0.21, 0.22])) for v in axis.values]
    assert laws(axis, rows)["linear"].exponent == pytest.approx(0.21)
    assert "falls with their power of 0.210" in sentence(axis, rows)
    assert sentence(Text.parse("mask.ratio=0.5").axis(CONFIG), [row(Value("0.5"), [0.5])]) == ""
    rows[0].seeds.pop()
    assert laws(axis, rows)["linear"].exponent == pytest.approx(0.205)

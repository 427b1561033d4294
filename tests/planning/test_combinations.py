"""Every method with every mask, target, decoder and kind of option: it trains, or says in a sentence why it cannot."""

import inspect

import pytest
import torch
from support.methods import shrunk, small_method, views_of, with_teacher
from support.small import sheet_of

from unmask.data.transform import smaller
from unmask.errors import UserError
from unmask.methods.families.views import joint_defaults
from unmask.planning.method import refuse_batch
from unmask.registry import find, names, parse
from unmask.training.objective import Comparing

METHODS = names("method")
PARTS = {kind: names(kind) for kind in ("mask", "target", "decoder")}
WRONG = (0, -1, 2.5, "x", True, (1, 2))


def combinations(name):
    """Every part of each kind that the method takes, the others as they are; and every decoder with the mask that
    leaves units out."""
    takes = inspect.signature(find("method", parse(name)[0])).parameters
    own = {kind: parts for kind, parts in PARTS.items() if kind in takes}
    for kind, parts in own.items():
        for part in parts:
            yield {kind: shrunk(part) if kind == "decoder" else with_teacher(part)}
    if {"mask", "decoder"} <= own.keys():
        yield from ({"mask": "multiblock", "decoder": shrunk(decoder)} for decoder in PARTS["decoder"])


def only_for(target):
    """What the samples have to be that a target is for; of one that is for all, what no message says."""
    return getattr(find("target", parse(target)[0]), "only", "") or "\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siglip(mae=1.0)" if name == "siglip" else name for name in METHODS])
def test_every_method_trains_with_every_part_or_refuses_it_in_a_sentence(name):
    refused = []
    for parts in combinations(name):
        try:
            method = small_method(name, **parts)
        except UserError as error:
            refused.append((parts, str(error)))
            continue
        batch = views_of(method, count=2)
        method.prepare(iter([batch] * 4))
        method.scheduled = method.schedules(0.5)
        method(batch)["loss"].backward()
        method.after_step(0.5)
        trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained), parts
    assert all("mask" in parts or "decoder" in parts or only_for(parts["target"]) in said for parts, said in refused)
    assert not any("\n" in said for _, said in refused)


@pytest.mark.parametrize("name", METHODS)
def test_options_of_methods_that_are_of_another_type_or_out_of_range_are_refused_in_a_sentence(name):
    """Or they are allowed, and the method can be built."""
    for option, parameter in inspect.signature(find("method", name)).parameters.items():
        if option == "encoder":
            continue
        refused = {}
        for value in WRONG:
            try:
                small_method(f"{name}({option}={value!r})")
            except UserError as error:
                refused[value] = str(error)
        assert {"x", (1, 2)} <= refused.keys(), option
        assert not any("\n" in said for said in refused.values())
        assert isinstance(parameter.default, bool) or -1 in refused, option


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_compare_images_refuse_one_image_and_a_batch_with_an_image_twice(name):
    method = find("method", name)
    settings = {"method": name, "batch": 8, "accumulate": 1, "grad_cache": False, "views_per_image": 1}
    refuse_batch(settings, method, images=8)
    if method.least == 1:
        refuse_batch(settings | {"batch": 1}, method, images=1)
        return
    with pytest.raises(UserError, match="there is only 1 image"):
        refuse_batch(settings, method, images=1)
    if issubclass(method, Comparing):
        with pytest.raises(UserError, match="one of 8 holds some of the 7 images twice: give --batch 7 or less"):
            refuse_batch(settings, method, images=7)


@pytest.mark.parametrize(("images", "batch"), [(2, 2), (3, 2), (7, 4), (8, 8), (40, 8), (130, 32), (9999, 256)])
def test_a_batch_that_is_chosen_holds_no_image_twice(images, batch, encoder):
    choices = joint_defaults(encoder, sheet_of(count=images), crop=0.1, weight_decay=0.1, blr=1e-4, name="a paper")
    assert choices["batch"].value == batch


@pytest.mark.parametrize(
    ("size", "patch", "small"),
    [((224, 224), 16, (96, 96)), ((64, 64), 8, (24, 24)), ((32, 32), 16, (32, 32)), ((32, 32), 32, (32, 32))]
    + [((42, 42), 14, (28, 28)), ((32, 64), 8, (16, 24)), ((96, 48), 12, (36, 24))],
)
def test_small_views_are_whole_patches_and_never_larger_than_large_ones(size, patch, small):
    assert smaller(size, 96 / 224, patch) == small


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("channels", "size"), [(1, (32, 32)), (4, (32, 32)), (3, (32, 64))])
def test_every_method_takes_any_number_of_channels_and_images_that_are_not_square(name, channels, size):
    if (name, channels) == ("distil", 4):  # its teacher knows colours
        with pytest.raises(UserError, match="sees images of 3 channels, the student those of 4"):
            small_method(name, channels=channels, size=size)
        return
    method = small_method(name, channels=channels, size=size)
    batch = views_of(method, count=2, channels=channels, size=size)
    method.scheduled = method.schedules(0.5)
    loss = method(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)

"""What every method keeps: it learns, every parameter takes part, bf16 stays finite, and a run resumes to the bit."""

import inspect
from pathlib import Path

import pytest
import torch
from support.methods import small_method, views_of
from support.small_training import Crash, losses, train

from unmask.models.ema import Teacher
from unmask.registry import find, names, parse
from unmask.training.objective import Comparing, Objective
from unmask.training.optimizer import groups

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"

OTHERS = [
    "mae(symmetric=True)",
    "mae_contrast(mode='tuned')",
    "mae_contrast(mode='head')",
    "igpt(masked=True)",
    "igpt(prefix=False)",
    "dino(balance='sinkhorn')",
    "siglip(mae=1.0)",
]
TARGETS = ["mae(target=palette)", "mae(target=ema)", "mae(target=features)", "simmim(target=features)"]
TARGETS += ["mae(target=codes)", "simmim(target=codes)", "mae(target=hog)", "simmim(target=hog)"]
TARGETS += [f"{name}(target=frequency(mode={mode!r}))" for name in ("mae", "simmim") for mode in ("laplacian", "fft")]
TARGETS += ["mae(target=pixels(scales=(1, 4)))", "simmim(target=frequency)", "mae(target=mix)", "simmim(target=mix)"]
MASKS = [f"mae(mask={name})" for name in names("mask") if find("mask", name).needs]  # told by the method
MASKS += ["simmim(mask=adaptive)", "simmim(mask=attention)", "mae(mask='random(ratio=(0.4, 0.8))')"]
METHODS = [*names("method"), *OTHERS, *TARGETS, *MASKS]


def step(method, batch, adam, progress=0.5, moves=True):
    method.scheduled = method.schedules(progress)
    loss = method(batch)["loss"]
    adam.zero_grad()
    loss.backward()
    adam.step()
    if moves:
        method.after_step(progress)
    return loss.item()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_one_batch(name):
    """Teachers are held still, so that what is to be learnt stays the same."""
    method = small_method(name)
    batch = views_of(method, count=6)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(trained, lr=2e-3)
    measured = [step(method, batch, adam, moves=False) for _ in range(25)]
    first, last = sum(measured[:5]) / 5, sum(measured[-5:]) / 5
    assert last < first - 0.02 * abs(first), (first, last)


@pytest.mark.parametrize("name", METHODS)
def test_every_trained_parameter_of_every_method_gets_a_gradient_and_a_teacher_none(name):
    method = small_method(name)
    batch = views_of(method)
    method.scheduled = method.schedules(0.5)
    method(batch)["loss"].backward()
    silent = [key for key, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert silent == []
    optimized = {id(p) for group in groups(method, 0.05) for p in group["params"]}
    for teacher in (module for module in method.modules() if isinstance(module, Teacher)):
        assert not any(p.requires_grad or p.grad is not None or id(p) in optimized for p in teacher.parameters())
        assert not any(module.training for module in teacher.module.modules())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_stays_finite_in_bf16(name):
    method = small_method(name)
    method.scheduled = method.schedules(0.5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(views_of(method))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_is_stopped_and_resumed_ends_with_the_same_losses_and_weights(name, tmp_path):
    def batches(first):
        while True:
            yield seen[first % len(seen)]
            first += 1

    def stop(step, steps):
        if step == 3:
            raise Crash
        return {}

    options = {"steps": 5, "warmup": 2, "lr": 1e-3, "log_every": 1, "save_every": 2, "batches": batches}
    method = small_method(name)
    seen = [views_of(method, count=6, seed=seed) for seed in range(3)]
    whole = train(tmp_path / "whole", method, **options)
    with pytest.raises(Crash):
        train(tmp_path / "resumed", small_method(name), stop, **options)
    resumed = train(tmp_path / "resumed", small_method(name, seed=1), **options)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 5
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("name", names("method"))
def test_what_is_exported_and_judged_is_the_teacher_where_the_paper_says_so_and_else_the_student(name):
    method = small_method(name)
    taught = [part for m in method.modules() if isinstance(m, Teacher) for part in m.module.modules()]
    assert any(method.kept is part for part in taught) is (name in ("dino", "ibot", "dinov2", "ijepa"))
    assert method.kept is method.encoder or name in ("dino", "ibot", "dinov2", "ijepa")


@pytest.mark.parametrize("name", METHODS)
def test_teachers_follow_their_student_only_when_a_step_counts(name):
    method = small_method(name)
    teachers = [module for module in method.modules() if isinstance(module, Teacher)]
    adam = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    step(method, views_of(method), adam)
    before = [{key: value.clone() for key, value in teacher.state_dict().items()} for teacher in teachers]
    method.after_step(0.5, torch.tensor(False))
    for teacher, state in zip(teachers, before):
        assert all(torch.equal(value, state[key]) for key, value in teacher.state_dict().items())
    method.after_step(0.1, torch.tensor(True))
    for teacher, state in zip(teachers, before):
        assert any(not torch.equal(value, state[key]) for key, value in teacher.state_dict().items())


@pytest.mark.parametrize("name", names("method"))
def test_every_method_says_what_it_needs_and_what_its_numbers_mean(name):
    method = small_method(name)
    outputs = method(views_of(method))
    assert isinstance(method, Objective)
    assert set(method.words) <= set(outputs)
    assert {symptom.scalar for symptom in method.symptoms} <= set(outputs)
    assert all(symptom.says and symptom.remedy for symptom in method.symptoms)
    rows = DOCS.read_text(encoding="utf-8").splitlines()
    for symptom in method.symptoms:  # each is a row of the docs
        limit = f"below {symptom.below:g}" if symptom.above is None else f"above {symptom.above:g}"
        said = f"| `{symptom.scalar}` {limit} | {symptom.says} | {symptom.remedy} |"
        assert any(said in row and f"`{name}`" in row for row in rows), said
    assert method.kept.grid.shape == method.encoder.grid.shape
    assert method.divisible is not isinstance(method, Comparing) or name == "dinov2"
    assert inspect.getdoc(find("method", parse(name)[0]).__init__) or name == "mae"

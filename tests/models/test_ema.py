"""Teachers: fp32, silent, equal to the student at first, moved by the rule and only when a step counted."""

import copy

import pytest
import torch
from torch import nn

from unmask.models.ema import Teacher, cosine, reset_teachers
from unmask.models.layers.batch_norm import BatchNorm
from unmask.training.speed.bf16_weights import lower


def pair():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 8), BatchNorm(8), nn.ReLU(), nn.Linear(8, 3))
    return student, Teacher(student)


def shift(student, by=1.0):
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(by)


def test_a_teacher_is_a_silent_copy_in_eval_mode():
    student, teacher = pair()
    assert not any(p.requires_grad for p in teacher.parameters())
    teacher.train()
    assert not any(module.training for module in teacher.module.modules())
    x = torch.randn(5, 4)
    assert torch.equal(teacher(x), student.eval()(x))
    assert not teacher(x).requires_grad
    assert not any(name.startswith("_student") for name, _ in teacher.named_parameters())
    assert {p.dtype for p in Teacher(copy.deepcopy(student).bfloat16()).parameters()} == {torch.float32}


def test_it_moves_by_the_rule_and_only_when_a_step_counted():
    student, teacher = pair()
    before = [p.clone() for p in teacher.parameters()]
    shift(student)
    student.train()(torch.randn(16, 4))  # statistics of the batch norm move too
    teacher.update(0.9, torch.tensor(False))
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), before))
    assert torch.equal(teacher.module[1].running_mean, torch.zeros(8))
    for good in (torch.tensor(True), None):
        before = [p.clone() for p in teacher.parameters()]
        statistics = teacher.module[1].running_mean.clone()
        teacher.update(0.9, good)
        for mine, old, theirs in zip(teacher.parameters(), before, student.parameters()):
            torch.testing.assert_close(mine, 0.9 * old + 0.1 * theirs)
        torch.testing.assert_close(teacher.module[1].running_mean, 0.9 * statistics + 0.1 * student[1].running_mean)


def test_values_that_are_not_finite_do_not_reach_it():
    student, teacher = pair()
    with torch.no_grad():
        student[1].running_mean.fill_(float("nan"))
    teacher.update(0.9, torch.tensor(False))
    assert all(value.isfinite().all() for value in teacher.state_dict().values())


def test_it_follows_the_masters_of_bf16_weights():
    torch.manual_seed(0)
    block = nn.ModuleDict({"blocks": nn.Sequential(nn.Linear(4, 4))})
    teacher = Teacher(block)
    lower(block)
    weight = block["blocks"][0].weight
    assert weight.dtype == torch.bfloat16
    weight.master.add_(1e-4)  # less than bf16 can tell
    before = teacher.module["blocks"][0].weight.clone()
    teacher.update(0.0)
    torch.testing.assert_close(teacher.module["blocks"][0].weight, before + 1e-4, rtol=0, atol=1e-6)


def test_after_other_weights_it_begins_anew():
    student, teacher = pair()
    whole = nn.ModuleDict({"student": student, "teacher": teacher})
    shift(student, 3.0)
    reset_teachers(whole)
    assert all(torch.equal(p, q) for p, q in zip(teacher.parameters(), student.parameters()))


def test_a_copy_of_an_objective_has_a_teacher_of_its_own_student():
    student, teacher = pair()
    whole = nn.ModuleDict({"student": student, "teacher": teacher})
    other = copy.deepcopy(whole)
    shift(other["student"])
    other["teacher"].update(0.0)
    assert torch.equal(next(other["teacher"].parameters()), next(other["student"].parameters()))
    assert not torch.equal(next(teacher.parameters()), next(other["teacher"].parameters()))


def test_the_cosine_goes_from_one_value_to_the_other():
    assert [cosine(0.996, 1.0, p) for p in (0, 0.5, 1)] == pytest.approx([0.996, 0.998, 1.0])
    assert cosine(0.04, 0.4, 0.25) == pytest.approx(0.04 + 0.36 * (1 - 2**-0.5) / 2)

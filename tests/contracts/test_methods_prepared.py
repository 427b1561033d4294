"""What every method keeps when its model is prepared: compiled blocks compute the same, and after `--init` teachers
begin as copies of their students."""

import sys

import pytest
import torch
from safetensors.torch import save_file
from support.methods import MODEL, PATCH, SIDE, small_encoder, small_method, views_of

from unmask.models.ema import Teacher
from unmask.planning.initial_weights import initial
from unmask.registry import names
from unmask.runtime.settings import RuntimeSettings
from unmask.training.speed.compile import ready

METHODS = [*names("method"), "mae(target=ema)", "mae(symmetric=True)", "mae(mask=attention)", "simmim(mask=adaptive)"]


def loss_and_gradients(method):
    method.scheduled = method.schedules(0.5)
    torch.manual_seed(3)  # of masks
    loss = method(views_of(method))["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def require_the_same(name, backend):
    torch.compiler.reset()
    plain, method = small_method(name), small_method(name)
    wanted, gradients = loss_and_gradients(plain)
    loss, compiled = loss_and_gradients(ready(method, RuntimeSettings(precision="32", compile="on"), backend=backend))
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    assert compiled.keys() == gradients.keys()
    for key, value in gradients.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-3, atol=1e-5)
    assert [*method.state_dict()] == [*plain.state_dict()]


QUICK = ("dino", "simclr", "lejepa")  # the others take seconds each
TRACED = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in METHODS]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACED)
def test_every_method_whose_blocks_are_compiled_computes_the_same(name):
    """The compiler traces them, its teacher's too; what it would make of the graphs is the next test."""
    graphs = []
    require_the_same(name, lambda graph, inputs: graphs.append(graph) or graph)
    assert graphs


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_computes_the_same_when_it_is_really_compiled(name, monkeypatch):
    for module in [module for module in sys.modules if module.split(".")[0] == "distutils"]:
        monkeypatch.delitem(sys.modules, module)  # setuptools, which the compiler needs, refuses Python's own
    require_the_same(name, "inductor")


@pytest.mark.parametrize("name", METHODS)
def test_after_init_the_teacher_of_every_method_begins_as_a_copy_of_its_student(name, tmp_path):
    torch.manual_seed(7)
    save_file(small_encoder().net.state_dict(), tmp_path / "weights.safetensors")
    method = small_method(name)
    before = {key: value.clone() for key, value in method.encoder.net.state_dict().items()}
    initial(str(tmp_path / "weights.safetensors"), MODEL, image_size=(SIDE, SIDE)).load(method, None, ())
    assert method.encoder.grid.unit == (PATCH, PATCH)
    assert any(not torch.equal(value, before[key]) for key, value in method.encoder.net.state_dict().items())
    for teacher in (module for module in method.modules() if isinstance(module, Teacher)):
        for mine, theirs in zip(teacher.module.state_dict().values(), teacher.student.state_dict().values()):
            assert torch.equal(mine, theirs)

"""Every global name that code of the package loads is there: a name lost in a move is found before a user calls it."""

import builtins
import dis
import importlib
import pkgutil
import types

import pytest

import unmask

MODULES = [module.name for module in pkgutil.walk_packages(unmask.__path__, "unmask.") if "__main__" not in module.name]


def globals_of(code):
    """Names that a code object and those inside it look up among the globals."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from globals_of(constant)


@pytest.mark.parametrize("name", MODULES)
def test_every_global_name_that_a_module_uses_is_defined(name):
    module = importlib.import_module(name)
    with open(module.__file__, encoding="utf-8") as file:
        code = compile(file.read(), module.__file__, "exec")
    lost = {used for used in globals_of(code) if not hasattr(module, used) and not hasattr(builtins, used)}
    assert sorted(lost) == []


def test_a_lost_name_is_seen():
    assert "lost" in set(globals_of(compile("def f():\n    return [lost for _ in range(3)]", "f", "exec")))

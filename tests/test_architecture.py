"""The architecture, enforced: which room may import which, who may use which library, how long a file may be."""

import ast
import builtins
import dis
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import CodeType

import pytest

import unmask

ROOT = Path(unmask.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
GROUND = {"__init__", "__main__", "errors", "registry", "seeds", "files", "plain", "choice", "version"}
ROOMS = [  # from top to bottom; rooms of one line do not import each other
    ["cli"],
    ["studies"],
    ["tasks"],
    ["export"],
    ["evaluation"],
    ["planning", "report"],
    ["runs"],
    ["methods"],
    ["weights"],
    ["training"],
    ["models", "data"],
    ["masking"],
    ["runtime"],
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
FENCES = {  # third-party library -> the only rooms, folders or files that may import it
    "timm": ["models", "weights", "export", "data/transforms"],
    "lightning": ["training", "runtime/distributed"],
    "onnx": ["export"],
    "onnxruntime": ["export"],
    "transformers": ["export"],
    "PIL": ["data", "report", "tasks", "cli/commands"],
    "cv2": ["data/codecs"],
    "tifffile": ["data/codecs"],
    "simplejpeg": ["data/codecs"],
    "av": ["data/codecs"],
    "soundfile": ["data/codecs"],
    "nibabel": ["data/codecs"],
    "pydicom": ["data/codecs"],
    "laspy": ["data/codecs"],
    "rasterio": ["data/codecs"],
    "sklearn": ["evaluation", "studies", "tasks/retrieval"],
    "tyro": ["cli", "plain.py"],
    "jinja2": ["report"],
    "torchmetrics": ["tasks"],
    "fsspec": ["data/shards"],
    "aiohttp": ["data/shards"],
    "datasets": ["data/shards"],
    "tenacity": ["data/shards"],
    "tokenizers": ["data/captions"],
    "braceexpand": ["data/shards"],
    "yaml": ["data/annotations", "cli/settings_file.py"],
    "tensorboard": [],  # by torch.utils.tensorboard
    "wandb": ["training/trackers"],
    "mlflow": ["training/trackers"],
    "faiss": ["tasks/retrieval"],
    "umap": ["tasks/retrieval"],
    "faster_coco_eval": ["data/annotations", "tasks/detection"],
    "pycocotools": [],
}


def module_of(path):
    parts = ("unmask", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def imports(path):
    """Full names of all modules that a file imports, those inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: write imports from the root"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def room_of(module):
    return module.split(".")[1] if "." in module else "__init__"


def name_of(path):
    return str(path.relative_to(ROOT))


def test_every_file_stands_in_a_room():
    entries = {p.stem if p.suffix == ".py" else p.name for p in ROOT.iterdir() if p.name != "__pycache__"}
    assert entries <= GROUND | RANK.keys() | {"__init__.pyi", "py.typed"}


def test_rooms_import_downwards_only():
    upward = []
    for path in FILES:
        here = room_of(module_of(path))
        for module in imports(path):
            there = room_of(module) if module.startswith("unmask") else ""
            if here in ("__init__", "__main__") or here == there or not there or module == "unmask.version":
                continue
            if there == "__init__" or (there in RANK and (here in GROUND or RANK[here] >= RANK[there])):
                upward.append(f"{name_of(path)} -> {module}")
    assert upward == []


def test_there_are_no_circles():
    edges = {module_of(p): {m for m in imports(p) if m in MODULES and m != module_of(p)} for p in FILES}
    while free := [module for module, targets in edges.items() if not targets & edges.keys()]:
        edges = {module: targets for module, targets in edges.items() if module not in free}
    assert edges == {}  # what is left imports itself in the end


def test_options_are_plain_data_that_stay_in_the_command_line():
    for path in FILES:
        here = name_of(path)
        for module in imports(path):
            if here.startswith("cli/options/") and module.startswith("unmask."):
                assert room_of(module) in GROUND or module == "unmask.cli.shared_options", f"{here} imports {module}"
            if module.startswith("unmask.cli"):
                assert here.startswith(("cli/", "__init__", "__main__")), f"{here} imports {module}"


def test_libraries_stay_behind_their_fences():
    outside = []
    for path in FILES:
        for module in imports(path):
            library = module.split(".")[0]
            if library in FENCES and not name_of(path).startswith(tuple(FENCES[library])):
                outside.append(f"{name_of(path)} imports {library}")
    assert outside == []


def test_parts_of_one_kind_do_not_import_each_other():
    from unmask.registry import KINDS

    for package in KINDS.values():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for path in folder.glob("*.py"):
            siblings = [m for m in imports(path) if m.rpartition(".")[0] == package and m != module_of(path)]
            contracts = [m for m in siblings if (folder / f"{m.rpartition('.')[2]}s").is_dir()]
            assert siblings == contracts, f"{name_of(path)} imports {siblings}"


def test_files_and_functions_are_short_and_say_what_they_are_for():
    long = []
    for path in FILES:
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > 300:
            long.append(f"{name_of(path)}: {lines} lines")
        assert ast.get_docstring(TREES[path]), f"{name_of(path)} must open by saying what it is for"
        assert path.name not in ("utils.py", "util.py", "helpers.py", "base.py", "common.py", "misc.py")
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 60:
                    long.append(f"{name_of(path)}: {node.name} has {length} lines")
    assert long == []


ENDINGS = ("ings", "ing", "ers", "er", "ed", "es", "s", "ations", "ation", "ization", "ize", "e", "ables", "able")


def stem(name):
    """embedding, embedded, embed: the same stem, so that they would be taken for one another."""
    ending = next((e for e in ENDINGS if name.endswith(e) and len(name) - len(e) >= 3), "")
    return re.sub(r"(.)\1$", r"\1", name.removesuffix(ending) if ending else name)


def test_folders_are_small_and_names_differ_by_more_than_an_ending():
    folders = defaultdict(list)
    for path in FILES:
        if path.stem != "__init__":
            folders[path.parent].append(path.stem)
    for folder, files in folders.items():
        assert len(files) <= 16 or folder.name in ("options", "commands", "methods"), f"{folder}: {len(files)} files"
        twins = defaultdict(list)
        for name in [*files, *(p.name for p in folder.iterdir() if p.is_dir() and p.name != "__pycache__")]:
            twins[stem(name)].append(name)
        for names in twins.values():
            contract_and_parts = len(names) == 2 and any((folder / name).is_dir() for name in names)
            assert len(names) == 1 or contract_and_parts, f"{name_of(folder)}: {names}"


def test_the_loop_is_short_and_knows_no_method_no_data_and_no_timm():
    path = ROOT / "training" / "loop.py"
    assert not [m for m in imports(path) if m.startswith(("timm", "unmask.methods", "unmask.data", "unmask.models."))]
    assert path.read_text(encoding="utf-8").count("\n") < 300
    loop = next(node for node in ast.walk(TREES[path]) if getattr(node, "name", "") == "fit")
    assert loop.end_lineno - loop.lineno < 120


def test_tests_mirror_the_rooms():
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= {*RANK, "support", "contracts"}


def instructions(code):
    yield from dis.get_instructions(code)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from instructions(inner)


def undefined_names(text):
    """Global names that a module uses and never binds. Linters stumble over shapes in annotations."""
    found = list(instructions(compile(text, "module", "exec")))
    bound = {step.argval for step in found if step.opname in ("STORE_NAME", "STORE_GLOBAL")}
    used = {step.argval for step in found if step.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
    return used - bound - {*dir(builtins), "__file__", "__path__", "__module__", "__qualname__", "__annotations__"}


def test_every_name_is_defined():
    assert undefined_names("def f(x):\n    y = x\n    return z, y, len(x)") == {"z"}
    assert {path.name: names for path in FILES if (names := undefined_names(path.read_text()))} == {}


@pytest.mark.parametrize("code", ["import unmask", "import unmask.cli.main, unmask.cli.verb as v; v.commands()"])
def test_importing_unmask_and_its_options_is_light(code):
    code += "\nimport sys; print({'torch', 'timm', 'numpy'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_every_command_is_named_by_the_package_and_has_its_two_files():
    from unmask.cli.verb import commands

    assert {"Run", "load", "__version__", *commands()} == set(unmask.__all__)
    assert {path.stem for path in (ROOT / "cli" / "commands").glob("*.py")} - {"__init__"} == commands().keys()

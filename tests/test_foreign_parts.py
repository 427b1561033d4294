"""Parts from outside of the package: run only where a person gave them, in this call; kept to look at."""

import json
import shutil
import sys

import pytest
from safetensors.torch import load_file, save_file
from support.small import SMALL

import unmask
from unmask.cli.main import main
from unmask.cli.options.pack import Packing
from unmask.cli.verb import parts_in, require_parts
from unmask.errors import UserError
from unmask.models.encoder import create_encoder
from unmask.registry import KINDS, build, find, given, keep_sources, parse, portable, remark_on_parts

COMB = """
from unmask.masking.mask import Sampler
__all__ = ['Comb']
class Comb(Sampler):
    def score(self, batch, grid, noise, context):
        return noise(batch, grid.num_units)
"""
TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n__all__ = ['X']\nclass X: pass\n"


def forget():
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_lab", "trap", "traps")]:
        del sys.modules[name]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder on the path with `my_lab.comb`, and `trap`, which leaves a mark when it is imported."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "comb.py").write_text(COMB)
    (tmp_path / "trap.py").write_text(TRAP)
    (tmp_path / "traps").mkdir()
    (tmp_path / "traps" / "trap.py").write_text(TRAP)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path
    forget()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_kind_of_part_from_outside_runs_unless_it_is_given(kind, lab, monkeypatch):
    monkeypatch.chdir(lab)
    for name in ("traps.trap", "trap.py", "./trap.py", f"{lab}/trap.py"):
        with pytest.raises(UserError, match=r"what a file names is not run.*--parts"):
            find(kind, name)
        assert not list(lab.rglob("*.ran"))
        with given([f"{name}(x=1)"]):
            assert find(kind, name).__name__ == "X"
        with pytest.raises(UserError, match="is not run"):  # only within
            find(kind, name)
        for mark in lab.rglob("*.ran"):
            mark.unlink()


def test_a_part_is_given_by_its_dotted_name_or_its_file_and_known_by_its_last_name(lab, monkeypatch):
    monkeypatch.chdir(lab / "my_lab")
    for text in ("my_lab.comb", "./comb.py", "comb.py", str(lab / "my_lab" / "comb.py")):
        with given([text + "(ratio=0.25)"]):
            for name in (text, "my_lab.comb", "comb.py", "elsewhere/comb.py"):
                assert build("mask", f"{name}(ratio=0.5)").ratio == 0.5
    with given(["mae(mask='./comb.py(ratio=0.5)')"]):
        assert build("mask", "comb.py").ratio == 0.75
    assert parse("./a-b/comb.py (every=2)") == ("./a-b/comb.py", {"every": 2})
    assert portable("mae(mask='/home/me/comb.py(ratio=0.5)', target='pixels')") == (
        "mae(mask='comb.py(ratio=0.5)', target='pixels')"
    )
    assert portable("vit_base_patch16_224.mae(depth=2)") == "vit_base_patch16_224.mae(depth=2)"
    (lab / "comb.py").write_text(COMB)
    with pytest.raises(UserError, match="have the same name"), given(["./comb.py", str(lab / "comb.py")]):
        pass


def test_only_what_is_written_on_the_command_line_is_given():
    line = [
        "run",
        "a.comb",
        "--mask",
        "b.comb",
        "./c.py",
        "--config",
        "d.comb",
        "--out=e.py",
        "--method=f.comb(x='g.x')",
    ]
    assert parts_in(line) == ["b.comb", "./c.py", "f.comb(x='g.x')"]


def test_parts_that_are_none_are_refused(lab, monkeypatch):
    monkeypatch.chdir(lab / "my_lab")
    for text, reason in {
        "comb": "give a part from outside of unmask",
        "full(dim=32)": "give a part from outside of unmask",
        "./comp.py": "there is no such file",
        "my_lab.comp": "there is no such module",
        "nosuch.comb": "there is no such module",
    }.items():
        with pytest.raises(UserError, match=reason):
            require_parts(Packing("images", "out.pack", parts=(text,)))
        with pytest.raises(UserError, match=reason):
            unmask.pack("images", "out.pack", parts=text)
    require_parts(Packing("images", "out.pack", parts=("./comb.py(ratio=0.5)", "my_lab.comb")))


def test_a_folder_keeps_sources_and_says_what_is_missing_or_has_changed(lab, capsys):
    out = lab / "run"
    with given([str(lab / "my_lab" / "comb.py")]):
        build("mask", "comb.py")
        keep_sources(out)
        remark_on_parts(out)
    assert not capsys.readouterr().err
    assert (out / "parts" / "comb.py").read_text() == COMB
    remark_on_parts(out)
    assert "--parts ./comb.py" in capsys.readouterr().err
    (lab / "my_lab" / "comb.py").write_text(COMB + "# changed\n")
    with given(["my_lab.comb"]):
        build("mask", "comb.py")
        keep_sources(out)
        remark_on_parts(out)
    assert "is not the comb.py that" in capsys.readouterr().err
    assert (out / "parts" / "comb.py").read_text() == COMB


def test_weights_that_name_a_part_do_not_run_it(pretrained, lab):
    state = load_file(pretrained.path / "encoder.safetensors")
    for name in ("trap.py", "traps.trap", "venv.__main__"):
        facts = {"timm": "{}", "settings": json.dumps({"model": name, "image_size": [32, 32]}), "mean": "[1,1,1]"}
        save_file(state, lab / "evil.safetensors", metadata=facts | {"std": "[1,1,1]"})
        with pytest.raises(UserError, match="is not run"):
            unmask.load(lab / "evil.safetensors")
        with pytest.raises(UserError, match="is not run"):
            unmask.doctor(lab / "evil.safetensors")
    assert not list(lab.rglob("*.ran"))


def test_a_models_name_opens_no_other_file(tmp_path):
    for option in ("checkpoint_path", "pretrained", "pretrained_cfg", "cache_dir"):
        with pytest.raises(UserError, match="said with --init"):
            create_encoder(f"vit_tiny_patch16_224(depth=1, {option}='{tmp_path}/evil.pth')")
        with pytest.raises(UserError, match="said with --init"):
            create_encoder(f"hiera_tiny_224({option}='{tmp_path}/evil.pth')")
    for name in ("hf-hub:somebody/model", "local-dir:/tmp", "hf_hub:a/b"):
        with pytest.raises(UserError):
            create_encoder(name)


@pytest.mark.parametrize("setting", ["model", "method", "mask", "target", "decoder"])
def test_a_run_folder_that_names_a_part_does_not_run_it(setting, run, lab, monkeypatch):
    monkeypatch.chdir(run.path)
    (run.path / "payload.py").write_text(TRAP)
    content = json.loads((run.path / "config.json").read_text())
    for name in ("payload.py", "./payload.py", "traps.trap"):
        if setting in ("model", "method"):
            content[setting]["name"] = name
        else:
            content["method"][setting] = name
        (run.path / "config.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="is not run"):
            unmask.show(run.path, run.config.data.paths, out=lab / "x.png")
        with pytest.raises(UserError, match=r"is not run|other settings"):
            unmask.pretrain(run.config.data.paths, out=lab / "again", config=run.path / "config.json")
    assert not list(lab.rglob("*.ran"))
    assert not list(run.path.rglob("*.ran"))


@pytest.mark.slow
def test_every_command_opens_a_run_with_a_private_part_that_is_given(photos, lab, monkeypatch, capsys):
    """The mask is a file; with it all commands work, and those that need it say what to give without it."""
    monkeypatch.chdir(lab)
    shutil.copy(lab / "my_lab" / "comb.py", lab / "comb.py")
    run = unmask.pretrain(photos, out="run", mask="./comb.py(ratio=0.5)", steps=2, **SMALL)
    assert run.config.method.mask == "comb.py(ratio=0.5)"
    assert (run.path / "parts" / "comb.py").read_text() == COMB
    assert str(lab) not in str(run.config.method)
    assert run.objective().mask.ratio == 0.5

    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments)])
        return caught.value.code, capsys.readouterr().err

    show = ("show", "run", photos, "--out", "p.png", "--most", 1)
    code, said = call(*show)
    assert code == 2
    assert "--parts ./comb.py" in said
    monkeypatch.chdir(lab / "my_lab")
    assert call("show", "../run", photos, "--out", "p.png", "--most", 1, "--parts", "./comb.py") == (0, "")
    monkeypatch.chdir(lab)
    (lab / "comb.py").write_text(COMB + "# other\n")
    code, said = call(*show, "--parts", "comb.py")
    assert code == 0
    assert "is not the comb.py that run was made with" in said
    code, said = call("embed", "run", photos, "--out", "f.npz")  # needs the encoder alone
    assert code == 0
    assert "--parts ./comb.py" in said
    (run.path / "summary.json").unlink()
    again = ("pretrain", photos, "--out", "run", "--steps", 2)
    again += tuple(x for k, v in SMALL.items() for x in (f"--{k.replace('_', '-')}", v))
    code, said = call(*again)
    assert code == 2
    assert "mask: comb.py(ratio=0.5) in the folder" in said
    assert call(*again, "--mask", "my_lab/comb.py(ratio=0.5)") == (0, "")
    assert (
        call("anomaly", "fit", "run", photos, "--out", "finder", "--false-alarms", 0.4, "--parts", "my_lab.comb")[0]
        == 0
    )
    assert (lab / "finder" / "parts" / "parts.json").exists()
    with pytest.raises(UserError, match="--parts"):
        unmask.load("finder")
    unmask.load("finder", parts="my_lab.comb")

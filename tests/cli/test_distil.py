"""The command `distil`: a student is trained, continued, used by the other commands, and refused where it cannot be."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file
from support.methods import teacher_file
from support.students import NET

import unmask
from unmask.cli.main import main, parse
from unmask.errors import Interrupted, UserError
from unmask.methods.distil import Distil

FAST = {"precision": "32", "device": "cpu", "workers": 0, "steps": 4, "batch": 8, "log_every": 1, "save_every": 1}


@pytest.fixture(scope="module")
def teacher(pretrained):
    return pretrained.path


@pytest.fixture(scope="module")
def photos(pretrained):
    return pretrained.path.parent / "photos"


@pytest.fixture(scope="module")
def student(teacher, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "student"
    unmask.distil(teacher, into="test_resnet", on=photos, out=out, **FAST)
    return out


@pytest.mark.slow
def test_the_student_is_a_plain_state_dict_of_its_own_library_with_what_is_needed_to_use_it(student, photos):
    facts = json.loads((student / "student.json").read_text())
    assert (facts["library"], facts["name"], facts["channels"]) == ("timm", "test_resnet", 3)
    assert facts["image_size"] == [32, 32]  # the teacher's
    assert "made by unmask" in facts["licence"]
    space = {"timm": timm}
    exec(facts["build"], space)
    net = space["net"].eval()
    net.load_state_dict(load_file(student / facts["weights"]), strict=True)
    encoder, x = unmask.load(student), torch.randint(0, 256, (2, 3, 32, 32)).byte()
    mean, std = (torch.tensor(facts[name]).view(-1, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(net((x - mean) / std), encoder(x).units[:, 0], rtol=1e-4, atol=1e-4)
    losses = [json.loads(line)["loss"] for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    config = json.loads((student / "config.json").read_text())
    assert config["record"]["reasons"].keys() >= {"batch", "lr", "teacher", "crop"}
    assert config["record"]["expected"]["seconds"] > 0
    assert unmask.distil is not None


@pytest.mark.slow
def test_a_student_that_was_stopped_goes_on_to_the_bit(student, teacher, photos, tmp_path, monkeypatch):
    take, calls = Distil.after_step, []

    def stopped(*arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted("stopped", 15)
        return take(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Distil, "after_step", stopped)
        with pytest.raises(Interrupted):
            unmask.distil(teacher, into="test_resnet", on=photos, out=tmp_path / "s", **FAST)
    unmask.distil(teacher, into="test_resnet", on=photos, out=tmp_path / "s", **FAST)
    own, whole = (load_file(folder / "encoder.safetensors") for folder in (tmp_path / "s", student))
    assert own.keys() == whole.keys()
    assert all(torch.equal(value, whole[name]) for name, value in own.items())
    with pytest.raises(UserError, match="holds a run with other settings"):
        unmask.distil(teacher, into="test_resnet", on=photos, out=tmp_path / "s", **FAST | {"steps": 5})


@pytest.mark.slow
def test_the_other_commands_take_a_student(student, labelled, tmp_path, capsys):
    few = {"epochs": 1, "batch": 4, "precision": "32", "device": "cpu", "workers": 0}
    linear = unmask.transfer(student, on=labelled, out=tmp_path / "linear", protocol="linear", **few)
    tuned = unmask.transfer(student, on=labelled, out=tmp_path / "tuned", **few)
    partly = unmask.transfer(student, on=labelled, out=tmp_path / "partly", protocol="partial", blocks=2, **few)
    state = load_file(student / "encoder.safetensors")
    moved = {
        folder: [name for name, v in model.encoder.net.state_dict().items() if not torch.equal(v, state[name])]
        for folder, model in (("linear", linear.model), ("tuned", tuned.model), ("partly", partly.model))
    }
    assert moved["linear"] == []
    assert "conv1.0.weight" in moved["tuned"] or "conv1.weight" in moved["tuned"]
    assert any(name.startswith("layer4") for name in moved["partly"])
    assert not any(name.startswith("layer1") and name.endswith("conv1.weight") for name in moved["partly"])
    with pytest.raises(UserError, match=r"--blocks 0\.5 is the last block's MLP"):
        unmask.transfer(student, on=labelled, out=tmp_path / "no", protocol="partial", blocks=0.5, **few)
    formats = unmask.export(student, to=["timm", "onnx"], precision="fp32", out=tmp_path / "x").figures["formats"]
    assert formats["onnx"]["files"]["model-fp32.onnx"]["check"]["features"]["max_abs_error"] < 1e-3
    again = timm.create_model(f"local-dir:{tmp_path / 'x' / 'timm'}", pretrained=True)
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    unmask.export(tuned.path, to=["timm", "onnx"], precision="fp32", out=tmp_path / "y")
    unmask.export(linear.path, to=["timm"], out=tmp_path / "z")
    verdict = unmask.evaluate(student, on=labelled, draws=1, out=tmp_path / "e")
    assert verdict.scores
    with pytest.raises(UserError, match="rebuilds no pixels"):
        unmask.show(student, labelled, most=1, out=tmp_path / "p.png")
    with pytest.raises(UserError, match="cannot leave hidden patches out"):
        unmask.pretrain(labelled, init=student, out=tmp_path / "no", steps=2, device="cpu")


@pytest.mark.slow
def test_a_network_of_the_user_s_learns_and_is_run_later_only_where_it_is_given(teacher, photos, tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    words = ["distil", str(teacher), "--into", "./net.py:Small(width=4)", "--on", str(photos), "--out", "own"]
    words += ["--steps", "2", "--batch", "8", "--precision", "32", "--device", "cpu", "--strides", "4", "8"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    facts = json.loads((tmp_path / "own" / "student.json").read_text())
    assert (facts["library"], facts["build"]) == ("own", "net = Small(width=4)")
    assert (tmp_path / "own" / "parts" / "net.py").read_text() == NET
    with pytest.raises(UserError, match=r"what a file names is not run.*--parts"):
        unmask.load("own")
    assert unmask.load("own", parts="./net.py").dim == 24
    features = unmask.embed("own", photos, out="f.npz", parts="./net.py")
    assert features.exists()
    with pytest.raises(UserError, match=r"--to timm.*none of timm's"):
        unmask.export("own", to="timm", out="x", parts="./net.py")
    assert unmask.export("own", to="onnx", precision="fp32", out="x", parts="./net.py").figures["formats"]["onnx"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"into": ""}, "say which network is to learn"),
        ({"on": ()}, "say on which images it learns"),
        ({"into": "mobilenetv3_smal_100"}, "did you mean 'mobilenetv3_small_100'"),
        ({"into": "resnet18.a1_in1k"}, "begins with random weights"),
        ({"loss": "l1"}, "loss takes cosine or smooth_l1, got .l1."),
        ({"steps": 2, "epochs": 1}, "give one of --epochs, --steps and --hours"),
        ({"batch": 1}, "needs 2 images or more at a time"),
        ({"batch": 4, "accumulate": 4}, "needs 2 images or more at a time"),
        ({"into": "torchvision:vit_b_32"}, "cannot take images of 3 channels and 32 x 32 pixels"),
        ({"into": "vit_tiny_patch16_224(depth=0)"}, "depth of vit_tiny_patch16_224 is a whole number, 1 or more"),
        ({"strides": (5,)}, "no map of stride 5"),
        ({"features": 0.0, "maps": 0.0}, "nothing to learn"),
        ({"run": "nowhere"}, "the teacher cannot be opened"),
    ],
)
def test_what_cannot_be_distilled_is_refused_before_data_is_looked_at(changed, message, tmp_path, monkeypatch):
    monkeypatch.setattr("unmask.cli.commands.pretrain.look_at", None)
    options = {
        "run": str(teacher_file()),
        "into": "test_resnet",
        "on": "demo",
        "out": tmp_path / "no",
        "steps": 2,
        "device": "cpu",
    }
    options |= {"steps": None} if "epochs" in changed else {}
    with pytest.raises(UserError, match=message):
        unmask.distil(**options | changed)
    assert not (tmp_path / "no").exists()


def test_a_run_without_an_encoder_is_no_teacher(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(
        json.dumps({name: {} for name in ("data", "model", "method", "training")})
    )
    with pytest.raises(UserError, match=r"the teacher cannot be opened: .*run folder has no last\.ckpt"):
        unmask.distil(tmp_path / "run", into="test_resnet", on="demo", out=tmp_path / "no")


def test_the_student_and_its_class_are_given_by_the_command_line_alone(tmp_path):
    from unmask.cli.verb import parts_in

    line = ["run", "--into", "./net.py:Net(width=2)", "--on", "data"]
    assert parts_in(line) == ["./net.py:Net(width=2)"]
    assert parse(["distil", *line]).into == "./net.py:Net(width=2)"


@pytest.mark.slow
def test_a_vit_as_student_is_an_encoder_like_those_of_pretrain(teacher, photos, tmp_path):
    small = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)"
    run = unmask.distil(teacher, into=small, on=photos, out=tmp_path / "s", patch_size=8, loss="smooth_l1", **FAST)
    facts = json.loads((tmp_path / "s" / "student.json").read_text())
    space = {"timm": timm}
    exec(facts["build"], space)
    space["net"].load_state_dict(load_file(tmp_path / "s" / "encoder.safetensors"), strict=True)
    assert run.encoder().grid.shape == (4, 4)
    assert facts["maps"] == {"channels": [24], "strides": [8]}

"""`unmask doctor`: a healthy run has no finding; every planted fault is found by its own check and by no other."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.methods import small_method
from support.small import SMALL

import unmask
from unmask.cli.main import main
from unmask.errors import UserError
from unmask.evaluation.doctor.checks import weights as weight_checks
from unmask.evaluation.doctor.diagnosis import all_checks, diagnose
from unmask.evaluation.doctor.subject import Subject
from unmask.training import checkpoint

CHECKS = set(all_checks())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A run that learned something, and its images."""
    from support.photos import photo

    root = tmp_path_factory.mktemp("healthy")
    (root / "photos").mkdir()
    for seed in range(40):
        Image.fromarray(photo(seed)).save(root / "photos" / f"{seed:03d}.png")
    run = unmask.pretrain(root / "photos", out=root / "run", steps=100, lr=4e-3, log_every=5, save_every=50, **SMALL)
    records = (run.path / "metrics.jsonl").read_text().splitlines()
    # Tiny models wait for data, whatever one does, and in 100 steps they explain little.
    shares = [json.loads(line) | {"waiting": 0.01} for line in records]
    shares = [line | ({"loss": 0.6 * line["loss"]} if "epoch" in line else {}) for line in shares]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in shares))
    return run.path


@pytest.fixture
def copy(healthy, tmp_path):
    return shutil.copytree(healthy, tmp_path / "run")


def found(place, **options):
    return diagnose(Subject(str(place), **options)).findings


def test_a_healthy_run_its_weights_and_its_data_have_no_finding(healthy):
    diagnosis = diagnose(Subject(str(healthy)))
    assert not diagnosis.findings, diagnosis.findings
    assert not diagnosis.unknown.keys() - {"positions", "collapse"}, diagnosis.unknown  # too short for the latter
    assert set(diagnosis.fine) | diagnosis.unknown.keys() == CHECKS
    weights = diagnose(Subject(str(healthy / "encoder.safetensors"), [str(healthy.parent / "photos")]))
    assert not weights.findings
    assert {"features", "numbers", "positions", "statistics"} <= set(weights.fine)
    assert "no pretraining run" in weights.unknown["rate"]
    data = diagnose(Subject(str(healthy.parent / "photos")))
    assert (data.kind, data.findings, set(data.fine)) == ("data", {}, {"duplicates", "files"})


def setting(section, name, value):
    def plant(run):
        config = json.loads((run / "config.json").read_text())
        config[section][name] = value(config[section]) if callable(value) else value
        (run / "config.json").write_text(json.dumps(config))

    return plant


def record(change=lambda line: {}, **more):
    def plant(run):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = [line | change(line) for line in lines] + ([{"step": 100, **more}] * 9 if more else [])
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    return plant


def weights(change):
    """Changes the tensors of the checkpoints, and seals them again."""

    def plant(run):
        for path in run.glob("*.ckpt"):
            state = checkpoint.read_state(path)
            facts = checkpoint.read_facts(path)
            for name, value in state["objective"].items():
                change(name, value)
            checkpoint.write_state(path, state, facts)

    return plant


def constant(name, value):
    if "pos_embed" in name:
        value.fill_(0.1)


def same_everywhere(name, value):
    if name.endswith("net.norm.weight"):
        value.zero_()


def fresh_decoder(name, value):
    if name.startswith("decoder."):
        if name.endswith("bias"):
            value.zero_()
        elif "norm" in name:
            value.fill_(1)


def overflow(name, value):
    if name == "encoder.net.blocks.0.mlp.fc1.weight":
        value[0, 0] = float("inf")


def flip(run):
    content = bytearray((run / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "last.ckpt").write_bytes(content)


def sheet(**facts):
    def plant(run):
        content = json.loads((run / "data_sheet.json").read_text())
        (run / "data_sheet.json").write_text(json.dumps(content | facts))

    return plant


def of_dino(run):
    """A run of another method, whose number shows a failure that it is known for."""
    setting("method", "name", "dino")(run)
    record(lambda line: {"entropy": 0.01, "sharpness": 0.5} if "epoch" in line else {})(run)


def stage(run):
    """A training before this one that was stopped."""
    (run / "stages" / "1-dino").mkdir(parents=True)
    (run / "stages" / "1-dino" / "stage.json").write_text(json.dumps({"number": 1, "method": "dino"}))


def failed_stage(run):
    stage(run)
    (run / "stages" / "1-dino" / "summary.json").write_text("{}")
    lines = "".join(json.dumps({"step": step, "entropy": 0.01}) + "\n" for step in range(1, 5))
    (run / "stages" / "1-dino" / "metrics.jsonl").write_text(lines)


LEFT_OUT = {"event": "skipped", "lr": 0.1, "grad_norm": "1"}
FAULTS = [
    ("waiting", "data", record(lambda line: {"waiting": 0.4} if "epoch" in line else {})),
    ("statistics", "not the data's", setting("data", "mean", lambda data: [m / 255 for m in data["mean"]])),
    ("positions", "same at every position", weights(constant)),
    ("features", "constant", weights(same_everywhere)),
    ("decoder", "random start", weights(fresh_decoder)),
    ("rate", "too high for a batch of 8", setting("training", "lr", 0.1)),
    ("rate", "too low for a batch of 8", setting("training", "lr", 1e-7)),
    ("warmup", "of 100 steps", setting("training", "warmup_epochs", 100.0)),
    ("numbers", "fc1", weights(overflow)),
    ("numbers", "9 of 100 steps", record(**LEFT_OUT, loss="nan", why="non-finite")),
    ("trivial", "no better than", record(lambda line: {"loss": 1.2} if "epoch" in line else {})),
    ("trivial", "of the variance of what it rebuilds", record(lambda line: {"loss": 0.92} if "epoch" in line else {})),
    ("steps", "9 of 100 updates", record(**LEFT_OUT, loss="9", why="spike")),
    ("steps", "went back 9 times", record(event="rolled_back", **{"from": 300})),
    ("checkpoints", "last.ckpt", flip),
    ("collapse", "nearly the same", record(feature_rank=1.1, feature_spread=0.003)),
    ("symptoms", "collapsed", of_dino),
    ("stages", "dino, is not finished", stage),
    ("stages", "1-dino: ", failed_stage),
    ("stages", "is gone", setting("method", "handed", {"init": "stages/1-mae"})),
    ("duplicates", "also in train", sheet(test_in_train=3)),
    ("files", "cannot be used", sheet(bad=[[0, "a.png", "empty file"]] * 5)),
]


@pytest.mark.parametrize(("check", "words", "plant"), FAULTS, ids=[f"{c}-{w[:12]}" for c, w, _ in FAULTS])
def test_a_planted_fault_is_found_by_its_check_with_a_remedy(copy, check, words, plant):
    plant(copy)
    findings = found(copy)
    allowed = {"features"} if check == "numbers" else set()  # weights that are not finite give such features
    assert findings.keys() - allowed == {check}, findings
    (finding,) = findings[check]
    assert words in finding.what
    assert finding.remedy
    assert "\n" not in finding.what + finding.remedy


def test_every_check_has_its_fault_planted():
    assert {check for check, _, _ in FAULTS} == CHECKS


def test_collapsed_features_are_found(copy):
    """All variety in one direction: the last norm keeps one channel only."""

    def one_line(name, value):
        if name.endswith("net.norm.weight"):
            value[1:] = 0

    weights(one_line)(copy)
    (finding,) = found(copy)["features"]
    assert "collapsed" in finding.what


@pytest.mark.parametrize("fresh", [False, True])
def test_the_decoder_of_a_tokenizer_is_found_and_looked_at(monkeypatch, healthy, fresh):
    method = small_method("vqvae")
    state = {name: value + 0.0 if fresh else value + 0.01 for name, value in method.state_dict().items()}
    subject = Subject(str(healthy))
    monkeypatch.setattr(subject, "opened", SimpleNamespace(whole=state, decoder=None))
    findings = weight_checks.decoder(subject)
    assert ["ids mean nothing" in finding.what for finding in findings] == [True] * fresh


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_what_is_not_finite_is_found_in_either_of_two_tensors_of_one_name(monkeypatch, healthy, part):
    """Encoder and decoder both have `blocks.0...`; neither hides the other."""
    name = "blocks.0.norm1.weight"
    states = {side: {name: torch.full((2,), torch.nan if side == part else 1.0)} for side in ("encoder", "decoder")}
    subject = Subject(str(healthy / "encoder.safetensors"))
    monkeypatch.setattr(subject, "opened", SimpleNamespace(whole=None, weights=SimpleNamespace(**states)))
    (finding,) = weight_checks.numbers(subject)
    assert finding.what == f"weights are not finite: {'decoder: ' * (part == 'decoder')}{name}"


def test_weights_of_others_are_examined_too(tmp_path, healthy):
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 96}
    shape |= {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = transformers.ViTMAEConfig(image_size=32, patch_size=8, decoder_intermediate_size=64, **shape)
    torch.manual_seed(0)
    model = transformers.ViTMAEForPreTraining(config)
    with torch.no_grad():
        model.vit.embeddings.position_embeddings.zero_()  # the bug: tables that nobody filled in
    model.save_pretrained(tmp_path / "hf")
    findings = found(tmp_path / "hf", data=[str(healthy.parent / "photos")])
    assert "encoder's pos_embed" in findings["positions"][0].what
    assert "random start" in findings["decoder"][0].what
    with pytest.raises(UserError, match="nowhere"):
        Subject(str(tmp_path / "nowhere"))


def test_data_with_copies_bad_files_and_nothing_on_it(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        Image.fromarray(np.full((20, 20), 128 + (number > 7), np.uint8)).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"nothing")
    findings = found(folder)
    assert findings.keys() == {"duplicates", "files"}
    assert ["cannot be used" in findings["files"][0].what, "hardly differ" in findings["files"][1].what] == [True, True]


def test_the_command_prints_a_table_or_json_and_ends_with_its_code(copy, capsys):
    def ends(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["doctor", *map(str, arguments)])
        return caught.value.code, capsys.readouterr().out

    code, said = ends(copy)
    assert (code, "Nothing wrong" in said) == (0, True)
    assert "not looked at" in said
    assert "[/]" not in said  # no markup is left over
    setting("training", "warmup_epochs", 100.0)(copy)
    code, said = ends(copy)
    assert (code, "--warmup" in said, "1 found" in said, "[bold" in said) == (7, True, True, False)
    code, said = ends(copy, "--json")
    content = json.loads(said)
    assert [finding["check"] for finding in content["findings"]] == ["warmup"]
    assert content["kind"] == "run"

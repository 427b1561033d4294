"""Every target as a user meets it, with `mae` and with `simmim`: trained, gone on with, drawn or refused with the
reason, in the words of the report, looked at by doctor, judged and exported."""

import html

import pytest
import torch
from support.methods import with_teacher
from support.small import SMALL
from support.small_training import losses

import unmask
from unmask.errors import UserError
from unmask.registry import find, names
from unmask.training.objective import drawn_by

TARGETS = [name for name in names("target") if not getattr(find("target", name), "only", "")]
OTHERS = ["frequency(mode='laplacian')", "frequency(mode='fft')", "pixels(scales=(1, 2))", "mix(a=hog, b=features)"]
OTHERS += ["mix(a='hog', b=\"mix(a='ema', b='pixels(scales=(1, 2))', weights=(1, 2))\", weights=(0.5, 1))"]
WITHOUT_DECODER = {key: value for key, value in SMALL.items() if key != "decoder"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mae", "simmim"])
@pytest.mark.parametrize("target", [*TARGETS, *OTHERS])
def test_every_target_serves_every_command(method, target, photos, labelled, tmp_path):
    options = (SMALL if method == "mae" else WITHOUT_DECODER) | {"method": method, "target": with_teacher(target)}
    options |= {"steps": 4, "save_every": 1, "keep_every": 2, "log_every": 1, "workers": 0}
    run = unmask.pretrain(photos, out=tmp_path / "run", **options)
    whole, objective = losses(run.path), run.objective()
    for file in [*run.path.glob("*.ckpt"), run.path / "summary.json"]:
        if file.name != "step_00000002.ckpt":
            file.unlink()
    again = unmask.pretrain(photos, out=run.path, **options)
    assert losses(again.path) == whole
    assert all(torch.equal(value, again.objective().state_dict()[k]) for k, value in objective.state_dict().items())
    page = html.unescape((run.path / "report.html").read_text(encoding="utf-8"))
    assert objective.words["loss"] in page
    drawing = {"most": 1, "out": tmp_path / "p.png"}
    if drawn_by(objective):
        assert unmask.show(run.path, photos, **drawing).exists()
        assert (run.path / "panel.png").exists()
    else:
        with pytest.raises(UserError, match=f"it predicts {objective.undrawn}"):
            unmask.show(run.path, photos, **drawing)
        assert f"what it predicts for hidden patches are {objective.undrawn}, no pixels" in page
    diagnosis = unmask.doctor(run.path)
    assert (diagnosis.kind, len(diagnosis.fine) > 5) == ("run", True)
    assert not [finding for several in diagnosis.findings.values() for finding in several if "Error" in finding.what]
    assert unmask.evaluate(run.path, on=labelled, evaluators=("knn",))
    assert unmask.export(run.path, to="timm", out=tmp_path / "exported")

"""Every method as a command: trained, drawn or refused with the reason, exported as the encoder that it keeps."""

import html
import inspect

import pytest
import torch
from support.methods import NUMBERS, shrunk, teacher_file
from support.small import SMALL

import unmask
from unmask.errors import UserError
from unmask.registry import find, names
from unmask.training.objective import drawn_by

PART = {"mask": "random(ratio=0.5)", "target": "pixels", "decoder": "full(dim=16, depth=1, heads=2)"}


def text_of(name):
    """The method with small heads, and the options of it that have flags."""
    inside, flags = {}, {}
    for key, parameter in inspect.signature(find("method", name)).parameters.items():
        if key in ("head", "predictor", "patch_head"):
            inside[key] = shrunk(parameter.default if isinstance(parameter.default, str) else "prototypes")
        elif key == "decoder" and parameter.default is not None:
            flags[key] = shrunk(parameter.default)
        elif key in NUMBERS:
            (flags if key == "masks_per_image" else inside)[key] = NUMBERS[key]
        elif key == "of" and name in ("vqkd", "distil", "align"):
            inside[key] = str(teacher_file())
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in inside.items())})", flags


def with_words(photos):
    """A caption of each image, for methods that learn from such; the others do not look at them."""
    rows = [f"{path.name},image number {number}" for number, path in enumerate(sorted(photos.iterdir()))]
    (photos / "captions.csv").write_text("\n".join(["file,caption", *rows]), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", names("method"))
def test_every_method_runs_draws_or_says_why_not_and_exports_what_it_keeps(name, photos, tmp_path):
    method, flags = text_of(name)
    with_words(photos)
    small = {key: value for key, value in SMALL.items() if key not in (*PART, "method", "batch")} | {"batch": 8}
    run = unmask.pretrain(photos, out=tmp_path / "run", method=method, steps=3, **small | flags)
    assert run.finished
    objective = run.objective()
    kept, exported = objective.kept.net.state_dict(), run.encoder().net.state_dict()
    assert kept.keys() == exported.keys()
    assert all(torch.equal(value, exported[key]) for key, value in kept.items())
    takes = inspect.signature(find("method", name)).parameters
    for part, value in PART.items():
        if part not in takes:
            with pytest.raises(UserError, match=f"{name} has no --{part}"):
                unmask.pretrain(photos, out=tmp_path / "no", method=method, steps=3, **small | flags | {part: value})
    assert not (tmp_path / "no").exists()
    if drawn_by(objective):
        assert unmask.show(run.path, photos, most=1, out=tmp_path / "p.png").exists()
        assert (run.path / "panel.png").exists()
    else:
        with pytest.raises(UserError, match="rebuilds no pixels of hidden patches"):
            unmask.show(run.path, photos, most=1, out=tmp_path / "p.png")
    assert unmask.export(run.path, to="timm", out=tmp_path / "exported")
    assert objective.words.get("loss", "loss") in html.unescape((run.path / "report.html").read_text(encoding="utf-8"))
    again = unmask.pretrain(photos, out=run.path, method=method, steps=3, **small | flags)
    assert again.finished

"""The architecture, enforced: who may import whom, who may use which library, how long a file may be."""

import ast
from pathlib import Path

import pytest

import unmask

ROOT = Path(unmask.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A file imports only files of its own line or of lines above it. Parts of one folder never import each other.
LAYERS = [
    [
        "errors",
        "opencv",
        "launch",
        "ranks",
        "gather",
        "pieces",
        "spec",
        "grid",
        "seeds",
        "checkpoint",
        "keeping",
        "stop",
        "pace",
        "signature",
        "waiting",
        "remote",
        "resolution",
    ],
    ["recipes"],
    ["mask", "position", "initialize", "verb", "optics", "recipe", "runtime_options"],
    ["target"],
    ["encoder", "trivial", "runtime", "corruptions", "lowering", "recompute", "windows", "relative"],
    ["objective", "decoder", "pyramid", "head", "lean"],
    ["resized"],
    ["masks", "targets", "decoders", "encoders", "pyramids", "heads"],
    ["methods"],
    [
        "png",
        "tiff",
        "decode",
        "corrupt",
        "views",
        "optim",
        "weights",
        "guard",
        "log",
        "recovery",
        "snapshot",
        "canonical",
        "licence",
        "jpeg",
    ],
    ["layouts", "architecture", "resize"],
    ["opening"],
    ["source", "layout"],
    ["annotation"],
    ["annotations", "outlines"],
    ["detection.forms", "detection.mending"],
    ["segmentation.legend", "shown", "segmentation.sliding"],
    ["segmentation.truth", "scene"],
    ["outlined", "segmentation.survey"],
    ["scenes"],
    ["shards"],
    ["stream"],
    ["streams", "held"],
    ["data", "samples", "looked", "moments", "sheet", "packfile"],
    ["detection.boxed", "detection.detections"],
    ["loader", "classification.augment", "in_memory", "segmentation.segmented", "segmentation.view", "detection.views"],
    [
        "anomalies.complement",
        "anomalies.coreset",
        "anomalies.conformal",
        "anomalies.tiling",
        "anomalies.usual",
        "anomalies.auroc",
    ],
    ["anomalies.cues", "anomalies.defects", "anomalies.viewed"],
    ["streaming"],
    ["streamed"],
    [
        "train",
        "features",
        "classification.classifier",
        "ready",
        "memory",
        "subject",
        "segmentation.segmenter",
        "detection.detector",
        "anomalies.finder",
    ],
    ["checks"],
    ["tasks"],
    ["evals"],
    ["run", "panel", "page", "flops", "attention", "components"],
    ["judge", "verdict", "embedding", "plan", "caution", "supply", "init", "trial", "labelled", "probing"],
    ["retrieval.likeness", "retrieval.neighbours", "retrieval.index_files", "retrieval.index", "retrieval.indexing"],
    ["retrieval.gallery", "retrieval.copies", "retrieval.projection", "retrieval.sprites", "retrieval.atlas"],
    ["ablation.axes", "ablation.findings", "ablation.pictures", "ablation.page"],
    [
        "classification.plan",
        "classification.metrics",
        "classification.training",
        "classification.results",
        "curve",
        "lesson",
        "segmentation.overlap",
        "segmentation.plan",
        "segmentation.results",
        "detection.plan",
        "detection.metrics",
        "detection.drawn",
    ],
    [
        "keeper",
        "classification.predicting",
        "segmentation.predicting",
        "segmentation.training",
        "detection.results",
        "detection.predicting",
    ],
    ["lessons"],
    ["classification.groups"],
    ["classification.robustness"],
    ["classification.stress_picture"],
    ["classification.report", "segmentation.report", "detection.report"],
    ["report", "continued"],
    ["anomalies.spotted", "anomalies.heatmaps"],
    ["anomalies.page"],
    ["exportable"],
    ["detection.detector_onnx"],
    ["hf_layout", "repository", "measuring", "card"],
    ["exports"],
    ["watch", "looking"],
    ["verbs"],
    ["feeding", "devices"],
    ["learning", "foreseen"],
    [
        "pretraining",
        "showing",
        "evaluating",
        "embedded",
        "demonstrating",
        "predicting",
        "exporting",
        "packing",
        "doctoring",
        "insides",
        "retrieval.searching",
        "retrieval.mapping",
    ],
    ["classification.tested", "study"],
    ["segmentation.study"],
    [
        "transferring",
        "classification.stressing",
        "labelling",
        "ablation.cell",
        "ablation.forecast",
        "ablation.ablating",
        "anomalies.fitting",
        "anomalies.spotting",
    ],
    ["cli", "__main__", "__init__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PARTS = ["corruptions", "layouts", "masks", "targets", "decoders", "encoders", "methods", "tasks", "data", "evals"]
PARTS += ["annotations", "pyramids", "lessons", "recipes", "exports", "streams", "checks", "verbs", "heads", "scenes"]
FENCES = {  # third-party library -> the only places that may import it
    "timm": {
        "architecture",
        "classification.augment",
        "decoder",
        "decoders",
        "encoders",
        "exports",
        "optim",
        "resize",
        "runtime",
    },
    "lightning": {
        "ablation.cell",
        "devices",
        "classification.training",
        "guard",
        "pretraining",
        "snapshot",
        "train",
        "trial",
    },
    "PIL": {
        "data",
        "decode",
        "anomalies.defects",
        "demonstrating",
        "retrieval.gallery",
        "jpeg",
        "retrieval.likeness",
        "looked",
        "outlines",
        "panel",
        "png",
        "segmentation.predicting",
        "retrieval.sprites",
        "tiff",
        "segmentation.truth",
    },
    "cv2": {"opencv"},
    "tifffile": {"decode", "anomalies.spotting", "tiff"},
    "sklearn": {"curve", "evals", "features", "judge", "retrieval.projection", "verdict"},
    "joblib": {"labelling"},
    "tyro": {"cli", "verb", "verbs"},
    "jinja2": {"card", "page"},
    "transformers": {"exports"},
    "onnx": {"exports"},
    "onnxruntime": {"exports"},
    "torchmetrics": {"anomalies.auroc", "detection.metrics", "classification.metrics", "segmentation.overlap"},
    "simplejpeg": {"jpeg"},
    "fsspec": {"remote"},
    "aiohttp": {"remote"},
    "datasets": {"streams"},
    "braceexpand": {"shards"},
    "yaml": {"annotations", "segmentation.legend"},
    "faiss": {"retrieval.neighbours"},
    "umap": {"retrieval.projection"},
    "faster_coco_eval": {"outlines"},
    "pycocotools": {},
}


SUBJECTS = {name.split(".")[0] for name in RANK if "." in name}  # folders by subject: each file has its own rank


def stands(parts):
    """The name in LAYERS of a module, given its names within the package."""
    return ".".join(parts[:2] if parts[0] in SUBJECTS else parts[:1])


def place(file):
    return stands(file.relative_to(ROOT).with_suffix("").parts)


def imports(file):
    """Full names of all modules that a file imports, those inside functions too."""
    folders = {"unmask", *(f"unmask.{name}" for name in SUBJECTS)}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module in folders
            yield node, [f"{node.module}.{a.name}" for a in node.names] if inside else [node.module]
        elif isinstance(node, ast.Import):
            yield node, [alias.name for alias in node.names]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_to_the_core(file):
    here = place(file)
    if here.endswith(".__init__"):
        assert not list(imports(file)), "a folder by subject only says what it is for"
        return
    assert here in RANK, f"say in LAYERS where {here} stands"
    for _, modules in imports(file):
        for module in modules:
            parts = module.split(".")
            there = stands(parts[1:]) if parts[0] == "unmask" and len(parts) > 1 else None
            if there in RANK:
                lazily_from_a_verb = here == "verbs"  # a verb imports its work inside the function
                assert RANK[there] <= RANK[here] or lazily_from_a_verb, f"{here} imports {module}"
                if here in PARTS and there == here and len(parts) > 2 and here != "verbs":
                    raise AssertionError(
                        f"parts of one folder must not import each other: {file.name} imports {module}"
                    )


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_libraries_stay_behind_their_fences(file):
    for _, modules in imports(file):
        for module in modules:
            library = module.split(".")[0]
            if library in FENCES:
                assert place(file) in FENCES[library], f"{file.relative_to(ROOT)} imports {library}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are_for(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert file.name not in ("utils.py", "util.py", "helpers.py", "base.py", "common.py", "misc.py")
    if file.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{file.name} must open by saying what it is for"


def test_the_loop_knows_no_method_no_source_and_no_timm():
    modules = {module for _, found in imports(ROOT / "train.py") for module in found}
    assert not any(m.startswith(("timm", "unmask.methods", "unmask.data", "unmask.encoders")) for m in modules)
    loop = next(n for n in ast.walk(ast.parse((ROOT / "train.py").read_text())) if getattr(n, "name", "") == "fit")
    assert loop.end_lineno - loop.lineno < 120


def test_importing_unmask_is_light():
    import subprocess
    import sys

    code = "import sys, unmask, unmask.cli, unmask.verb; unmask.verb.verbs(); "
    code += "print({'torch', 'timm', 'numpy'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_every_verb_is_named_by_the_package():
    from unmask.verb import verbs

    assert {"Run", "load", *verbs()} == set(unmask.__all__)


def test_what_transfer_makes_is_where_opening_looks_for_it():
    from unmask.run import FOLDERS, TRAINED

    for task, noun in TRAINED.items():
        assert f"class {noun.capitalize()}" in (ROOT / FOLDERS[task] / f"{noun}.py").read_text()

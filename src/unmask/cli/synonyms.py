"""Options under the names that people bring from elsewhere: which of a command's own is meant.

Words of torch's, timm's, Hugging Face's, Lightning's, MAE's and Ultralytics' command lines.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from unmask.cli.help import is_positional
from unmask.errors import UserError

SYNONYMS = {  # our names, the likeliest first -> what others call them
    "batch": "b bs batchsize batch-size train-batch-size micro-batch-size per-device-train-batch-size",
    "image_size input_size crop_size side size": "imgsz imsize img img-sz img-size input-size image-res res"
    " resolution resize crop-size sz",
    "patch_size": "patch patch-sz p",
    "channels": "in-chans in-channels num-channels input-channels",
    "epochs finetune_epochs": "e epoch num-epochs n-epochs max-epochs num-train-epochs total-epochs",
    "steps epochs": "max-steps num-steps total-steps iterations iters max-iter max-iters max-train-steps",
    "hours minutes": "time max-time max-hours time-limit budget minutes duration",
    "lr": "lr0 lr-0 learning-rate max-lr lr-max initial-lr peak-lr eta",
    "blr lr": "base-lr base-learning-rate",
    "floor": "lrf min-lr lr-min final-lr end-lr",
    "warmup": "warmup-epochs warmup-steps warmup-ratio num-warmup-steps",
    "weight_decay": "wd decay l2",
    "clip": "clip-grad grad-clip clip-norm max-grad-norm max-norm gradient-clip-val",
    "optimizer": "opt optim optimiser",
    "layer_decay": "llrd layer-wise-lr-decay layer-decay-rate",
    "drop_path": "drop-path-rate dpr stochastic-depth",
    "accumulate": "accum-iter accumulation-steps grad-accum gradient-accumulation-steps update-freq",
    "checkpoint_activations": "grad-checkpointing gradient-checkpointing activation-checkpointing",
    "out": "o output outdir out-dir output-dir output-path save-dir save-path save-to project name exp-name run-name"
    " logdir log-dir results dst destination resume-dir",
    "to": "task format formats export-format include",
    "into": "student student-model student-net target-model",
    "model": "m arch architecture backbone net network encoder model-name model-type",
    "init run": "pretrained weights checkpoint ckpt ckpt-path load finetune init-from from-pretrained model-path",
    "run place model": "pretrained weights checkpoint ckpt ckpt-path model-path model encoder backbone r",
    "on data images": "data dataset dataset-path data-path data-dir data-root dataroot root input inputs source src"
    " img-dir image-dir images train-dir train test val labels labelled folder path d i",
    "mask": "mask-ratio masking-ratio mask-type masking",
    "target": "norm-pix-loss loss",
    "decoder": "decoder-depth decoder-dim decoder-embed-dim decoder-num-heads",
    "smoothing": "label-smoothing ls",
    "randaug": "aa auto-augment autoaugment rand-augment randaugment",
    "erase": "reprob random-erase random-erasing erasing",
    "flip": "fliplr hflip horizontal-flip",
    "jitter distort views": "color-jitter colour-jitter hsv",
    "views": "jitter num-views n-views num-crops local-crops-number augmentation augmentations",
    "workers jobs threads": "j nw num-workers n-workers loader-workers dataloader-num-workers num-threads",
    "device": "gpu gpus gpu-id gpu-ids cuda cpu mps use-gpu accelerator dev",
    "devices device": "ngpu num-gpus num-devices world-size nproc nproc-per-node",
    "precision": "amp fp16 bf16 fp32 half dtype use-amp mixed-precision autocast",
    "compile": "torch-compile torchcompile compile-model",
    "seed": "random-seed manual-seed random-state",
    "save_every": "save-freq save-interval save-period save-steps ckpt-every checkpoint-every save-ckpt-freq",
    "log_every": "log-freq log-interval log-steps logging-steps print-freq",
    "log_to": "wandb use-wandb wandb-project tensorboard tb mlflow logger loggers log-with report-to tracker",
    "patience": "early-stopping early-stop",
    "most": "limit subset max-images max-samples num-samples n",
    "top": "k topk top-k num-results",
    "threshold": "conf conf-thres confidence score-threshold score-thr",
    "kind": "domain modality image-type",
    "config": "c cfg config-file yaml settings",
    "dry_run": "plan check preview dryrun simulate",
    "max_bad": "skip-bad ignore-errors skip-errors",
    "quantize precision": "int8 quantise quantization",
}
RESUME = "repeat the same command with the same --out: it continues where the run stopped"
CLASSES = "the classes are read from the data"
RECORDS = "every run writes its records to metrics.jsonl in its folder"
SIZE = "images are brought to the size that the encoder was made for"
GROUPED = (
    "groups are compared by unmask audit RUN --on LABELLED --groups COLUMN-OR-TABLE, under corruption too where unmask"
    " stress tested the same images"
)
SAID = {  # what has no option -> what happens instead, and an option that only commands have for which it is true
    **dict.fromkeys("resume continue resume-from resume-from-checkpoint auto-resume".split(), (RESUME, "dry_run")),
    **dict.fromkeys("num-classes nb-classes n-classes nc".split(), (CLASSES, "on")),
    **dict.fromkeys(SYNONYMS["log_to"].split(), (RECORDS, "dry_run")),
    **dict.fromkeys(SYNONYMS["image_size input_size crop_size side size"].split(), (SIZE, "run")),
    "image-size": (SIZE, "run"),
    "groups": (GROUPED, "corruptions"),
}
NEAR = 0.7  # likeness of letters from which an option is worth suggesting


def refuse_unknown(command: str, options_by_name: Mapping[str, Any], options: Any, arguments: Sequence[str]) -> None:
    """Raises UserError for the first argument that is an option which the dataclass `options` of a command does not
    have. options_by_name: those of all commands."""
    fields = {field.name: field for field in dataclasses.fields(options)}
    switches = {f"no-{name}" for name, field in fields.items() if isinstance(field.default, bool)}
    for argument in arguments:
        if not argument.startswith("-") or argument in ("-", "-h", "--help") or _is_number(argument):
            continue
        flag = argument.partition("=")[0]
        word = flag.lstrip("-").replace("_", "-")
        names = {name.replace("_", "-") for name in (*fields, *switches, "data")}
        if flag.startswith("--") and word in names:
            continue
        raise UserError(
            f"unmask {command} has no option {flag}{_instead(command, options_by_name, options, word.lower())}"
        )


def refuse_empty(options: type, arguments: Sequence[str]) -> None:
    """Raises UserError for the first option that is followed by no value and is no switch: of those that take several,
    none would otherwise count as given, and stand for the default or for nothing."""
    hints = get_type_hints(options)
    for argument, follower in zip(arguments, [*arguments[1:], "--"]):
        name = argument.removeprefix("--").replace("-", "_")
        if argument.startswith("--") and name in hints and follower.startswith("--"):
            if bool not in (hints[name], *get_args(hints[name])):
                raise UserError(f"{argument} needs a value; leave it out for what is done by default")


def nearest_option(word: str, names: Sequence[str]) -> str | None:
    """Which of these options is meant by a word, as it stands in others' command lines or misspelt."""
    word = word.lower().replace("_", "-").removeprefix("no-")
    meant = [word.replace("-", "_"), *_meant(word)]
    near = get_close_matches(meant[0], names, n=1, cutoff=NEAR) if len(meant) == 1 else []
    return next((name for name in (*meant, *near) if name in names), None)


def said_instead(word: str, names: Sequence[str]) -> str:
    """What happens without an option that a command with these options does not have; "" where nothing is known."""
    text, having = SAID.get(word.lower().replace("_", "-"), ("", ""))
    return text if having in names else ""


def _meant(word: str) -> list[str]:
    """Our names for a word of others, or of another command; the likeliest first."""
    groups = [ours.split() for ours, theirs in SYNONYMS.items() if word in theirs.split()]
    groups += [ours.split() for ours in SYNONYMS if word.replace("-", "_") == ours.split()[0]]
    return [name for group in groups for name in group]


def _instead(command: str, options_by_name: Mapping[str, Any], options: Any, word: str) -> str:
    """The end of the sentence: the nearest option, what happens without one, or which commands have it."""
    hints, names = get_type_hints(options, include_extras=True), [field.name for field in dataclasses.fields(options)]
    name = nearest_option(word, names)
    text = said_instead(word, names)
    if text and (name is None or text == RESUME):
        return f": {text}"
    if name is not None and is_positional(hints[name]):
        return f": give {name.upper()} without an option, unmask {command} {name.upper()} ..."
    if name is not None:
        return f", did you mean --{name.replace('_', '-')}?"
    for name in (word.replace("-", "_"), *_meant(word)):
        others = [other for other, fields in options_by_name.items() if _has_option(fields, name)]
        if others:
            return f"; --{name.replace('_', '-')} is an option of unmask {', '.join(others)}"
    return f"; unmask {command} --help lists its options"


def _has_option(options: Any, name: str) -> bool:
    field = options.__dataclass_fields__.get(name)
    return field is not None and not is_positional(get_type_hints(options, include_extras=True)[name])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

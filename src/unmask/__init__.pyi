"""Signatures of the functions, for editors and type checkers. Written by `make signatures`; do not edit."""

# fmt: off
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from unmask.cli.commands.ablate import Ablation as Ablation
from unmask.cli.commands.compare import Comparison as Comparison
from unmask.cli.commands.export import Exported as Exported
from unmask.cli.commands.search import SearchResults as SearchResults
from unmask.cli.commands.transfer import Transferred as Transferred
from unmask.cli.commands.tune import Tuned as Tuned
from unmask.evaluation.doctor.diagnosis import Diagnosis as Diagnosis
from unmask.evaluation.verdict import Verdict as Verdict
from unmask.runs.run import Run as Run
from unmask.studies.advice.answer import Advice as Advice
from unmask.studies.advice.other_kinds import KindAdvice as KindAdvice
from unmask.studies.auditing.results import Audit as Audit
from unmask.studies.label_curve.curve import Curve as Curve
from unmask.studies.robustness.results import Stress as Stress
from unmask.studies.selection.results import Selection as Selection
from unmask.tasks.anomaly.model import Finder as Finder
from unmask.tasks.anomaly.results import AnomalyResults as AnomalyResults
from unmask.tasks.open import load as load
from unmask.version import __version__ as __version__

__all__ = [
    "Run", "__version__", "ablate", "advise", "anomaly", "audit", "compare", "completion", "demo", "distil", "doctor",
    "embed", "evaluate", "export", "labels", "load", "map", "pack", "predict", "pretrain", "search", "select", "show",
    "stress", "transfer", "tune"
]

@overload
def ablate(
    data: str | Path | Sequence[str | Path] = (), *, out: str | Path = 'ablation',
    on: str | Path | Sequence[str | Path] = (), model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, hours: float | None = None, device: str = 'auto',
    modality: str | None = None, labels: int | None = 2000, test: int | None = 2000, channels: int | None = None,
    max_bad: float = 0.05, patch_size: int | None = None, parts: str | Sequence[str] = (), decoder: str | None = None,
    axes: str | Sequence[str] = (), axis: str | Sequence[str] = (), equal: Literal['images', 'flops'] = 'images',
    sizes: float | Sequence[float] = (), steps: int | None = None, seeds: int = 3, finetune_epochs: float | None = None,
    batch: int | None = None, lr: float | None = None, seed: int = 0, precision: str = 'auto',
    workers: int | None = None, jobs: int = 1, config: str | Path | None = None, dry_run: Literal[False] = False
) -> Ablation: ...
@overload
def ablate(
    data: str | Path | Sequence[str | Path] = (), *, out: str | Path = 'ablation',
    on: str | Path | Sequence[str | Path] = (), model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, hours: float | None = None, device: str = 'auto',
    modality: str | None = None, labels: int | None = 2000, test: int | None = 2000, channels: int | None = None,
    max_bad: float = 0.05, patch_size: int | None = None, parts: str | Sequence[str] = (), decoder: str | None = None,
    axes: str | Sequence[str] = (), axis: str | Sequence[str] = (), equal: Literal['images', 'flops'] = 'images',
    sizes: float | Sequence[float] = (), steps: int | None = None, seeds: int = 3, finetune_epochs: float | None = None,
    batch: int | None = None, lr: float | None = None, seed: int = 0, precision: str = 'auto',
    workers: int | None = None, jobs: int = 1, config: str | Path | None = None, dry_run: Literal[True]
) -> None: ...
def advise(
    data: str | Path | Sequence[str | Path], *, out: str | Path | None = None,
    on: str | Path | Sequence[str | Path] = (), device: str = 'auto', modality: str | None = None,
    kind: str | None = None, against: str | Sequence[str] = (), parts: str | Sequence[str] = (),
    minutes: float | None = None, config: str | Path | None = None
) -> Advice | KindAdvice: ...
@overload
def anomaly(
    action: Literal['fit'], model: str | Path = '', images: str | Path | Sequence[str | Path] = (), *,
    out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (), device: str = 'auto',
    masks: str | Path | None = None, most: int = 2000, calibrate_on: str | Path | Sequence[str | Path] = (),
    normal: str | Sequence[str] = (), held_out: float = 0.3, mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, ema: bool = False,
    student: bool = False, layers: int | Sequence[int] = (), parts: str | Sequence[str] = (), method: str | None = None,
    ratio: float | None = None, sets: int = 4, normalize_errors: str = 'place-texture', false_alarms: float = 0.05,
    memory: int = 4000, tiles: int = 0, blur: float | None = None, batch: int = 32, seed: int = 0,
    save_maps: str | None = None, heatmaps: int = 200, config: str | Path | None = None
) -> Finder: ...
@overload
def anomaly(
    action: Literal['apply'], model: str | Path = '', images: str | Path | Sequence[str | Path] = (), *,
    out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (), device: str = 'auto',
    masks: str | Path | None = None, most: int = 2000, calibrate_on: str | Path | Sequence[str | Path] = (),
    normal: str | Sequence[str] = (), held_out: float = 0.3, mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, ema: bool = False,
    student: bool = False, layers: int | Sequence[int] = (), parts: str | Sequence[str] = (), method: str | None = None,
    ratio: float | None = None, sets: int = 4, normalize_errors: str = 'place-texture', false_alarms: float = 0.05,
    memory: int = 4000, tiles: int = 0, blur: float | None = None, batch: int = 32, seed: int = 0,
    save_maps: str | None = None, heatmaps: int = 200, config: str | Path | None = None
) -> AnomalyResults: ...
def audit(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (), device: str = 'auto',
    groups: str | Path | Sequence[str | Path] = (), unlabelled: str | Path | Sequence[str | Path] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: bool = False, student: bool = False,
    pooling: str = 'auto', parts: str | Sequence[str] = (), batch: int = 64, seed: int = 0,
    index: str | Path | None = None, config: str | Path | None = None
) -> Audit: ...
@overload
def compare(
    data: str | Path | Sequence[str | Path] = (), *, out: str | Path = 'comparison',
    on: str | Path | Sequence[str | Path] = (), model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, hours: float | None = None, device: str = 'auto',
    modality: str | None = None, images: float | None = None, labels_per_class: int | Sequence[int] = (10, 50),
    labels: int | None = 2000, test: int | None = 2000, channels: int | None = None, max_bad: float = 0.05,
    patch_size: int | None = None, against: str | Sequence[str] = (), parts: str | Sequence[str] = (),
    methods: str | Sequence[str] = ('mae', 'simclr', 'dino'),
    evaluators: str | Sequence[str] = ('knn', 'linear', 'attentive'), flops: float | None = None, draws: int = 1,
    seeds: int = 1, points: int = 3, finetune_epochs: float | None = None, batch: int | None = None, seed: int = 0,
    precision: str = 'auto', compile: str = 'off', workers: int | None = None, jobs: int = 1,
    config: str | Path | None = None, dry_run: Literal[False] = False
) -> Comparison: ...
@overload
def compare(
    data: str | Path | Sequence[str | Path] = (), *, out: str | Path = 'comparison',
    on: str | Path | Sequence[str | Path] = (), model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, hours: float | None = None, device: str = 'auto',
    modality: str | None = None, images: float | None = None, labels_per_class: int | Sequence[int] = (10, 50),
    labels: int | None = 2000, test: int | None = 2000, channels: int | None = None, max_bad: float = 0.05,
    patch_size: int | None = None, against: str | Sequence[str] = (), parts: str | Sequence[str] = (),
    methods: str | Sequence[str] = ('mae', 'simclr', 'dino'),
    evaluators: str | Sequence[str] = ('knn', 'linear', 'attentive'), flops: float | None = None, draws: int = 1,
    seeds: int = 1, points: int = 3, finetune_epochs: float | None = None, batch: int | None = None, seed: int = 0,
    precision: str = 'auto', compile: str = 'off', workers: int | None = None, jobs: int = 1,
    config: str | Path | None = None, dry_run: Literal[True]
) -> None: ...
def completion(
    shell: str = '', *, parts: str | Sequence[str] = (), config: str | Path | None = None
) -> str: ...
def demo(
    *, out: str | Path = 'demo-run', device: str = 'auto', parts: str | Sequence[str] = (),
    config: str | Path | None = None
) -> Run: ...
def distil(
    run: str | Path, *, out: str | Path = 'student', on: str | Path | Sequence[str | Path] = (), into: str = '',
    model: str | None = None, image_size: int | str | Sequence[int] | None = None, epochs: float | None = None,
    hours: float | None = None, device: str = 'auto', channels: int | None = None, crop: float | None = None,
    crop_kind: Literal['random', 'fixed', 'whole'] = 'random', flip: Literal['auto', 'on', 'off'] = 'auto',
    max_bad: float = 0.05, teacher_size: int | str | Sequence[int] | None = None, patch_size: int | None = None,
    pooling: Literal['mean', 'cls'] = 'mean', parts: str | Sequence[str] = (),
    loss: Literal['cosine', 'smooth_l1'] = 'cosine', features: float = 1.0, maps: float = 1.0,
    strides: int | Sequence[int] | None = None, steps: int | None = None, batch: int | None = None,
    accumulate: int | None = None, lr: float | None = None, warmup: float | None = None,
    weight_decay: float | None = None, seed: int = 0, precision: str = 'auto', matmul: str = 'auto',
    attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, workers: int | None = None, deterministic: bool = False,
    log_to: str | Sequence[str] = (), log_every: int | None = None, save_every: int | None = None,
    probe: str | Path | None = None, probe_every: float | None = None, config: str | Path | None = None,
    dry_run: bool = False
) -> Run | None: ...
def doctor(
    place: str | Path, *, on: str | Path | Sequence[str | Path] = (), mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, ema: bool = False,
    student: bool = False, parts: str | Sequence[str] = (), json: bool = False, config: str | Path | None = None
) -> Diagnosis: ...
def embed(
    run: str | Path, data: str | Path | Sequence[str | Path], *, out: str | Path | None = None, device: str = 'auto',
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: bool = False, student: bool = False,
    pooling: str = 'auto', parts: str | Sequence[str] = (), batch: int = 256, config: str | Path | None = None
) -> Path: ...
def evaluate(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (), device: str = 'auto',
    most: int | None = None, labels_per_class: int | Sequence[int] = (1, 5, 10, 50),
    templates: str | Sequence[str] = ('{}', 'a photo of a {}'), clips: int | None = None,
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: bool = False, student: bool = False,
    against: str | Sequence[str] = (), parts: str | Sequence[str] = (),
    evaluators: str | Sequence[str] = ('knn', 'linear', 'attentive'), draws: int = 5, batch: int = 256, seed: int = 0,
    config: str | Path | None = None
) -> Verdict: ...
def export(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (),
    to: str | Sequence[str] = (), images: str | Path | Sequence[str | Path] = (), most: int | None = None,
    parts: str | Sequence[str] = (), normalize: Literal['inside', 'outside'] = 'inside',
    quantize: Literal['dynamic', 'static'] = 'dynamic', batch: int = 64, seed: int = 0,
    precision: str | Sequence[str] = ('fp32', 'fp16', 'int8'), config: str | Path | None = None
) -> Exported: ...
def labels(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (), to: str = 'classify',
    epochs: float | None = None, device: str = 'auto', images: str | Path | None = None,
    classes: str | Path | None = None, void: str | Sequence[str] | None = None, most: int | None = None,
    most_test: int | None = None,
    labels_per_class: int | str | Sequence[int | str] = ('1', '2', '5', '10', '25', '50', '100', 'all'),
    fractions: float | Sequence[float] = (), crop_size: int | str | Sequence[int] | None = None,
    side: int | None = None, max_bad: float | None = None, mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, ema: bool = False,
    student: bool = False, head: str | None = None, against: str | Sequence[str] = (), parts: str | Sequence[str] = (),
    protocols: str | Sequence[str] = ('knn', 'linear', 'full'), draws: int = 3, seed: int = 0, precision: str = 'auto',
    jobs: int | None = None, config: str | Path | None = None
) -> Curve: ...
def map(
    run: str | Path, data: str | Path | Sequence[str | Path], *, out: str | Path | None = None, device: str = 'auto',
    most: int = 20000, mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: bool = False, student: bool = False,
    pooling: str = 'auto', parts: str | Sequence[str] = (), method: str = 'auto', batch: int = 64, seed: int = 0,
    index: str | Path | None = None, config: str | Path | None = None
) -> Path: ...
def pack(
    data: str | Path | Sequence[str | Path], out: str | Path | None = None, *,
    format: Literal['jpeg', 'original', 'raw'] = 'jpeg', size: int | None = None, quality: int | None = None,
    shard_mb: int = 256, parts: str | Sequence[str] = (), threads: int | None = None, config: str | Path | None = None
) -> Path: ...
def predict(
    run: str | Path, images: str | Path | Sequence[str | Path] = (), *, out: str | Path | None = None,
    device: str = 'auto', classes: str | Sequence[str] = (), parts: str | Sequence[str] = (), threshold: float = 0.5,
    batch: int = 64, config: str | Path | None = None
) -> Any: ...
@overload
def pretrain(
    data: str | Path | Sequence[str | Path] = (), *, out: str | Path = 'run', model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, epochs: float | None = None, hours: float | None = None,
    device: str = 'auto', modality: str | None = None, channels: int | None = None,
    bands: str | Sequence[str] | None = None, crop: float | None = None,
    crop_kind: Literal['random', 'fixed', 'whole'] = 'random', flip: Literal['auto', 'on', 'off'] = 'auto',
    views: str | Sequence[str] | None = None, resize: Literal['auto', 'exact', 'fast'] = 'auto',
    resolutions: str | None = None, views_per_image: int = 1, shuffle_buffer: int | None = None,
    in_memory: Literal['auto', 'on', 'off'] = 'auto', max_bad: float = 0.05, init: str | Path = 'none',
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: bool = False, student: bool = False,
    patch_size: int | None = None, parts: str | Sequence[str] = (), recipe: str | None = None, method: str = 'mae',
    mask: str | None = None, masks_per_image: int | None = None, target: str | None = None, decoder: str | None = None,
    decoder_warmup: int | None = None, steps: int | None = None, batch: int | None = None,
    accumulate: int | None = None, grad_cache: bool = False,
    checkpoint_activations: Literal['auto', 'on', 'off'] = 'auto', lr: float | None = None, blr: float | None = None,
    warmup: float | None = None, weight_decay: float | None = None, clip: float | None = None, seed: int = 0,
    precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto',
    fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto', threads: int | None = None,
    workers: int | None = None, strategy: Literal['auto', 'ddp', 'fsdp2'] = 'auto', devices: int | None = None,
    nodes: int | None = None, deterministic: bool = False, log_to: str | Sequence[str] = (),
    log_every: int | None = None, save_every: int | None = None, keep_every: int | None = None,
    keep_last: int | None = None, spike: float | str | None = None, rollbacks: int | None = None,
    probe: str | Path | None = None, probe_every: float | None = None, config: str | Path | None = None,
    dry_run: Literal[False] = False
) -> Run: ...
@overload
def pretrain(
    data: str | Path | Sequence[str | Path] = (), *, out: str | Path = 'run', model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, epochs: float | None = None, hours: float | None = None,
    device: str = 'auto', modality: str | None = None, channels: int | None = None,
    bands: str | Sequence[str] | None = None, crop: float | None = None,
    crop_kind: Literal['random', 'fixed', 'whole'] = 'random', flip: Literal['auto', 'on', 'off'] = 'auto',
    views: str | Sequence[str] | None = None, resize: Literal['auto', 'exact', 'fast'] = 'auto',
    resolutions: str | None = None, views_per_image: int = 1, shuffle_buffer: int | None = None,
    in_memory: Literal['auto', 'on', 'off'] = 'auto', max_bad: float = 0.05, init: str | Path = 'none',
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: bool = False, student: bool = False,
    patch_size: int | None = None, parts: str | Sequence[str] = (), recipe: str | None = None, method: str = 'mae',
    mask: str | None = None, masks_per_image: int | None = None, target: str | None = None, decoder: str | None = None,
    decoder_warmup: int | None = None, steps: int | None = None, batch: int | None = None,
    accumulate: int | None = None, grad_cache: bool = False,
    checkpoint_activations: Literal['auto', 'on', 'off'] = 'auto', lr: float | None = None, blr: float | None = None,
    warmup: float | None = None, weight_decay: float | None = None, clip: float | None = None, seed: int = 0,
    precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto',
    fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto', threads: int | None = None,
    workers: int | None = None, strategy: Literal['auto', 'ddp', 'fsdp2'] = 'auto', devices: int | None = None,
    nodes: int | None = None, deterministic: bool = False, log_to: str | Sequence[str] = (),
    log_every: int | None = None, save_every: int | None = None, keep_every: int | None = None,
    keep_last: int | None = None, spike: float | str | None = None, rollbacks: int | None = None,
    probe: str | Path | None = None, probe_every: float | None = None, config: str | Path | None = None,
    dry_run: Literal[True]
) -> None: ...
def search(
    run: str | Path, data: str | Path | Sequence[str | Path], *, out: str | Path | None = None, device: str = 'auto',
    query: str | Path | Sequence[str | Path] = (), mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, ema: bool = False,
    student: bool = False, pooling: str = 'auto', parts: str | Sequence[str] = (), by: str = 'pixels',
    standardize: bool = True, duplicates: bool = False, threshold: float | None = None, top: int = 12,
    compare: bool = False, among: str | Sequence[str] = (), recall: bool = False, batch: int = 64,
    index: str | Path | None = None, config: str | Path | None = None
) -> SearchResults: ...
def select(
    run: str | Path, data: str | Path | Sequence[str | Path], *, out: str | Path | None = None,
    on: str | Path | Sequence[str | Path] = (), device: str = 'auto', most: int = 50,
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: bool = False, student: bool = False,
    pooling: str = 'auto', parts: str | Sequence[str] = (), by: Literal['mix', 'diverse', 'uncertain'] = 'mix',
    threshold: float | None = None, batch: int = 64, seed: int = 0, index: str | Path | None = None,
    config: str | Path | None = None
) -> Selection: ...
def show(
    run: str | Path, images: str | Path | Sequence[str | Path] = (), *, out: str | Path | None = None,
    device: str = 'auto', most: int = 8, size: int | None = None, mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, ema: bool = False,
    student: bool = False, block: int = -1, parts: str | Sequence[str] = (), mask: str | Sequence[str] = (),
    what: str = 'rebuild', ratio: float | Sequence[float] = (), progress: float = 1.0, background: bool = True,
    true_statistics: bool = True, seed: int = 0, config: str | Path | None = None
) -> Path: ...
def stress(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (), device: str = 'auto',
    most: int | None = 1000, corruptions: str | Sequence[str] = (), severities: int | Sequence[int] = (1, 2, 3, 4, 5),
    parts: str | Sequence[str] = (), batch: int = 64, seed: int = 0, config: str | Path | None = None
) -> Stress: ...
@overload
def transfer(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (),
    to: Literal['classify'] = 'classify', epochs: float | None = None, device: str = 'auto', most: int | None = None,
    crop: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', randaug: str | None = None,
    mixup: float | None = None, cutmix: float | None = None, erase: float | None = None, eval_crop: float | None = None,
    clips: int | None = None, balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float = 0.05,
    init: str | Path | None = None, mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: float | None = None, weights_ema: bool = False,
    student: bool = False, pooling: str | None = None, window: int | None = None, global_blocks: int | None = None,
    relative: bool = False, parts: str | Sequence[str] = (), recipe: str | None = None, protocol: str | None = None,
    blocks: float | None = None, patience: float | None = None, batch: int | None = None, accumulate: int | None = None,
    optimizer: str | None = None, lr: float | None = None, blr: float | None = None, floor: float | None = None,
    warmup: float | None = None, layer_decay: float | None = None, weight_decay: float | None = None,
    betas: tuple[float, float] | None = None, clip: float | None = None, drop_path: float | None = None,
    smoothing: float | None = None, seed: int = 0, precision: str = 'auto', matmul: str = 'auto',
    attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, workers: int | None = None,
    log_to: str | Sequence[str] = (), log_every: int | None = None, config: str | Path | None = None,
    dry_run: Literal[False] = False
) -> Transferred: ...
@overload
def transfer(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (),
    to: Literal['classify'] = 'classify', epochs: float | None = None, device: str = 'auto', most: int | None = None,
    crop: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', randaug: str | None = None,
    mixup: float | None = None, cutmix: float | None = None, erase: float | None = None, eval_crop: float | None = None,
    clips: int | None = None, balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float = 0.05,
    init: str | Path | None = None, mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, ema: float | None = None, weights_ema: bool = False,
    student: bool = False, pooling: str | None = None, window: int | None = None, global_blocks: int | None = None,
    relative: bool = False, parts: str | Sequence[str] = (), recipe: str | None = None, protocol: str | None = None,
    blocks: float | None = None, patience: float | None = None, batch: int | None = None, accumulate: int | None = None,
    optimizer: str | None = None, lr: float | None = None, blr: float | None = None, floor: float | None = None,
    warmup: float | None = None, layer_decay: float | None = None, weight_decay: float | None = None,
    betas: tuple[float, float] | None = None, clip: float | None = None, drop_path: float | None = None,
    smoothing: float | None = None, seed: int = 0, precision: str = 'auto', matmul: str = 'auto',
    attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, workers: int | None = None,
    log_to: str | Sequence[str] = (), log_every: int | None = None, config: str | Path | None = None,
    dry_run: Literal[True]
) -> None: ...
@overload
def transfer(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (),
    to: Literal['detect'], epochs: float | None = None, device: str = 'auto', images: str | Path | None = None,
    format: str = 'auto', masks: Literal['auto', 'on', 'off'] = 'auto', most: int | None = None,
    flip: Literal['auto', 'on', 'off'] = 'auto', jitter: tuple[float, float] | None = None,
    input_size: int | str | Sequence[int] | None = None, max_bad: float | None = None, init: str | Path | None = None,
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, weights_ema: bool = False, student: bool = False,
    pyramid: str | None = None, width: int | None = None, window: int | None = None, global_blocks: int | None = None,
    relative: bool = False, anchors: tuple[float, ...] | None = None, ratios: tuple[float, ...] | None = None,
    rois: int | None = None, parts: str | Sequence[str] = (), recipe: str | None = None, protocol: str | None = None,
    patience: float | None = None, batch: int | None = None, accumulate: int | None = None,
    optimizer: str | None = None, lr: float | None = None, blr: float | None = None, floor: float | None = None,
    warmup: float | None = None, layer_decay: float | None = None, weight_decay: float | None = None,
    betas: tuple[float, float] | None = None, clip: float | None = None, drop_path: float | None = None, seed: int = 0,
    precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto',
    fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto', threads: int | None = None,
    workers: int | None = None, log_to: str | Sequence[str] = (), log_every: int | None = None,
    config: str | Path | None = None, dry_run: Literal[False] = False, crowds: Literal['ignore', 'learn'] = 'ignore'
) -> Transferred: ...
@overload
def transfer(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (),
    to: Literal['detect'], epochs: float | None = None, device: str = 'auto', images: str | Path | None = None,
    format: str = 'auto', masks: Literal['auto', 'on', 'off'] = 'auto', most: int | None = None,
    flip: Literal['auto', 'on', 'off'] = 'auto', jitter: tuple[float, float] | None = None,
    input_size: int | str | Sequence[int] | None = None, max_bad: float | None = None, init: str | Path | None = None,
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, weights_ema: bool = False, student: bool = False,
    pyramid: str | None = None, width: int | None = None, window: int | None = None, global_blocks: int | None = None,
    relative: bool = False, anchors: tuple[float, ...] | None = None, ratios: tuple[float, ...] | None = None,
    rois: int | None = None, parts: str | Sequence[str] = (), recipe: str | None = None, protocol: str | None = None,
    patience: float | None = None, batch: int | None = None, accumulate: int | None = None,
    optimizer: str | None = None, lr: float | None = None, blr: float | None = None, floor: float | None = None,
    warmup: float | None = None, layer_decay: float | None = None, weight_decay: float | None = None,
    betas: tuple[float, float] | None = None, clip: float | None = None, drop_path: float | None = None, seed: int = 0,
    precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto',
    fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto', threads: int | None = None,
    workers: int | None = None, log_to: str | Sequence[str] = (), log_every: int | None = None,
    config: str | Path | None = None, dry_run: Literal[True], crowds: Literal['ignore', 'learn'] = 'ignore'
) -> None: ...
@overload
def transfer(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (),
    to: Literal['segment'], epochs: float | None = None, device: str = 'auto', images: str | Path | None = None,
    classes: str | Path | None = None, void: str | Sequence[str] | None = None, most: int | None = None,
    crop_size: int | str | Sequence[int] | None = None, side: int | None = None,
    scale: tuple[float, float] | None = None, class_limit: float | None = None,
    flip: Literal['auto', 'on', 'off'] = 'auto', distort: Literal['auto', 'on', 'off'] = 'auto',
    balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float | None = None, init: str | Path | None = None,
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, weights_ema: bool = False, student: bool = False,
    head: str | None = None, window: int | None = None, global_blocks: int | None = None, relative: bool = False,
    parts: str | Sequence[str] = (), recipe: str | None = None, protocol: str | None = None,
    patience: float | None = None, batch: int | None = None, accumulate: int | None = None,
    optimizer: str | None = None, lr: float | None = None, blr: float | None = None, floor: float | None = None,
    warmup: float | None = None, layer_decay: float | None = None, weight_decay: float | None = None,
    betas: tuple[float, float] | None = None, clip: float | None = None, drop_path: float | None = None,
    dice: float | None = None, seed: int = 0, precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto',
    allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto',
    threads: int | None = None, workers: int | None = None, log_to: str | Sequence[str] = (),
    log_every: int | None = None, config: str | Path | None = None, dry_run: Literal[False] = False
) -> Transferred: ...
@overload
def transfer(
    run: str | Path, *, out: str | Path | None = None, on: str | Path | Sequence[str | Path] = (),
    to: Literal['segment'], epochs: float | None = None, device: str = 'auto', images: str | Path | None = None,
    classes: str | Path | None = None, void: str | Sequence[str] | None = None, most: int | None = None,
    crop_size: int | str | Sequence[int] | None = None, side: int | None = None,
    scale: tuple[float, float] | None = None, class_limit: float | None = None,
    flip: Literal['auto', 'on', 'off'] = 'auto', distort: Literal['auto', 'on', 'off'] = 'auto',
    balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float | None = None, init: str | Path | None = None,
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, weights_ema: bool = False, student: bool = False,
    head: str | None = None, window: int | None = None, global_blocks: int | None = None, relative: bool = False,
    parts: str | Sequence[str] = (), recipe: str | None = None, protocol: str | None = None,
    patience: float | None = None, batch: int | None = None, accumulate: int | None = None,
    optimizer: str | None = None, lr: float | None = None, blr: float | None = None, floor: float | None = None,
    warmup: float | None = None, layer_decay: float | None = None, weight_decay: float | None = None,
    betas: tuple[float, float] | None = None, clip: float | None = None, drop_path: float | None = None,
    dice: float | None = None, seed: int = 0, precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto',
    allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto',
    threads: int | None = None, workers: int | None = None, log_to: str | Sequence[str] = (),
    log_every: int | None = None, config: str | Path | None = None, dry_run: Literal[True]
) -> None: ...
def tune(
    data: str | Path | Sequence[str | Path] = (), *, out: str | Path = 'tuning',
    on: str | Path | Sequence[str | Path] = (), model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, hours: float | None = None, device: str = 'auto',
    modality: str | None = None, labels: int | None = 2000, channels: int | None = None, max_bad: float = 0.05,
    patch_size: int | None = None, parts: str | Sequence[str] = (), method: str = 'mae', mask: str | None = None,
    target: str | None = None, decoder: str | None = None, evaluators: str | Sequence[str] = ('linear',),
    axes: str | Sequence[str] = ('ratio',), steps: int | None = None, seeds: int = 3, batch: int | None = None,
    lr: float | None = None, seed: int = 0, precision: str = 'auto', workers: int | None = None, jobs: int = 1,
    config: str | Path | None = None, dry_run: bool = False
) -> Tuned | None: ...

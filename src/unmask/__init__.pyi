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
from unmask.studies.auditing.results import Audit as Audit
from unmask.studies.label_curve.curve import Curve as Curve
from unmask.studies.robustness.results import Stress as Stress
from unmask.studies.selection.results import Selection as Selection
from unmask.tasks.anomaly.model import Finder as Finder
from unmask.tasks.anomaly.results import AnomalyResults as AnomalyResults
from unmask.tasks.open import load as load
from unmask.version import __version__ as __version__

__all__ = [
    "Run", "__version__", "ablate", "advise", "anomaly", "audit", "compare", "completion", "demo", "doctor", "embed",
    "evaluate", "export", "labels", "load", "map", "pack", "predict", "pretrain", "search", "select", "show", "stress",
    "transfer", "tune"
]

@overload
def ablate(
    data: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    on: str | Path | Sequence[str | Path] = (), out: str | Path = 'ablation', axes: str | Sequence[str] = (),
    axis: str | Sequence[str] = (), equal: Literal['images', 'flops'] = 'images', sizes: float | Sequence[float] = (),
    seeds: int = 3, hours: float | None = None, steps: int | None = None, labels: int | None = 2000,
    test: int | None = 2000, finetune_epochs: float | None = None, model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, patch_size: int | None = None, channels: int | None = None,
    decoder: str | None = None, batch: int | None = None, lr: float | None = None, seed: int = 0,
    precision: str = 'auto', device: str = 'auto', workers: int | None = None, max_bad: float = 0.05, jobs: int = 1,
    dry_run: Literal[False] = False
) -> Ablation: ...
@overload
def ablate(
    data: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    on: str | Path | Sequence[str | Path] = (), out: str | Path = 'ablation', axes: str | Sequence[str] = (),
    axis: str | Sequence[str] = (), equal: Literal['images', 'flops'] = 'images', sizes: float | Sequence[float] = (),
    seeds: int = 3, hours: float | None = None, steps: int | None = None, labels: int | None = 2000,
    test: int | None = 2000, finetune_epochs: float | None = None, model: str | None = None,
    image_size: int | str | Sequence[int] | None = None, patch_size: int | None = None, channels: int | None = None,
    decoder: str | None = None, batch: int | None = None, lr: float | None = None, seed: int = 0,
    precision: str = 'auto', device: str = 'auto', workers: int | None = None, max_bad: float = 0.05, jobs: int = 1,
    dry_run: Literal[True]
) -> None: ...
def advise(
    data: str | Path | Sequence[str | Path], *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    on: str | Path | Sequence[str | Path] = (), kind: str | None = None, against: str | Sequence[str] = (),
    minutes: float | None = None, out: str | Path | None = None, device: str = 'auto'
) -> Advice: ...
@overload
def anomaly(
    action: Literal['fit'], model: str | Path = '', images: str | Path | Sequence[str | Path] = (), *,
    config: str | Path | None = None, parts: str | Sequence[str] = (), mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, student: bool = False,
    ema: bool = False, out: str | Path | None = None, method: str | None = None, normal: str | Sequence[str] = (),
    false_alarms: float = 0.05, held_out: float = 0.3, calibrate_on: str | Path | Sequence[str | Path] = (),
    ratio: float | None = None, sets: int = 4, normalize_errors: str = 'place-texture',
    layers: int | Sequence[int] = (), memory: int = 4000, blur: float | None = None, tiles: int = 0, most: int = 2000,
    on: str | Path | Sequence[str | Path] = (), masks: str | Path | None = None, save_maps: str | None = None,
    heatmaps: int = 200, seed: int = 0, batch: int = 32, device: str = 'auto'
) -> Finder: ...
@overload
def anomaly(
    action: Literal['apply'], model: str | Path = '', images: str | Path | Sequence[str | Path] = (), *,
    config: str | Path | None = None, parts: str | Sequence[str] = (), mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (), weights_size: int | str | Sequence[int] | None = None, student: bool = False,
    ema: bool = False, out: str | Path | None = None, method: str | None = None, normal: str | Sequence[str] = (),
    false_alarms: float = 0.05, held_out: float = 0.3, calibrate_on: str | Path | Sequence[str | Path] = (),
    ratio: float | None = None, sets: int = 4, normalize_errors: str = 'place-texture',
    layers: int | Sequence[int] = (), memory: int = 4000, blur: float | None = None, tiles: int = 0, most: int = 2000,
    on: str | Path | Sequence[str | Path] = (), masks: str | Path | None = None, save_maps: str | None = None,
    heatmaps: int = 200, seed: int = 0, batch: int = 32, device: str = 'auto'
) -> AnomalyResults: ...
def audit(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    on: str | Path | Sequence[str | Path] = (), groups: str | Path | Sequence[str | Path] = (),
    unlabelled: str | Path | Sequence[str | Path] = (), out: str | Path | None = None, pooling: str = 'auto',
    index: str | Path | None = None, batch: int = 64, seed: int = 0, device: str = 'auto'
) -> Audit: ...
@overload
def compare(
    data: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    on: str | Path | Sequence[str | Path] = (), out: str | Path = 'comparison',
    methods: str | Sequence[str] = ('mae', 'simclr', 'dino'), hours: float | None = None, images: float | None = None,
    flops: float | None = None, seeds: int = 1, against: str | Sequence[str] = (),
    evaluators: str | Sequence[str] = ('knn', 'linear', 'attentive'), labels_per_class: int | Sequence[int] = (10, 50),
    draws: int = 1, points: int = 3, finetune_epochs: float | None = None, labels: int | None = 2000,
    test: int | None = 2000, model: str | None = None, image_size: int | str | Sequence[int] | None = None,
    patch_size: int | None = None, channels: int | None = None, batch: int | None = None, compile: str = 'off',
    jobs: int = 1, seed: int = 0, precision: str = 'auto', device: str = 'auto', workers: int | None = None,
    max_bad: float = 0.05, dry_run: Literal[False] = False
) -> Comparison: ...
@overload
def compare(
    data: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    on: str | Path | Sequence[str | Path] = (), out: str | Path = 'comparison',
    methods: str | Sequence[str] = ('mae', 'simclr', 'dino'), hours: float | None = None, images: float | None = None,
    flops: float | None = None, seeds: int = 1, against: str | Sequence[str] = (),
    evaluators: str | Sequence[str] = ('knn', 'linear', 'attentive'), labels_per_class: int | Sequence[int] = (10, 50),
    draws: int = 1, points: int = 3, finetune_epochs: float | None = None, labels: int | None = 2000,
    test: int | None = 2000, model: str | None = None, image_size: int | str | Sequence[int] | None = None,
    patch_size: int | None = None, channels: int | None = None, batch: int | None = None, compile: str = 'off',
    jobs: int = 1, seed: int = 0, precision: str = 'auto', device: str = 'auto', workers: int | None = None,
    max_bad: float = 0.05, dry_run: Literal[True]
) -> None: ...
def completion(
    shell: str = '', *, config: str | Path | None = None, parts: str | Sequence[str] = ()
) -> str: ...
def demo(
    *, config: str | Path | None = None, parts: str | Sequence[str] = (), out: str | Path = 'demo-run',
    device: str = 'auto'
) -> Run: ...
def doctor(
    place: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    on: str | Path | Sequence[str | Path] = (), json: bool = False
) -> Diagnosis: ...
def embed(
    run: str | Path, data: str | Path | Sequence[str | Path], *, config: str | Path | None = None,
    parts: str | Sequence[str] = (), mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    out: str | Path | None = None, pooling: str = 'auto', batch: int = 256, device: str = 'auto'
) -> Path: ...
def evaluate(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    on: str | Path | Sequence[str | Path] = (), against: str | Sequence[str] = (),
    labels_per_class: int | Sequence[int] = (1, 5, 10, 50), evaluators: str | Sequence[str] = ('knn', 'linear'),
    draws: int = 5, most: int | None = None, out: str | Path | None = None, batch: int = 256, seed: int = 0,
    device: str = 'auto'
) -> Verdict: ...
def export(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (), to: str | Sequence[str] = (),
    out: str | Path | None = None, images: str | Path | Sequence[str | Path] = (),
    on: str | Path | Sequence[str | Path] = (), normalize: Literal['inside', 'outside'] = 'inside',
    precision: str | Sequence[str] = ('fp32', 'fp16', 'int8'), quantize: Literal['dynamic', 'static'] = 'dynamic',
    most: int | None = None, batch: int = 64, seed: int = 0
) -> Exported: ...
def labels(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    on: str | Path | Sequence[str | Path] = (), to: str = 'classify',
    labels_per_class: int | str | Sequence[int | str] = ('1', '2', '5', '10', '25', '50', '100', 'all'),
    fractions: float | Sequence[float] = (), protocols: str | Sequence[str] = ('knn', 'linear', 'full'),
    against: str | Sequence[str] = (), draws: int = 3, epochs: float | None = None, most: int | None = None,
    most_test: int | None = None, jobs: int | None = None, head: str | None = None, images: str | Path | None = None,
    classes: str | Path | None = None, crop_size: int | str | Sequence[int] | None = None, side: int | None = None,
    out: str | Path | None = None, seed: int = 0, precision: str = 'auto', device: str = 'auto'
) -> Curve: ...
def map(
    run: str | Path, data: str | Path | Sequence[str | Path], *, config: str | Path | None = None,
    parts: str | Sequence[str] = (), mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    out: str | Path | None = None, method: str = 'auto', most: int = 20000, pooling: str = 'auto',
    index: str | Path | None = None, seed: int = 0, batch: int = 64, device: str = 'auto'
) -> Path: ...
def pack(
    data: str | Path | Sequence[str | Path], out: str | Path | None = None, *, config: str | Path | None = None,
    parts: str | Sequence[str] = (), format: Literal['jpeg', 'original', 'raw'] = 'jpeg', size: int | None = None,
    quality: int | None = None, shard_mb: int = 256, threads: int | None = None
) -> Path: ...
def predict(
    run: str | Path, images: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None,
    parts: str | Sequence[str] = (), out: str | Path | None = None, batch: int = 64, threshold: float = 0.5,
    device: str = 'auto'
) -> Any: ...
@overload
def pretrain(
    data: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto',
    fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto', threads: int | None = None,
    device: str = 'auto', workers: int | None = None, log_to: str | Sequence[str] = (), out: str | Path = 'run',
    recipe: str | None = None, model: str | None = None, image_size: int | str | Sequence[int] | None = None,
    resolutions: str | None = None, patch_size: int | None = None, channels: int | None = None, method: str = 'mae',
    mask: str | None = None, masks_per_image: int | None = None, target: str | None = None, decoder: str | None = None,
    init: str | Path = 'none', bands: str | Sequence[str] | None = None, decoder_warmup: int | None = None,
    epochs: float | None = None, steps: int | None = None, hours: float | None = None, batch: int | None = None,
    accumulate: int | None = None, grad_cache: bool = False,
    checkpoint_activations: Literal['auto', 'on', 'off'] = 'auto', lr: float | None = None, blr: float | None = None,
    warmup: float | None = None, weight_decay: float | None = None, clip: float | None = None,
    crop: float | None = None, crop_kind: Literal['random', 'fixed', 'whole'] = 'random',
    views: str | Sequence[str] | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', seed: int = 0,
    shuffle_buffer: int | None = None, strategy: Literal['auto', 'ddp', 'fsdp2'] = 'auto', devices: int | None = None,
    nodes: int | None = None, views_per_image: int = 1, in_memory: Literal['auto', 'on', 'off'] = 'auto',
    resize: Literal['auto', 'exact', 'fast'] = 'auto', log_every: int | None = None, save_every: int | None = None,
    keep_every: int | None = None, keep_last: int | None = None, spike: float | str | None = None,
    rollbacks: int | None = None, deterministic: bool = False, probe: str | Path | None = None,
    probe_every: float | None = None, max_bad: float = 0.05, dry_run: Literal[False] = False
) -> Run: ...
@overload
def pretrain(
    data: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    precision: str = 'auto', matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto',
    fused: str = 'auto', compile: str = 'auto', channels_last: str = 'auto', threads: int | None = None,
    device: str = 'auto', workers: int | None = None, log_to: str | Sequence[str] = (), out: str | Path = 'run',
    recipe: str | None = None, model: str | None = None, image_size: int | str | Sequence[int] | None = None,
    resolutions: str | None = None, patch_size: int | None = None, channels: int | None = None, method: str = 'mae',
    mask: str | None = None, masks_per_image: int | None = None, target: str | None = None, decoder: str | None = None,
    init: str | Path = 'none', bands: str | Sequence[str] | None = None, decoder_warmup: int | None = None,
    epochs: float | None = None, steps: int | None = None, hours: float | None = None, batch: int | None = None,
    accumulate: int | None = None, grad_cache: bool = False,
    checkpoint_activations: Literal['auto', 'on', 'off'] = 'auto', lr: float | None = None, blr: float | None = None,
    warmup: float | None = None, weight_decay: float | None = None, clip: float | None = None,
    crop: float | None = None, crop_kind: Literal['random', 'fixed', 'whole'] = 'random',
    views: str | Sequence[str] | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', seed: int = 0,
    shuffle_buffer: int | None = None, strategy: Literal['auto', 'ddp', 'fsdp2'] = 'auto', devices: int | None = None,
    nodes: int | None = None, views_per_image: int = 1, in_memory: Literal['auto', 'on', 'off'] = 'auto',
    resize: Literal['auto', 'exact', 'fast'] = 'auto', log_every: int | None = None, save_every: int | None = None,
    keep_every: int | None = None, keep_last: int | None = None, spike: float | str | None = None,
    rollbacks: int | None = None, deterministic: bool = False, probe: str | Path | None = None,
    probe_every: float | None = None, max_bad: float = 0.05, dry_run: Literal[True]
) -> None: ...
def search(
    run: str | Path, data: str | Path | Sequence[str | Path], *, config: str | Path | None = None,
    parts: str | Sequence[str] = (), mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    query: str | Path | Sequence[str | Path] = (), duplicates: bool = False, out: str | Path | None = None,
    top: int = 12, pooling: str = 'auto', standardize: bool = True, by: str = 'pixels', threshold: float | None = None,
    compare: bool = False, index: str | Path | None = None, batch: int = 64, device: str = 'auto'
) -> SearchResults: ...
def select(
    run: str | Path, data: str | Path | Sequence[str | Path], *, config: str | Path | None = None,
    parts: str | Sequence[str] = (), mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    on: str | Path | Sequence[str | Path] = (), most: int = 50, by: Literal['mix', 'diverse', 'uncertain'] = 'mix',
    threshold: float | None = None, out: str | Path | None = None, pooling: str = 'auto',
    index: str | Path | None = None, batch: int = 64, seed: int = 0, device: str = 'auto'
) -> Selection: ...
def show(
    run: str | Path, images: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None,
    parts: str | Sequence[str] = (), mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, ema: bool = False,
    what: str = 'rebuild', out: str | Path | None = None, ratio: float | Sequence[float] = (),
    mask: str | Sequence[str] = (), progress: float = 1.0, most: int = 8, seed: int = 0, true_statistics: bool = True,
    block: int = -1, size: int | None = None, background: bool = True, device: str = 'auto'
) -> Path: ...
def stress(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    on: str | Path | Sequence[str | Path] = (), corruptions: str | Sequence[str] = (),
    severities: int | Sequence[int] = (1, 2, 3, 4, 5), groups: str | Sequence[str] = (), most: int | None = 1000,
    out: str | Path | None = None, batch: int = 64, seed: int = 0, device: str = 'auto'
) -> Stress: ...
@overload
def transfer(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, precision: str = 'auto',
    matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, device: str = 'auto', workers: int | None = None,
    log_to: str | Sequence[str] = (), on: str | Path | Sequence[str | Path] = (), to: Literal['classify'] = 'classify',
    out: str | Path | None = None, protocol: str | None = None, recipe: str | None = None,
    init: str | Path | None = None, weights_ema: bool = False, epochs: float | None = None, batch: int | None = None,
    accumulate: int | None = None, optimizer: str | None = None, lr: float | None = None, blr: float | None = None,
    floor: float | None = None, warmup: float | None = None, layer_decay: float | None = None,
    weight_decay: float | None = None, betas: tuple[float, float] | None = None, clip: float | None = None,
    drop_path: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', window: int | None = None,
    global_blocks: int | None = None, relative: bool = False, patience: float | None = None, most: int | None = None,
    seed: int = 0, log_every: int | None = None, dry_run: Literal[False] = False, blocks: float | None = None,
    pooling: str | None = None, ema: float | None = None, smoothing: float | None = None, mixup: float | None = None,
    cutmix: float | None = None, randaug: str | None = None, erase: float | None = None, crop: float | None = None,
    eval_crop: float | None = None, balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float = 0.05
) -> Transferred: ...
@overload
def transfer(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, precision: str = 'auto',
    matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, device: str = 'auto', workers: int | None = None,
    log_to: str | Sequence[str] = (), on: str | Path | Sequence[str | Path] = (), to: Literal['classify'] = 'classify',
    out: str | Path | None = None, protocol: str | None = None, recipe: str | None = None,
    init: str | Path | None = None, weights_ema: bool = False, epochs: float | None = None, batch: int | None = None,
    accumulate: int | None = None, optimizer: str | None = None, lr: float | None = None, blr: float | None = None,
    floor: float | None = None, warmup: float | None = None, layer_decay: float | None = None,
    weight_decay: float | None = None, betas: tuple[float, float] | None = None, clip: float | None = None,
    drop_path: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', window: int | None = None,
    global_blocks: int | None = None, relative: bool = False, patience: float | None = None, most: int | None = None,
    seed: int = 0, log_every: int | None = None, dry_run: Literal[True], blocks: float | None = None,
    pooling: str | None = None, ema: float | None = None, smoothing: float | None = None, mixup: float | None = None,
    cutmix: float | None = None, randaug: str | None = None, erase: float | None = None, crop: float | None = None,
    eval_crop: float | None = None, balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float = 0.05
) -> None: ...
@overload
def transfer(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, precision: str = 'auto',
    matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, device: str = 'auto', workers: int | None = None,
    log_to: str | Sequence[str] = (), on: str | Path | Sequence[str | Path] = (), to: Literal['detect'],
    out: str | Path | None = None, protocol: str | None = None, recipe: str | None = None,
    init: str | Path | None = None, weights_ema: bool = False, epochs: float | None = None, batch: int | None = None,
    accumulate: int | None = None, optimizer: str | None = None, lr: float | None = None, blr: float | None = None,
    floor: float | None = None, warmup: float | None = None, layer_decay: float | None = None,
    weight_decay: float | None = None, betas: tuple[float, float] | None = None, clip: float | None = None,
    drop_path: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', window: int | None = None,
    global_blocks: int | None = None, relative: bool = False, patience: float | None = None, most: int | None = None,
    seed: int = 0, log_every: int | None = None, dry_run: Literal[False] = False, format: str = 'auto',
    images: str | Path | None = None, masks: Literal['auto', 'on', 'off'] = 'auto',
    crowds: Literal['ignore', 'learn'] = 'ignore', input_size: int | str | Sequence[int] | None = None,
    pyramid: str | None = None, width: int | None = None, rois: int | None = None,
    anchors: tuple[float, ...] | None = None, ratios: tuple[float, ...] | None = None,
    jitter: tuple[float, float] | None = None, max_bad: float | None = None
) -> Transferred: ...
@overload
def transfer(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, precision: str = 'auto',
    matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, device: str = 'auto', workers: int | None = None,
    log_to: str | Sequence[str] = (), on: str | Path | Sequence[str | Path] = (), to: Literal['detect'],
    out: str | Path | None = None, protocol: str | None = None, recipe: str | None = None,
    init: str | Path | None = None, weights_ema: bool = False, epochs: float | None = None, batch: int | None = None,
    accumulate: int | None = None, optimizer: str | None = None, lr: float | None = None, blr: float | None = None,
    floor: float | None = None, warmup: float | None = None, layer_decay: float | None = None,
    weight_decay: float | None = None, betas: tuple[float, float] | None = None, clip: float | None = None,
    drop_path: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', window: int | None = None,
    global_blocks: int | None = None, relative: bool = False, patience: float | None = None, most: int | None = None,
    seed: int = 0, log_every: int | None = None, dry_run: Literal[True], format: str = 'auto',
    images: str | Path | None = None, masks: Literal['auto', 'on', 'off'] = 'auto',
    crowds: Literal['ignore', 'learn'] = 'ignore', input_size: int | str | Sequence[int] | None = None,
    pyramid: str | None = None, width: int | None = None, rois: int | None = None,
    anchors: tuple[float, ...] | None = None, ratios: tuple[float, ...] | None = None,
    jitter: tuple[float, float] | None = None, max_bad: float | None = None
) -> None: ...
@overload
def transfer(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, precision: str = 'auto',
    matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, device: str = 'auto', workers: int | None = None,
    log_to: str | Sequence[str] = (), on: str | Path | Sequence[str | Path] = (), to: Literal['segment'],
    out: str | Path | None = None, protocol: str | None = None, recipe: str | None = None,
    init: str | Path | None = None, weights_ema: bool = False, epochs: float | None = None, batch: int | None = None,
    accumulate: int | None = None, optimizer: str | None = None, lr: float | None = None, blr: float | None = None,
    floor: float | None = None, warmup: float | None = None, layer_decay: float | None = None,
    weight_decay: float | None = None, betas: tuple[float, float] | None = None, clip: float | None = None,
    drop_path: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', window: int | None = None,
    global_blocks: int | None = None, relative: bool = False, patience: float | None = None, most: int | None = None,
    seed: int = 0, log_every: int | None = None, dry_run: Literal[False] = False, head: str | None = None,
    images: str | Path | None = None, classes: str | Path | None = None, void: str | Sequence[str] | None = None,
    crop_size: int | str | Sequence[int] | None = None, side: int | None = None,
    scale: tuple[float, float] | None = None, class_limit: float | None = None,
    distort: Literal['auto', 'on', 'off'] = 'auto', dice: float | None = None,
    balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float | None = None
) -> Transferred: ...
@overload
def transfer(
    run: str | Path, *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    mean: float | Sequence[float] = (), std: float | Sequence[float] = (),
    weights_size: int | str | Sequence[int] | None = None, student: bool = False, precision: str = 'auto',
    matmul: str = 'auto', attention: str = 'auto', allocator: str = 'auto', fused: str = 'auto', compile: str = 'auto',
    channels_last: str = 'auto', threads: int | None = None, device: str = 'auto', workers: int | None = None,
    log_to: str | Sequence[str] = (), on: str | Path | Sequence[str | Path] = (), to: Literal['segment'],
    out: str | Path | None = None, protocol: str | None = None, recipe: str | None = None,
    init: str | Path | None = None, weights_ema: bool = False, epochs: float | None = None, batch: int | None = None,
    accumulate: int | None = None, optimizer: str | None = None, lr: float | None = None, blr: float | None = None,
    floor: float | None = None, warmup: float | None = None, layer_decay: float | None = None,
    weight_decay: float | None = None, betas: tuple[float, float] | None = None, clip: float | None = None,
    drop_path: float | None = None, flip: Literal['auto', 'on', 'off'] = 'auto', window: int | None = None,
    global_blocks: int | None = None, relative: bool = False, patience: float | None = None, most: int | None = None,
    seed: int = 0, log_every: int | None = None, dry_run: Literal[True], head: str | None = None,
    images: str | Path | None = None, classes: str | Path | None = None, void: str | Sequence[str] | None = None,
    crop_size: int | str | Sequence[int] | None = None, side: int | None = None,
    scale: tuple[float, float] | None = None, class_limit: float | None = None,
    distort: Literal['auto', 'on', 'off'] = 'auto', dice: float | None = None,
    balanced: Literal['auto', 'on', 'off'] = 'auto', max_bad: float | None = None
) -> None: ...
def tune(
    data: str | Path | Sequence[str | Path] = (), *, config: str | Path | None = None, parts: str | Sequence[str] = (),
    on: str | Path | Sequence[str | Path] = (), out: str | Path = 'tuning', axes: str | Sequence[str] = ('ratio',),
    hours: float | None = None, steps: int | None = None, seeds: int = 3, evaluators: str | Sequence[str] = ('linear',),
    labels: int | None = 2000, model: str | None = None, image_size: int | str | Sequence[int] | None = None,
    patch_size: int | None = None, channels: int | None = None, method: str = 'mae', mask: str | None = None,
    target: str | None = None, decoder: str | None = None, batch: int | None = None, lr: float | None = None,
    seed: int = 0, precision: str = 'auto', device: str = 'auto', workers: int | None = None, max_bad: float = 0.05,
    jobs: int = 1, dry_run: bool = False
) -> Tuned | None: ...

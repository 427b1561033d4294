"""What a run needs on 1 to 512 GPUs: memory, time, bytes between them and from storage. Computed, and partly measured.

    python benchmarks/scale.py                # the tables of docs/scale.md, in seconds; no GPU needed
    python benchmarks/scale.py --measure 4    # and bytes per step and equality of DDP and FSDP2, really run, on the CPU

Parameters, FLOPs and activations come from the code itself: the models are built without memory (fake tensors) and
one step is traced. Everything else is arithmetic on the arguments, whose defaults are an H200 and its usual node.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import smoke
import torch
from records import RESULTS
from scale_measured import measure

MIB, GB = 2**20, 1e9
STATE = 16  # bytes per parameter: fp32 weight, gradient and two moments
BUCKETS = 4  # bytes per parameter that DDP holds beside that to send gradients from
ADAMW = 28  # bytes per parameter that a fused AdamW step reads and writes
FULL = 0.9  # of a GPU's memory that may be used
SAVED = 12  # bytes per parameter in a checkpoint: weight and two moments
MODELS = {  # timm's name, patch, MB per image of memory traffic with fused kernels (measured kernel by kernel on paper)
    "ViT-B/16": ("vit_base_patch16_224", 16, 241),
    "ViT-L/16": ("vit_large_patch16_224", 16, 387),
    "ViT-H/14": ("vit_huge_patch14_224", 14, 706),
}
TOY = {"toy": ("vit_tiny_patch16_224(depth=2)", 16, 50)}
KINDS = {"JPEG, original size": 110.0, "pack, short side 256": 29.9, "raw uint8 256 px": 192.0}  # KiB per image
DECODED = {"JPEG, original size": 1157, "pack, short side 256": 2431, "raw uint8 256 px": 7831}  # images/s per core


@dataclass(frozen=True)
class Cluster:
    tflops: float = 790.0  # bf16 matrix products that an H200 reaches, measured
    memory_bandwidth: float = 4800.0  # GB/s, data sheet
    memory: float = 141.0  # GB per GPU, data sheet
    per_node: int = 8  # GPUs per machine
    nvlink: float = 450.0  # GB/s per GPU and direction within a machine: half of the data sheet's 900
    network: float = 50.0  # GB/s per GPU between machines: one 400 Gbit/s port each, as eight-GPU nodes have
    link: float = 0.8  # share of a link that collectives reach; an assumption
    host: float = 8.0  # ms in which a host starts the kernels of one forward and backward; 0 with CUDA graphs
    storage: float = 2.0  # GB/s to write a checkpoint from one machine; an assumption


@dataclass(frozen=True)
class Facts:
    """What a model is, read off the code."""

    parameters: int  # with the fixed position tables
    trained: int
    gflop: float  # forward and backward of one image
    activations: float  # MiB that one image keeps for the backward pass, under bf16 autocast
    block: int  # parameters of the largest block that FSDP2 gathers


def facts(model: str, patch: int, image_size: int = 224) -> Facts:
    """MAE around an encoder, with its decoder of 8 x 512."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from unmask.methods.mae import MAE
    from unmask.models.encoder import create_encoder
    from unmask.runtime.blocks import stacked
    from unmask.training.speed.step_cost import step_flops

    with torch.device("meta"):
        encoder = create_encoder(model, image_size=(image_size, image_size), patch_size=patch)
        decoder = "full(dim=512, depth=8, heads=16)"
        objective = MAE(encoder, mask="random", target="pixels", decoder=decoder)
    with FakeTensorMode(allow_non_fake_inputs=True), _parameters_replaced():
        objective = objective.to_empty(device="cpu").train()
        batch = {"views": [torch.zeros(2, 3, image_size, image_size, dtype=torch.uint8)]}
        flops = step_flops(objective, batch)
        kept, own = {}, {parameter.untyped_storage()._cdata for parameter in objective.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            held = objective(batch)["loss"]
        del held
        parameters = list(objective.parameters())
        table = objective.decoder.position  # fixed; the reference code counts it, with a row for the class token
        tables = table.numel() + table.shape[-1]
        return Facts(
            parameters=sum(p.numel() for p in parameters) + tables,
            trained=sum(p.numel() for p in parameters if p.requires_grad),
            gflop=flops / 1e9,
            activations=sum(kept.values()) / 2 / MIB,
            block=max(sum(p.numel() for p in block.parameters()) for _, block in stacked(objective)),
        )


@contextmanager
def _parameters_replaced() -> Iterator[None]:
    """Modules that are converted get new parameters, which fake ones have to be; the setting is the whole process's."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def sent(trained: int, gpus: int, strategy: str) -> float:
    """Bytes that every GPU sends per step, in rings: an all-reduce of the gradients (DDP), or two all-gathers of the
    weights and a reduce-scatter of the gradients (FSDP2), all in fp32."""
    times = {"ddp": 2, "fsdp2": 3}[strategy]
    return times * (gpus - 1) / gpus * 4 * trained


def memory(facts: Facts, gpus: int, micro: int, strategy: str) -> dict[str, float]:
    """GB on one GPU: what belongs to the parameters, and what `micro` images keep."""
    if strategy == "ddp":
        state = (STATE + (BUCKETS if gpus > 1 else 0)) * facts.trained
    else:  # two blocks at a time are whole: weights of both, gradients of one
        state = STATE * facts.trained / gpus + 3 * 4 * facts.block
    return {"state_gb": state / GB, "activations_gb": micro * facts.activations * MIB / GB}


def step(facts: Facts, traffic: float, cluster: Cluster, gpus: int, batch: int, strategy: str, most: int) -> dict:
    """One optimizer step of `batch` images over all GPUs, at most `most` at a time on each. traffic: MB per image."""
    per_gpu = batch // gpus
    parts = -(-per_gpu // most)
    images = per_gpu * (facts.gflop / cluster.tflops + traffic / cluster.memory_bandwidth)  # ms
    images = max(images, parts * cluster.host)
    shards = gpus if strategy == "fsdp2" else 1
    update = ADAMW * facts.trained / shards / cluster.memory_bandwidth / 1e6
    whole = gpus > cluster.per_node
    bandwidth = min(cluster.nvlink, cluster.network * cluster.per_node) if whole else cluster.nvlink
    wire = sent(facts.trained, gpus, strategy) / (bandwidth * cluster.link) / 1e6
    window = images / parts * (2 / 3 if strategy == "ddp" else 1)  # it runs beside the last micro-batch's backward
    total = images + update + max(0.0, wire - window)
    held = memory(facts, gpus, min(per_gpu, most), strategy)
    return {
        "gpus": gpus, "strategy": strategy, "per_gpu": per_gpu, "parts": parts, "memory_gb": sum(held.values()), **held,
        "compute_ms": images + update, "sent_mb": sent(facts.trained, gpus, strategy) / 1e6, "wire_ms": wire,
        "waits_ms": max(0.0, wire - window), "step_ms": total, "images_per_second": batch / total * 1e3,
        "efficiency": (images + update) / total,
    }  # fmt: skip


def needs_shards(cluster: Cluster, facts: Facts, micro: int) -> float:
    """Trained parameters above which one GPU cannot hold all state beside the activations of `micro` images."""
    return (cluster.memory * GB - micro * facts.activations * MIB) / (STATE + BUCKETS)


def storage(images_per_second: float) -> dict[str, dict[str, float]]:
    """MB/s and cores that keep one GPU busy, by kind of file."""
    return {
        kind: {"mb_per_second": images_per_second * kib * 1024 / 1e6, "cores": images_per_second / DECODED[kind]}
        for kind, kib in KINDS.items()
    }


def billion(rate: float, images: float = 1e9, shard_gb: float = 1.0) -> dict[str, float]:
    """What grows with the number of images, and what does not. rate: images per second of the whole job."""
    kib = KINDS["pack, short side 256"]
    return {
        "images": images, "terabytes": images * kib * 1024 / 1e12, "shards": images * kib * 1024 / (shard_gb * GB),
        "hours_per_epoch": images / rate / 3600, "permutation_gb": 8 * images / GB,
        "shard_permutation_kb": 8 * images * kib * 1024 / (shard_gb * GB) / 1e3,
    }  # fmt: skip


def plan(cluster: Cluster, batch: int, most: int, gpus: list[int], models: dict[str, tuple[str, int, int]]) -> dict:
    """Everything, for JSON."""
    found: dict = {"cluster": asdict(cluster), "batch": batch, "most": most, "models": {}}
    for name, (model, patch, traffic) in models.items():
        one = facts(model, patch)
        room = most
        while sum(memory(one, 2, room, "ddp").values()) > FULL * cluster.memory and room > 1:
            room //= 2
        shared = {"facts": one, "traffic": traffic, "cluster": cluster, "most": room}
        alone = step(**shared, gpus=1, batch=room, strategy="ddp")
        found["models"][name] = {
            "facts": asdict(one),
            "same_batch": [step(**shared, gpus=n, batch=batch, strategy=s) for n in gpus for s in _strategies(n)],
            "same_per_gpu": [step(**shared, gpus=n, batch=room * n, strategy=s) for n in gpus for s in _strategies(n)],
            "at_a_time": room,
            "needs_shards_above": needs_shards(cluster, one, room),
            "storage_per_gpu": storage(alone["images_per_second"]),
            "checkpoint_gb": SAVED * one.trained / GB,
            "checkpoint_seconds": SAVED * one.trained / GB / cluster.storage,
            "billion": billion(alone["images_per_second"] * max(gpus)),
        }
    return found


def _strategies(gpus: int) -> list[str]:
    return ["ddp"] if gpus == 1 else ["ddp", "fsdp2"]


def show(found: dict) -> None:
    """The tables, as docs/scale.md has them."""
    for name, one in found["models"].items():
        f = one["facts"]
        print(
            f"\n### {name}\n\n{f['parameters']:,} parameters ({f['trained']:,} trained), {f['gflop']:.1f} GFLOP and"
            f" {f['activations']:.0f} MiB of activations per image; a checkpoint of {one['checkpoint_gb']:.1f} GB"
            f" ({one['checkpoint_seconds']:.1f} s); sharding is needed above"
            f" {one['needs_shards_above'] / 1e9:.1f} billion parameters."
        )
        for key, title in (
            ("same_batch", f"batch {found['batch']:,} in all"),
            ("same_per_gpu", f"batch {one['at_a_time']} per GPU"),
        ):
            print(f"\n{title}:\n\n| GPUs | strategy | images per GPU | memory GB (state + activations) | compute ms |"
                  " sent MB | wire ms | step ms | images/s | efficiency |\n" + "|---" * 10 + "|")  # fmt: skip
            for row in one[key]:
                print(
                    f"| {row['gpus']} | {row['strategy'] if row['gpus'] > 1 else 'one device'} | {row['per_gpu']} |"
                    f" {row['memory_gb']:.1f} ({row['state_gb']:.1f} + {row['activations_gb']:.1f}) |"
                    f" {row['compute_ms']:.1f} | {row['sent_mb']:,.0f} | {row['wire_ms']:.1f} | {row['step_ms']:.1f} |"
                    f" {row['images_per_second']:,.0f} | {row['efficiency']:.0%} |"
                )
        print("\n| storage for one busy GPU | MB/s | cores |\n|---|---|---|")
        for kind, need in one["storage_per_gpu"].items():
            print(f"| {kind} | {need['mb_per_second']:,.0f} | {need['cores']:.1f} |")
        big = one["billion"]
        print(
            f"\nA billion images: {big['terabytes']:.1f} TB in {big['shards']:,.0f} shards;"
            f" {big['hours_per_epoch']:.2f} h per epoch on the largest job above; an exact permutation of images takes"
            f" {big['permutation_gb']:.0f} GB per process, one of shards {big['shard_permutation_kb']:.0f} kB."
        )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, value in asdict(Cluster()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--batch", type=int, default=4096, help="images per step over all GPUs (MAE's)")
    parser.add_argument("--most", type=int, default=256, help="images at a time on one GPU")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--measure", type=int, default=0, help="processes to really run on this CPU")
    parser.add_argument("--out", type=Path, default=RESULTS / "scale.json", help="file for the figures")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    given = vars(parser().parse_args())
    cluster = Cluster(**{name: given[name] for name in asdict(Cluster())})
    found = plan(cluster, given["batch"], given["most"], given["gpus"], TOY if given["smoke"] else MODELS)
    show(found)
    if given["measure"]:
        found["measured"] = measure(given["measure"])
        print("\n### Measured here\n\n" + json.dumps(found["measured"], indent=2))
    given["out"].parent.mkdir(parents=True, exist_ok=True)
    given["out"].write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--gpus", "1", "16", "--measure", "1", "--out", str(out / "scale.json"), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)

"""Options that commands share: a file of options; and where they train, the machine (`runtime/machine.py` chooses) and
records."""

import importlib.util
import re
from dataclasses import dataclass

from unmask import registry
from unmask.errors import UserError
from unmask.plain import Names, NonNegativeInt, Place, settle, texts
from unmask.version import install_line


@dataclass(frozen=True, kw_only=True)
class ConfigOption:
    config: Place | None = (
        None  # YAML file of options, which those given here overrule; --print-config writes one; to train, also a run
    )


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions(ConfigOption):
    precision: str = (
        "auto"  # bf16, bf16-weights (weights too, with fp32 master copies), 32, or auto: bf16 where it is faster
    )
    matmul: str = "auto"  # fp32 matrix products: default, onednn (CPUs), tf32 (CUDA), or auto: the fastest exact one
    attention: str = "auto"  # how attention is computed: sdpa, matmul, by-length, or auto
    allocator: str = "auto"  # memory freed by a step: keep it for the next, return it to the system, or auto
    fused: str = "auto"  # fused optimizer: on, off, or auto
    compile: str = "auto"  # torch.compile for the blocks: on, off, graphs (with CUDA graphs), or auto
    channels_last: str = "auto"  # channels-last memory order for the patch embedding: on, off, or auto
    threads: int | None = None  # CPU threads
    device: str = "auto"  # cuda, mps, cpu, or auto: the first of these that is available
    workers: NonNegativeInt | None = None  # processes that load images; 0: the main process
    log_to: Names = ()  # also send records to tensorboard, wandb or mlflow, "wandb(offline=True)"; several with commas


def settle_trackers(options: RuntimeOptions) -> None:
    """Splits what `log_to` names; UserError for a tool that there is none of or that is not installed."""
    named = [part.strip() for text in texts(options.log_to) for part in re.split(r",(?![^(]*\))", text)]
    settle(options, "log_to", tuple(dict.fromkeys(part for part in named if part)))
    for text in texts(options.log_to):
        registry.build("tracker", text)
        package = registry.parse(text)[0]
        if "." not in package and importlib.util.find_spec(package) is None:
            raise UserError(f"--log-to {package} needs a package that is not installed: {install_line(package)}")

"""How this process was started: alone, or as one of many by `torchrun` or `srun`. Reads only the environment."""

import os
from dataclasses import dataclass

from unmask.errors import UserError, many


@dataclass(frozen=True)
class Launch:
    how: str = "alone"  # or "torchrun" or "srun"
    rank: int = 0  # of this process among all
    world: int = 1  # processes in all, one per device
    here: int = 1  # processes on this machine

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.world // self.here


def launch() -> Launch:
    """The launch described by the environment. Inside a SLURM allocation, but without srun, a process is alone."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        rank, world, here = (int(env[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return Launch("torchrun", rank, world, here) if world > 1 else Launch()
    world = int(env.get("SLURM_STEP_NUM_TASKS", 1))
    if "SLURM_STEP_ID" in env and world > 1:
        nodes = int(env.get("SLURM_STEP_NUM_NODES", 1))
        if world % nodes:
            raise UserError(f"srun started {many(world, 'process')} on {many(nodes, 'machine')}; each must get as many")
        return Launch("srun", int(env["SLURM_PROCID"]), world, world // nodes)
    return Launch()


def refuse_many(command: str) -> None:
    """Raises UserError if several processes would do the same work and write the same files."""
    launched = launch()
    if launched.world > 1:
        raise UserError(
            f"{command} runs as one process, {launched.how} started {launched.world}; start it without {launched.how}"
        )


def check_asked(devices: int | None, nodes: int | None, command: str) -> None:
    """Raises UserError if `--devices` or `--nodes` differ from the actual launch. command: `pretrain ...`."""
    launched = launch()
    if (devices or launched.here, nodes or launched.nodes) == (launched.here, launched.nodes):
        return
    across = f" --nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint HOST:29500" if (nodes or 1) > 1 else ""
    raise UserError(
        f"--devices {devices or launched.here} and --nodes {nodes or launched.nodes} were asked for, and"
        f" what was started is {many(launched.here, 'process')} on {many(launched.nodes, 'machine')}. A launcher starts"
        f" them, one per device: torchrun{across} --nproc-per-node {devices or launched.here} -m unmask {command}"
        " (docs/scale.md)"
    )

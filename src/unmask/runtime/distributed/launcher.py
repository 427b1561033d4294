"""How this process was started: alone, or as one of many by `torchrun` or `srun`. Reads only the environment."""

import os
import re
from dataclasses import dataclass

from unmask.errors import UserError, many


@dataclass(frozen=True)
class Launch:
    how: str = "alone"  # or "torchrun" or "srun"
    rank: int = 0  # of this process among all
    world: int = 1  # processes in all, one per device
    here: int = 1  # processes on this machine
    local: int = 0  # number of this process among them

    @property
    def nodes(self) -> int:
        """Number of machines."""
        return self.world // self.here


def launch() -> Launch:
    """The launch described by the environment. Inside a SLURM allocation, but without srun, a process is alone."""
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        rank, world, here = (int(env[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        return Launch("torchrun", rank, world, here, int(env.get("LOCAL_RANK", rank % here))) if world > 1 else Launch()
    world = int(env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS") or 1)
    if "SLURM_STEP_ID" in env and world > 1:
        nodes = int(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES") or 1)
        tasks = re.sub(r"\(x\d+\)", "", env.get("SLURM_STEP_TASKS_PER_NODE", "")).split(",")  # 4(x2) or 5,3
        if world % nodes or len(set(tasks)) > 1:
            raise UserError(f"srun started {many(world, 'process')} on {many(nodes, 'machine')}; each must get as many")
        rank, here = int(env["SLURM_PROCID"]), world // nodes
        return Launch("srun", rank, world, here, int(env.get("SLURM_LOCALID", rank % here)))
    return Launch()


def slurm_meeting_point() -> tuple[str, int]:
    """Address and port where the processes of an `srun` meet: the first machine of SLURM's list, which looks like
    `node[07-12,20]`, `a1,b2` or `rack[1-2]n[01-16]`; a port made of the numbers of job and step."""
    env = os.environ
    lists = (env.get(name) for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"))
    first = re.sub(r"\[([^],-]*)[^]]*\]", r"\1", next(filter(None, lists), "127.0.0.1")).split(",")[0]
    number = 31 * int(env.get("SLURM_JOB_ID", 0)) + int(env.get("SLURM_STEP_ID", 0))  # steps may run side by side
    return first, 15000 + number % 10000


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

"""Runs unmask's commands with the sources of one tree. Used by `same_numbers.py`.

Importing torch and all else takes longer than a case computes. So each tree has one process that imports the libraries,
though nothing of unmask, and forks itself for every command. This file is that process when it is run as a program.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
BYTECODE = TREE / ".pytest_cache" / "bytecode"  # torch takes many seconds to compile where no bytecode may be written
LIBRARIES = ("torch", "torchvision", "timm", "torchmetrics", "scipy.stats", "matplotlib.pyplot")


class CommandFailed(Exception):
    """A command did not end well; the text has the end of what it said."""


@dataclass(frozen=True)
class Tree:
    """A folder with src/unmask, and where its runs go. words, files: new names for words of a command line (None: the
    flag and its value are left out) and for files of a run."""

    name: str
    root: Path
    runs: Path
    words: Mapping[str, str | None]
    files: Mapping[str, str]

    def file(self, case: str, name: str) -> Path:
        """The place of a file of a case; what follows a `#` in its name is no part of it."""
        name = name.partition("#")[0]
        return self.runs / case / self.files.get(name, "/".join(self.files.get(part, part) for part in name.split("/")))

    def run(self, case: str, commands: tuple[str, ...], values: Mapping[str, object]) -> float:
        """The commands of a case, one after the other; the seconds they computed. values: of words that begin with @,
        such as @steps. @out is the case's own folder. Raises CommandFailed."""
        seconds, log = 0.0, self.runs / f"{case}.log"
        for command in commands:
            words = self._renamed(command.split())
            for name, value in {"@out": self.runs / case, **values}.items():
                words = [word.replace(name, str(value)) for word in words]
            pipe_in, pipe_out = self._process.stdin, self._process.stdout
            assert pipe_in is not None
            assert pipe_out is not None
            pipe_in.write(json.dumps({"words": words, "log": str(log)}) + "\n")
            pipe_in.flush()
            answer = json.loads(pipe_out.readline() or '{"code": "none, the process ended", "seconds": 0}')
            seconds += answer["seconds"]
            if answer["code"]:
                said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:] if log.exists() else []
                raise CommandFailed("\n    ".join([f"unmask {' '.join(words)}", f"exit code {answer['code']}", *said]))
        return seconds

    def _renamed(self, words: list[str]) -> list[str]:
        left_out = {word for word, new in self.words.items() if new is None}
        kept = [w for before, w in zip(["", *words], words) if w not in left_out and before not in left_out]
        return [self.words.get(word) or word for word in kept]

    @cached_property
    def _process(self) -> subprocess.Popen:
        command = [sys.executable, __file__, str(self.root / "src")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": self.runs}
        return subprocess.Popen(command, env=environment(self.root), **pipes)

    def close(self) -> None:
        """Ends the process, and what it is running."""
        self._process.terminate()
        self._process.wait()


def environment(root: Path) -> dict[str, str]:
    """One thread, no GPU, no network, the tree's own sources, and no CPU instructions that would make bf16 worthwhile:
    `evaluate` measures that and has no flag for it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pinned = {"PYTHONPATH": str(root / "src"), "PYTHONPYCACHEPREFIX": str(BYTECODE), "PYTHONHASHSEED": "0"}
    pinned |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "Agg"}
    pinned |= {"CUDA_VISIBLE_DEVICES": "", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "HF_HUB_OFFLINE": "1"}
    return kept | pinned


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit in a folder of their own, removed at the end."""
    git = ["git", "-C", str(TREE), "worktree"]
    done = subprocess.run([*git, "add", "--detach", str(folder), commit], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"--before {commit}: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)
        shutil.rmtree(BYTECODE / folder.relative_to(folder.anchor), ignore_errors=True)


def serve(sources: Path) -> None:
    """Runs what comes on standard input, a JSON line for each command; answers with exit codes and CPU seconds."""
    sys.path.pop(0)  # the folder of this file
    import torch

    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # The fastest way to compute fp32 products is found by measuring, and two measurements may differ: always the same.
    torch.set_float32_matmul_precision = lambda precision: None
    found = importlib.util.find_spec("unmask")
    if found is None or not Path(found.origin or "").is_relative_to(sources):
        raise SystemExit(f"unmask would be imported from {found and found.origin}, not from {sources}")
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if not child:
            _become_unmask(task["words"], task["log"])
        _, status, usage = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, "seconds": usage.ru_utime + usage.ru_stime}), flush=True)


def _become_unmask(words: list[str], log: str) -> None:
    """As `python -m unmask` with these words; what it says goes to the log."""
    with open(log, "ab", buffering=0) as file, open(os.devnull, "rb") as nothing:
        file.write(f"$ unmask {' '.join(words)}\n".encode())
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["unmask", *words]
    runpy.run_module("unmask", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))

"""Pieces of a study done side by side: each process computes as the one that started it."""

import torch
from rich.console import Console

from unmask.runtime.machine import tune, tuned
from unmask.runtime.settings import RuntimeSettings
from unmask.studies.engine import Piece, Records, Work, run_pieces


def settings_there(key):
    """What the process that does this piece computes with."""
    device, settings = tuned() or ("untuned", None)
    precision = torch.get_float32_matmul_precision()
    return {"device": device, "attention": settings and settings.attention, "precision": precision}


def test_other_processes_compute_with_the_settings_of_this_one(tmp_path):
    chosen = RuntimeSettings(attention="sdpa", matmul="default", allocator="system")
    tune("cpu", chosen)  # none of which a process would choose for itself on a CPU, but for matmul
    pieces = [Piece((number,), str(number)) for number in range(2)]
    records = Records(tmp_path / "results.jsonl", ("number",))
    work = Work(lambda key, tell: settings_there(key), settings_there, jobs=2)
    try:
        run_pieces(work, [pieces], records, Console(quiet=True), str)
    finally:
        tune("cpu")
    there = {"device": "cpu", "attention": "sdpa", "precision": "highest"}
    assert [records.lines[piece.key] for piece in pieces] == [{"number": number} | there for number in range(2)]

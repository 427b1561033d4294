"""The tables of docs/transfer.md are what the code chooses."""

from pathlib import Path

import pytest
import torch
from support.small import sheet_of

from unmask.models.encoder import create_encoder
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.tasks.classification.plan import plan_transfer

SHEET = sheet_of(share_extreme=0.1, bits={"8": 9}, value_range=(0.0, 255.0))
CPU, GPU = (Machine(device, "", 2, 2**34, "32", "") for device in ("cpu", "cuda"))
SIZES = (10, 100, 500, 2_000, 10_000, 50_000, 1_281_167)
SHOWN = ("optimizer", "lr", "weight_decay", "betas", "layer_decay", "drop_path", "smoothing", "randaug", "crop")


def chosen(encoder, count, scratch=False, machine=CPU, **given):
    plan = Plan({"flip": "auto", "balanced": "auto"} | given)
    return plan_transfer(plan, count, encoder, scratch, SHEET, machine)


@pytest.fixture(scope="module")
def encoders():
    with torch.device("meta"):
        return [create_encoder(f"vit_{size}_patch16_224(depth=1)") for size in ("tiny", "base")]


def by_size(encoder):
    lines = [
        "| labelled images | batch, CPU / GPU | epochs, CPU / GPU | epochs from scratch | mixup / cutmix |",
        "|---" * 5 + "|",
    ]
    for count in SIZES:
        cpu, gpu, scratch = chosen(encoder, count), chosen(encoder, count, machine=GPU), chosen(encoder, count, True)
        cells = [f"{count:,}", f"{cpu.batch} / {gpu.batch}", f"{cpu.epochs:g} / {gpu.epochs:g}"]
        cells += [f"{scratch.epochs:g}", f"{cpu.mixup:g} / {cpu.cutmix:g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def by_protocol(tiny, base):
    columns = {"full, partial": {}, "full, from scratch": {"scratch": True}, "linear": {"protocol": "linear"}}
    columns |= {"attentive": {"protocol": "attentive"}}
    found = [chosen(tiny, 2_000, machine=GPU, **given) for given in columns.values()]
    wide = [chosen(base, 2_000, machine=GPU, **given) for given in columns.values()]
    lines = [f"| setting | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in SHOWN:
        cells = []
        for narrow, broad in zip(found, wide):
            values = [getattr(s, name) for s in ([narrow, broad] if name == "lr" else [narrow])]
            text = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in values]
            cells.append(" / ".join(dict.fromkeys(text)))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_tables_in_the_docs_are_the_rule(encoders):
    page = (Path(__file__).parents[2] / "docs" / "transfer.md").read_text(encoding="utf-8")
    for table in (by_size(encoders[0]), by_protocol(*encoders)):
        assert table in page, f"put this into docs/transfer.md:\n{table}"

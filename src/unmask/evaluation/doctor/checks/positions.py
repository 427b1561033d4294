"""Position tables that are the same everywhere: the network cannot tell where a patch is.

A known trap of models whose fixed tables are filled in by code that did not run: tables of zeros load without an error.
"""

from torch import Tensor

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown

__all__ = ["positions"]
SAME = 1e-6


def positions(subject: Subject) -> list[Finding]:
    """Looks at every table that the weights bring, of encoder and decoder."""
    weights = subject.opened.weights
    tables = {f"encoder's {key}": value for key, value in weights.encoder.items() if "pos_embed" in key}
    if weights.decoder and "position" in weights.decoder:
        tables["decoder's table"] = weights.decoder["position"]
    tables = {name: table for name, table in tables.items() if table.ndim >= 2 and table.shape[-2] > 2}
    if not tables:
        raise Unknown("the weights bring no position tables")
    constant = [name for name, table in tables.items() if _constant(table)]
    if not constant:
        return []
    remedy = "fill in the fixed sine-cosine table before use, or fetch the weights again with a version that does"
    return [Finding(f"the {' and the '.join(constant)} is the same at every position", remedy)]


def _constant(table: Tensor) -> bool:
    rows = table.float().reshape(-1, table.shape[-1])[1:]  # the first may belong to the class token
    return bool((rows - rows.mean(dim=0)).abs().max() < SAME)

"""Features that say nothing: the same for every image, or all along one line.

The effective rank is the participation ratio of the variances; like RankMe (Garrido et al. 2023) it needs no labels.
"""

import torch

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.evaluation.features import pooled

__all__ = ["features"]
LEAST, RANK, FEW = 1e-3, 1.2, 8  # spread over length; dimensions; images below which a rank says little


@torch.no_grad()
def features(subject: Subject) -> list[Finding]:
    """Means of unit tokens, of a few images that differ."""
    if subject.kind == "data":
        raise Unknown("it is data, without weights")
    x = subject.images
    if float((x - x[:1]).abs().max()) == 0:
        raise Unknown("all images to try it on are the same")
    found = torch.cat([pooled(subject.encoder, part, ("mean",))["mean"] for part in x.split(16)]).double()
    if not found.isfinite().all():
        return [Finding("features are not finite", "the weights are broken: go back to an earlier checkpoint")]
    centred = found - found.mean(dim=0)
    spread = float(centred.norm(dim=1).mean() / found.norm(dim=1).mean().clamp(min=1e-30))
    remedy = "do not use these features: train anew with a lower --lr or longer --warmup, and look at the data first"
    if spread < LEAST:
        return [Finding(f"features hardly differ between images (by {spread:.1e} of their length): constant", remedy)]
    variances = torch.linalg.svdvals(centred).square()
    rank = float(variances.sum() ** 2 / variances.square().sum())
    if len(x) >= FEW and rank < RANK:
        return [Finding(f"features of all images lie along one line (effective rank {rank:.2f}): collapsed", remedy)]
    return []

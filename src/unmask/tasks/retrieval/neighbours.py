"""Nearest neighbours of vectors, exact and in blocks: memory grows linearly with the number of images.

Above a million vectors, pairs are searched with faiss's inverted lists if it is installed (Johnson et al. 2017,
https://arxiv.org/abs/1702.08734), which can miss some; everything else is exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

ROWS, COLUMNS = 1024, 16384  # of a block of similarities: 64 MiB
LARGE = 1_000_000  # vectors above which pairs are sought by faiss, where there is faiss
FOLD = 1_000_000  # pairs that wait to be joined
NEAR = 16  # neighbours of each vector that faiss looks for


@dataclass(frozen=True)
class Pairs:
    """The nearest neighbour of each of n vectors, and the groups of linked vectors."""

    group: Int[np.ndarray, "n"]  # the same number for vectors joined by pairs at or above the threshold
    partner: Int[np.ndarray, "n"]  # the most similar other vector; -1 where there is none
    similarity: Float[np.ndarray, "n"]  # to the partner
    exact: bool  # False if faiss may have missed some


def unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Normalises vectors to length 1, so that products are cosines; zero vectors stay zero."""
    x = np.asarray(x, np.float32)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


class Scale:
    """Standardises every feature over some data (mean 0, deviation 1), then normalises vectors to length 1: a few of
    MAE's features vary far more than the rest and would dominate the cosine."""

    def __init__(self, x: Float[np.ndarray, "n d"]):
        self.mean, std = x.mean(axis=0), x.std(axis=0)
        self.std = np.where(std > 0, std, 1)

    def __call__(self, x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
        return unit((x - self.mean) / self.std)


def nearest(
    queries: Float[np.ndarray, "q d"],
    vectors: Float[np.ndarray, "n d"],
    k: int,
    device: str = "cpu",
    progress: Callable[[int], object] | None = None,  # told the number of queries done
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """The k largest products of each query with the vectors, and their indices; fewer if there are fewer vectors."""
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    for start in range(0, len(queries), ROWS):
        query = _tensor(queries[start : start + ROWS], device)
        best, at = query.new_zeros(len(query), 0), torch.zeros(len(query), 0, dtype=torch.long, device=device)
        for first in range(0, len(vectors), COLUMNS):
            scores = query @ _tensor(vectors[first : first + COLUMNS], device).T
            score, place = scores.topk(min(k, scores.shape[1]), dim=1)
            best, at = torch.cat([best, score], dim=1), torch.cat([at, place + first], dim=1)
            best, order = best.topk(min(k, best.shape[1]), dim=1)
            at = at.gather(1, order)
        parts.append((best.cpu(), at.cpu()))
        if progress:
            progress(min(start + ROWS, len(queries)))
    return torch.cat([score for score, _ in parts]).numpy(), torch.cat([place for _, place in parts]).numpy()


def pairs(
    vectors: Float[np.ndarray, "n d"],  # of length 1, or zero for what is like nothing
    threshold: float,
    device: str = "cpu",
    large: int = LARGE,
    progress: Callable[[int], object] | None = None,  # told the number of vectors done
) -> Pairs:
    """Compares all vectors with each other and links those with a product of at least `threshold`."""
    if len(vectors) > large and find_spec("faiss") is not None:
        return _pairs_by_lists(vectors, threshold, progress)
    joined, size = _Joined(len(vectors)), len(vectors)
    partner, similarity = np.full(size, -1), np.full(size, -np.inf, np.float32)
    for first in range(0, size, ROWS):
        rows = _tensor(vectors[first : first + ROWS], device)
        for start in range(first // COLUMNS * COLUMNS, size, COLUMNS):
            scores = rows @ _tensor(vectors[start : start + COLUMNS], device).T
            if start < first + len(rows):  # each pair once, and nothing with itself
                places = torch.arange(start, start + scores.shape[1], device=device)
                own = torch.arange(first, first + len(rows), device=device)
                scores = scores.masked_fill(places <= own.view(-1, 1), -torch.inf)
            for axis, mine, yours in ((1, first, start), (0, start, first)):
                best, at = (values.cpu().numpy() for values in scores.max(dim=axis))
                place = slice(mine, mine + len(best))
                better = best > similarity[place]
                similarity[place][better], partner[place][better] = best[better], at[better] + yours
            if best.max() >= threshold:
                one, other = (scores >= threshold).nonzero(as_tuple=True)
                joined.add(first + one.cpu().numpy(), start + other.cpu().numpy())
        if progress:
            progress(min(first + ROWS, size))
    return Pairs(joined.groups(), partner, similarity, exact=True)


def precision(
    vectors: Float[np.ndarray, "n d"],  # of length 1
    labels: Int[np.ndarray, "n"],
    ks: Sequence[int] = (1, 5, 10),
    most: int = 20_000,  # vectors that ask, spread over all; all are asked about
    device: str = "cpu",
) -> dict[int, float]:
    """Share of the k nearest other images with the query's label, averaged over all images as queries
    (leave-one-out)."""
    asking = np.linspace(0, len(vectors) - 1, min(most, len(vectors))).round().astype(int)
    _, places = nearest(vectors[asking], vectors, max(ks) + 1, device)
    itself = places == asking[:, None]
    itself[~itself.any(axis=1), -1] = True  # among many copies of itself; the last is left out in its stead
    others = places[~itself].reshape(len(asking), -1)
    right = labels[others] == labels[asking, None]
    return {k: float(right[:, :k].mean()) for k in ks if k <= right.shape[1]}


class _Joined:
    """Linked pairs and their groups; pairs are merged into groups at intervals, so that memory stays bounded."""

    def __init__(self, size: int):
        self.group, self.waiting, self.count = np.arange(size), [], 0

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        self.waiting.append((one, other))
        self.count += len(one)
        if self.count > FOLD:
            self.groups()

    def groups(self) -> Int[np.ndarray, "n"]:
        """A group number for each vector."""
        if self.count:
            one, other = (np.concatenate(side) for side in zip(*self.waiting))
            edges = (np.ones(len(one), bool), (self.group[one], self.group[other]))
            size = len(self.group)
            _, component = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)
            self.group, self.waiting, self.count = component[self.group], [], 0
        return self.group


def _pairs_by_lists(
    vectors: Float[np.ndarray, "n d"], threshold: float, progress: Callable[[int], object] | None
) -> Pairs:
    import faiss

    size, width = vectors.shape
    lists = int(4 * size**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(np.ascontiguousarray(vectors[:: max(1, size // (64 * lists))], np.float32))  # 64 for each list
    for start in range(0, size, COLUMNS):
        index.add(np.ascontiguousarray(vectors[start : start + COLUMNS], np.float32))
    index.nprobe = 16
    joined, partner, similarity = _Joined(size), np.full(size, -1), np.full(size, -np.inf, np.float32)
    for start in range(0, size, ROWS):
        block = np.ascontiguousarray(vectors[start : start + ROWS], np.float32)
        scores, places = index.search(block, min(NEAR, size))
        own = np.arange(start, start + len(block))[:, None]
        scores = np.where((places == own) | (places < 0), -np.inf, scores)
        one, at = (scores >= threshold).nonzero()
        joined.add(start + one, places[one, at])
        best = scores.argmax(axis=1)
        similarity[start : start + len(block)] = scores[np.arange(len(block)), best]
        partner[start : start + len(block)] = places[np.arange(len(block)), best]
        if progress:
            progress(start + len(block))
    return Pairs(joined.groups(), np.where(np.isfinite(similarity), partner, -1), similarity, exact=False)


def _tensor(x: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(device)

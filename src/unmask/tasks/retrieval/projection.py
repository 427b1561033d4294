"""Projects features to the two dimensions of a map: PCA, t-SNE (van der Maaten, Hinton 2008) or UMAP (McInnes et al.
2018).

All start from the first 50 principal components of the centred unit-length features, as is usual before t-SNE; this
removes noise and saves time but keeps neighbours.
"""

import warnings
from importlib.util import find_spec

import numpy as np
from jaxtyping import Float

from unmask.errors import UserError
from unmask.tasks.retrieval.neighbours import unit
from unmask.version import install_line

METHODS = ("auto", "pca", "tsne", "umap")
COMPONENTS = 50
SLOW = 10_000  # images above which t-SNE takes too long to be chosen
FEW = 5  # images below which there are no neighbourhoods to keep


def choose(method: str, count: int) -> tuple[str, str]:
    """The method and the reason. Raises UserError for UMAP if it is not installed."""
    installed = find_spec("umap") is not None
    if method == "umap" and not installed:
        raise UserError(f"UMAP is not installed: {install_line('umap-learn')}, or use --method tsne or pca")
    if count < FEW:
        return "pca", f"{count} images have no neighbourhoods to keep"
    if method != "auto":
        return method, "asked for"
    if installed:
        return "umap", "keeps neighbourhoods, and is quick"
    if count <= SLOW:
        return "tsne", "keeps neighbourhoods; UMAP, which is quicker, is not installed"
    return "pca", f"UMAP is not installed, and t-SNE takes long above {SLOW:,} images"


def project(features: Float[np.ndarray, "n d"], method: str, seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Coordinates from 0 to 1, the same for the same features, method and seed."""
    from sklearn.decomposition import PCA

    if len(features) == 1:
        return np.full((1, 2), 0.5, np.float32)
    x = unit(features)
    x = x - x.mean(axis=0)
    most = min(COMPONENTS, *x.shape)
    x = PCA(most, svd_solver="auto", random_state=seed).fit_transform(x).astype(np.float32)
    if method == "tsne":
        places = _tsne(x, seed)
    elif method == "umap":
        places = _umap(x, seed)
    else:
        places = np.pad(x, ((0, 0), (0, max(0, 2 - x.shape[1]))))[:, :2]
    low, high = places.min(axis=0), places.max(axis=0)
    span = float((high - low).max()) or 1.0
    return ((places - (low + high) / 2) / span + 0.5).astype(np.float32)  # one scale for both, so that shapes stay


def _tsne(x: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(x)


def _umap(x: np.ndarray, seed: int) -> np.ndarray:
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed leaves one thread, and what numba will do one day
        return np.asarray(umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed).fit_transform(x))

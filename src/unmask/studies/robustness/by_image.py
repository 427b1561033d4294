"""stress_images.csv: how often each test image was answered rightly under corruption, for `unmask audit` to add up."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from unmask.errors import UserError
from unmask.files import read_json

RESULT, BY_IMAGE = "stress.json", "stress_images.csv"
COLUMNS = ["path", "right", "right_under_corruption"]


def read_shares(folder: Path, weights: str, names: Sequence[str]) -> Float[np.ndarray, "n"] | None:
    """Of n images the share of corrupted copies that was answered rightly, NaN for those that were not tested; None
    where the classifier of these weights was tested on none of them. Raises UserError for a damaged table."""
    path = folder / BY_IMAGE
    if not path.is_file() or read_json(folder / RESULT).get("weights") != weights:
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            shares = {row[COLUMNS[0]]: float(row[COLUMNS[2]]) for row in csv.DictReader(file)}
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error!r}; unmask stress makes it anew") from error
    in_order = np.array([shares.get(name, np.nan) for name in names])
    return None if np.isnan(in_order).all() else in_order

"""Files of one whole number for each point of a cloud: text (SEG, LABELS, TXT) and NumPy arrays."""

import numpy as np
from jaxtyping import Int64

from unmask.data.codecs.image import BadImage
from unmask.data.regular_files import read_regular

ENDINGS = (".seg", ".labels", ".label", ".txt", ".npy")
PLAIN = ENDINGS[:3]  # nothing else is called so


def read_point_labels(path: str) -> Int64[np.ndarray, "n"]:
    """The numbers in a file. Raises BadImage where it holds anything else, OSError."""
    content = read_regular(path)
    if content.startswith(b"\x93NUMPY"):
        try:
            with open(path, "rb") as file:
                return whole_numbers(np.load(file, allow_pickle=False))
        except ValueError as error:
            raise BadImage("its labels are a damaged NumPy array") from error
    lines = [line for line in content.split(b"\n") if line.strip() and not line.lstrip().startswith(b"#")]
    try:
        return whole_numbers(np.loadtxt(lines, np.float64, comments=None, ndmin=2))
    except ValueError as error:
        raise BadImage("its labels are no lines of one whole number each") from error


def whole_numbers(values: np.ndarray) -> Int64[np.ndarray, "n"]:
    """The labels of the points of a cloud. Raises BadImage for several columns, and for numbers that are not whole."""
    if values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1) or values.dtype.kind not in "biuf":
        shape = " x ".join(map(str, values.shape))
        raise BadImage(f"its labels are {shape} of {values.dtype}, not one whole number for each point")
    values = values.reshape(-1)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.round(values))).all():
        raise BadImage("its labels are no whole numbers")
    return values.astype(np.int64)

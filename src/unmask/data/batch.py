"""The batch: what a loader yields and an objective takes."""

from typing import Any

# {"views": [x, ...], "index": b}; optional are "label": b, "tokens" of captions: b l, "targets" of detectors,
# "mask": Mask, and "rows": Rows, which the loop adds
Batch = dict[str, Any]

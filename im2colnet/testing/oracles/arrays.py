"""Numbers in float64, whatever comes in."""

from __future__ import annotations

from typing import Any

from im2colnet.host import np


def floats(*arrays: Any) -> Any:
    """The arrays in float64, so that no float32 number takes part in any sum; None stays None."""
    return [None if array is None else np.asarray(array, np.float64) for array in arrays]

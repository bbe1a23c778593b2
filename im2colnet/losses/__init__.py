"""Loss functions, which training minimizes, with the metrics that are computed together with them."""

from im2colnet.losses import base, binary, classification, regression, segmentation, several
from im2colnet.losses.base import *  # noqa: F403
from im2colnet.losses.binary import *  # noqa: F403
from im2colnet.losses.classification import *  # noqa: F403
from im2colnet.losses.regression import *  # noqa: F403
from im2colnet.losses.segmentation import *  # noqa: F403
from im2colnet.losses.several import *  # noqa: F403

__all__ = [
    *base.__all__,
    *binary.__all__,
    *classification.__all__,
    *regression.__all__,
    *segmentation.__all__,
    *several.__all__,
]

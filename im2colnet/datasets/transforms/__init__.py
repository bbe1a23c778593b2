"""Random changes of training images: the names and arguments of torchvision's, where it has them.

A list of them is given to :meth:`im2colnet.Trainer.fit` as ``augment=[...]``. They run on the host, in the order of the
list, before the images are scaled and normalised; uint8 images stay uint8. What happens to a sample depends on seed,
epoch, and where the sample is in the data set, and on nothing else.
"""

from im2colnet.datasets.transforms.base import Transform
from im2colnet.datasets.transforms.color import ColorJitter, RandomErasing
from im2colnet.datasets.transforms.draws import keys, uniform
from im2colnet.datasets.transforms.geometry import RandomAffine, RandomCrop, RandomHorizontalFlip, RandomVerticalFlip
from im2colnet.datasets.transforms.mixing import CutMix, MixUp, RandomChoice

__all__ = [
    "ColorJitter",
    "CutMix",
    "MixUp",
    "RandomAffine",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomVerticalFlip",
    "Transform",
    "keys",
    "uniform",
]

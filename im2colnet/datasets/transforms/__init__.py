"""Random changes of training images (data augmentation), with the names and arguments of torchvision if it has them.

Give a list of transforms to :meth:`im2colnet.Trainer.fit` as ``augment=[...]``. They run on the CPU, in the order of
the list, before the images are scaled and normalized; uint8 images stay uint8. The changes of a sample depend only on
the seed, the epoch and the place of the sample in the data set.
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

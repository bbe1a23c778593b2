"""Image data sets: the built-in digits, IDX files such as MNIST, pictures in folders, and your own `.npz` files.

`N, C, H, W`: images, channels, height, width.
"""

from im2colnet.datasets.dataset import Dataset
from im2colnet.datasets.folder import from_csv, from_folder
from im2colnet.datasets.images import read_images
from im2colnet.datasets.inputs import Inputs
from im2colnet.datasets.items import from_items
from im2colnet.datasets.readers import kind_of, load, read_idx
from im2colnet.datasets.splits import stratified_split

__all__ = [
    "Dataset",
    "Inputs",
    "from_csv",
    "from_folder",
    "from_items",
    "kind_of",
    "load",
    "read_idx",
    "read_images",
    "stratified_split",
]

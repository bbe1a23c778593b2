"""Checks of a network's input images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from im2colnet.arrays import check_image_type
from im2colnet.backend import Backend
from im2colnet.backend.foreign import known_array
from im2colnet.backend.registry import backend_of, get_backend
from im2colnet.errors import BackendError, ShapeError
from im2colnet.lazy import LazyArray


def check_images(images: Any, backend: Backend, sample: Sequence[int] | None, least: int = 1) -> Any:
    """Return ``images`` as an array of the host or of a network's backend.

    Parameters
    ----------
    images : array_like, (N, C, H, W), or (N, ...)
    backend : Backend
        The network's backend.
    sample : tuple of int, optional
        The shape of one image that the network expects. Only the number of axes is compared here.
    least : int
        The smallest valid number of images.

    Raises
    ------
    ShapeError, DTypeError, BackendError
        If the images do not fit the network.
    """
    lazy = isinstance(images, LazyArray)  # each worker reads its part of it
    if not lazy and (not backend.owns(images) or hasattr(images, "mask")):
        images = known_array("images", images)
    if not (lazy or backend.owns(images) or get_backend("numpy").owns(images)):
        raise BackendError(
            f"images are arrays of {backend_of(images=images).full_name!r}, but the network lives on"
            f" {backend.full_name!r}: give NumPy arrays, or arrays of the network's backend"
        )
    rank = images.ndim if sample is None else len(sample) + 1
    if images.ndim < 2 or images.ndim != rank:
        expected = {2: "(N, features)", 4: "(N, channels, height, width)"}.get(rank, f"(N, ...) of {rank} axes")
        hint = "; use images[None] for one image, or images[:, None] for grey images" if images.ndim == 3 else ""
        raise ShapeError(f"images must have shape {expected}, got {images.shape}{hint}")
    if 0 in images.shape[not least :]:
        raise ShapeError(f"the batch is empty: images of shape {images.shape}")
    check_image_type("images", images)
    return images

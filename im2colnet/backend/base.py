"""The contract of a backend: the class to subclass, which joins all families of kernels."""

from __future__ import annotations

from im2colnet.backend.convolution import Convolution
from im2colnet.backend.losses import Losses
from im2colnet.backend.normalization import Normalization
from im2colnet.backend.pooling import Pooling
from im2colnet.backend.updates import Updates


class Backend(Convolution, Pooling, Normalization, Losses, Updates):
    """The generic backend over the array module ``xp``: textbook kernels, which a subclass may override.

    A subclass sets ``name`` and ``xp`` (a NumPy-like module with mutable arrays and ``out=`` arguments).

    Parameters
    ----------
    device : str, optional
        The part after the colon in a name such as ``"cupy:1"``. Backends without devices refuse it.

    Examples
    --------
    >>> class Textbook(ic.Backend):
    ...     name = "textbook"
    ...     xp = np
    >>> from im2colnet.window import Window
    >>> x = np.ones((4, 1, 4, 1))  # (H, C, W, N)
    >>> w = np.ones((1, 1, 3, 3))  # (F, C, KH, KW)
    >>> Textbook().conv2d(x, w, None, Window(kernel=(3, 3)))[:, 0, :, 0]
    array([[9., 9.],
           [9., 9.]])
    """

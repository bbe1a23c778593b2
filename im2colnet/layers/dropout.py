"""Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from im2colnet.backend import Backend
from im2colnet.checks import number, one_of
from im2colnet.layers.base import Context, Layer, Needs, _images
from im2colnet.types import Array, Call, Shape, Spec, accumulator

__all__ = ["Dropout", "Dropout2d", "StochasticDepth"]


@dataclass(eq=False, repr=False)
class Dropout(Layer):
    """While training, set each value to zero with probability ``p`` and scale the rest by 1 / (1 - p).

    Input and output have the same shape. In prediction the layer does nothing.

    Parameters
    ----------
    p : float
        Probability of being dropped, from 0 to less than 1.

    Raises
    ------
    ShapeError
        If p is out of range.

    Notes
    -----
    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting". The dropped
    values depend only on the trainer's seed, the step, the layer and the shard, so they are the same for any number of
    workers.

    Examples
    --------
    >>> ic.Sequential([ic.Dropout(0.5)]).predict([[1.0, 2.0]])
    array([[1., 2.]], dtype=float32)
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        number("p", self.p, below=1)

    def needs(self, x: Shape, y: Shape, dtype: str, backend: Backend, training: bool) -> Needs:
        if not training:
            return Needs(input=False, output=False, view=True)
        mask = self._mask(x)
        draws = {} if accumulator(dtype) == dtype else {"draws": [Spec(mask, accumulator(dtype))]}
        return Needs(input=False, output=False, inplace=True, saved={"mask": Spec(mask, dtype)}, forward=draws)

    def _mask(self, x: Shape) -> Shape:
        """Shape of what is drawn for values of shape ``x``."""
        return x

    def prepare_forward(self, x: Array, ctx: Context) -> Iterator[Call]:
        mask = ctx.saved["mask"]
        yield partial(self._draw, ctx, mask, *ctx.scratch.get("draws", [mask]))
        yield partial(ctx.xp.multiply, x, mask, out=ctx.y)

    def _key(self, ctx: Context) -> tuple[int, ...]:
        """Return the numbers on which the draws depend."""
        return ctx.key

    def _draw(self, ctx: Context, mask: Array, draws: Array) -> None:
        """Write 0 with probability p, else 1 / (1 - p), into the mask, by way of ``draws``."""
        ctx.backend.random(self._key(ctx), out=draws)
        ctx.xp.greater_equal(draws, self.p, out=draws)
        ctx.xp.multiply(draws, 1 / (1 - self.p), out=draws)
        if draws is not mask:
            mask[...] = draws

    def prepare_backward(self, dy: Array, ctx: Context) -> Iterator[Call]:
        yield partial(ctx.xp.multiply, dy, ctx.saved["mask"], out=ctx.dx)


@dataclass(eq=False, repr=False)
class Dropout2d(Dropout):
    """While training, set whole channels of a sample to zero with probability ``p``, scale the rest by 1 / (1 - p).

    Input and output are images (N, C, H, W). In prediction the layer does nothing.

    Parameters
    ----------
    p : float
        Probability of being dropped, from 0 to less than 1.

    Raises
    ------
    ShapeError
        If p is out of range.

    Notes
    -----
    Tompson et al. 2015 (arXiv:1411.4280): neighbouring pixels are similar, so dropping single pixels has little effect.

    Examples
    --------
    >>> ic.Sequential([ic.Dropout2d(0.5)]).predict([[[[1.0, 2.0]]]])
    array([[[[1., 2.]]]], dtype=float32)
    """

    def output_shape(self, x: Shape) -> Shape:
        _images(x)
        return x

    def _mask(self, x: Shape) -> Shape:
        return 1, x[1], 1, x[3]


@dataclass(eq=False, repr=False)
class StochasticDepth(Dropout):
    """While training, set whole samples to zero with probability ``p``, and scale the rest by 1 / (1 - p).

    At the end of a residual block's body it skips the block for these samples. Input and output have the same shape. In
    prediction the layer does nothing. It is the same as torchvision's ``StochasticDepth``.

    Parameters
    ----------
    p : float
        Probability of being dropped, from 0 to less than 1.
    mode : {"row", "batch"}
        "row" decides for each sample separately, "batch" for all samples of a batch together.

    Raises
    ------
    ShapeError
        If an argument is out of range.

    Notes
    -----
    Huang et al. 2016 (arXiv:1603.09382).

    Examples
    --------
    >>> conv = ic.Conv2d(8, 8, 3, padding=1)
    >>> body = ic.Sequential([conv, ic.StochasticDepth(0.2)])
    >>> net = ic.Sequential([ic.Residual(body)]).init()
    >>> net.predict(np.zeros((1, 8, 4, 4))).shape
    (1, 8, 4, 4)
    """

    mode: str = "row"
    fixed: ClassVar[frozenset[str]] = frozenset({"mode"})

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("mode", self.mode, "row", "batch")

    def _mask(self, x: Shape) -> Shape:
        return (*(1,) * (len(x) - 1), x[-1] if self.mode == "row" else 1)

    def _key(self, ctx: Context) -> tuple[int, ...]:
        return ctx.key if self.mode == "row" else (*ctx.key[:-1], 0)  # the shard is last

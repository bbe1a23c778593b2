"""What a backend is: an array module and about twenty kernels, each with a textbook implementation in its terms.

A new backend needs only ``xp``; a fast one overrides what it does better. Inside the library a batch of images is
stored as *rows*, ``(H, C, W, N)``, and a batch of feature vectors as ``(features, N)``: the batch is always last.

Legend: ``x`` input, ``y`` output, ``dx``/``dy`` gradients, ``w``/``b`` weight and bias; ``N, C, H, W`` batch,
channels, height, width; ``F`` filters; ``KH, KW``, ``OH, OW`` kernel and output sizes; ``G`` groups.

Every kernel writes to ``out`` where it is given (C-contiguous) and returns it. ``work`` are arrays as
:meth:`Backend.workspace` lists them; without it the kernel allocates them. Kernels never change their inputs, give the
same result every time, and take arrays of any strides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, NamedTuple

from im2colnet.errors import BackendError, NonFiniteError, memory_for
from im2colnet.types import Array, Call, Choice, Shape, Spec
from im2colnet.window import Pair, Tap, Window


class Statistics(NamedTuple):
    """What batch norm makes of a batch's sums, for each channel, (C,) float64: ``y = scale·x + shift``."""

    mean: Array
    var: Array
    inverse: Array  #: 1 / √(var + eps)
    scale: Array
    shift: Array


class Backend:
    """The generic backend over the array module ``xp``.

    Subclasses set ``name`` and ``xp`` (a NumPy-like module with mutable arrays and ``out=`` arguments).

    Parameters
    ----------
    device
        What follows the colon in a name such as ``"cupy:1"``; backends without devices refuse it.
    """

    name: ClassVar[str]
    xp: Any
    #: memory order in which the kernels best take a weight (F, C/G, KH, KW); parameters are stored this way
    weight_order: ClassVar[tuple[int, int, int, int]] = (0, 1, 2, 3)
    #: whether several threads, each with its own shards, make it faster; if not, a batch is one shard
    threads: ClassVar[bool] = False
    #: how many parameters an optimiser updates at a time: as many as stay in a core's cache
    chunk: ClassVar[int] = 1 << 14
    #: the elementwise functions that `conv2d` and others apply while they write their results
    epilogues: ClassVar[frozenset[str]] = frozenset({"relu"})
    #: how it can compute with a network of float32 (see ``Network.precision``), and how it does if nobody says
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    precision: str = "float32"
    #: whether it rounds the factors of float32's products to 10 bits
    tf32: bool = False
    #: the full name it was started by, with the device
    started_as: str | None = None
    #: how the registry that started it finds it by that name; None for a backend that was made by hand
    find: Callable[[str], Backend] | None = None

    def __init__(self, device: str | None = None) -> None:
        if device is not None:
            raise ValueError(f"the backend {self.name!r} has no devices to choose from, got {device!r}")

    def __reduce__(self) -> Any:
        if self.find is None or self.started_as is None:
            return type(self), ()
        return self.find, (self.started_as,)  # the same one, also in another process

    def __deepcopy__(self, memo: Any) -> Backend:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.full_name!r}>"

    @property
    def full_name(self) -> str:
        """The name with the device, as in "cupy:1", where it was started with one."""
        return self.started_as or self.name

    def at(self, precision: str) -> Backend:
        """Return this backend computing in ``precision``."""
        if precision not in self.precisions:
            raise BackendError(
                f"the backend {self.name!r} computes in {' or '.join(self.precisions)}, not in {precision!r}"
            )
        return self

    # ------------------------------------------------------------------ arrays

    def versions(self) -> dict[str, str]:
        """What it runs on, by name: for reports."""
        return {self.xp.__name__: str(getattr(self.xp, "__version__", "of no version"))}

    def unequal(self) -> str:
        """Say why results may differ in their last bits here, from run to run or with the workers; empty if not."""
        return ""

    def owns(self, array: Any) -> bool:
        """Whether ``array`` is one of this backend's arrays."""
        return isinstance(array, self.xp.ndarray)

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Bring a host array (or one of its own) to the backend; copies only if it must."""
        return self.xp.asarray(array, dtype=dtype)

    def stage(self, array: Any) -> Callable[[], Any]:
        """Begin to bring a host array to the backend beside what it computes; the call returned gives what arrives.

        It may be overwritten when the second array after it is staged.
        """
        return lambda: array

    def to_numpy(self, array: Array) -> Any:
        """Bring an array to the host, as a NumPy array."""
        return array

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Allocate an array with arbitrary contents, or raise an OutOfMemoryError."""
        with memory_for(shape, dtype):
            return self.xp.empty(shape, dtype=dtype)

    def shared(self, shape: Shape, dtype: str) -> Array:
        """Allocate an array, with arbitrary contents: if possible in memory that workers forked later share."""
        return self.empty(shape, dtype)

    def shares(self, array: Array) -> bool:
        """Whether workers that are forked see what this process writes into ``array``."""
        return False

    def room(self) -> int | None:
        """Return how many bytes can still be allocated, where that is known."""
        return None

    def peak(self) -> int | None:
        """Return how many bytes were held at most for arrays, where that is known."""
        return None

    def synchronize(self) -> None:
        """Wait until all queued work is done (nothing to do where work is not queued)."""

    def random(self, key: Sequence[int], out: Array) -> Array:
        """Fill ``out`` with numbers uniform in [0, 1) that depend only on ``key``: drawn on the host."""
        from im2colnet.host import np

        draws = np.random.Generator(np.random.SFC64(list(key))).random(out.shape, dtype=out.dtype.name)
        out[...] = self.asarray(draws)
        return out

    def to_rows(self, images: Array, out: Array) -> Array:
        """Lay images (N, C, H, W) out as rows (H, C, W, N), or features (N, F) as (F, N); uint8 is scaled to [0, 1]."""
        rows = images.transpose(2, 1, 3, 0) if images.ndim == 4 else images.T
        if rows.dtype == self.xp.uint8:
            self.xp.multiply(rows, out.dtype.type(1 / 255), out=out)
        else:
            out[...] = rows
        return out

    def context(self) -> AbstractContextManager[Any]:
        """Return a context in which functions of ``xp`` take its arrays and allocate where they are: on its device.

        What calls ``xp`` or writes to arrays itself does so in it; the methods need none.
        """
        return nullcontext()

    def errstate(self) -> AbstractContextManager[Any]:
        """Return a context in which overflow and NaN pass without warnings: runs look for them themselves."""
        errstate = getattr(self.xp, "errstate", None)
        return nullcontext() if errstate is None else errstate(all="ignore")

    def flush_denormal(self) -> AbstractContextManager[Any]:
        """Return a context in which this thread takes denormal numbers as zero, where that is faster and can be had."""
        return nullcontext()

    def all_finite(self, x: Array) -> bool:
        """Whether ``x`` holds neither NaN nor infinity."""
        return bool(self.xp.isfinite(x).all())

    def workspace(
        self, kernel: str, x: Shape, y: Shape, dtype: str, window: Window | None = None, groups: int = 1
    ) -> list[Spec]:
        """Scratch arrays that ``kernel`` (a method's name) wants for input and output shapes ``x`` and ``y``."""
        if window is None or kernel not in ("conv2d", "conv2d_weight_grad", "conv2d_input_grad"):
            return []
        C, (OH, F, OW, N), (KH, KW) = x[1], y, window.kernel
        columns = Spec((OH, C, KH, KW, OW, N), dtype)
        if kernel == "conv2d_weight_grad":
            return [columns, Spec((OH, groups, F // groups, C // groups * KH * KW), dtype)]
        return [columns]

    def algorithm(self, x: Shape, y: Shape, dtype: str, window: Window, groups: int = 1) -> Choice:
        """The algorithm that a convolution of these shapes takes."""
        return Choice("im2col", "the textbook's")

    def prepare(self, kernel: str, *args: Any, **kwargs: Any) -> Iterable[Call]:
        """What ``kernel`` (a method's name) does with these arguments, as calls that can be made again and again.

        They read and write the same arrays each time; ``out`` and ``work`` must be given where the kernel takes them. A
        backend whose kernels make views and tables of their arguments before they compute can so make them once.
        """
        return [partial(getattr(self, kernel), *args, **kwargs)]

    def _work(
        self, work: Sequence[Array] | None, kernel: str, x: Shape, y: Shape, dtype: Any, *args: Any
    ) -> Sequence[Array]:
        if work is not None:
            return work
        return [self.empty(*spec) for spec in self.workspace(kernel, x, y, dtype.name, *args)]

    # ------------------------------------------------------------------ lowering

    def im2col(self, x: Array, window: Window, fill: float = 0.0, out: Array | None = None) -> Array:
        """Copy each window of ``x`` (H, C, W, N) into a column: (OH, C, KH, KW, OW, N).

        ``columns[r, c, i, j, s, n] = x[r*stride + i*dilation - top, c, s*stride + j*dilation - left, n]``, and
        ``fill`` where that is outside the image (Chellapilla, Puri, Simard 2006).
        """
        H, C, W, N = x.shape
        OH, OW = window.output_size((H, W))
        columns = self.empty((OH, C, *window.kernel, OW, N), x.dtype.name) if out is None else out
        if any(p for pads in window.padding for p in pads) or window.ceil_mode:
            columns[...] = fill
        for i, j, outputs, inputs in window.pairs((H, W)):
            columns[:, :, i, j][outputs] = x[inputs]
        return columns

    def col2im(self, columns: Array, window: Window, size: Pair, out: Array | None = None) -> Array:
        """Add each column back to where :meth:`im2col` took it from, its adjoint: (H, C, W, N)."""
        C, N = columns.shape[1], columns.shape[-1]
        x = self.empty((size[0], C, size[1], N), columns.dtype.name) if out is None else out
        x[...] = 0
        for i, j, outputs, inputs in window.pairs(size):
            target = x[inputs]
            self.xp.add(target, columns[:, :, i, j][outputs], out=target)
        return x

    # ------------------------------------------------------------------ convolution

    def conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        window: Window,
        groups: int = 1,
        relu: bool = False,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        """Cross-correlate: ``y = w · im2col(x) + b``, then ReLU if asked for. (OH, F, OW, N)."""
        (H, C, W, N), (F, G) = x.shape, (w.shape[0], groups)
        OH, OW = window.output_size((H, W))
        y = self.empty((OH, F, OW, N), x.dtype.name) if out is None else out
        (columns,) = self._work(work, "conv2d", x.shape, y.shape, x.dtype, window, groups)
        self.im2col(x, window, out=columns)
        K = C // G * w.shape[2] * w.shape[3]
        self.matmul(w.reshape(G, F // G, K), columns.reshape(OH, G, K, OW * N), out=y.reshape(OH, G, F // G, OW * N))
        if b is not None:
            self.xp.add(y, b[:, None, None], out=y)
        return self.xp.maximum(y, 0, out=y) if relu else y

    def conv2d_input_grad(
        self,
        dy: Array,
        w: Array,
        size: Pair,
        window: Window,
        groups: int = 1,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        """Gradient with respect to the input of ``size`` (H, W): ``dx = col2im(wᵀ · dy)``."""
        (OH, F, OW, N), G = dy.shape, groups
        C, K = w.shape[1] * G, w.shape[1] * w.shape[2] * w.shape[3]
        x_shape = (size[0], C, size[1], N)
        (columns,) = self._work(work, "conv2d_input_grad", x_shape, dy.shape, dy.dtype, window, groups)
        wt = w.reshape(G, F // G, K).swapaxes(1, 2)  # (G, K, F/G)
        self.matmul(wt, dy.reshape(OH, G, F // G, OW * N), out=columns.reshape(OH, G, K, OW * N))
        return self.col2im(columns, window, size, out=out)

    def conv2d_weight_grad(
        self,
        x: Array,
        dy: Array,
        window: Window,
        groups: int = 1,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        """Gradient with respect to the weight: ``dw = Σ_rows dy · im2col(x)ᵀ``. (F, C/G, KH, KW)."""
        C, (OH, F, OW, N), G = x.shape[1], dy.shape, groups
        dw = self.empty((F, C // G, *window.kernel), x.dtype.name) if out is None else out
        columns, products = self._work(work, "conv2d_weight_grad", x.shape, dy.shape, x.dtype, window, groups)
        self.im2col(x, window, out=columns)
        columns_t = columns.reshape(OH, G, -1, OW * N).swapaxes(2, 3)  # (OH, G, OW·N, K)
        self.matmul(dy.reshape(OH, G, F // G, OW * N), columns_t, out=products)  # (OH, G, F/G, K)
        dw[...] = products.sum(0).reshape(dw.shape)
        return dw

    def conv2d_grads(
        self,
        x: Array,
        dy: Array,
        w: Array,
        window: Window,
        groups: int,
        dw: Array,
        dx: Array,
        work: Sequence[Array] | None = None,
    ) -> None:
        """Both gradients, of the weight into ``dw`` and of the input into ``dx``: here one after the other.

        Where a backend has a faster way to make them at once, :meth:`workspace` lists scratch for it.
        """
        self.conv2d_weight_grad(x, dy, window, groups, out=dw)
        self.conv2d_input_grad(dy, w, (x.shape[0], x.shape[2]), window, groups, out=dx)

    # ------------------------------------------------------------------ pooling

    def max_pool2d(
        self, x: Array, window: Window, out: Array | None = None, work: Sequence[Array] | None = None
    ) -> Array:
        """Largest value of each window; padding never wins. (OH, C, OW, N)."""
        size, N = (x.shape[0], x.shape[2]), x.shape[3]
        OH, OW = window.output_size(size)
        y = self.empty((OH, x.shape[1], OW, N), x.dtype.name) if out is None else out
        y[...] = -self.xp.inf
        for _, _, outputs, inputs in window.pairs(size):
            y[outputs] = self.xp.maximum(y[outputs], x[inputs])
        return y

    def max_pool2d_grad(
        self,
        x: Array,
        y: Array,
        dy: Array,
        window: Window,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        """Give ``dy`` to the first maximum (in row-major order) of each window, or to its last NaN, as PyTorch does.

        A window that sees padding alone gives it to no pixel.
        """
        size, zero = (x.shape[0], x.shape[2]), dy.dtype.type(0)
        tap, KW = self.first_maximum(x, window), window.kernel[1]
        dx = self.empty(x.shape, x.dtype.name) if out is None else out
        dx[...] = 0
        for i, j, outputs, inputs in window.pairs(size):  # no product with a mask: infinity times 0 is NaN
            dx[inputs] = dx[inputs] + self.xp.where(tap[outputs] == i * KW + j, dy[outputs], zero)
        return dx

    def first_maximum(self, x: Array, window: Window) -> Array:
        """Which tap, i·KW + j, holds the first maximum of each window, or its last NaN, as in PyTorch. (OH, C, OW, N).

        0 for a window that sees padding alone. First for the columns of each row, then for the rows.
        """
        H, C, W, N = x.shape
        OH, OW = window.output_size((H, W))
        largest, column = self._first_along(x, 2, window.taps(1, W, OW), window.stride[1], OW)  # (H, C, OW, N)
        _, tap = self._first_along(largest, 0, window.taps(0, H, OH), window.stride[0], OH, column, window.kernel[1])
        return tap

    def _first_along(
        self,
        x: Array,
        axis: int,
        taps: Sequence[Tap],
        stride: int,
        size: int,
        among: Array | None = None,
        factor: int = 1,
    ) -> tuple[Array, Array]:
        """Along ``axis`` the largest input of the taps and its place: the tap times ``factor`` plus ``among`` there.

        What comes first wins, but for NaN, of which the last does.
        """
        before = (slice(None),) * axis
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        best, place = self.empty(shape, x.dtype.name), self.empty(shape, "int64")
        best[...], place[...] = -self.xp.inf, 0
        reached = size  # outputs from here on have met a tap that is inside the image
        for k, (lo, hi, start) in enumerate(taps):
            if hi == lo:
                continue
            outputs = *before, slice(lo, hi)
            inputs = *before, slice(start, start + (hi - lo - 1) * stride + 1, stride)
            value, at = x[inputs], k * factor if among is None else among[inputs] + k * factor
            better = (value > best[outputs]) | (value != value)
            better[*before, : max(0, reached - lo)] = True  # the first of all, even if it is -infinity
            best[outputs] = self.xp.where(better, value, best[outputs])
            place[outputs] = self.xp.where(better, at, place[outputs])
            reached = min(reached, lo)
        return best, place

    def avg_pool2d(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool = True,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        """Mean of each window. (OH, C, OW, N)."""
        size, N = (x.shape[0], x.shape[2]), x.shape[3]
        OH, OW = window.output_size(size)
        y = self.empty((OH, x.shape[1], OW, N), x.dtype.name) if out is None else out
        y[...] = 0
        for _, _, outputs, inputs in window.pairs(size):
            y[outputs] = y[outputs] + x[inputs]
        return self.xp.multiply(y, self.pool_shares(window, size, count_include_pad, x.dtype.name), out=y)

    def avg_pool2d_grad(
        self,
        dy: Array,
        size: Pair,
        window: Window,
        count_include_pad: bool = True,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        """Spread ``dy`` evenly over each window of an input of ``size`` (H, W)."""
        _, C, _, N = dy.shape
        shares = dy * self.pool_shares(window, size, count_include_pad, dy.dtype.name)
        dx = self.empty((size[0], C, size[1], N), dy.dtype.name) if out is None else out
        dx[...] = 0
        for _, _, outputs, inputs in window.pairs(size):
            dx[inputs] = dx[inputs] + shares[outputs]
        return dx

    def pool_shares(self, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
        """1 / (number of inputs averaged) for each output, (OH, 1, OW, 1).

        Counted are the image's positions and, with ``count_include_pad``, the padding's, but never what a window
        reaches beyond it because of ``ceil_mode``.
        """
        rows, columns = (self.xp.asarray(c, dtype=dtype) for c in window.counts(size, count_include_pad))
        return 1 / (rows[:, None, None, None] * columns[:, None])

    # ------------------------------------------------------------------ everything else

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """Matrix product, batched over leading axes."""
        return self.xp.matmul(a, b, out=out)

    def sum_samples(self, dy: Array, out: Array) -> Array:
        """Sum over all but the channels of (H, C, W, N), or the features of (features, N): a bias's gradient."""
        return self.xp.sum(dy, axis=(0, 2, 3) if dy.ndim == 4 else 1, out=out)

    def update(
        self, optimizer: Any, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array
    ) -> None:
        """Let an optimiser change parameters ``p`` by their gradients ``g``: see :meth:`im2colnet.Optimizer.update`."""
        optimizer.update(p, g, state, lr, t, work, self.xp)

    def relu(self, x: Array, out: Array | None = None) -> Array:
        """The larger of ``x`` and 0. ``out`` may be ``x``."""
        return self.xp.maximum(x, 0, out=out)

    def relu_grad(self, y: Array, dy: Array, out: Array | None = None, work: Sequence[Array] | None = None) -> Array:
        """``dy`` where the output ``y`` of the ReLU is positive, else 0. ``out`` may be ``dy``."""
        dx = self.xp.where(y > 0, dy, dy.dtype.type(0))  # no product with the mask: infinity times 0 is NaN
        return dx if out is None else _assign(out, dx)

    def batch_norm_sums(self, x: Array, out: Array, work: Sequence[Array] | None = None) -> Array:
        """Σx and Σ(x - mean)², mean = Σx/n, of each channel into ``out`` (2, C), float64.

        Each row is summed about its own mean k, and the rows are joined: no large squares cancel, however far the mean
        is from 0 (Chan, Golub, LeVeque 1983).
        """
        H, C, W, N = x.shape
        m = W * N
        k = x.mean(axis=(2, 3), keepdims=True)  # (H, C, 1, 1)
        centred = x - k
        about = centred.sum(axis=(2, 3)).astype("float64") / m  # what rounding k has left of the row's mean
        spread = self.xp.square(centred).sum(axis=(2, 3)).astype("float64") - m * about * about
        k = k[:, :, 0, 0].astype("float64")
        of_rows = k - k[0] + about  # less the first row's, so that all are small
        mean = of_rows.mean(axis=0)
        out[0] = H * m * (k[0] + mean)
        out[1] = self.xp.maximum(spread, 0).sum(0) + m * self.xp.square(of_rows - mean).sum(0)
        return out

    def batch_norm_grad_sums(
        self, x: Array, mean: Array, dy: Array, out: Array, work: Sequence[Array] | None = None
    ) -> Array:
        """Σdy and Σdy·(x - mean) of each channel into ``out`` (2, C), float64."""
        k = mean.astype(x.dtype)
        centred = x - k[:, None, None]
        out[0] = dy.sum(axis=(2, 3)).astype("float64").sum(0)
        out[1] = (dy * centred).sum(axis=(2, 3)).astype("float64").sum(0) - (mean - k) * out[0]
        return out

    def batch_norm_statistics(
        self, sums: Array, n: int, eps: float, weight: Array | None, bias: Array | None
    ) -> Statistics:
        """Make of a batch's ``[Σx, Σ(x - mean)²]`` (2, C), over n numbers of each channel, what normalises them.

        Raises
        ------
        NonFiniteError
            If mean or variance is not finite. (A device that would have to be waited for need not look.)
        """
        mean, var = sums[0] / n, sums[1] / n
        if not self.all_finite(mean + var):
            raise NonFiniteError(
                "mean or variance of a channel over the batch is infinite or NaN: an input has numbers too large to be"
                " squared, or training diverges (try a lower learning rate); parameters and running statistics are"
                " unchanged"
            )
        inverse = 1 / self.xp.sqrt(var + eps)
        return Statistics(mean, var, inverse, *normalizing(mean, inverse, weight, bias))

    def batch_norm_input_grad(self, sums: Array, n: int, of: Statistics) -> tuple[Array, Array]:
        """B and c of ``dx = scale·dy + b·x + c``, of a batch's ``[Σdy, Σdy·(x - mean)]`` (2, C).

        ``dx = scale·(dy - Σdy/n - (x - mean)·Σdy·(x - mean) / ((var + eps)·n))``.
        """
        b = -of.scale * of.inverse**2 * sums[1] / n
        return b, -of.scale * sums[0] / n - b * of.mean

    def batch_norm_running(self, of: Statistics, n: int, momentum: float, mean: Array, var: Array) -> None:
        """Move running mean and (unbiased) variance towards the batch's, in place."""
        mean[...] = (1 - momentum) * mean + momentum * of.mean
        var[...] = (1 - momentum) * var + momentum * (n / (n - 1)) * of.var

    def channel_affine(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        other: Array | None = None,
        other_scale: Array | None = None,
        relu: bool = False,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        """``x·scale + other·other_scale + shift``, one coefficient for each channel; ``out`` may be ``x``."""
        dtype = x.dtype
        y = self.xp.multiply(x, scale.astype(dtype)[:, None, None], out=out)
        if other is not None:
            y += other * other_scale.astype(dtype)[:, None, None]  # type: ignore[union-attr]
        self.xp.add(y, shift.astype(dtype)[:, None, None], out=y)
        return self.xp.maximum(y, 0, out=y) if relu else y

    def cross_entropy(
        self, logits: Array, labels: Array, scale: float, out: Array, dlogits: Array | None = None
    ) -> Array:
        """Softmax and cross-entropy, fused and stable: ``out = [scale · Σ loss, correct predictions]``, float64.

        ``logits`` (classes, N), ``labels`` (N,) integer. ``dlogits``, where given, becomes
        ``scale · (softmax(logits) - onehot(labels))``.
        """
        samples = self.xp.arange(logits.shape[1])
        z = logits - logits.max(axis=0)
        right = z[labels, samples]
        p = self.xp.exp(z, out=z)
        total = p.sum(axis=0)
        out[0] = scale * (self.xp.log(total) - right).astype("float64").sum()
        out[1] = (logits.argmax(axis=0) == labels).sum()
        if dlogits is not None:
            self.xp.divide(p, total, out=dlogits)
            dlogits[labels, samples] -= 1
            self.xp.multiply(dlogits, scale, out=dlogits)
        return out


def normalizing(mean: Array, inverse: Array, weight: Array | None, bias: Array | None) -> tuple[Array, Array]:
    """Scale and shift of ``y = weight·(x - mean)·inverse + bias``, as one map for each channel."""
    scale = inverse if weight is None else inverse * weight
    shift = -mean * scale
    return scale, shift if bias is None else bias + shift


def _assign(out: Array, value: Array) -> Array:
    out[...] = value
    return out

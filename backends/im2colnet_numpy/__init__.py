"""The CPU backend: NumPy, with convolutions as products of matrices (see :mod:`im2colnet_numpy.algorithms`)."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from math import prod
from operator import setitem
from typing import Any

import numpy as np

from im2colnet import memory
from im2colnet.backend import Backend
from im2colnet.errors import memory_for
from im2colnet.types import ALIGNMENT, Call, Choice, Shape, Spec, run
from im2colnet.window import Pair, Tap, Window
from im2colnet_numpy import blas, channels
from im2colnet_numpy.algorithms import algorithm
from im2colnet_numpy.denormal import flush_denormal
from im2colnet_numpy.rows import WEIGHT_ORDER

__all__ = ["NumpyBackend"]

Array = np.ndarray


class NumpyBackend(Backend):
    """NumPy on the CPU. BLAS is limited to one thread: the library brings its own workers."""

    name = "numpy"
    xp = np
    threads = True
    weight_order = WEIGHT_ORDER

    def __init__(self, device: str | None = None) -> None:
        super().__init__(device)
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:  # a bare checkout: the user's OPENBLAS_NUM_THREADS decides
            self._warn(None)
            return
        # Once for the process: OpenBLAS with several threads, called from several Python threads, serialises on a
        # lock and has returned wrong results (numpy#29391), and its sums depend on the number of threads.
        threadpool_limits(limits=1, user_api="blas")
        if blas.built_with() == "accelerate":
            self._warn([])

    def _warn(self, pools: list[dict[str, Any]] | None) -> None:
        if why := blas.uncontrolled(pools):
            warnings.warn(
                f"{why}. Until then results may differ in their last bits from run to run, and with the number of"
                " workers",
                RuntimeWarning,
                stacklevel=2,
            )

    def unequal(self) -> str:
        return blas.uncontrolled(blas.loaded())

    def versions(self) -> dict[str, str]:
        found = super().versions() | {"processor": platform.machine()}
        found["BLAS"] = f"{blas.built_with()}, of which nothing more is known here"
        for pool in blas.loaded() or []:
            kernels = f", kernels for {pool['architecture']}" if "architecture" in pool else ""
            count = pool["num_threads"]
            threads = f", {count} thread{'s' * (count != 1)} in each worker"
            found["BLAS"] = f"{pool['internal_api']} {pool['version']}{kernels}{threads}"
        return found

    def to_numpy(self, array: Any) -> Array:
        return np.asarray(array)

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Allocate at a multiple of ``ALIGNMENT``; NumPy's own arrays lie at any multiple of 16 bytes."""
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        with memory_for(shape, dtype):
            memory = np.empty(nbytes + ALIGNMENT, "uint8")
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def shared(self, shape: Shape, dtype: str) -> Array:
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        if not nbytes or not memory.AVAILABLE:
            return self.empty(shape, dtype)
        with memory_for(shape, dtype):
            return np.frombuffer(memory.allocate(nbytes), dtype).reshape(shape)

    def shares(self, array: Array) -> bool:
        return memory.block_of(array) is not None

    def random(self, key: Sequence[int], out: Array) -> Array:
        np.random.Generator(np.random.SFC64(list(key))).random(out=out, dtype=out.dtype)
        return out

    def flush_denormal(self) -> AbstractContextManager[None]:
        return flush_denormal()

    def all_finite(self, x: Array) -> bool:
        flat = x.reshape(-1)
        with np.errstate(all="ignore"):
            return bool(np.isfinite(np.dot(flat, flat)) or np.isfinite(x).all())  # one pass, unless squares overflow

    def prepare(self, kernel: str, *args: Any, **kwargs: Any) -> Iterable[Call]:
        made: Callable[..., Iterable[Call]] | None = getattr(self, f"_prepare_{kernel}", None)
        return made(*args, **kwargs) if made else super().prepare(kernel, *args, **kwargs)

    # ------------------------------------------------------------------ convolution

    def workspace(
        self, kernel: str, x: Shape, y: Shape, dtype: str, window: Window | None = None, groups: int = 1
    ) -> list[Spec]:
        if kernel in ("batch_norm_sums", "batch_norm_grad_sums"):
            return channels.sums_workspace(x, dtype)
        if kernel == "channel_affine":
            return channels.workspace(x, dtype, spread=3)
        if kernel == "relu_grad":
            return [Spec(y, "bool")]
        if kernel == "avg_pool2d_grad":
            return [Spec(y, dtype)]
        if kernel == "max_pool2d":
            return [Spec((y[0], *x[1:]), dtype)]
        if kernel == "max_pool2d_grad":
            return [Spec(y, "bool"), Spec(y, "bool"), Spec(y, dtype)]
        if window is None or not kernel.startswith("conv2d"):
            return []
        return algorithm(x, y[1], window, groups, np.dtype(dtype)).work.get(kernel, [])

    def algorithm(self, x: Shape, y: Shape, dtype: str, window: Window, groups: int = 1) -> Choice:
        chosen = algorithm(x, y[1], window, groups, np.dtype(dtype))
        return Choice(type(chosen).__name__.lower(), chosen.why)

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
        y = out
        if y is None:
            OH, OW = window.output_size((x.shape[0], x.shape[2]))
            y = np.empty((OH, len(w), OW, x.shape[3]), x.dtype)
        work = self._work(work, "conv2d", x.shape, y.shape, x.dtype, window, groups)
        run(self._prepare_conv2d(x, w, b, window, groups, relu, out=y, work=work))
        return y

    def _prepare_conv2d(
        self,
        x: Array,
        w: Array,
        b: Array | None,
        window: Window,
        groups: int = 1,
        relu: bool = False,
        *,
        out: Array,
        work: Sequence[Array],
    ) -> Iterator[Call]:
        w, copies = _stored(w)
        yield from copies
        yield from algorithm(x.shape, len(w), window, groups, x.dtype).conv2d(x, w, b, relu, out, work)

    def conv2d_weight_grad(
        self,
        x: Array,
        dy: Array,
        window: Window,
        groups: int = 1,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        dw = np.empty((dy.shape[1], x.shape[1] // groups, *window.kernel), x.dtype) if out is None else out
        work = self._work(work, "conv2d_weight_grad", x.shape, dy.shape, x.dtype, window, groups)
        run(self._prepare_conv2d_weight_grad(x, dy, window, groups, out=dw, work=work))
        return dw

    def _prepare_conv2d_weight_grad(
        self, x: Array, dy: Array, window: Window, groups: int = 1, *, out: Array, work: Sequence[Array]
    ) -> Iterator[Call]:
        return algorithm(x.shape, dy.shape[1], window, groups, x.dtype).weight_grad(x, dy, out, work)

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
        x_shape = (size[0], w.shape[1] * groups, size[1], dy.shape[3])
        dx = np.empty(x_shape, dy.dtype) if out is None else out
        work = self._work(work, "conv2d_input_grad", x_shape, dy.shape, dy.dtype, window, groups)
        run(self._prepare_conv2d_input_grad(dy, w, size, window, groups, out=dx, work=work))
        return dx

    def _prepare_conv2d_input_grad(
        self, dy: Array, w: Array, size: Pair, window: Window, groups: int = 1, *, out: Array, work: Sequence[Array]
    ) -> Iterator[Call]:
        w, copies = _stored(w)
        yield from copies
        yield from algorithm(out.shape, len(w), window, groups, dy.dtype).input_grad(dy, w, out, work)

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
        work = self._work(work, "conv2d_grads", x.shape, dy.shape, x.dtype, window, groups)
        if work:
            run(self._prepare_conv2d_grads(x, dy, w, window, groups, dw=dw, dx=dx, work=work))
        else:
            super().conv2d_grads(x, dy, w, window, groups, dw, dx)

    def _prepare_conv2d_grads(
        self, x: Array, dy: Array, w: Array, window: Window, groups: int, *, dw: Array, dx: Array, work: Sequence[Array]
    ) -> Iterator[Call]:
        w, copies = _stored(w)
        yield from copies
        yield from algorithm(x.shape, len(w), window, groups, x.dtype).grads(x, dy, w, dw, dx, work)

    # ------------------------------------------------------------------ pooling

    def max_pool2d(
        self, x: Array, window: Window, out: Array | None = None, work: Sequence[Array] | None = None
    ) -> Array:
        """The maximum over rows, at full width, then over columns."""
        OH, OW = window.output_size((x.shape[0], x.shape[2]))
        y = np.empty((OH, x.shape[1], OW, x.shape[3]), x.dtype) if out is None else out
        work = self._work(work, "max_pool2d", x.shape, y.shape, x.dtype)
        run(self._prepare_max_pool2d(x, window, out=y, work=work))
        return y

    def _prepare_max_pool2d(self, x: Array, window: Window, *, out: Array, work: Sequence[Array]) -> Iterator[Call]:
        (h,) = work
        yield from _max_along(x, 0, window.taps(0, len(x), len(out)), window.stride[0], h)
        yield from _max_along(h, 2, window.taps(1, x.shape[2], out.shape[2]), window.stride[1], out)

    def max_pool2d_grad(
        self,
        x: Array,
        y: Array,
        dy: Array,
        window: Window,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        dx = np.empty(x.shape, x.dtype) if out is None else out
        work = self._work(work, "max_pool2d_grad", x.shape, y.shape, x.dtype)
        run(self._prepare_max_pool2d_grad(x, y, dy, window, out=dx, work=work))
        return dx

    def _prepare_max_pool2d_grad(
        self, x: Array, y: Array, dy: Array, window: Window, *, out: Array, work: Sequence[Array]
    ) -> Iterator[Call]:
        hit, taken, part = work
        size = x.shape[0], x.shape[2]
        overlapping = window.extent[0] > window.stride[0] or window.extent[1] > window.stride[1]
        if overlapping or not _tiles(window, size):
            yield partial(out.fill, 0)
        yield partial(taken.fill, False)
        dy_bits, part_bits, out_bits = map(_bits, (dy, part, out))
        for _, _, outputs, inputs in window.pairs(size):
            is_max, seen, target = hit[outputs], taken[outputs], out[inputs]
            yield partial(np.equal, x[inputs], y[outputs], is_max)
            yield partial(np.greater, is_max, seen, is_max)  # a maximum, and the first
            yield partial(np.logical_or, seen, is_max, seen)
            if overlapping:
                yield partial(np.multiply, dy_bits[outputs], is_max, part_bits[outputs])
                yield partial(np.add, target, part[outputs], target)
            else:
                yield partial(np.multiply, dy_bits[outputs], is_max, out_bits[inputs])
        yield partial(_add_grad_of_nan, x, y, dy, window, out, hit, taken)

    def avg_pool2d(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool = True,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        size = x.shape[0], x.shape[2]
        OH, OW = window.output_size(size)
        y = np.empty((OH, x.shape[1], OW, x.shape[3]), x.dtype) if out is None else out
        y[...] = 0
        for _, _, outputs, inputs in window.pairs(size):
            target = y[outputs]
            np.add(target, x[inputs], out=target)
        np.multiply(y, self.pool_shares(window, size, count_include_pad, x.dtype.name), out=y)
        return y

    def avg_pool2d_grad(
        self,
        dy: Array,
        size: Pair,
        window: Window,
        count_include_pad: bool = True,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        x_shape = (size[0], dy.shape[1], size[1], dy.shape[3])
        dx = np.empty(x_shape, dy.dtype) if out is None else out
        (share,) = self._work(work, "avg_pool2d_grad", x_shape, dy.shape, dy.dtype)
        np.multiply(dy, self.pool_shares(window, size, count_include_pad, dy.dtype.name), out=share)
        dx[...] = 0
        for _, _, outputs, inputs in window.pairs(size):
            target = dx[inputs]
            np.add(target, share[outputs], out=target)
        return dx

    def pool_shares(self, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
        return _pool_shares(self, window, size, bool(count_include_pad), dtype)

    # ------------------------------------------------------------------ sums and masks

    def sum_samples(self, dy: Array, out: Array) -> Array:
        if dy.ndim == 2:
            return np.matmul(dy, channels.ones(dy.shape[1], dy.dtype), out=out)
        H, C, W, N = dy.shape
        rows: Array = np.matmul(dy.reshape(H, C, W * N), channels.ones(W * N, dy.dtype))
        return rows.sum(axis=0, out=out)

    def relu(self, x: Array, out: Array | None = None) -> Array:
        return channels.rectify(x, np.empty(x.shape, x.dtype) if out is None else out)

    def _prepare_relu(self, x: Array, *, out: Array) -> Iterable[Call]:
        return [channels.rectifying(x, out)]

    def relu_grad(self, y: Array, dy: Array, out: Array | None = None, work: Sequence[Array] | None = None) -> Array:
        dx = np.empty(y.shape, y.dtype) if out is None else out
        work = self._work(work, "relu_grad", y.shape, y.shape, y.dtype)
        run(self._prepare_relu_grad(y, dy, out=dx, work=work))
        return dx

    def _prepare_relu_grad(self, y: Array, dy: Array, *, out: Array, work: Sequence[Array]) -> Iterator[Call]:
        (positive,) = work
        yield partial(np.greater, y, 0, positive)
        yield partial(np.multiply, _bits(dy), positive, _bits(out))

    # ------------------------------------------------------------------ batch norm

    def batch_norm_sums(self, x: Array, out: Array, work: Sequence[Array] | None = None) -> Array:
        channels.sums(x, out, self._work(work, "batch_norm_sums", x.shape, x.shape, x.dtype))
        return out

    def batch_norm_grad_sums(
        self, x: Array, mean: Array, dy: Array, out: Array, work: Sequence[Array] | None = None
    ) -> Array:
        channels.grad_sums(x, mean, dy, out, self._work(work, "batch_norm_grad_sums", x.shape, x.shape, x.dtype))
        return out

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
        y = np.empty(x.shape, x.dtype) if out is None else out
        work = self._work(work, "channel_affine", x.shape, x.shape, x.dtype)
        channels.affine(x, scale, shift, other, other_scale, relu, y, work)
        return y


def _stored(w: Array) -> tuple[Array, list[Call]]:
    """Return a weight as the kernels take it, and the call that copies it if it is stored otherwise."""
    if w.transpose(WEIGHT_ORDER).flags.c_contiguous:
        return w, []
    stored = np.empty_like(w.transpose(WEIGHT_ORDER), order="C")
    w_stored = stored.transpose(np.argsort(WEIGHT_ORDER))
    return w_stored, [partial(setitem, w_stored, ..., w)]


def _bits(x: Array) -> Array:
    """The same numbers as integers: by 0 and 1 they are multiplied exactly, while infinity times 0 is NaN."""
    return x.view(f"i{x.itemsize}")


def _add_grad_of_nan(x: Array, y: Array, dy: Array, window: Window, out: Array, hit: Array, taken: Array) -> None:
    """Add ``dy`` of the windows whose maximum is NaN, which equals no pixel, to the last NaN of each."""
    if not y.size or not np.isnan(y.max()):
        return
    for _, _, outputs, inputs in reversed(window.pairs((x.shape[0], x.shape[2]))):
        is_nan, seen, target = hit[outputs], taken[outputs], out[inputs]
        np.isnan(x[inputs], out=is_nan)
        np.greater(is_nan, seen, out=is_nan)
        np.logical_or(seen, is_nan, out=seen)
        np.add(target, dy[outputs], out=target, where=is_nan)


def _tiles(window: Window, size: Pair) -> bool:
    """Whether the taps meet each pixel exactly once."""
    OH, OW = window.output_size(size)
    (KH, KW), pads = window.kernel, window.padding
    return window.kernel == window.stride and pads == ((0, 0), (0, 0)) and size == (OH * KH, OW * KW)


def _max_along(x: Array, axis: int, taps: Sequence[Tap], stride: int, out: Array) -> Iterator[Call]:
    """Write the maximum over the taps along ``axis`` of x (H, C, W, N) into out."""
    before = (slice(None),) * axis

    def outputs(tap: Tap) -> Array:
        return out[*before, tap.lo : tap.hi]

    def inputs(tap: Tap) -> Array:
        return x[*before, tap.start : tap.start + (tap.hi - tap.lo - 1) * stride + 1 : stride]

    taps = [tap for tap in taps if tap.hi > tap.lo]
    full = [tap for tap in taps if tap.lo == 0 and tap.hi == out.shape[axis]][:2]
    if len(full) == 2:
        yield partial(np.maximum, inputs(full[0]), inputs(full[1]), out=out)
    elif full:
        yield partial(setitem, out, ..., inputs(full[0]))
    else:
        yield partial(out.fill, -np.inf)
    for tap in taps:
        if tap not in full:
            yield partial(np.maximum, outputs(tap), inputs(tap), out=outputs(tap))


@lru_cache(maxsize=256)
def _pool_shares(backend: NumpyBackend, window: Window, size: Pair, count_include_pad: bool, dtype: str) -> Array:
    shares: Array = Backend.pool_shares(backend, window, size, count_include_pad, dtype)
    shares.flags.writeable = False  # everybody gets the same array
    return shares

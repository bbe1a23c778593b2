"""The CUDA backend: CuPy's arrays, cuBLAS's products, and kernels of its own (``kernels/*.cu``).

Everything is queued on CuPy's current stream; nothing waits for the device but :meth:`CupyBackend.to_numpy`,
:meth:`CupyBackend.all_finite` and :meth:`CupyBackend.synchronize`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import prod
from threading import local
from typing import Any

from im2colnet.errors import BackendError, install

try:
    import cupy as cp
except Exception as error:  # of several kinds, where it is broken
    if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
        raise ImportError(
            f"CuPy is not installed: {install('cuda12')}, or for a driver of CUDA 13 {install('cuda13')}; both bring"
            " CUDA's libraries too"
        ) from error
    raise ImportError(
        f"CuPy is installed, but cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}). Remove"
        f" all of its packages (pip list lists cupy, cupy-cuda12x, ...), then {install('cuda12')}, or for a driver of"
        f" CUDA 13 {install('cuda13')}"
    ) from error
import numpy as np

from im2colnet.backend import Backend, Statistics
from im2colnet.optim import SGD, Adam, AdamW
from im2colnet.types import HALF, Choice, Shape, Spec, accumulator
from im2colnet.window import Pair, Window
from im2colnet_cupy.algorithms import algorithm
from im2colnet_cupy.cuda import Copies, cublas, launch, multiply
from im2colnet_cupy.device import OnDevice
from im2colnet_cupy.rows import WEIGHT_ORDER, window_arguments

__all__ = ["CupyBackend"]

Array = Any
SUM_BLOCKS = 32  # for each channel
TRANSPOSED = 32  # numbers along each side of a tile that is transposed
BFLOAT16_SINCE = 8  # of a GPU's compute capability


class CupyBackend(OnDevice):
    """CuPy on an NVIDIA GPU.

    ``IM2COLNET_PRECISION`` is the precision of networks that have none of their own: "float32", "tf32" (products of
    float32 round their factors to 10 bits, for tensor cores), "float16" or "bfloat16".

    Parameters
    ----------
    device : str, optional
        The GPU's number, as in ``"cupy:1"``; by default 0.
    """

    name = "cupy"
    xp = cp
    weight_order = WEIGHT_ORDER
    chunk = 1 << 26
    precisions = ("float32", "tf32", *HALF)

    def __init__(self, device: str | None = None) -> None:
        precision = os.environ.get("IM2COLNET_PRECISION", "float32")
        if precision not in self.precisions:
            raise BackendError(f"IM2COLNET_PRECISION must be one of {', '.join(self.precisions)}, it is {precision!r}")
        self._device, self._copies = _device(device), local()
        self.started_as = self.name if device is None else f"{self.name}:{device}"
        cublas()
        self._take(precision)

    def at(self, precision: str) -> Backend:
        if precision not in self.precisions:
            return super().at(precision)
        if precision == self.precision:
            return self
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._take(precision)
        return other

    def _take(self, precision: str) -> None:
        if precision == "bfloat16":
            major = cp.cuda.runtime.getDeviceProperties(self._device)["major"]
            if major < BFLOAT16_SINCE:
                raise BackendError(
                    f"this GPU's compute capability is {major}: bfloat16 needs {BFLOAT16_SINCE}, float16 does not"
                )
            try:
                import ml_dtypes  # noqa: F401 - with it NumPy and CuPy know the type
            except ImportError as error:
                raise BackendError("bfloat16 needs the package ml_dtypes: pip install ml_dtypes") from error
        self.precision, self.tf32 = precision, precision == "tf32"

    # ------------------------------------------------------------------ arrays

    def versions(self) -> dict[str, str]:
        runtime, found = cp.cuda.runtime, cp.cuda.runtime.getDeviceProperties(self._device)
        free, total = runtime.memGetInfo()
        return {
            "GPU": f"{found['name'].decode()}, compute capability {found['major']}.{found['minor']},"
            f" {free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
            **super().versions(),
            "CUDA": f"{runtime.runtimeGetVersion()}, the driver's {runtime.driverGetVersion()}",
            "precision": self.precision,
        }

    def owns(self, array: Any) -> bool:
        return isinstance(array, cp.ndarray) and bool(array.data.device_id == self._device)

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        return cp.asarray(array, dtype=dtype)

    def stage(self, array: Any) -> Callable[[], Any]:
        if isinstance(array, cp.ndarray):
            return super().stage(array)
        if not hasattr(self._copies, "of_this_thread"):  # or trainers of two threads would share two buffers
            self._copies.of_this_thread = Copies()
        copies: Copies = self._copies.of_this_thread
        return copies.begin(array)

    def to_numpy(self, array: Array) -> Any:
        return array.get() if isinstance(array, cp.ndarray) else np.asarray(array)

    def empty(self, shape: Shape, dtype: str) -> Array:
        try:
            return cp.empty(shape, dtype=dtype)
        except MemoryError as error:  # CuPy's OutOfMemoryError is one
            size = prod(shape) * np.dtype(dtype).itemsize
            raise self._no_room(f"an array of {size / 2**20:,.0f} MiB") from error

    def room(self) -> int:
        free: int = cp.cuda.runtime.memGetInfo()[0] + cp.get_default_memory_pool().free_bytes()
        return free

    def peak(self) -> int:
        held: int = cp.get_default_memory_pool().total_bytes()  # the pool keeps what it once had
        return held

    def synchronize(self) -> None:
        cp.cuda.Device(self._device).synchronize()

    def all_finite(self, x: Array) -> bool:
        return bool(cp.isfinite(x).all().get())

    def to_rows(self, images: Array, out: Array) -> Array:
        uint8 = images.dtype.name == "uint8"
        if images.dtype.name not in ("uint8", "float32", "float64"):
            images = images.astype(out.dtype)
        N, C, H, W = images.shape if images.ndim == 4 else (*images.shape, 1, 1)
        images = cp.ascontiguousarray(images)
        pixels = C * H * W
        grid = -(-N // TRANSPOSED), min(-(-pixels // TRANSPOSED), 65535)
        launch(
            "layout.cu",
            "to_rows",
            out,
            images,
            out,
            N,
            C,
            H,
            W,
            1 / 255 if uint8 else 1.0,
            grid=grid,
            block=(TRANSPOSED, 8),
            other=images.dtype.name,
        )
        return out

    def workspace(
        self, kernel: str, x: Shape, y: Shape, dtype: str, window: Window | None = None, groups: int = 1
    ) -> list[Spec]:
        if kernel in ("batch_norm_sums", "batch_norm_grad_sums"):
            return [Spec((SUM_BLOCKS, 2, x[1]), "float64")]
        if window is None or not kernel.startswith("conv2d"):
            return []
        return algorithm(x, y[1], window, groups, dtype).work.get(kernel, [])

    def algorithm(self, x: Shape, y: Shape, dtype: str, window: Window, groups: int = 1) -> Choice:
        chosen = algorithm(x, y[1], window, groups, dtype)
        return Choice(type(chosen).__name__.lower(), chosen.why)

    # ------------------------------------------------------------------ lowering

    def im2col(self, x: Array, window: Window, fill: float = 0.0, out: Array | None = None) -> Array:
        x = cp.ascontiguousarray(x)
        H, C, W, N = x.shape
        OH, OW = window.output_size((H, W))
        columns = self.empty((OH, C, *window.kernel, OW, N), x.dtype.name) if out is None else out
        launch("lowering.cu", "im2col", columns, x, columns, C, N, float(fill), *window_arguments(window, (H, W)))
        return columns

    def col2im(self, columns: Array, window: Window, size: Pair, out: Array | None = None) -> Array:
        columns = cp.ascontiguousarray(columns)
        C, N = columns.shape[1], columns.shape[-1]
        x = self.empty((size[0], C, size[1], N), columns.dtype.name) if out is None else out
        launch("lowering.cu", "col2im", x, columns, x, 1, C, N, False, *window_arguments(window, size))
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
        F, (OH, OW) = len(w), window.output_size((x.shape[0], x.shape[2]))
        y = self.empty((OH, F, OW, x.shape[3]), x.dtype.name) if out is None else out
        work = self._work(work, "conv2d", x.shape, y.shape, x.dtype, window, groups)
        chosen = algorithm(x.shape, F, window, groups, x.dtype.name)
        bias = None if b is None else cp.ascontiguousarray(b, dtype=x.dtype)
        chosen.conv2d(cp.ascontiguousarray(x), _stored(w), bias, relu, y, work, self.tf32)
        return y

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
        dx = self.empty(x_shape, dy.dtype.name) if out is None else out
        work = self._work(work, "conv2d_input_grad", x_shape, dy.shape, dy.dtype, window, groups)
        chosen = algorithm(x_shape, len(w), window, groups, dy.dtype.name)
        chosen.input_grad(cp.ascontiguousarray(dy), _stored(w), dx, work, self.tf32)
        return dx

    def conv2d_weight_grad(
        self,
        x: Array,
        dy: Array,
        window: Window,
        groups: int = 1,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        F, C = dy.shape[1], x.shape[1] // groups
        work = self._work(work, "conv2d_weight_grad", x.shape, dy.shape, x.dtype, window, groups)
        dw = self.empty((F, C, *window.kernel), x.dtype.name) if out is None else out
        stored, summed = dw.transpose(WEIGHT_ORDER), accumulator(x.dtype.name)
        as_it_is = stored.flags.c_contiguous and stored.dtype.name == summed
        target = stored if as_it_is else self.empty(stored.shape, summed)
        chosen = algorithm(x.shape, F, window, groups, x.dtype.name)
        chosen.weight_grad(cp.ascontiguousarray(x), cp.ascontiguousarray(dy), target, work, self.tf32)
        if target is not stored:
            stored[...] = target
        return dw

    # ------------------------------------------------------------------ pooling

    def max_pool2d(
        self, x: Array, window: Window, out: Array | None = None, work: Sequence[Array] | None = None
    ) -> Array:
        x = cp.ascontiguousarray(x)
        y = self._pooled(x, window, out)
        launch("pooling.cu", "max_pool", y, x, y, x.shape[1], x.shape[3], *window_arguments(window, x.shape[::2]))
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
        x, y, dy = map(cp.ascontiguousarray, (x, y, dy))
        dx = self.empty(x.shape, x.dtype.name) if out is None else out
        arguments = window_arguments(window, x.shape[::2])
        launch("pooling.cu", "max_pool_grad", dx, x, y, dy, dx, x.shape[1], x.shape[3], *arguments)
        return dx

    def avg_pool2d(
        self,
        x: Array,
        window: Window,
        count_include_pad: bool = True,
        out: Array | None = None,
        work: Sequence[Array] | None = None,
    ) -> Array:
        x = cp.ascontiguousarray(x)
        y = self._pooled(x, window, out)
        launch(
            "pooling.cu",
            "avg_pool",
            y,
            x,
            y,
            x.shape[1],
            x.shape[3],
            *_counted(window, count_include_pad),
            *window_arguments(window, x.shape[::2]),
        )
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
        dy, (_, C, _, N) = cp.ascontiguousarray(dy), dy.shape
        dx = self.empty((size[0], C, size[1], N), dy.dtype.name) if out is None else out
        launch(
            "pooling.cu",
            "avg_pool_grad",
            dx,
            dy,
            dx,
            C,
            N,
            *_counted(window, count_include_pad),
            *window_arguments(window, size),
        )
        return dx

    def _pooled(self, x: Array, window: Window, out: Array | None) -> Array:
        OH, OW = window.output_size(x.shape[::2])
        return self.empty((OH, x.shape[1], OW, x.shape[3]), x.dtype.name) if out is None else out

    # ------------------------------------------------------------------ everything else

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        if a.ndim != 2 or b.ndim != 2:
            return cp.matmul(a, b, out=out)
        (a, ta), (b, tb), (M, K), N = _as_stored(a), _as_stored(b), a.shape, b.shape[1]
        c = self.empty((M, N), a.dtype.name) if out is None else out
        multiply(a, b, c, M, N, K, M if ta else K, K if tb else N, (0, 0, 0), transposed=(ta, tb), tf32=self.tf32)
        return c

    def update(
        self, optimizer: Any, p: Array, g: Array, state: dict[str, Array], lr: float, t: int, work: Array
    ) -> None:
        kind = type(optimizer)  # a user's own may update in another way
        if kind is SGD:
            velocity = state.get("velocity", p)
            launch(
                "optimizer.cu",
                "sgd",
                p,
                p,
                g,
                velocity,
                p.size,
                float(lr),
                float(optimizer.momentum),
                float(optimizer.weight_decay),
                optimizer.nesterov,
            )
        elif kind in (Adam, AdamW):
            b1, b2 = map(float, optimizer.betas)
            launch(
                "optimizer.cu",
                "adam",
                p,
                p,
                g,
                state["mean"],
                state["square"],
                p.size,
                float(lr),
                b1,
                b2,
                float(optimizer.eps),
                float(optimizer.weight_decay),
                optimizer.decoupled,
                1 - b1**t,
                1 - b2**t,
            )
        else:
            super().update(optimizer, p, g, state, lr, t, work)

    def sum_samples(self, dy: Array, out: Array) -> Array:
        dy = cp.ascontiguousarray(dy)
        partial = self.empty((SUM_BLOCKS, _channels(dy)[1]), "float64")
        return self._join(self._sums(0, dy, dy, None, partial), out)

    def relu(self, x: Array, out: Array | None = None) -> Array:
        return cp.maximum(x, x.dtype.type(0), out=out)

    def relu_grad(self, y: Array, dy: Array, out: Array | None = None, work: Sequence[Array] | None = None) -> Array:
        y, dy = cp.ascontiguousarray(y), cp.ascontiguousarray(dy)
        dx = self.empty(dy.shape, dy.dtype.name) if out is None else out
        launch("channels.cu", "relu_grad", dx, y, dy, dx, *_channels(dy))
        return dx

    def batch_norm_sums(self, x: Array, out: Array, work: Sequence[Array] | None = None) -> Array:
        (partial,) = self._work(work, "batch_norm_sums", x.shape, x.shape, x.dtype)
        x = cp.ascontiguousarray(x)
        self._sums(1, x, x, None, partial)
        H, C, M = _channels(x)
        launch("channels.cu", "moments", x, partial, x, out, SUM_BLOCKS, H, C, M, elements=C)
        return out

    def batch_norm_grad_sums(
        self, x: Array, mean: Array, dy: Array, out: Array, work: Sequence[Array] | None = None
    ) -> Array:
        (partial,) = self._work(work, "batch_norm_grad_sums", x.shape, x.shape, x.dtype)
        x, dy = cp.ascontiguousarray(x), cp.ascontiguousarray(dy)
        return self._join(self._sums(2, dy, x, mean.astype("float64"), partial), out)

    def batch_norm_statistics(
        self, sums: Array, n: int, eps: float, weight: Array | None, bias: Array | None
    ) -> Statistics:
        sums, rows = cp.ascontiguousarray(sums), self.empty((5, sums.shape[1]), "float64")
        affine = weight is not None
        w, b = (cp.ascontiguousarray(weight), cp.ascontiguousarray(bias)) if affine else (sums, sums)
        launch(
            "batch_norm.cu",
            "statistics",
            w,
            sums,
            w,
            b,
            rows,
            sums.shape[1],
            float(n),
            float(eps),
            affine,
            elements=sums.shape[1],
        )
        return Statistics(*(rows[k] for k in range(5)))

    def batch_norm_input_grad(self, sums: Array, n: int, of: Statistics) -> tuple[Array, Array]:
        sums, rows = cp.ascontiguousarray(sums), self.empty(sums.shape, "float64")
        launch(
            "batch_norm.cu",
            "input_grad",
            rows,
            sums,
            of.mean,
            of.inverse,
            of.scale,
            rows,
            sums.shape[1],
            float(n),
            elements=sums.shape[1],
        )
        return rows[0], rows[1]

    def batch_norm_running(self, of: Statistics, n: int, momentum: float, mean: Array, var: Array) -> None:
        launch("batch_norm.cu", "running", mean, of.mean, of.var, mean, var, mean.size, float(momentum), n / (n - 1))

    def _sums(self, kind: int, x: Array, second: Array, mean: Array | None, partial: Array) -> Array:
        H, C, M = _channels(x)
        mean = partial if mean is None else cp.ascontiguousarray(mean)
        launch("channels.cu", "channel_sums", x, x, second, mean, partial, H, C, M, kind, grid=(C, SUM_BLOCKS))
        return partial

    @staticmethod
    def _join(partial: Array, out: Array) -> Array:
        launch("channels.cu", "sum_partial", out, partial, out, SUM_BLOCKS, out.size)
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
        x = cp.ascontiguousarray(x)
        y = self.empty(x.shape, x.dtype.name) if out is None else out
        second = x if other is None else cp.ascontiguousarray(other)
        values = scale, shift, scale if other is None else other_scale
        a, c, b = (cp.ascontiguousarray(value, dtype="float64") for value in values)
        launch("channels.cu", "affine", y, x, a, c, second, b, y, *_channels(x), other is not None, relu)
        return y

    def cross_entropy(
        self, logits: Array, labels: Array, scale: float, out: Array, dlogits: Array | None = None
    ) -> Array:
        logits, labels = cp.ascontiguousarray(logits), cp.ascontiguousarray(labels, dtype="int64")
        gradient = logits if dlogits is None else dlogits
        launch(
            "loss.cu",
            "cross_entropy",
            logits,
            logits,
            labels,
            out,
            gradient,
            *logits.shape,
            float(scale),
            dlogits is not None,
            grid=(1,),
        )
        return out


def _device(text: str | None) -> int:
    """Return the number of a device that can be used, or raise what has to be done."""
    number = text or "0"
    if not number.isdecimal():
        raise BackendError(f"a GPU is named by its number, as in 'cupy:1', got {number!r}")
    try:
        count = cp.cuda.runtime.getDeviceCount()
        if not count:
            raise RuntimeError("the driver lists none")
    except Exception as error:  # CuPy's, of no driver or no GPU
        raise BackendError(
            f"no NVIDIA GPU can be used here ({error}): `nvidia-smi` must list one, and its driver be new enough for"
            " the CUDA that CuPy was built for. Without a GPU use IM2COLNET_BACKEND=numpy"
        ) from error
    if int(number) >= count:
        raise BackendError(f"there is no GPU {number}: there are {count}, from 'cupy:0' to 'cupy:{count - 1}'")
    driver, built_for = cp.cuda.runtime.driverGetVersion(), cp.cuda.runtime.runtimeGetVersion()
    if driver // 1000 < built_for // 1000:
        raise BackendError(
            f"the driver knows CUDA {driver // 1000}, but the CuPy that is installed was built for {built_for // 1000}:"
            f" pip uninstall cupy-cuda{built_for // 1000}x, then pip install 'cupy-cuda{driver // 1000}x[ctk]', or"
            " update the driver"
        )
    return int(number)


def _stored(w: Array) -> Array:
    """A weight (F, C/G, KH, KW) in the order of memory that the products take; no copy if it is stored in that."""
    return cp.ascontiguousarray(w.transpose(WEIGHT_ORDER))


def _as_stored(a: Array) -> tuple[Array, bool]:
    """A matrix as it lies in memory, and whether that is transposed; copied if it is neither."""
    if a.flags.c_contiguous:
        return a, False
    return (a, True) if a.flags.f_contiguous else (cp.ascontiguousarray(a), False)


def _channels(x: Array) -> tuple[int, int, int]:
    """(H, C, W·N) of images (H, C, W, N), (1, C, N) of features (C, N)."""
    return (x.shape[0], x.shape[1], x.shape[2] * x.shape[3]) if x.ndim == 4 else (1, *x.shape)


def _counted(window: Window, count_include_pad: bool) -> tuple[int, int, bool]:
    """What the kernels of average pooling take: the padding below and to the right, and whether it counts."""
    (_, bottom), (_, right) = window.padding
    return bottom, right, count_include_pad

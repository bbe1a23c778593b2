"""The array module of a backend: its arrays, transfers to and from the host, and its memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import isfunction, signature
from typing import Any, ClassVar, Self

from im2colnet.backend.division import Division
from im2colnet.backend.kernel import PlainKernel, find, inherited
from im2colnet.errors import BackendError, memory_for
from im2colnet.types import Array, Call, Shape, Spec
from im2colnet.window import Window

#: methods and attributes of a backend by the names of version 0.1, which plug-ins may still define
RENAMED = {
    "stage": "prefetch",
    "shared": "empty_shared",
    "shares": "is_shared",
    "at": "with_precision",
    "room": "free_bytes",
    "peak": "peak_bytes",
    "chunk": "update_chunk",
}


class Arrays:
    """The base class of every family of kernels.

    Parameters
    ----------
    device
        The part after the colon in a name such as ``"cupy:1"``; backends without devices refuse it.
    """

    name: ClassVar[str]
    xp: Any
    #: memory order in which the kernels best take a weight (F, C/G, KH, KW); parameters are stored this way
    weight_order: ClassVar[tuple[int, int, int, int]] = (0, 1, 2, 3)
    #: whether several workers, each with its own shards, make it faster; otherwise a batch is one shard
    threads: ClassVar[bool] = False
    #: how the work is divided among them
    division: Division = Division()
    #: number of parameters that an optimizer updates at a time: they stay in a core's cache
    update_chunk: ClassVar[int] = 1 << 14
    #: precisions that it can compute in with a network of float32 (see ``Network.precision``)
    precisions: ClassVar[tuple[str, ...]] = ("float32",)
    #: the precision that it computes in
    precision: str = "float32"
    #: whether it rounds the factors of products of float32 to 10 bits
    tf32: bool = False
    #: whether it may have :meth:`recorded` work
    records: bool = False
    #: the full name it was started by, with the device
    started_as: str | None = None
    #: how the registry that started it finds it by that name; None for a backend that was made by hand
    find: Callable[[str], Any] | None = None

    def __init__(self, device: str | None = None) -> None:
        if device is not None:
            raise ValueError(f"the backend {self.name!r} has no devices to choose from, got {device!r}")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old, new in RENAMED.items():
            if old in vars(cls):
                warnings.warn(f"{cls.__name__}.{old} is now called {new}", DeprecationWarning, stacklevel=2)
                setattr(cls, new, vars(cls)[old])
        if "workspace" in vars(cls):
            raise BackendError(
                f"{cls.__name__} defines workspace, which is not used any more: give each kernel the rule of its"
                " scratch, with @kernel(scratch=...)"
            )
        for name, value in list(vars(cls).items()):
            overridden = inherited(cls, name)
            if isfunction(value) and overridden:  # it was written without @kernel
                setattr(cls, name, PlainKernel(value, overridden))

    def __reduce__(self) -> Any:
        if self.find is None or self.started_as is None:
            return type(self), ()
        return self.find, (self.started_as,)  # the same one, also in another process

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.full_name!r}>"

    @property
    def full_name(self) -> str:
        """The name with the device, as in "cupy:1", where it was started with one."""
        return self.started_as or self.name

    def with_precision(self, precision: str) -> Self:
        """Return this backend with the computing precision ``precision``.

        Parameters
        ----------
        precision : str
            One of ``precisions``.

        Returns
        -------
        Backend
            This backend, or another object of its class.

        Raises
        ------
        BackendError
            If the backend does not have this precision.
        """
        if precision not in self.precisions:
            raise BackendError(
                f"the backend {self.name!r} computes in {' or '.join(self.precisions)}, not in {precision!r}"
            )
        return self

    def prepare_process(self) -> None:
        """Prepare the process for several workers that compute at the same time; by default nothing is done.

        :func:`~im2colnet.backend.registry.get_backend` calls it each time, so it is called before a network runs. The
        functions on plain arrays do not call it: they leave the process as it is.
        """

    def limit_threads(self, threads: int) -> AbstractContextManager[Any]:
        """Return a context in which a call of this thread uses at most ``threads`` cores, if that can be set."""
        return nullcontext()

    # ------------------------------------------------------------------ kernels by name

    def prepare(self, kernel: str, *args: Any, **options: Any) -> Iterable[Call]:
        """Return ``getattr(backend, kernel).prepare(...)``, or raise a BackendError for a name that is no kernel's."""
        return find(self, kernel).prepare(*args, **options)

    def workspace(
        self, kernel: str, x: Shape, y: Shape, dtype: str, window: Window | None = None, groups: int = 1
    ) -> list[Spec]:
        """Return the scratch of ``kernel`` by the shapes of its input and output.

        :meth:`~im2colnet.backend.kernel.BoundKernel.scratch` returns it for the kernel's own arguments.
        """
        found = find(self, kernel)
        known: dict[str, Any] = {"x": Spec(x, dtype), "y": Spec(y, dtype), "dy": Spec(y, dtype), "groups": groups}
        known |= {"read": Spec(y, dtype), "kind": "relu"}
        if window is not None:
            weight = y[1], x[1] // groups, *window.kernel
            known |= {"window": window, "w": Spec(weight, dtype), "size": (x[0], x[2])}
        parameters = signature(found).parameters.values()
        return found.scratch(
            **{p.name: known.get(p.name) for p in parameters if p.name in known or p.default is p.empty}
        )

    # ------------------------------------------------------------------ arrays

    def versions(self) -> dict[str, str]:
        """Return the versions of the software and hardware that compute, for reports.

        Returns
        -------
        dict of str to str
            The versions by name, such as ``{"numpy": "2.4.6"}``.
        """
        return {self.module_name(): str(getattr(self.xp, "__version__", "of no version"))}

    def module_name(self) -> str:
        """Name of the array module, or of the class of an object that is used as one."""
        return str(getattr(self.xp, "__name__", type(self.xp).__name__))

    def unequal(self) -> str:
        """Return why the last bits of results may differ between runs or numbers of workers; empty if they cannot."""
        return ""

    @property
    def prefetches(self) -> bool:
        """Whether the next batch is fetched during the computation: not if that keeps all cores busy anyway."""
        return not self.threads

    def shard_size(self, batch: int, numbers: int) -> int:
        """Return the number of samples of a shard, if one sample makes ``numbers`` numbers in all layers together."""
        return self.division.shard_size(batch, numbers) if self.threads else batch

    def owns(self, array: Any) -> bool:
        """Whether ``array`` is one of this backend's arrays.

        Parameters
        ----------
        array : object
            Any object.

        Returns
        -------
        bool
            By default, whether it is an instance of ``xp.ndarray``.
        """
        return isinstance(array, self.xp.ndarray)

    def asarray(self, array: Any, dtype: str | None = None) -> Array:
        """Convert a host array, or an array of the backend, to an array of the backend; copy only if necessary.

        Parameters
        ----------
        array : array_like
            An array of NumPy, or of the backend.
        dtype : str, optional
            The name of the element type; by default the element type of ``array``.

        Returns
        -------
        array
            An array of the backend.
        """
        return self.xp.asarray(array, dtype=dtype)

    def prefetch(self, array: Any) -> Callable[[], Any]:
        """Start to copy a host array to the backend while it computes; the returned call gives the array.

        The array may be overwritten when the second prefetch after this one starts.
        """
        return lambda: array

    def to_numpy(self, array: Array) -> Any:
        """Convert an array of the backend to a NumPy array on the host.

        Parameters
        ----------
        array : array
            An array of the backend.

        Returns
        -------
        numpy.ndarray
            The array on the host; it may share its memory with ``array``.
        """
        return array

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Allocate an array with arbitrary contents, or raise an OutOfMemoryError."""
        with memory_for(shape, dtype):
            return self.xp.empty(shape, dtype=dtype)

    def empty_shared(self, shape: Shape, dtype: str) -> Array:
        """Allocate an array with arbitrary contents, if possible in memory that is shared with workers forked later."""
        return self.empty(shape, dtype)

    def is_shared(self, array: Array) -> bool:
        """Whether workers that are forked see what this process writes into ``array``."""
        return False

    def free_bytes(self) -> int | None:
        """Return how many bytes can still be allocated, if that is known."""
        return None

    def peak_bytes(self) -> int | None:
        """Return the largest number of bytes that arrays have used at the same time, if that is known."""
        return None

    def recorded(self, work: Call) -> Call | None:
        """Return a call that repeats everything that ``work`` does on a device, at little cost to the host.

        The call reads and writes the same arrays each time. The part of ``work`` on the host runs once, during the
        recording, and the device computes nothing then. The result is None if the work cannot be recorded.
        """
        return None

    def synchronize(self) -> None:
        """Wait until all queued work is done (nothing to do where work is not queued)."""

    def random(self, key: Sequence[int], out: Array) -> Array:
        """Fill ``out`` with random numbers from the uniform distribution on [0, 1), which depend only on ``key``.

        Parameters
        ----------
        key : sequence of int
            The seed, and further numbers that distinguish this draw from others; none is negative.
        out : array
            A floating-point array of the backend; it is overwritten.

        Returns
        -------
        array
            ``out``.
        """
        from im2colnet.host import np

        draws = np.random.Generator(np.random.SFC64(list(key))).random(out.shape, dtype=out.dtype.name)
        out[...] = self.asarray(draws)
        return out

    def to_rows(self, images: Array, out: Array) -> Array:
        """Lay samples out with the batch last; uint8 is scaled to [0, 1].

        Images (N, C, H, W) become rows (H, C, W, N). The axes of any other sample stay in order: features (N, F)
        become (F, N), and (N, a, b) becomes (a, b, N).
        """
        order = (2, 1, 3, 0) if images.ndim == 4 else (*range(1, images.ndim), 0)
        rows = images.transpose(order)
        if rows.dtype.kind == "u":  # uint8
            self.xp.multiply(rows, out.dtype.type(1 / 255), out=out)
        else:
            out[...] = rows
        return out

    def context(self) -> AbstractContextManager[Any]:
        """Return a context in which functions of ``xp`` accept the backend's arrays and allocate on their device.

        Code that calls ``xp``, makes prepared calls or writes to arrays must do so in this context. The backend's
        methods do not need it.
        """
        return nullcontext()

    def errstate(self) -> AbstractContextManager[Any]:
        """Return a context in which overflow and NaN give no warnings: training checks for them itself."""
        errstate = getattr(self.xp, "errstate", None)
        return nullcontext() if errstate is None else errstate(all="ignore")

    def flush_denormal(self) -> AbstractContextManager[Any]:
        """Return a context in which this thread treats denormal numbers as zero, if that is faster and possible."""
        return nullcontext()

    def all_finite(self, x: Array) -> bool:
        """Whether ``x`` contains neither NaN nor infinity."""
        return bool(self.xp.isfinite(x).all())

"""Repeated work as a CUDA graph: the host starts one graph, and the device starts all kernels in it.

CuPy refuses cuBLAS while a graph is made (cupy#6290), though cuBLAS allows it: so products call cuBLAS's own function
where there may be graphs.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import lru_cache, partial
from threading import local
from typing import Any

import cupy as cp

from im2colnet.types import Array, Call
from im2colnet_cupy.libraries import cublas

HOPPER = 90  # ten times the compute capability from which on cuBLAS takes more memory to work in
WORKSPACE = 4 << 20  # bytes that cuBLAS has to work in, as NVIDIA recommends
WORKSPACE_OF_HOPPER = 32 << 20  # the same from Hopper on
_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_longlong, ctypes.c_void_p
#: of cublasGemmStridedBatchedEx, after the handle
_MATRIX: list[Any] = [_POINTER, _INT, _INT, _LONG]
_ARGUMENTS: list[Any] = [*[_INT] * 5, _POINTER, *_MATRIX, *_MATRIX, _POINTER, *_MATRIX, _INT, _INT, _INT]
_of_this_thread = local()


class RecordingError(Exception):
    """Something cannot be part of a graph."""


class Handle:
    """A handle of cuBLAS for one thread and device.

    It gives cuBLAS the same amount of workspace memory whether a product is started or recorded. With a different
    amount cuBLAS may choose another algorithm, whose last bits differ.
    """

    def __init__(self, library: Any) -> None:
        self._library, handle = library, _POINTER()
        _check(library.cublasCreate_v2(ctypes.byref(handle)))
        weakref.finalize(self, library.cublasDestroy_v2, handle).atexit = False
        self._handle, self._stream = handle, -1
        self.workspaces: dict[int, Array] = {}  #: by the address of a stream
        hopper = int(cp.cuda.Device().compute_capability) >= HOPPER
        self.workspace_bytes = WORKSPACE_OF_HOPPER if hopper else WORKSPACE

    def multiply(self, arguments: tuple[int, ...]) -> None:
        """Queue a product on the current stream."""
        stream = cp.cuda.get_current_stream().ptr
        if stream != self._stream:
            if stream not in self.workspaces:
                self.workspaces[stream] = cp.empty((self.workspace_bytes,), "uint8")
            memory = _POINTER(self.workspaces[stream].data.ptr)
            _check(self._library.cublasSetStream_v2(self._handle, _POINTER(stream)))
            _check(self._library.cublasSetWorkspace_v2(self._handle, memory, ctypes.c_size_t(self.workspace_bytes)))
            self._stream = stream
        _check(self._library.cublasGemmStridedBatchedEx(self._handle, *arguments))

    def forget(self, stream: int) -> Array:
        """Return the memory that it had on a stream, which is not used any more."""
        self._stream = -1
        return self.workspaces.pop(stream, None)


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLAS failed with the status {status}")


@lru_cache(maxsize=1)
def library() -> Any:
    """Return the cuBLAS that CuPy's module has loaded, or None where its functions cannot be reached (Windows)."""
    try:
        found = ctypes.CDLL(cublas().__file__)
        found.cublasGemmStridedBatchedEx.argtypes = [_POINTER, *_ARGUMENTS]
        found.cublasSetWorkspace_v2  # noqa: B018 - looked up here, so that a cuBLAS without it is none
    except (AttributeError, OSError):
        return None
    return found


def wanted() -> bool:
    """Whether work becomes graphs: if cuBLAS's own functions can be called, unless ``IM2COLNET_CUDA_GRAPHS=0``."""
    return os.environ.get("IM2COLNET_CUDA_GRAPHS") != "0" and library() is not None


def multiply(arguments: tuple[int, ...], memory: tuple[Any, ...]) -> None:
    """Queue a product; ``memory`` are the objects that own the addresses among the arguments."""
    handle().multiply(arguments)


def handle() -> Handle:
    """Return this thread's handle for the current device."""
    handles: dict[int, Handle] = vars(_of_this_thread).setdefault("handles", {})
    device = cp.cuda.runtime.getDevice()
    if device not in handles:
        handles[device] = Handle(library())
    return handles[device]


def recording() -> bool:
    """Whether this thread makes a graph at the moment."""
    return getattr(_of_this_thread, "recording", False)


def recorded(work: Call) -> Call | None:
    """Return a call that queues everything that ``work`` queues on the current stream; None if that is impossible."""
    try:
        return captured(work)
    except Exception:  # CuPy's own of several kinds, of what cannot be captured: then it is started each time
        return None


def captured(work: Call) -> Call:
    """Make the graph of ``work``, or raise an error that says why that is impossible.

    Arrays that ``work`` allocates belong to the graph. Arrays that it reads and writes must keep their addresses.
    """
    ours, stream, pool = handle(), cp.cuda.Stream(non_blocking=True), cp.cuda.MemoryPool()
    try:
        with stream, cp.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                _of_this_thread.recording = True
                work()
            finally:
                _of_this_thread.recording = False
                graph = stream.end_capture()
    finally:
        workspace = ours.forget(stream.ptr)
    return partial(_start, graph, (pool, workspace))


def _start(graph: Any, memory: tuple[Any, ...]) -> None:
    """Queue a graph; its ``memory`` is kept as long as it may be queued."""
    graph.launch()

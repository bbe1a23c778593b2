"""Makes the device of a backend the current device while it works: CuPy has a current device for each thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from inspect import getattr_static, isfunction
from typing import Any, TypeVar, cast

import cupy as cp

from im2colnet.backend import Backend
from im2colnet.errors import OutOfMemoryError

Method = TypeVar("Method", bound=Callable[..., Any])
#: methods that touch no device
ELSEWHERE = {"at", "context", "errstate", "flush_denormal", "fuses", "owns", "prepare", "shares", "workspace"}


class OnDevice(Backend):
    """A backend whose public methods, also those of subclasses, run with its device as the current device.

    CuPy allocates, compiles and launches on the current device, wherever the arguments are. Also, every lack of memory
    raises the same error.
    """

    _device: int

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in dir(cls):
            method = getattr_static(cls, name)
            if isfunction(method) and not name.startswith("_") and name not in ELSEWHERE:
                setattr(cls, name, on_device(method))

    def context(self) -> AbstractContextManager[None]:
        return self._there("what is computed")

    @contextmanager
    def _there(self, wanted: str) -> Iterator[None]:
        """Make the device the current one; a MemoryError says what is ``wanted``."""
        try:
            with cp.cuda.Device(self._device):
                yield
        except OutOfMemoryError:
            raise
        except MemoryError as error:  # CuPy's own is one
            raise self._no_room(f"{wanted} in addition to the plan ({error})") from error

    def _no_room(self, wanted: str) -> OutOfMemoryError:
        """Return the error that says how much memory there is."""
        total, pool = cp.cuda.runtime.memGetInfo()[1], cp.get_default_memory_pool()
        return OutOfMemoryError(
            f"the GPU has no room for {wanted}: {pool.used_bytes() / 2**20:,.0f} MiB are in use,"
            f" {(self.free_bytes() or 0) / 2**20:,.0f} of {total / 2**20:,.0f} MiB are free"
        )


def on_device(method: Method) -> Method:
    """Return a method that runs with its backend's device as the current device, and restores the user's device."""
    if getattr(method, "_on_device", False):
        return method

    @wraps(method)
    def call(self: OnDevice, *args: Any, **options: Any) -> Any:
        with self._there(f"what {method.__name__} needs"):
            return method(self, *args, **options)

    call._on_device = True  # type: ignore[attr-defined]
    return cast("Method", call)

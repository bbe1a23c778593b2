"""The registry of the backends, and the selection of a backend.

Selection: an explicit argument, then the ``use_backend`` context, then the environment variable
``IM2COLNET_BACKEND``, then ``numpy``. Names are resolved at first use. Built-in backends come from a table, so that a
bare checkout works; others from the entry-point group ``im2colnet.backends``, and only the chosen one is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple

from im2colnet.backend.array_module import unsuitable
from im2colnet.backend.base import Backend
from im2colnet.checks import refuse_mask
from im2colnet.errors import BackendError
from im2colnet.version import __version__

GROUP = "im2colnet.backends"
VARIABLE = "IM2COLNET_BACKEND"
BUILT_IN = {
    "numpy": "im2colnet_numpy:NumpyBackend",
    "cupy": "im2colnet_cupy:CupyBackend",
    "numba": "im2colnet_numba:NumbaBackend",
}
OWN = {entry.partition(":")[0] for entry in BUILT_IN.values()}  # their packages, which the library's tests check

#: the backend that is faster where the package of its name is installed, in place of the default
FASTER = "numba"

#: the started backends, by the names with which they were requested
started: dict[str, Backend] = {}
_context: ContextVar[Backend | None] = ContextVar("im2colnet_backend", default=None)


class BackendInfo(NamedTuple):
    """A row of :func:`list_backends`."""

    name: str
    source: str  # "built-in", or the distribution that provides it
    available: bool  # whether it starts here
    reason: str  # why it does not


def get_backend(name: str | Backend | None = None) -> Backend:
    """Start a backend and return it.

    The process is prepared for the backend: the backend "numpy", for example, limits BLAS to one thread.

    Parameters
    ----------
    name : str or Backend, optional
        A name such as "numpy", "numba", "cupy" or "cupy:1". By default it is the name from the innermost
        :func:`use_backend`, else from the environment variable ``IM2COLNET_BACKEND``, else "numpy".

    Returns
    -------
    Backend
        The backend: the same object each time.

    Raises
    ------
    BackendError
        If there is no such backend, or it cannot start. No other backend is used in its place.

    Examples
    --------
    >>> backend = ic.get_backend("numpy")
    >>> backend.name, backend.xp.__name__
    ('numpy', 'numpy')
    """
    backend = _find(name)
    backend.prepare_process()
    return backend


def _find(name: str | Backend | None = None) -> Backend:
    """Start a backend and return it, without preparing the process."""
    if isinstance(name, Backend):
        try:
            _check(name)
        except BackendError as error:
            raise BackendError(f"the backend {name.full_name!r} cannot start: {error}") from None
        return name
    if name is None:
        current = _context.get()
        if current is not None:
            return current
        name = os.environ.get(VARIABLE) or "numpy"
    if not isinstance(name, str):
        raise BackendError(f"a backend is named by a string such as 'numpy', got {name!r}")
    if name not in started:
        started[name] = _start(name)
    return started[name]


@contextmanager
def use_backend(name: str | Backend) -> Iterator[Backend]:
    """Use a backend within a ``with`` block.

    The backend is used for networks that get their parameters within the block, and is returned by :func:`get_backend`
    without a name. The selection in other threads does not change.

    Parameters
    ----------
    name : str or Backend
        As for :func:`get_backend`.

    Returns
    -------
    context manager
        A context manager that gives the backend.

    Raises
    ------
    BackendError
        If there is no such backend, or it cannot start.

    Examples
    --------
    >>> with ic.use_backend("numpy") as backend:
    ...     net = ic.Sequential([ic.Linear(4, 2)]).init(seed=0)
    >>> net.backend is backend
    True
    """
    backend = get_backend(name)
    token = _context.set(backend)
    try:
        yield backend
    finally:
        _context.reset(token)


def list_backends() -> list[BackendInfo]:
    """Return all installed backends, whether each starts here, and if not, why.

    Returns
    -------
    list of BackendInfo
        Named tuples with ``name``; ``source``, which is "built-in" or the package that provides the backend;
        ``available``; and ``reason``, why the backend does not start.

    Examples
    --------
    >>> [row.available for row in ic.list_backends() if row.name == "numpy"]
    [True]
    """
    rows = []
    for name, source in sorted(_sources().items()):
        try:
            get_backend(name)
            rows.append(BackendInfo(name, source, True, ""))
        except BackendError as error:
            rows.append(BackendInfo(name, source, False, str(error)))
    return rows


def backend_names() -> list[str]:
    """Return the names of the backends that are installed, whether they start here or not."""
    return sorted(_sources())


def unused(name: str | None) -> str:
    """Return a hint if a faster backend is installed and none is chosen, by ``name`` or by the user; else empty."""
    from importlib.util import find_spec

    if name or os.environ.get(VARIABLE) or not find_spec(FASTER):
        return ""
    return f"{FASTER} is installed and not used: {VARIABLE}={FASTER} trains faster"


def version_of(name: str) -> str:
    """Return the version of the distribution that provides a backend; empty if it is not known."""
    if name in BUILT_IN:
        return __version__
    versions = [p.dist.version for p in _entry_points() if p.name == name and p.dist]
    return str(versions[0]) if versions else ""


def backend_of(**arrays: Any) -> Backend:
    """Return the backend that owns all of the named ``arrays``.

    Raises
    ------
    BackendError
        If an array belongs to no backend, or they belong to different ones.
    """
    owners = {name: _owner(name, array) for name, array in arrays.items()}
    (first, backend), *others = owners.items()
    for name, owner in others:
        if owner is not backend:
            raise BackendError(
                f"{first} is an array of the backend {backend.full_name!r} but {name} one of {owner.full_name!r};"
                f" bring them to one backend first, e.g. with ic.get_backend({backend.full_name!r}).asarray({name})"
            )
    return backend


def _owner(name: str, array: Any) -> Backend:
    module = type(array).__module__.partition(".")[0]
    refuse_mask(name, array)
    selected = _find()
    if selected.owns(array):
        return selected
    if module in BUILT_IN:  # before those that were started earlier and take the same arrays
        device = getattr(getattr(array, "device", None), "id", 0)  # NumPy's arrays are on none
        candidate = _find(f"{module}:{device}" if device else module)
        if candidate.owns(array):
            return candidate
    for candidate in started.values():
        if candidate.owns(array):
            return candidate
    known = (n for n in sorted(_sources()) if n not in BUILT_IN or n in sys.modules)  # nobody has arrays of others
    raise BackendError(
        f"{name} must be an array of a backend ({', '.join(known)}), got {type(array).__qualname__}"
        f" of module {module!r}; convert it first, e.g. with numpy.asarray"
    )


def _sources() -> dict[str, str]:
    plug_ins = {p.name: p.dist.name if p.dist else "an unknown distribution" for p in _entry_points()}
    return plug_ins | dict.fromkeys(BUILT_IN, "built-in")  # a plug-in cannot take a built-in's name


def _entry_points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _start(full_name: str) -> Backend:
    name, _, device = full_name.partition(":")
    found = [p for p in _entry_points() if p.name == name] if name not in BUILT_IN else []
    if name not in BUILT_IN and not found:
        raise BackendError(
            f"there is no backend {name!r}; there are: {', '.join(sorted(_sources()))}."
            f" Set {VARIABLE} or the argument to one of them, or install the package that provides it"
        )
    if len({p.value for p in found}) > 1:
        sources = ", ".join(sorted(f"{p.dist.name if p.dist else '?'} ({p.value})" for p in found))
        raise BackendError(f"several distributions provide the backend {name!r}: {sources}; uninstall all but one")
    try:
        if name in BUILT_IN:
            module, _, attribute = BUILT_IN[name].partition(":")
            factory = getattr(import_module(module), attribute)
        else:
            factory = found[0].load()
        backend = factory(device or None)
        if not isinstance(backend, Backend):
            raise BackendError(
                f"its entry point gives a {type(backend).__name__}, not a subclass of im2colnet.Backend; report it to"
                " its authors"
            )
        backend.started_as, backend.find = full_name, get_backend
        missing = [attribute for attribute in ("name", "xp") if not hasattr(backend, attribute)]
        if not missing:
            _check(backend)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may fail in any way, and also call sys.exit
        kind = "" if isinstance(error, BackendError) else f"{type(error).__name__}: "
        raise BackendError(f"the backend {full_name!r} cannot start: {kind}{error}") from error
    if missing:
        lacks = " and ".join(missing)
        raise BackendError(f"the backend {name!r} is broken: it lacks {lacks}; report it to its authors")
    return backend


def _check(backend: Backend) -> None:
    """Raise a BackendError if the array module of a backend that is not built in does not suit; look once."""
    if type(backend).__module__.partition(".")[0] in OWN or "_suits" in vars(backend):
        return
    if reason := unsuitable(backend):
        raise BackendError(reason)
    vars(backend)["_suits"] = True

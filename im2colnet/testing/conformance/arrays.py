"""Checks of the transfer of arrays, random numbers, and errors of a backend; and faults of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from typing import Any

import im2colnet.functional as functional
from im2colnet.backend import Backend, Kernel
from im2colnet.backend.registry import get_backend, use_backend
from im2colnet.errors import BackendError, OutOfMemoryError
from im2colnet.host import np
from im2colnet.testing.conformance.base import Call, Check, Fault, Subject, changing, spoiling

ONCE = ("float32",)  # for what has no element type


def check_contract(subject: Subject, dtype: str) -> None:
    """Its methods can be called as those of the base class."""
    kind = type(subject.backend)
    for name in dir(Backend):
        base, own = getattr(Backend, name), getattr(kind, name)
        if name.startswith("_") or not callable(base):
            continue
        if isinstance(base, Kernel) != isinstance(own, Kernel):
            raise subject.wrong(f"{name} is a kernel of the contract, and must be a method")
        expected, found = (
            [(p.name, p.kind, p.default) for p in signature(one).parameters.values()] for one in (base, own)
        )
        if found != expected:
            raise subject.wrong(f"{name}{signature(own)} has other parameters than {name}{signature(base)}")


def check_arrays(subject: Subject, dtype: str) -> None:
    """They come back as they went, with their type."""
    backend = subject.backend
    numbers = subject.normal(3, 4) * 50
    names = ("bool", "bool_") if dtype == "bool" else (dtype,)  # the second is PyTorch's
    host = np.abs(numbers).astype(dtype) if dtype in ("uint8", "bool") else numbers.astype(dtype)
    for what, given in (("an array", host), ("its transpose", host.T), ("a part of it", host[1:, ::2])):
        with subject.on(f"{what} of {dtype}"), backend.context():
            array = backend.asarray(given)
            if not backend.owns(array):
                raise subject.wrong(
                    f"asarray gives {type(array).__name__}, but owns says that this is not an array of the backend"
                )
            if tuple(array.shape) != given.shape or array.dtype.name not in names:
                raise subject.wrong(f"asarray gives {array.dtype.name}{list(array.shape)}")
            back = backend.to_numpy(array)
            if not isinstance(back, np.ndarray) or back.dtype != given.dtype:
                raise subject.wrong(f"to_numpy gives {getattr(back, 'dtype', type(back).__name__)}")
            subject.equal("the array that comes back", back, given)
            subject.equal("an array that is already on the backend", subject.back(backend.asarray(array)), given)
            prefetched = backend.asarray(backend.prefetch(np.array(given))())
            subject.equal("the array from prefetch", subject.back(prefetched), given)
    for foreign in ([1.0], 1.0, "x", None):
        if backend.owns(foreign):
            raise subject.wrong(f"owns says that {foreign!r} is an array of the backend")
    for empty in backend.empty, backend.empty_shared:
        made = empty((2, 0, 3), dtype)
        if tuple(made.shape) != (2, 0, 3) or made.dtype.name not in names:
            raise subject.wrong(f"{empty.__name__}((2, 0, 3), {dtype!r}) gives {made.dtype.name}{list(made.shape)}")
    backend.synchronize()


def check_to_rows(subject: Subject, dtype: str) -> None:
    """Samples with the batch last; bytes are scaled to [0, 1]."""
    backend, r = subject.backend, subject.rng
    for given in "uint8", "float32", "float64":
        for shape in ((2, 3, 4, 5), (4, 5), (3, 2, 4), (1, 1, 1, 1)):
            x = r.integers(0, 256, shape).astype(given)
            order = (2, 1, 3, 0) if len(shape) == 4 else (*range(1, len(shape)), 0)
            exact = x.transpose(order) / (255.0 if given == "uint8" else 1.0)
            with backend.context(), subject.on(f"to_rows of {given}{list(shape)}"):
                out = backend.empty(exact.shape, dtype)
                out[...] = float("nan")
                if backend.to_rows(subject.there(x), out) is not out:
                    raise subject.wrong("to_rows does not return out")
                subject.compare("the sample", subject.back(out), exact, dtype)


def check_random(subject: Subject, dtype: str) -> None:
    """Uniform numbers, which depend on the key and on nothing else."""
    backend = subject.backend

    def draw(*key: int) -> Any:
        out = backend.empty((50, 60), dtype)
        out[...] = float("nan")
        if backend.random(key, out) is not out:
            raise subject.wrong("random does not return out")
        return subject.back(out)

    with backend.context(), subject.on("the call was random((1, 2, 3, 4), out), out of shape (50, 60)"):
        numbers = draw(1, 2, 3, 4)
        subject.equal("the same key again", draw(1, 2, 3, 4), numbers)
        for other in ((1, 2, 3, 5), (2, 2, 3, 4), (1, 2, 4, 3)):
            if (draw(*other) == numbers).mean() > 0.01:
                raise subject.wrong(f"the keys {other} and (1, 2, 3, 4) give the same numbers")
        if not (numbers.min() >= 0 and numbers.max() < 1):
            raise subject.wrong(f"the numbers go from {numbers.min()} to {numbers.max()}, expected [0, 1)")
        for what, found, exact, error in (
            ("mean", numbers.mean(), 1 / 2, 0.03),
            ("variance", numbers.var(), 1 / 12, 0.01),
        ):
            if not abs(found - exact) <= error:
                raise subject.wrong(f"the {what} of 3,000 numbers is {found:.3f}, expected {exact:.3f}")


def check_all_finite(subject: Subject, dtype: str) -> None:
    """NaN and infinity anywhere are found; the largest number, whose square overflows, is finite."""
    backend = subject.backend
    x = np.full((3, 4, 5, 2), 65504.0 if dtype == "float16" else 3e38)
    if dtype == "float64":
        x[...] = np.finfo(dtype).max
    x[::2] *= -1
    for bad in (None, np.nan, np.inf, -np.inf):
        if bad is not None:
            x[2, 3, 4, 1] = bad
        with backend.context(), backend.errstate():
            found = backend.all_finite(subject.there(x.astype(dtype)))
        if found is not (bad is None):
            raise subject.wrong(f"all_finite returns {found!r} for an array whose last number is {x[2, 3, 4, 1]}")


class Foreign:
    """An array of an unknown class."""

    shape, ndim, dtype = (1, 1, 3, 3), 4, np.dtype("float32")


def refused(subject: Subject, what: str, error: type[Exception], call: Callable[[], Any]) -> None:
    """Check that a call raises an error that says something."""
    try:
        call()
    except error as raised:
        if not str(raised):
            raise subject.wrong(f"the error for {what} has no message") from raised
    except Exception as raised:
        text = f"{type(raised).__name__}: {raised}"
        raise subject.wrong(f"{what} raises {text}, expected a {error.__name__}") from raised
    else:
        raise subject.wrong(f"{what} is not refused, expected a {error.__name__}")


def check_errors(subject: Subject, dtype: str) -> None:
    """Check that impossible requests are refused, with an error of the library that says why."""
    backend = subject.backend
    x, w = np.ones((1, 1, 3, 3), dtype), np.ones((1, 1, 2, 2), dtype)
    there = subject.there(x)
    refused(subject, "an activation that does not exist", BackendError, lambda: backend.activation(there, "nonsense"))
    refused(subject, "a precision that does not exist", BackendError, lambda: backend.with_precision("nonsense"))
    refused(subject, "a memory of 2**60 bytes", OutOfMemoryError, lambda: backend.empty((1 << 57,), "float64"))
    if backend.started_as is not None:
        name = f"{backend.started_as.partition(':')[0]}:no-such-device"
        refused(subject, f"the device of {name!r}", BackendError, lambda: get_backend(name))
    with use_backend(backend):
        refused(subject, "an array of an unknown class", BackendError, lambda: functional.conv2d(Foreign(), there))
        if not backend.owns(x):
            for what, given in (("NumPy's images", (x, subject.there(w))), ("NumPy's weight", (there, w))):
                others = "a weight" if given[0] is x else "images"
                call = lambda given=given: functional.conv2d(*given)  # noqa: E731
                refused(subject, f"{what} with {others} of the backend", BackendError, call)


CHECKS = [
    Check("contract", check_contract, ONCE, halves=False),
    Check("arrays", check_arrays, ("float32", "float64", "int64", "int32", "uint8", "bool"), halves=False),
    Check("to_rows", check_to_rows),
    Check("random", check_random, halves=False),
    Check("all_finite", check_all_finite),
    Check("errors", check_errors, ONCE, halves=False),
]


# Faults -------------------------------------------------------------------------------------------------------------
def other_parameters(call: Call) -> Any:
    """A method without the parameters of the contract; see the list below."""
    return call.right(**call.arguments)


def in_float32(call: Call) -> Any:
    """Arrays of float64 become float32."""
    array = call.right(**call.arguments)
    return array.astype("float32") if array.dtype.name == "float64" else array


def zeros(call: Call) -> Any:
    """Whatever there is, if it cannot be had: an array of no numbers."""
    with suppress(MemoryError):
        return call.right(**call.arguments)
    return call.changed(shape=(0,))


FAULTS = [
    Fault("arrays", "float64 becomes float32", "asarray", in_float32),
    Fault("arrays", "owns accepts every array", "owns", lambda call: True),
    Fault(
        "to_rows",
        "bytes are not scaled",
        "to_rows",
        spoiling(lambda y, x: y * 255 if x.dtype == "uint8" else y, among=["images"]),
    ),
    Fault("random", "the last number of the key is ignored", "random", changing(key=lambda key: list(key)[:-1])),
    Fault("random", "the numbers go to 2", "random", spoiling(lambda out: 2 * out)),
    Fault("all_finite", "infinity is finite", "all_finite", lambda call: not bool(np.isnan(call.host("x")[0]).any())),
    Fault("errors", "a precision that does not exist is accepted", "with_precision", lambda call: call.backend),
    Fault("errors", "too large an allocation returns an empty array", "empty", zeros),
]

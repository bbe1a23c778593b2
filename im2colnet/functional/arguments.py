"""What a function on plain arrays is: its arguments are checked and brought to the backend's form, its result back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from inspect import Parameter, signature
from typing import Any, Concatenate, ParamSpec, TypeVar

from im2colnet.backend import Backend
from im2colnet.backend.registry import backend_of
from im2colnet.checks import groups_divide, is_truth_value, whole
from im2colnet.errors import DTypeError, ShapeError, memory_for
from im2colnet.layout import internal_axes, user_axes
from im2colnet.settings import chosen_num_threads
from im2colnet.types import HALF, Array, Shape, accumulator

P = ParamSpec("P")
R = TypeVar("R")

FLOATS = (*HALF, "float32", "float64")
#: arguments by the names that they had in version 0.1
RENAMED = {
    "x": "input",
    "w": "weight",
    "b": "bias",
    "dy": "grad_output",
    "cols": "input",
    "input_shape": "input_size",
    "weight_shape": "weight_size",
}


def on_arrays(
    *arrays: str, samples: int | None = None, like: str = ""
) -> Callable[[Callable[Concatenate[Backend, P], R]], Callable[P, R]]:
    """Make a function on plain arrays of a function of the backend that owns them.

    The named arguments, if they are given, must be floating-point arrays of one backend and of one type. The function
    gets them in the machine's byte order, those of 16 bits as float32, and is called in the backend's context. Its
    floating-point results come back in the type of the first of these arrays.

    Parameters
    ----------
    arrays : str
        Names of arguments.
    samples : int, optional
        The number of axes of a batch. If the first array has one less, it is a single sample: it gets the axis of a
        batch, as do the others that are called ``like``, and the results lose it.
    like : str, optional
        The name of another argument that has the batch of the first.
    """

    def make(function: Callable[Concatenate[Backend, P], R]) -> Callable[P, R]:
        own = signature(function)
        _, *parameters = own.parameters.values()
        names = [p.name for p in parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        optional = {p.name for p in parameters if p.default is None}

        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            arguments: dict[str, Any] = dict(zip(names, args, strict=False))
            by_name: Any = _by_new_names(function.__name__, names, arguments, options)
            if len(args) > len(names) or arguments.keys() & by_name.keys() or arrays[0] not in {*arguments, *by_name}:
                nothing: Any = None
                return function(nothing, *args, **by_name)  # Python has a TypeError for it
            arguments |= by_name
            given = {
                name: arguments[name]
                for name in arrays
                if name in arguments and not (arguments[name] is None and name in optional)
            }
            backend = backend_of(**given)
            _check_types(given)
            dtype, single = given[arrays[0]].dtype, given[arrays[0]].ndim + 1 == samples
            threads = chosen_num_threads()
            limited = nullcontext() if threads is None else backend.limit_threads(threads)
            with memory_for(), backend.context(), backend.errstate(), limited:
                arguments |= {name: computed(array) for name, array in given.items()}
                if single:
                    for name in (arrays[0], *filter(None, [like])):
                        arguments[name] = arguments[name][None]
                found: Any = function(backend, **arguments)  # type: ignore[call-arg]
                results = found if isinstance(found, tuple) else (found,)
                results = tuple(_result(each, dtype, single) for each in results)
            return results if isinstance(found, tuple) else results[0]  # type: ignore[return-value]

        vars(call)["__signature__"] = own.replace(parameters=parameters)
        return call

    return make


def _by_new_names(function: str, names: list[str], given: dict[str, Any], options: Any) -> Any:
    """Return the arguments that were given by name, with version 0.1's names replaced by PyTorch's."""
    for old in RENAMED.keys() & options.keys():
        new = RENAMED[old]
        if old not in names and new in names and new not in given and new not in options:
            warnings.warn(f"the argument {old} of {function} is now called {new}", DeprecationWarning, stacklevel=3)
            options = {new if name == old else name: value for name, value in options.items()}
    return options


def _check_types(arrays: dict[str, Array]) -> None:
    """Raise a DTypeError unless all are of one floating-point type, parameters of 16 bits perhaps of float32."""
    first = next(iter(arrays))
    wanted = arrays[first].dtype.name
    for name, array in arrays.items():
        if array.dtype.name not in FLOATS:
            raise DTypeError(
                f"{name} must be float32, float64 or float16, got {array.dtype.name}; convert it with"
                f" {name}.astype('float32')"
            )
        if accumulator(array.dtype.name) != accumulator(wanted):
            raise DTypeError(f"{name} is {array.dtype.name} but {first} is {wanted}; convert one of them")


def computed(array: Array) -> Array:
    """Return an array in the type for computing and in the machine's byte order; files may have another order."""
    if array.dtype.name in HALF:
        return array.astype("float32")
    native = _native(array.dtype)
    return array if array.dtype == native else array.astype(native)


def _native(dtype: Any) -> Any:
    """Return an element type in the machine's byte order; only NumPy has types in another byte order."""
    return dtype if getattr(dtype, "isnative", True) else dtype.newbyteorder("=")


def _result(array: Array, dtype: Any, single: bool) -> Array:
    native = _native(dtype)
    if array.dtype.kind == "f" and array.dtype != native:
        array = array.astype(native)
    return array[0] if single else array


def check_rank(name: str, array: Array, *ranks: int, meaning: str = "") -> None:
    """Raise a ShapeError unless an array has one of these numbers of axes."""
    if array.ndim not in ranks:
        wanted = " or ".join(map(str, ranks))
        raise ShapeError(f"{name} must have {wanted} dimensions{meaning}, got {array.ndim}: shape {array.shape}")


def check_images(**arrays: Array) -> None:
    """Raise a ShapeError unless arrays are images (N, C, H, W); N may be 0."""
    for name, array in arrays.items():
        check_rank(name, array, 4, meaning=", (N, C, H, W), or 3 without N")
        check_filled(name, array, array.shape[1:])


def check_sequences(**arrays: Array) -> None:
    """Raise a ShapeError unless arrays are sequences (N, C, L); N may be 0."""
    for name, array in arrays.items():
        check_rank(name, array, 3, meaning=", (N, C, L), or 2 without N")
        check_filled(name, array, array.shape[1:])


def check_weight(weight: Array, *form: str) -> None:
    """Raise a ShapeError unless an array is the weight of a convolution, whose axes ``form`` names."""
    check_rank("weight", weight, len(form), meaning=f", ({', '.join(form)})")
    check_filled("weight", weight, weight.shape)


def check_filled(name: str, array: Array, lengths: Shape) -> None:
    """Raise a ShapeError if one of these lengths of an array is 0."""
    if 0 in lengths:
        raise ShapeError(f"{name} is empty: shape {array.shape}")


def check_vector(name: str, array: Array | None, length: int, meaning: str) -> None:
    """Raise a ShapeError unless an array, if there is one, has one axis of this length."""
    if array is not None and tuple(array.shape) != (length,):
        raise ShapeError(f"{name} must have shape ({length},), one number for each {meaning}, got {array.shape}")


def check_sizes(sizes: Any, name: str, least: int = 0) -> tuple[int, int, int, int]:
    """Read four sizes; the first, which may be the size of a batch, is at least ``least``."""
    try:
        n, c, h, w = sizes
        return whole(name, n, least), whole(name, c), whole(name, h), whole(name, w)
    except (TypeError, ValueError):  # ShapeError is a ValueError
        batch = "" if least else " (the batch size may be 0)"
        raise ShapeError(f"{name} must be four positive integers{batch}, got {sizes!r}") from None


def check_channels(x: Shape, w: Shape, groups: Any, x_name: str = "input", w_name: str = "weight") -> int:
    """Return ``groups`` as an integer, if images and weight fit together by it."""
    found = groups_divide(x[1], w[0], groups)
    if x[1] != w[1] * found:
        raise ShapeError(
            f"{x_name} has {x[1]} channels (shape {tuple(x)}), but {w_name} of shape {tuple(w)}"
            f" with groups={found} expects {w[1]} * {found} = {w[1] * found}"
        )
    return found


def check_grad(grad_output: Array, shape: Shape) -> None:
    """Raise a ShapeError unless a gradient has the shape of the output."""
    if tuple(grad_output.shape) != tuple(shape):
        raise ShapeError(
            f"grad_output must have the shape of the output, {tuple(shape)}, got {tuple(grad_output.shape)}"
        )


def axis_of(x: Array, dim: Any) -> int:
    """Return the index of the axis that ``dim`` names, or raise a ShapeError; a scalar counts as having one axis."""
    axes = max(1, x.ndim)
    if is_truth_value(dim) or not hasattr(dim, "__index__") or not -axes <= dim < axes:
        raise ShapeError(f"dim must be an axis of input, whose shape is {x.shape}, got {dim!r}")
    found: int = dim % axes
    return found


def zeros(backend: Backend, like: Array, shape: Shape) -> Array:
    """Return zeros of the type of another array."""
    return backend.xp.zeros(tuple(shape), dtype=like.dtype.name)


def to_rows(backend: Backend, x: Array) -> Array:
    """Return an array as the library stores it, the batch last: images (N, C, H, W) as rows (H, C, W, N)."""
    return backend.xp.ascontiguousarray(x.transpose(internal_axes(x.ndim)))


def from_rows(backend: Backend, rows: Array) -> Array:
    """Return what the library has stored as users see it, the batch first."""
    return backend.xp.ascontiguousarray(rows.transpose(user_axes(rows.ndim)))

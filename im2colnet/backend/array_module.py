"""The requirements for an array module: the plain kernels, the losses and the optimizers use nothing else.

``docs/guides/backend-contract.md`` has the same lists, and the tests run on an array module that refuses every other
name.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from im2colnet.backend.arrays import Arrays
from im2colnet.types import Array

#: names of the array module; element-wise functions and ``matmul`` and ``sum`` take ``out=``
FUNCTIONS = (
    *(
        "ndarray",
        "empty",
        "zeros",
        "full",
        "zeros_like",
        "ones_like",
        "arange",
        "asarray",
        "ascontiguousarray",
        "concatenate",
    ),
    *("add", "subtract", "multiply", "divide", "power", "negative", "reciprocal", "square", "sqrt", "matmul", "sum"),
    *("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "abs", "sign", "trunc", "clip", "maximum", "minimum"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "isfinite", "where"),
    *("logical_and", "bitwise_and", "bitwise_or"),
)
#: names that are used where the module has them: ``errstate(all="ignore")`` keeps overflow and NaN from being warned of
OPTIONAL = ("errstate", "__name__", "__version__")
#: attributes and methods of its arrays
ATTRIBUTES = (
    *("shape", "ndim", "size", "itemsize", "dtype", "T"),
    *("reshape", "transpose", "swapaxes", "squeeze", "view", "astype", "copy", "clip"),
    *("sum", "mean", "max", "min", "argmax", "all", "any"),
)
#: operators of its arrays
OPERATORS = (
    *("__add__", "__sub__", "__mul__", "__truediv__", "__floordiv__", "__mod__", "__pow__", "__neg__", "__or__"),
    *("__radd__", "__rsub__", "__rmul__", "__rtruediv__", "__iadd__", "__isub__", "__imul__", "__itruediv__"),
    *("__lt__", "__gt__", "__ge__", "__eq__", "__ne__", "__getitem__", "__setitem__", "__len__", "__bool__"),
)


def _comes_and_goes(backend: Arrays, a: Array) -> bool:
    from im2colnet.host import np

    given = np.arange(6, dtype="float32").reshape(2, 3)
    found = backend.to_numpy(backend.asarray(given))
    return type(found) is np.ndarray and found.dtype == given.dtype and bool((found == given).all())


def _is_owned(backend: Arrays, a: Array) -> bool:
    return backend.owns(a) and backend.owns(a[0])


def _has_named_types(backend: Arrays, a: Array) -> bool:
    kinds = {"float64": "f", "float32": "f", "int64": "i", "uint8": "u", "bool": "b"}
    made = {name: backend.empty((1,), name).dtype for name in kinds}
    return all(made[name].kind == kind and made[name].name in (name, "bool_") for name, kind in kinds.items())


def _can_be_written(backend: Arrays, a: Array) -> bool:
    a[...] = 0
    a[:, 1:] = 2
    a += 1
    return _holds(backend, a, [[1, 3, 3], [1, 3, 3]])


def _has_views(backend: Arrays, a: Array) -> bool:
    a[:, ::2][...] = 0
    a.reshape(6)[1] = 1
    a.transpose(1, 0)[1, 1:] = 2
    a.view("int32")[1, :1] = 0x3F800000  # the bits of 1 in float32
    return _holds(backend, a, [[0, 1, 0], [1, 2, 0]])


def _writes_to_out(backend: Arrays, a: Array) -> bool:
    xp, sums = backend.xp, backend.empty((1, 3), "float64")
    found = xp.sum(a, axis=(0,), dtype="float64", keepdims=True, out=sums)
    xp.greater(a, 2, out=a)
    xp.multiply(a[1:, :2], 5, out=a[:1, 1:])
    return found is sums and _holds(backend, sums, [[3, 5, 7]]) and _holds(backend, a, [[0, 5, 5], [1, 1, 1]])


def _keeps_types(backend: Arrays, a: Array) -> bool:
    return all(found.dtype.name == "float32" for found in (a * 2.5, 1 - a, a / 3, a**0.5, backend.xp.add(a, 1)))


def _is_indexed_by_arrays(backend: Arrays, a: Array) -> bool:
    rows, columns = backend.asarray([1, 0, 1]), backend.xp.arange(3)
    a[rows, columns] -= 1
    return _holds(backend, a, [[0, 0, 2], [2, 4, 4]])


def _is_infinite_or_not(backend: Arrays, a: Array) -> bool:
    finite = backend.all_finite(a)
    with backend.errstate():
        quotient = backend.xp.divide(a, 0)
    a[0, 0] = inf
    return finite and not backend.all_finite(quotient) and not backend.all_finite(a)


#: how it must behave -> a function of a started backend and the array [[0, 1, 2], [3, 4, 5]] that says whether it does
BEHAVIOUR: dict[str, Callable[[Arrays, Array], bool]] = {
    "the backend's `asarray` must take NumPy's arrays, and its `to_numpy` must give them back": _comes_and_goes,
    "arrays must be of the class `ndarray`, or the backend's `owns` must know them": _is_owned,
    "`dtype=` must take names, and an array's `dtype.name` and `dtype.kind` must be those of NumPy": _has_named_types,
    "arrays must be writable, as by `a[...] = 0` and `a += 1`": _can_be_written,
    "slices with a positive step, `reshape`, `transpose` and `view` must share the memory of their array": _has_views,
    "`out=` must be written to and returned, whatever its type and strides": _writes_to_out,
    "numbers of Python must not change the type of floating-point arrays, as in `2.5 * a`": _keeps_types,
    "arrays of integers must be indices, to read and to write": _is_indexed_by_arrays,
    "infinity and NaN must be numbers, not errors": _is_infinite_or_not,
}


def unsuitable(backend: Arrays) -> str:
    """Return what the array module of a started backend lacks or does differently; empty if it is suitable."""
    if lacking := [name for name in FUNCTIONS if not hasattr(backend.xp, name)]:
        return _unsuitable(backend, [f"it lacks {', '.join(lacking)}"])
    with backend.context():
        try:
            a = _example(backend)
        except Exception as error:
            return _unsuitable(backend, [f"`asarray` must take lists and `dtype='float32'`{_said(error)}"])
        lacking = [name for name in ATTRIBUTES if not hasattr(a, name)]
        above_object = type(a).__mro__[:-1]  # which has comparisons that compare nothing
        lacking += [name for name in OPERATORS if not any(name in vars(kind) for kind in above_object)]
        wrong = [f"its arrays lack {', '.join(lacking)}"] if lacking else []
        for text, check in BEHAVIOUR.items():
            try:
                if not check(backend, _example(backend)):
                    wrong.append(text)
            except Exception as error:
                wrong.append(text + _said(error))
    return _unsuitable(backend, wrong) if wrong else ""


def _example(backend: Arrays) -> Array:
    return backend.asarray([[0, 1, 2], [3, 4, 5]], dtype="float32")


def _holds(backend: Arrays, a: Array, numbers: list[list[float]]) -> bool:
    return bool(backend.to_numpy(a).tolist() == numbers)


def _said(error: Exception) -> str:
    return f" ({type(error).__name__}: {error})"


def _unsuitable(backend: Arrays, wrong: list[str]) -> str:
    return (
        f"its array module {backend.module_name()!r} does not suit: {'; '.join(wrong)}. Set xp to a module that has"
        " all that docs/guides/backend-contract.md lists under 'What an array module must have', such as your own"
        " module that adds the missing functions to this one, or define the backend's asarray, to_numpy and owns for"
        " its arrays"
    )

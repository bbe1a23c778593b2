"""Snapshots of an object's state, which tell whether a user's layer changes itself while it works.

Work that changes only its arrays may be done in any order and in any process. The library's own classes work so. A
user's class promises it by ``stateless = True`` in its body; objects of other classes are watched.
"""

from __future__ import annotations

from functools import partial
from os import PathLike, fspath
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

from im2colnet.host import np

#: methods that a user might replace on a single object
METHODS = frozenset(
    {
        "forward",
        "backward",
        "shard_sums",
        "shard_grad_sums",
        "use_sums",
        "finish_step",
        "update",
        "prepare_forward",
        "prepare_backward",
    }
)
PLAIN = (type(None), bool, int, float, complex, str, bytes)
#: the largest array, in bytes, whose contents are compared in each step
MOST_BYTES = 1 << 26


class UnknownStateError(Exception):
    """The state of an object cannot be read."""


def _declares(cls: type) -> bool:
    return bool(vars(cls).get("stateless", cls.__module__.partition(".")[0] in ("im2colnet", "builtins")))


def stateless(thing: Any) -> bool:
    """Whether the class of an object says that the object does not change while it works.

    A class that is derived from a stateless class may add state, so it must say ``stateless = True`` again.
    """
    return _declares(type(thing)) and METHODS.isdisjoint(getattr(thing, "__dict__", ()))


def of_the_library(thing: Any) -> bool:
    """Whether an object is of one of the library's own classes, and stateless."""
    return type(thing).__module__.partition(".")[0] == "im2colnet" and stateless(thing)


def constant(value: Any) -> bool:
    """Whether a value can never change."""
    return isinstance(value, (*PLAIN, PathLike)) or (isinstance(value, tuple) and all(map(constant, value)))


def snapshot(*things: Any, random: bool = True) -> Any:
    """Return a value that compares equal to an earlier one if, and only if, the objects' state has not changed.

    The state is the attributes of the objects and of their classes, everything that these refer to, the variables that
    their methods use, and, unless ``random`` is false, the global random generators of Python and NumPy.

    Raises
    ------
    UnknownStateError
        If the state of an object cannot be read.
    """
    from random import getstate  # imported here, as below, since a program without classes of its own does not need it

    seen: dict[int, tuple[int, Any]] = {}  # the objects are kept, so that no new object gets the same id
    generators = [getstate(), np.random.get_state(legacy=False)] if random else []
    bodies = [
        part
        for thing in things
        if hasattr(thing, "__dict__")
        for base in type(thing).__mro__
        if not _declares(base)
        for name, part in vars(base).items()
        if name not in ("__dict__", "__weakref__")
    ]
    try:
        return _look((things, bodies, generators), seen)
    except RecursionError:
        raise UnknownStateError("an object is nested too deep") from None


def _look(value: Any, seen: dict[int, tuple[int, Any]]) -> Any:
    if isinstance(value, PLAIN):
        return "nan" if value != value else (type(value), value)
    if isinstance(value, PathLike):  # its attributes are caches
        return type(value), fspath(value)
    if id(value) in seen:
        return "seen", seen[id(value)][0]
    seen[id(value)] = len(seen), value

    from hashlib import blake2b
    from random import Random

    def look(*parts: Any) -> Any:
        return type(value), tuple(_look(part, seen) for part in parts)

    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return look(value.shape, *value.ravel().tolist())
        if value.nbytes > MOST_BYTES:
            raise UnknownStateError(f"an array of {value.nbytes} bytes is too large to be compared in every step")
        return value.shape, value.dtype.str, blake2b(np.ascontiguousarray(value).view("uint8").data).digest()
    if isinstance(value, np.generic):
        return type(value), value.tobytes()
    if isinstance(value, np.random.Generator):
        return look(value.bit_generator.state)
    if isinstance(value, np.random.BitGenerator):
        return look(value.state)
    if isinstance(value, np.random.RandomState):
        return look(value.get_state(legacy=False))
    if isinstance(value, Random):
        return look(value.getstate())
    if isinstance(value, FunctionType):
        used = {name: value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__}
        return look(value.__defaults__, value.__kwdefaults__, value.__closure__, used, value.__dict__)
    if isinstance(value, CellType):
        return look(value.cell_contents) if value != CellType() else "empty"
    if isinstance(value, (MethodType, partial)):
        names = "__func__", "__self__", "func", "args", "keywords"
        return look(*(getattr(value, name) for name in names if hasattr(value, name)))
    if isinstance(value, (staticmethod, classmethod)):
        return look(value.__func__)
    if isinstance(value, property):
        return look(value.fget, value.fset)
    if isinstance(value, (type, ModuleType, BuiltinFunctionType, np.dtype, np.ufunc)) or _is_fixed(value):
        return id(value)
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(_look(part, {}) for part in value)
    if isinstance(value, dict):
        return look(*value.keys(), *value.values())
    own = getattr(value, "__dict__", {})
    slots = [
        name
        for base in type(value).__mro__
        for name in [getattr(base, "__slots__", ())]
        for name in ([name] if isinstance(name, str) else name)
        if hasattr(value, name)
    ]
    parts = [*own.keys(), *own.values(), *(getattr(value, name) for name in slots)]
    if isinstance(value, (list, tuple)):
        return look(*value, *parts)
    if not hasattr(value, "__dict__") and not slots and type(value) is not object:
        raise UnknownStateError(f"the state of a {type(value).__name__} cannot be read")
    return look(*parts)


def _is_fixed(value: Any) -> bool:
    """Whether the value is an object of the interpreter whose state does not matter for results."""
    return type(value).__module__ in ("_thread", "builtins") and type(value).__name__ in (
        "lock",
        "RLock",
        "getset_descriptor",
        "member_descriptor",
        "wrapper_descriptor",
        "method_descriptor",
        "builtin_function_or_method",
        "mappingproxy",
        "ellipsis",
        "NotImplementedType",
        "code",
        "slice",
        "range",
    )

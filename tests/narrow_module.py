"""An array module that has what the library says it must have, and nothing else: NumPy behind a narrow door.

Where the library says nothing, it does not do as NumPy: ``astype`` and ``asarray`` may return the array itself, a slice
with a negative step is a copy, and element types know neither a byte order nor NumPy's ``dtype=``.
"""

import numpy as np

import im2colnet as ic
from im2colnet.backend.array_module import ATTRIBUTES, FUNCTIONS, OPERATORS


class DType:
    """An element type."""

    def __init__(self, dtype):
        self._dtype = np.dtype(dtype)
        self.name, self.kind, self.itemsize = self._dtype.name, self._dtype.kind, self._dtype.itemsize

    def type(self, value):
        return ndarray(np.asarray(value, self._dtype))

    def __eq__(self, other):
        return self._dtype == getattr(other, "_dtype", other)

    def __hash__(self):
        return hash(self._dtype)


class ndarray:
    """An array, with the attributes and operators of the lists."""

    __array_ufunc__ = None  # NumPy's functions refuse it

    def __init__(self, array):
        self._array = array

    def __array__(self, *args, **kwargs):
        raise TypeError("an array is brought to the host by the backend's to_numpy")

    def __repr__(self):
        return f"narrow array of shape {self._array.shape}, {self._array.dtype}"


def wrapped(value):
    """An array of this module for one of NumPy's."""
    return ndarray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def unwrapped(value):
    """NumPy's array, or element type, for one of this module; other arrays are refused."""
    if isinstance(value, (ndarray, DType)):
        return value._array if isinstance(value, ndarray) else value._dtype
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim:
        raise TypeError("an array of NumPy where one of this module is wanted")
    if isinstance(value, tuple):
        return tuple(map(unwrapped, value))
    return list(map(unwrapped, value)) if isinstance(value, list) else value


def backwards(key):
    """Return the slices of an index that have a negative step."""
    parts = key if isinstance(key, tuple) else (key,)
    return [each for each in parts if isinstance(each, slice) and (each.step or 1) < 0]


def calling(function):
    """Return the function for arrays of this module."""

    def call(*args, **kwargs):
        found = function(*map(unwrapped, args), **{name: unwrapped(value) for name, value in kwargs.items()})
        return kwargs["out"] if kwargs.get("out") is not None else wrapped(found)

    return call


def attribute(name):
    """Return the attribute or method of that name, or the operator, of arrays of this module."""

    def get(self):
        value = getattr(self._array, name)
        if name == "dtype":
            return DType(value)
        return calling(value) if callable(value) else wrapped(value)

    def operate(self, *others):
        found = getattr(self._array, name)(*map(unwrapped, others))
        return self if found is self._array else wrapped(found)

    return operate if name in OPERATORS else property(get)


for _name in (*ATTRIBUTES, *OPERATORS):
    setattr(ndarray, _name, attribute(_name))


def _take(self, key):
    assert all(each.start is each.stop is None for each in backwards(key)), "PyTorch's copy has other numbers then"
    found = self._array[unwrapped(key)]
    return wrapped(found.copy() if backwards(key) else found)


def _put(self, key, value):
    assert not backwards(key), "what a slice with a negative step is written to may be a copy"
    self._array[unwrapped(key)] = unwrapped(value)


def _astype(self, dtype):
    return self if self._array.dtype == unwrapped(dtype) else ndarray(self._array.astype(unwrapped(dtype)))


def _asarray(values, dtype=None):
    return ndarray(np.asarray(values._array if isinstance(values, ndarray) else values, unwrapped(dtype)))


class Module:
    """The module: what is not on the list is an AttributeError."""

    __name__ = "narrow"

    def __init__(self, without=(), **others):
        known = {name: calling(getattr(np, name)) for name in FUNCTIONS}
        known |= {"ndarray": ndarray, "asarray": _asarray, "errstate": np.errstate} | others
        vars(self).update({name: value for name, value in known.items() if name not in without})


ndarray.__getitem__, ndarray.__setitem__, ndarray.astype = _take, _put, _astype


class NarrowBackend(ic.Backend):
    """The textbook kernels on that module."""

    name = "narrow"
    xp = Module()

    def to_numpy(self, array):
        return array._array

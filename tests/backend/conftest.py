"""The backends that every test of this folder runs on."""

import numpy as np
import pytest
import strict_cupy
from helpers import GenericBackend, numba_backend
from im2colnet_numpy import NumpyBackend


def renewed(value, parts):
    """A list or tuple of the same kind, of other parts."""
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


class FromHost:
    """A backend whose arrays are elsewhere, called with NumPy's: each is brought there, and what it holds then back."""

    def __init__(self, backend):
        self.wrapped, self.name = backend, backend.name

    def __getattr__(self, name):
        value = getattr(self.wrapped, name)
        return self._call(value) if callable(value) else value

    def _call(self, method):
        def call(*args, **options):
            there = {}

            def bring(value):
                if isinstance(value, (list, tuple)):
                    return renewed(value, map(bring, value))
                if not isinstance(value, np.ndarray):
                    return value
                if id(value) not in there:  # what is given twice is one array
                    there[id(value)] = strict_cupy.from_host(self.wrapped, value)
                return there[id(value)]

            result = method(*map(bring, args), **{name: bring(value) for name, value in options.items()})
            out = options.get("out")
            if isinstance(out, np.ndarray):
                out[...] = self.wrapped.to_numpy(there[id(out)])
                return out
            for value in args:  # outputs that are given by position
                if isinstance(value, np.ndarray) and value.flags.writeable:
                    value[...] = self.wrapped.to_numpy(there[id(value)])
                    if result is there[id(value)]:
                        result = value
            return self._back(result)

        return call

    def _back(self, result):
        if isinstance(result, tuple):
            return renewed(result, map(self._back, result))
        return self.wrapped.to_numpy(result) if self.wrapped.owns(result) else result


MADE = {
    "numpy": NumpyBackend,
    "generic": GenericBackend,
    "numba": numba_backend,
    "cupy": lambda: FromHost(strict_cupy.cupy_backend()),
}


@pytest.fixture(params=["numpy", "generic", "numba"], scope="session")
def plain(request):
    """A started backend whose arrays are NumPy's."""
    return MADE[request.param]()


@pytest.fixture(params=MADE, scope="session")
def backend(request):
    """A started backend that takes NumPy's arrays; CuPy's is on a stand-in for CuPy."""
    return MADE[request.param]()

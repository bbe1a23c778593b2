"""Symbolic values that a module computes with while it is traced: tensors, the batch size, and the mode."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

#: Python's operators; those of one value, and of two values those that cannot be swapped
UNARY = ("abs", "invert", "neg", "eq", "ge", "gt", "le", "lt", "ne")
OPERATORS = ("add", "and", "floordiv", "matmul", "mod", "mul", "or", "pow", "sub", "truediv", "xor", *UNARY)
#: operator -> the name of PyTorch's function, where it is another
NAMES = {"truediv": "div"}


class Untraceable(Exception):
    """The tracing cannot go on: the module's code needs a number that is not known."""


class BatchSize:
    """The batch size, or what is computed from it, as it stands in shapes: it has no value."""

    def __repr__(self) -> str:
        return "N"

    def _unknown(self, *others: Any) -> Any:
        return BatchSize()

    def _asked(self, *others: Any) -> Any:
        raise Untraceable("it depends on the batch size, which a network does not know")

    for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        locals()[f"__{_name}__"] = locals()[f"__r{_name}__"] = _unknown
    for _name in ("bool", "index", "int", "float", "eq", "ne", "lt", "le", "gt", "ge"):
        locals()[f"__{_name}__"] = _asked
    __hash__ = object.__hash__


#: the batch size itself
BATCH = BatchSize()


class Evaluating:
    """The value of ``self.training`` while a module is traced: false, but recognized as an argument of a function.

    So a dropout that is active only in training is recognized. A module that branches on the mode takes the evaluation
    branch.
    """

    def __init__(self, asked: Callable[[], object]) -> None:
        self._asked = asked

    def __bool__(self) -> bool:
        self._asked()
        return False


class Value:
    """A symbolic tensor.

    Parameters
    ----------
    trace : Trace
    name : str or None
        The layer that makes it; None if that is unknown, since something before it cannot be translated.
    """

    def __init__(self, trace: Any, name: str | None) -> None:
        self.trace, self.name = trace, name
        self.views = [self]  #: all values that show the same numbers
        #: the shape of a sample, where axes of length 1 are repeated that the layer's output has
        self.repeated: tuple[int, ...] | None = None
        self.stale = False  #: whether they were changed in place through another of these

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = next(values_in((args, kwargs or {})))
        return found.trace.call(getattr(function, "__name__", str(function)), function, *args, **(kwargs or {}))

    @property
    def shape(self) -> tuple[Any, ...]:
        return BATCH, *self.trace.sample_shape(self)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)

    ndim = property(dim)
    is_cuda = requires_grad = is_sparse = is_quantized = is_nested = False

    @property
    def dtype(self) -> Any:
        return self.trace.dtype

    @property
    def device(self) -> Any:
        return self.trace.device

    def __getattr__(self, name: str) -> Any:
        function = None if name.startswith("__") else getattr(self.trace.torch.Tensor, name, None)
        if function is None:
            raise AttributeError(f"a tensor has no {name!r} while a module is traced")
        if not callable(function):  # a property
            return self.trace.call(name, function.__get__, self)
        return lambda *args, **kwargs: self.trace.call(name, function, self, *args, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        return self.trace.call("getitem", operator.getitem, self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise Untraceable("it writes into a part of a tensor, which no layer does: join parts by torch.cat")

    def _asked(self, *args: Any) -> Any:
        raise Untraceable("it depends on the numbers of a tensor, which are not known when a module is traced")

    __bool__ = __index__ = __int__ = __float__ = __iter__ = __len__ = __contains__ = _asked
    __hash__ = object.__hash__


def _method(name: str, python: str, swapped: bool = False) -> Callable[..., Any]:
    function = getattr(operator, f"__{python}__")

    def method(self: Value, *others: Any) -> Any:
        return (
            self.trace.call(name, function, *others, *(self,))
            if swapped
            else self.trace.call(name, function, self, *others)
        )

    return method


for _python in OPERATORS:
    _name = NAMES.get(_python, _python)
    setattr(Value, f"__{_python}__", _method(_name, _python))
    if _python not in UNARY:
        setattr(Value, f"__r{_python}__", _method(_name, _python, swapped=True))
        setattr(Value, f"__i{_python}__", _method(f"{_name}_", _python))


def values_in(thing: Any) -> Iterator[Value]:
    """Yield the values in arguments."""
    if isinstance(thing, Value):
        yield thing
    elif isinstance(thing, (tuple, list)):
        for each in thing:
            yield from values_in(each)
    elif isinstance(thing, dict):
        yield from values_in([*thing.values()])

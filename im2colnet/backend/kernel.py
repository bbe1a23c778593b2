"""Kernels: one generator of calls gives the plain call, the prepared calls and the scratch arrays.

    @kernel(result=like("x"))
    def twice(self, x, out=None, scratch=None):
        yield partial(self.xp.add, x, x, out=out)

``backend.twice(x)`` allocates the arrays that the caller does not pass, makes the calls and returns ``out``.
``backend.twice.prepare(x, out=y)`` returns the calls, which can be repeated. ``backend.twice.scratch(x)`` and
``backend.twice.result(x)`` describe the arrays to plan for; they also take a :class:`Spec` in place of each array.
Kernels are inherited, overridden and called through ``super()`` like methods.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial, update_wrapper
from inspect import Parameter, Signature, signature
from typing import Any, Concatenate, Generic, ParamSpec, overload

from im2colnet.errors import BackendError
from im2colnet.types import Array, Call, Spec, run

P = ParamSpec("P")
ResultRule = Callable[..., Spec]  # rule(backend, **arguments), with a Spec in place of each array
ScratchRule = Callable[..., Sequence[Spec]]
PROVIDED = ("out", "scratch")  # arguments that a plain call allocates if the caller leaves them out


def kernel(
    result: ResultRule | None = None, scratch: ScratchRule | None = None, writes: Sequence[str] = ()
) -> Callable[[Callable[Concatenate[Any, P], Iterator[Call]]], Kernel[P]]:
    """Make a kernel from a generator of calls.

    The last parameters of the generator are ``out``, if there is one result, and ``scratch``, if scratch memory is
    needed. The generator always gets both. It must not read an array before the first call is made, since prepared
    calls must see the current contents.

    Parameters
    ----------
    result : callable, optional
        A function that returns the :class:`~im2colnet.Spec` of ``out`` for the kernel's arguments. By default the rule
        of the overridden kernel.
    scratch : callable, optional
        A function that returns the list of the :class:`~im2colnet.Spec` of the arrays in ``scratch``. By default the
        rule of the overridden kernel, or no arrays.
    writes : sequence of str
        The names of the other arrays that the kernel writes to. By default those of the overridden kernel, or none.

    Returns
    -------
    callable
        A decorator that turns a function into a :class:`Kernel`.
    """
    return lambda function: Kernel(function, result, scratch, writes)


def like(name: str) -> ResultRule:
    """Return a rule for ``result``: the shape and element type of an argument.

    Parameters
    ----------
    name : str
        The argument.

    Returns
    -------
    callable
        A rule for ``@kernel(result=...)``.
    """
    return lambda backend, **arguments: arguments[name]


def one_like(name: str) -> ScratchRule:
    """Return a rule for ``scratch``: one array with the shape and element type of an argument.

    Parameters
    ----------
    name : str
        The argument.

    Returns
    -------
    callable
        A rule for ``@kernel(scratch=...)``.
    """
    return lambda backend, **arguments: [arguments[name]]


class Kernel(Generic[P]):
    """A kernel of a backend class; ``backend.name`` is the kernel for one backend, a ``BoundKernel``.

    ``backend.conv2d(...)`` computes the result. ``backend.conv2d.prepare(..., out=y)`` returns calls that compute it,
    and can be repeated. ``backend.conv2d.scratch(...)`` describes the scratch arrays that the calls need.

    Parameters
    ----------
    function : callable
        The generator of calls; its first parameter is the backend.
    result : callable, optional
        As for :func:`kernel`.
    scratch : callable, optional
        As for :func:`kernel`.
    writes : sequence of str
        As for :func:`kernel`.
    """

    __name__: str

    def __init__(
        self,
        function: Callable[..., Any],
        result: ResultRule | None = None,
        scratch: ScratchRule | None = None,
        writes: Sequence[str] = (),
    ):
        code = function.__code__
        named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if "work" in named:
            function = _by_new_name(function)
        update_wrapper(self, function)
        self.function, self._result, self._scratch, self._writes = function, result, scratch, writes
        self._has_scratch = "scratch" in named or "work" in named

    @cached_property
    def signature(self) -> Signature:
        """The parameters without the backend; computed on first use, since importing the module makes all kernels."""
        found = signature(self.function)
        _, *parameters = found.parameters.values()
        return found.replace(parameters=parameters)

    @cached_property
    def _names(self) -> tuple[list[str], set[str], set[str]]:
        """The names of the positional parameters, of all parameters, and of the parameters without a default."""
        own = self.signature.parameters.values()
        by_position = [p.name for p in own if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        return by_position, {p.name for p in own}, {p.name for p in own if p.default is Parameter.empty}

    def arguments(self, args: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
        """Return all arguments by name, or raise the TypeError of a call that does not fit.

        ``Signature.bind`` would do, but takes longer than some kernels.
        """
        by_position, known, required = self._names
        found = dict(zip(by_position, args, strict=False)) | options
        if len(found) == len(args) + len(options) and required <= found.keys() <= known:
            return found
        bound: dict[str, Any] = self.signature.bind(*args, **options).arguments
        return bound

    def takes(self, name: str) -> bool:
        """Whether it has the argument ``name``."""
        return name in self._names[1]

    def __set_name__(self, owner: type, name: str) -> None:
        overridden = inherited(owner, name)
        if overridden:
            self._result = self._result or overridden._result
            self._writes = self._writes or overridden._writes
            if self._scratch is None and self._has_scratch:
                self._scratch = overridden._scratch

    @overload
    def __get__(self, backend: None, owner: type) -> Kernel[P]: ...
    @overload
    def __get__(self, backend: object, owner: type) -> BoundKernel[P]: ...
    def __get__(self, backend: Any, owner: type) -> Kernel[P] | BoundKernel[P]:
        return self if backend is None else BoundKernel(self, backend)

    def __call__(self, backend: Any, *args: P.args, **options: P.kwargs) -> Array:
        """Call it for ``backend``, as ``Backend.matmul(backend, a, b)`` does."""
        return BoundKernel(self, backend)(*args, **options)

    def result(self, backend: Any, arguments: dict[str, Any]) -> Spec:
        """Describe ``out`` for these arguments."""
        if self._result is None:
            raise TypeError(f"the kernel {self.__name__!r} has no result out=")
        return self._result(backend, **_described(arguments))

    def scratch(self, backend: Any, arguments: dict[str, Any]) -> list[Spec]:
        """Describe the arrays of ``scratch`` for these arguments."""
        return list(self._scratch(backend, **_described(arguments))) if self._scratch else []

    def call(self, backend: Any, args: Sequence[Any], options: dict[str, Any]) -> Array:
        """Allocate the arrays that are not given, compute, and return ``out``."""
        arguments = self.arguments(args, options)
        self._provide(backend, arguments)
        apart = self._results_apart(backend, arguments)
        run(self.function(backend, **(arguments | apart if apart else arguments)))
        for name, result in apart.items():
            arguments[name][...] = result
        return arguments.get("out")

    def prepare(self, backend: Any, args: Sequence[Any], options: dict[str, Any]) -> list[Call]:
        """Return the calls for these arrays."""
        arguments = self.arguments(args, options)
        if self._result and arguments.get("out") is None:
            raise TypeError(f"{self.__name__}.prepare() needs out=, the array that its calls write to")
        self._provide(backend, arguments)
        return list(self.function(backend, **arguments))

    def _results_apart(self, backend: Any, arguments: dict[str, Any]) -> dict[str, Array]:
        """Return a C-contiguous copy of each array that is written to and has other strides.

        So all that a kernel writes to is C-contiguous, in plain calls as in prepared ones.
        """
        given = {name: arguments.get(name) for name in ("out", *self._writes)}
        return {
            name: backend.xp.ascontiguousarray(array)
            for name, array in given.items()
            if array is not None and not _lies_together(array)
        }

    def _provide(self, backend: Any, arguments: dict[str, Any]) -> None:
        """Allocate ``out`` and ``scratch``, if the kernel takes them and they are not given."""
        if self._result and arguments.get("out") is None:
            arguments["out"] = backend.empty(*self.result(backend, arguments))
        if self._has_scratch and arguments.get("scratch") is None:
            arguments["scratch"] = [backend.empty(*spec) for spec in self.scratch(backend, arguments)]


class PlainKernel(Kernel[P]):
    """A kernel that is overridden by a method without ``@kernel``: its one call is the method.

    If it takes ``scratch``, it gets the scratch of the kernel that it overrides. If it does not take ``activation``,
    the backend's activation is called after it.
    """

    def __init__(self, function: Callable[..., Any], overridden: Kernel[P]) -> None:
        super().__init__(function)
        own = self.signature.parameters.values()
        self._named = {p.name for p in own}
        self._takes = self._named | (set(PROVIDED) | {"activation"} if _takes_any(own) else set())
        self.signature = overridden.signature
        self._result, self._writes = overridden._result, overridden._writes
        self._scratch = overridden._scratch if "scratch" in self._takes else None

    def takes(self, name: str) -> bool:
        return name in self._named  # one that takes any need not know what this one is

    def __set_name__(self, owner: type, name: str) -> None:
        pass  # its rules are those of the kernel it overrides

    def call(self, backend: Any, args: Sequence[Any], options: dict[str, Any]) -> Array:
        """Call the method."""
        by_position, _, _ = self._names
        arguments = dict(zip(by_position, args, strict=False)) | options
        apart = self._results_apart(backend, arguments)
        if apart:
            named = (apart.get(name, given) for name, given in zip(by_position, args, strict=False))
            args = [*named, *args[len(by_position) :]]
            options = options | {name: apart[name] for name in options.keys() & apart.keys()}
        result = self._adapted(backend, args, options)()
        for name, copy in apart.items():
            arguments[name][...] = copy
        return arguments["out"] if "out" in apart else result

    def prepare(self, backend: Any, args: Sequence[Any], options: dict[str, Any]) -> list[Call]:
        """Return a call of the method."""
        return [self._adapted(backend, args, options)]

    def _adapted(self, backend: Any, args: Sequence[Any], options: dict[str, Any]) -> Call:
        options = {name: value for name, value in options.items() if name != "scratch" or name in self._takes}
        activation = None if "activation" in self._takes else options.pop("activation", None)
        call = partial(self.function, backend, *args, **options)
        if activation is None:
            return call

        def activated() -> Array:
            y = call()
            return backend.activation(y, activation, out=y)

        return activated


class BoundKernel(Generic[P]):
    """A kernel of one backend."""

    def __init__(self, kernel: Kernel[P], backend: Any) -> None:
        self._kernel, self._backend = kernel, backend
        self.__doc__ = kernel.__doc__

    def __repr__(self) -> str:
        return f"<kernel {self._kernel.__name__!r} of {self._backend!r}>"

    @property
    def __signature__(self) -> Signature:
        """Its parameters, ``out`` and ``scratch`` among them."""
        return self._kernel.signature

    def __call__(self, *args: P.args, **options: P.kwargs) -> Array:
        """Compute; ``out`` and ``scratch`` are allocated if they are not given. Returns ``out``."""
        with self._backend.context():
            return self._kernel.call(self._backend, args, _by_new_names(options))

    def prepare(self, *args: P.args, **options: P.kwargs) -> list[Call]:
        """Return the kernel's work as calls that can be repeated, within the backend's ``context()``.

        The calls read and write the same arrays each time. The arrays must be C-contiguous, weights in
        ``weight_order``. ``out`` must be given. ``scratch`` is allocated if it is not given.
        """
        with self._backend.context():
            return self._kernel.prepare(self._backend, args, _by_new_names(options))

    def takes(self, name: str) -> bool:
        """Whether the kernel has the argument ``name``, which a kernel of an older plug-in may lack."""
        return self._kernel.takes(name)

    def scratch(self, *args: P.args, **options: P.kwargs) -> list[Spec]:
        """Return the :class:`Spec` of each scratch array for these arguments, which are arrays or Specs."""
        return self._kernel.scratch(self._backend, self._kernel.arguments(args, options))

    def result(self, *args: P.args, **options: P.kwargs) -> Spec:
        """Return the :class:`Spec` of ``out`` for these arguments, which are arrays or Specs."""
        return self._kernel.result(self._backend, self._kernel.arguments(args, options))


def inherited(owner: type, name: str) -> Kernel[Any] | None:
    """Return the kernel ``name`` that the classes above ``owner`` have."""
    for cls in owner.__mro__[1:]:
        if name in vars(cls):
            found = vars(cls)[name]
            return found if isinstance(found, Kernel) else None
    return None


def find(backend: Any, name: str) -> BoundKernel[Any]:
    """Return a backend's kernel by its name, or raise a BackendError that lists all kernels."""
    found = getattr(backend, name, None)
    if isinstance(found, BoundKernel):
        return found
    known = [n for n in dir(type(backend)) if isinstance(getattr(type(backend), n), Kernel)]
    raise BackendError(f"there is no kernel {name!r}; there are: {', '.join(known)}")


def _lies_together(array: Array) -> bool:
    """Whether an array is C-contiguous; true for an array of another array module without this information."""
    flags = getattr(array, "flags", None)
    return flags is None or bool(flags.c_contiguous)


def _described(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments without ``out`` and ``scratch``, with a :class:`Spec` in place of each array."""

    def described(value: Any) -> Any:
        if isinstance(value, Spec) or not (hasattr(value, "shape") and hasattr(value, "dtype")):
            return value
        return Spec(tuple(value.shape), value.dtype.name)

    return {name: described(value) for name, value in arguments.items() if name not in PROVIDED}


def _by_new_names(options: Any) -> Any:
    """Return the options of a call, with ``work``, as version 0.1 called it, renamed to ``scratch``."""
    if "work" not in options:
        return options
    warnings.warn("the argument work of a kernel is now called scratch", DeprecationWarning, stacklevel=3)
    return {"scratch" if name == "work" else name: value for name, value in options.items()}


def _by_new_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plug-in's function that takes ``work``, as version 0.1 called it, with that argument as ``scratch``."""
    what = f"{function.__qualname__}: the argument work of a kernel"
    warnings.warn(f"{what} is now called scratch", DeprecationWarning, stacklevel=4)
    own = signature(function)

    def renamed(*args: Any, **options: Any) -> Any:
        return function(*args, **{"work" if name == "scratch" else name: value for name, value in options.items()})

    update_wrapper(renamed, function)
    parameters = [p.replace(name="scratch") if p.name == "work" else p for p in own.parameters.values()]
    vars(renamed)["__signature__"] = own.replace(parameters=parameters)
    return renamed


def _takes_any(parameters: Any) -> bool:
    return any(p.kind is Parameter.VAR_KEYWORD for p in parameters)

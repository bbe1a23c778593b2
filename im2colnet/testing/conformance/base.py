"""Base of the checks of a backend: checks, faults that they must find, and calls of kernels in every allowed way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, NamedTuple

from im2colnet.backend import Backend, Kernel
from im2colnet.errors import ConformanceError, ShapeError
from im2colnet.host import np
from im2colnet.layout import internal_axes, user_axes
from im2colnet.types import Array, Spec, run
from im2colnet.window import Pair, Window

#: how far a result may be from the exact one, as a part of the largest exact number, by element type or precision
TOLERANCE = {"float64": 1e-11, "float32": 4e-5, "tf32": 5e-3, "float16": 4e-3, "bfloat16": 3e-2}
#: memory orders of an array: C-contiguous, Fortran's, both ends swapped, two axes swapped, with gaps between numbers
LAYOUTS = "contiguous", "fortran", "reversed", "transposed", "gaps"
#: arguments that are weights: in prepared calls they lie in the backend's ``weight_order``
WEIGHTS = "w", "dw"


class Textbook(Backend):
    """A backend with NumPy and the kernels of the base class."""

    name, xp = "textbook", np


def rows(x: Any) -> Any:
    """Images (N, C, H, W) as the library stores them, (H, C, W, N); other samples with the batch last."""
    return np.ascontiguousarray(x.transpose(internal_axes(x.ndim)))


def images(x: Any) -> Any:
    """The inverse of :func:`rows`."""
    return np.ascontiguousarray(x.transpose(user_axes(x.ndim)))


def laid_out(backend: Backend, array: Any, layout: str) -> Array:
    """An array of the backend with the numbers of a NumPy array, in a memory order; NumPy's own are read-only."""

    def there(x: Any) -> Array:
        return backend.asarray(np.array(x, order="C"))  # a copy

    if not array.ndim or layout == "contiguous":
        return there(array)
    made: Any
    if layout == "fortran":
        made = there(array.T).transpose(*range(array.ndim)[::-1])
    elif layout == "transposed":
        made = there(array.swapaxes(0, -1)).swapaxes(0, -1)
    elif layout == "gaps":
        wide = backend.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype.name)
        made = wide[..., ::2]
        made[...] = there(array)
    else:
        try:
            made = there(np.flip(array))[(slice(None, None, -1),) * array.ndim]
        except (TypeError, ValueError, IndexError):  # an array module without negative strides
            made = there(array)
    if isinstance(made, np.ndarray):
        made.flags.writeable = False
    return made


def writable(backend: Backend, spec: Spec, layout: str) -> Array:
    """An array of the backend to write to, in a memory order.

    It is part of a larger array, so that numbers which a wrong kernel writes outside of it are detected and do no harm.
    """
    shape, dtype = spec
    if not shape or layout == "contiguous":
        return backend.empty(shape, dtype)
    if layout == "fortran":
        return backend.empty(shape[::-1], dtype).transpose(*range(len(shape))[::-1])
    if layout == "transposed":
        return backend.empty((shape[-1], *shape[1:-1], shape[0])[: len(shape)], dtype).swapaxes(0, -1)
    if layout == "gaps":
        return backend.empty((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]
    pair = backend.empty((2, *shape), dtype)
    try:
        return pair[0][(slice(None, None, -1),) * len(shape)]
    except (TypeError, ValueError, IndexError):  # an array module without negative strides
        return pair[0]


@dataclass(frozen=True)
class Check:
    """Something that a backend must do.

    Parameters
    ----------
    name : str
        The name of the kernel, or of another thing that is checked.
    run : callable
        ``run(subject, dtype)`` raises a ConformanceError that says what is wrong.
    dtypes : tuple of str
        The element types that it is made with.
    halves : bool
        Whether the check is also made with arrays of 16 bits, if the backend supports them.
    """

    name: str
    run: Callable[[Subject, str], None]
    dtypes: tuple[str, ...] = ("float32", "float64")
    halves: bool = True


class Call(NamedTuple):
    """A call of a method in which a fault is planted."""

    backend: Backend
    right: Callable[..., Any]  #: the method as it was
    arguments: dict[str, Any]  #: all arguments that were given, by name

    def host(self, *names: str) -> list[Any]:
        """Arguments, their arrays as copies on the host; None for those that were not given."""
        return [to_host(self.backend, self.arguments.get(name)) for name in names]

    def changed(self, **changes: Any) -> Any:
        """Return the result of the method for other arguments."""
        return self.right(**(self.arguments | changes))

    def give(self, result: Any, name: str = "out") -> Array:
        """Return an array of the host as the result: written to ``out``, if that was given."""
        out = self.arguments.get(name)
        if out is None:
            return self.backend.asarray(np.ascontiguousarray(result))
        out[...] = self.backend.asarray(np.ascontiguousarray(result, dtype=out.dtype.name))
        return out


@dataclass(frozen=True)
class Fault:
    """A fault that is planted in a backend, to test that the check finds it.

    Parameters
    ----------
    check : str
        The check that must find it.
    about : str
        What is wrong.
    method : str
        The method of the backend that is replaced, or the function of its array module, such as "xp.add".
    wrong : callable
        ``wrong(call)``, where ``call`` is a :class:`Call`, is called in place of the method; or a Kernel.
    argument : str, optional
        The argument that the fault is about, if a kernel of an older plug-in may lack it. Then there is no fault.
    """

    check: str
    about: str
    method: str
    wrong: Callable[[Call], Any] | Kernel[Any]
    argument: str | None = None

    def fits(self, backend: Backend) -> bool:
        """Whether the backend's kernel has the argument that the fault is about."""
        return self.argument is None or getattr(backend, self.method).takes(self.argument)


def changing(**changes: Callable[[Any], Any]) -> Callable[[Call], Any]:
    """Return a fault: the method gets other arguments, each a function of the given argument."""

    def wrong(call: Call) -> Any:
        given = {name: change(call.arguments.get(name)) for name, change in changes.items()}
        return call.changed(**given)

    return wrong


def changing_arrays(**changes: Callable[[Any], Any]) -> Callable[[Call], Any]:
    """Return a fault: the method gets other arrays, each computed on the host from the given array."""

    def wrong(call: Call) -> Any:
        given = {}
        for name, change in changes.items():
            array = call.arguments.get(name)
            if array is not None:
                given[name] = call.backend.asarray(np.ascontiguousarray(change(to_host(call.backend, array))))
        return call.changed(**given)

    return wrong


def spoiling(change: Callable[..., Any], name: str = "out", *, among: Sequence[str] = ()) -> Callable[[Call], Any]:
    """Return a fault: the array that the method has written to ``name`` is changed.

    ``change(result, *arguments)`` is called with arrays of the host and the arguments of the names ``among``.
    """

    def wrong(call: Call) -> Any:
        others = call.host(*among)
        result = call.right(**call.arguments)
        target = result if name == "out" else call.arguments[name]
        if target is not None:
            changed = np.ascontiguousarray(change(to_host(call.backend, target), *others), dtype=target.dtype.name)
            target[...] = call.backend.asarray(changed)
        return result

    return wrong


def miscounting(call: Call) -> Any:
    """A function of the array module whose numbers are a hundredth too large; for :class:`Fault`."""
    result = call.right(*call.arguments["args"], **call.arguments["options"])
    if call.backend.owns(result) and result.dtype.kind == "f":
        result[...] = call.backend.asarray(
            np.ascontiguousarray(to_host(call.backend, result) * result.dtype.type(1.01))
        )
    return result


class FaultyModule:
    """An array module in which one function is replaced."""

    def __init__(self, module: Any, name: str, replaced: Callable[..., Any]) -> None:
        self._module, self._name, self._replaced = module, name, replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced if name == self._name else getattr(self._module, name)


def to_host(backend: Backend, value: Any) -> Any:
    """A copy of an array on the host; another object is returned unchanged."""
    return np.array(backend.to_numpy(value)) if backend.owns(value) else value


def planted(backend: Backend, fault: Fault) -> Backend:
    """Return the backend with a fault."""
    cls, method = type(backend), fault.method
    if method.startswith("xp."):
        assert callable(fault.wrong)
        function, wrong_function = getattr(backend.xp, method[3:]), fault.wrong

        def in_module(*args: Any, **options: Any) -> Any:
            return wrong_function(Call(backend, function, {"args": args, "options": options}))

        return _copy(backend, {"xp": FaultyModule(backend.xp, method[3:], in_module)})
    right = getattr(cls, method)
    parameters = right.signature if isinstance(right, Kernel) else signature(right.__get__(backend))

    def replaced(self: Backend, *args: Any, **options: Any) -> Any:
        assert callable(fault.wrong)
        return fault.wrong(Call(self, partial(right, self), dict(parameters.bind(*args, **options).arguments)))

    wrong = fault.wrong if isinstance(fault.wrong, Kernel) else replaced
    made = _copy(backend, {method: wrong})
    if isinstance(right, Kernel):
        vars(getattr(type(made), method))["takes"] = right.takes
    return made


def _copy(backend: Backend, attributes: dict[str, Any]) -> Backend:
    """The same backend with other attributes."""
    cls = type(backend)
    # with the module too: what has started is not to be looked at again, or that would find the fault before the check
    kind = type(cls.__name__, (cls,), attributes | {"__module__": cls.__module__})
    made: Backend = object.__new__(kind)
    vars(made).update({name: value for name, value in vars(backend).items() if name not in attributes})
    made.find = None  # or a copy of it in another process would be the one without the fault
    return made


class Subject:
    """A backend that is checked: arrays for it, its kernels in all ways, and comparison of what they give.

    Parameters
    ----------
    backend : Backend
    seed : int or list of int
        The random seed of the numbers of the checks.
    layouts : iterable of str, optional
        The memory orders of the arguments of one call after the other, again and again.
    """

    def __init__(self, backend: Backend, seed: Any = 0, layouts: Sequence[str] = LAYOUTS) -> None:
        self.backend, self.rng = backend, np.random.default_rng(seed)
        self.layouts, self.calls = layouts, 0
        self.problem = ""  #: what was computed last

    def normal(self, *shape: int, dtype: str = "float64") -> Any:
        """Return normally distributed numbers."""
        return self.rng.standard_normal(shape).astype(dtype)

    def wrong(self, text: str) -> ConformanceError:
        """Return an error that names the problem."""
        return ConformanceError(f"{text}{f'; {self.problem}' if self.problem else ''}")

    # ------------------------------------------------------------------ arrays

    def there(self, array: Any) -> Array:
        """A copy of an array of the host on the backend."""
        return self.backend.asarray(np.array(array, order="C"))

    def back(self, array: Array) -> Any:
        """A copy of an array on the host."""
        return np.array(self.backend.to_numpy(array))

    def spoiled(self, spec: Spec, stored: bool = False, layout: str = "contiguous") -> Array:
        """An array full of NaN, or of True, in a memory order; ``stored`` as weights are, if it is contiguous."""
        array = writable(self.backend, spec, layout)
        if stored and layout == "contiguous" and len(spec.shape) == 4:
            order = self.backend.weight_order
            array = self.backend.empty(tuple(spec.shape[axis] for axis in order), spec.dtype)
            array = array.transpose(*np.argsort(order).tolist())
        array[...] = 1 if array.dtype.kind in "biu" else float("nan")
        return array

    def stored(self, array: Any) -> Array:
        """An array of the backend in the memory order of weights."""
        order = self.backend.weight_order
        made: Array = self.backend.asarray(np.array(array.transpose(order), order="C"))
        return made.transpose(*np.argsort(order).tolist())

    # ------------------------------------------------------------------ the ways to call a kernel

    def call(self, kernel: str, *args: Any, written: dict[str, Spec] | None = None, **options: Any) -> Any:
        """Call a kernel in all ways, with arrays of the host, and return its result as one.

        The ways are a plain call, a call with ``out`` and scratch that hold NaN, and prepared calls, which are prepared
        while the arrays hold other numbers, and repeated. All must agree to the bit, and inputs must not change.

        Parameters
        ----------
        kernel : str
        written : dict of str to Spec, optional
            Arrays beside ``out`` that the kernel writes to. Then a dict of all results is returned.
        """
        layout = self.layouts[self.calls % len(self.layouts)]
        self.calls += 1
        self.problem = f"the call was {kernel}({described(args, options, written or {})}), arguments {layout}"
        with self.backend.context(), self.backend.errstate(), np.errstate(all="ignore"):
            return _Ways(self, kernel, args, options, written or {}, layout).compare()

    def compare(self, what: str, got: Any, exact: Any, dtype: str, slack: float = 1) -> None:
        """Raise an error unless ``got`` is ``exact`` but for rounding; NaN and infinity must be in the same places."""
        got, exact = np.asarray(got, "float64"), np.asarray(exact, "float64")
        if got.shape != exact.shape:
            raise self.wrong(f"{what} has the shape {got.shape}, expected {exact.shape}")
        numbers = np.isfinite(exact)
        largest = float(np.abs(np.where(numbers, exact, 0)).max(initial=0))
        allowed = slack * self.tolerance(dtype) * max(1.0, largest)
        with np.errstate(invalid="ignore"):
            off = np.where((got == exact) | (np.isnan(got) & np.isnan(exact)), 0, np.abs(got - exact))
        bad = ~(off <= allowed)
        if bad.any():
            at = tuple(map(int, np.unravel_index(np.argmax(np.where(np.isnan(off), np.inf, off)), off.shape)))
            place = f" at {list(at)}" if at else ""
            raise self.wrong(
                f"{what} is {got[at]:.6g}{place}, expected {exact[at]:.6g}: {bad.sum()} of {bad.size} numbers are"
                f" further from the exact ones than {allowed:.1e}"
            )

    def tolerance(self, dtype: str) -> float:
        """The largest allowed error, as a fraction of the largest number."""
        return TOLERANCE["tf32" if dtype == "float32" and self.backend.tf32 else dtype]

    def equal(self, what: str, got: Any, exact: Any) -> None:
        """Raise an error unless both hold the same numbers; NaN is equal to NaN."""
        got, exact = np.asarray(got), np.asarray(exact)
        if got.shape != exact.shape:
            raise self.wrong(f"{what} has the shape {got.shape}, expected {exact.shape}")
        if at := first_difference(got, exact):
            raise self.wrong(f"{what} is {at}")

    @contextmanager
    def on(self, problem: str) -> Iterator[None]:
        """Within the block errors name this problem."""
        before, self.problem = self.problem, problem
        yield
        self.problem = before

    # ------------------------------------------------------------------ problems

    def windows(self, count: int, pooling: bool = False) -> Iterator[tuple[Window, Pair]]:
        """Yield windows and sizes (H, W) of images that they fit: ``count`` that are drawn."""
        r = self.rng
        while count:
            kernel, stride, dilation = ((int(r.integers(1, most)), int(r.integers(1, most))) for most in (5, 4, 3))
            most = [k // 2 if pooling else 3 for k in kernel]
            top_bottom, left_right = ((int(r.integers(0, m + 1)), int(r.integers(0, m + 1))) for m in most)
            window = Window(kernel, stride, (top_bottom, left_right), dilation, pooling and bool(r.integers(2)))
            size = int(r.integers(1, 9)), int(r.integers(1, 9))
            try:
                window.output_size(size)
            except ShapeError:
                continue
            count -= 1
            yield window, size


def first_difference(got: Any, exact: Any) -> str:
    """Say where two arrays of one shape differ first; NaN is equal to NaN."""
    differ = (got != exact) & ~((got != got) & (exact != exact))
    if not differ.any():
        return ""
    at = tuple(map(int, np.argwhere(differ)[0]))
    place = f" at {list(at)}" if at else ""
    return f"{got[at]}{place}, expected {exact[at]} ({differ.sum()} of {differ.size} numbers differ)"


def other_numbers(array: Any) -> Any:
    """Return numbers for an argument while calls are prepared, which differ from the numbers when they are made."""
    return np.zeros_like(array) if array.dtype.kind in "iub" else np.ones_like(array)


def described(args: Sequence[Any], options: dict[str, Any], written: dict[str, Spec]) -> str:
    """Arguments of a call, of arrays type and shape."""

    def text(value: Any) -> str:
        if isinstance(value, (np.ndarray, Spec)):
            kind = value.dtype if isinstance(value, Spec) else value.dtype.name
            return f"{kind}{list(value.shape)}"
        if isinstance(value, Window):
            fields = zip(value._fields, value, Window(value.kernel), strict=True)
            return f"window {', '.join(f'{n} {v}' for n, v, usual in fields if v != usual or n == 'kernel')}"
        return "a function" if callable(value) else "statistics" if hasattr(value, "_fields") else repr(value)

    named = {**options, **written}
    return ", ".join([*map(text, args), *(f"{name}={text(value)}" for name, value in named.items())])


class _Ways:
    """The ways of one call."""

    def __init__(
        self, subject: Subject, name: str, args: Any, options: Any, written: dict[str, Spec], layout: str
    ) -> None:
        self.subject, self.name, self.layout, self.written = subject, name, layout, written
        self.kernel = getattr(subject.backend, name)
        self.parameters = signature(self.kernel).parameters
        by_position = [*self.parameters][: len(args)]
        self.host = dict(zip(by_position, args, strict=True)) | options
        self.given = {name: self.there(name, value) for name, value in self.host.items()}

    def there(self, name: str, value: Any) -> Any:
        """An argument on the backend."""
        if hasattr(value, "_fields") and all(map(_array, value)):
            return type(value)(*(self.there(name, part) for part in value))
        if not _array(value):
            return value
        if self.layout == "contiguous" and name in WEIGHTS:
            return self.subject.stored(value)
        return laid_out(self.subject.backend, value, self.layout)

    def lent(self) -> dict[str, Array]:
        """Arrays for the results, full of NaN, in the memory order of the arguments."""
        specs = dict(self.written)
        if "out" in self.parameters:
            specs["out"] = self.kernel.result(**self.given)
        weights = {*WEIGHTS, *(["out"] if self.name == "conv2d_weight_grad" else [])}
        return {name: self.subject.spoiled(spec, name in weights, self.layout) for name, spec in specs.items()}

    def bits(self, results: dict[str, Array]) -> dict[str, Any]:
        return {name: self.subject.back(array) for name, array in results.items()}

    def compare(self) -> Any:
        """Call the kernel in all ways; return its result."""
        plain = {name: array for name, array in self.lent().items() if name != "out"}
        returned = self.kernel(**self.given, **plain)
        if "out" in self.parameters:
            plain["out"] = returned
            self._check_result(returned)
        expected = self.bits(plain)
        named = {name: array for name, array in plain.items() if name != "out"}
        specs = self.kernel.scratch(**self.given, **named)
        scratch = {"scratch": [self.subject.spoiled(spec) for spec in specs]} if specs else {}

        spoiled = self.lent()
        returned = self.kernel(**self.given, **spoiled, **scratch)
        if "out" in spoiled and returned is not spoiled["out"]:
            raise self.subject.wrong(f"{self.name} does not return the array out that it was given")
        self._agree(spoiled, expected, "with out and scratch that held NaN")
        if self.layout == "contiguous":
            self._check_prepared(expected, scratch)
        for name, value in self.host.items():
            for array, before in zip(_arrays(self.given[name], value), _arrays(value, value), strict=True):
                if not _same(self.subject.back(array), before):
                    raise self.subject.wrong(f"{self.name} changes its argument {name}")
        return expected["out"] if not self.written else expected

    def _check_result(self, out: Array) -> None:
        spec = self.kernel.result(**self.given)
        if not self.subject.backend.owns(out):
            raise self.subject.wrong(f"{self.name} returns {type(out).__name__}, expected an array of the backend")
        if tuple(out.shape) != tuple(spec.shape) or out.dtype.name != spec.dtype:
            got = f"{out.dtype.name}{list(out.shape)}"
            raise self.subject.wrong(f"{self.name} returns {got}, expected {spec.dtype}{list(spec.shape)}")

    def _check_prepared(self, expected: dict[str, Any], scratch: dict[str, Any]) -> None:
        """Make calls while the arguments hold other numbers, and again when they hold the right ones."""
        others = {}
        for name, value in self.host.items():
            others[name] = self.there(name, value)
            for array, numbers in zip(_arrays(others[name], value), _arrays(value, value), strict=True):
                array[...] = self.there("", other_numbers(numbers))
        results = self.lent()
        calls = self.kernel.prepare(**others, **results, **scratch)
        run(calls)
        for name, value in self.host.items():
            for array, numbers in zip(_arrays(others[name], value), _arrays(value, value), strict=True):
                array[...] = self.there("", numbers)
        for time in "once", "twice":
            run(calls)
            self._agree(results, expected, f"in prepared calls, made {time},")

    def _agree(self, results: dict[str, Array], expected: dict[str, Any], way: str) -> None:
        for name, found in self.bits(results).items():
            if not _same(found, expected[name]):
                where = first_difference(found, expected[name]) or "equal, but with other bits"
                raise self.subject.wrong(
                    f"{self.name} gives other numbers {way} than in a plain call: {name} is {where}"
                )


def _array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _arrays(value: Any, host: Any) -> list[Any]:
    """The arrays of an argument: itself, or the fields of a named tuple; ``host`` is the argument on the host."""
    if hasattr(host, "_fields") and all(map(_array, host)):
        return list(value)
    return [value] if _array(host) else []


def _same(a: Any, b: Any) -> bool:
    """Whether two arrays hold the same bits."""
    return bool(np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes())

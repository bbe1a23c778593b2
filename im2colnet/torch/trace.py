"""A module's forward pass on a symbolic value: each function of PyTorch that it calls adds layers to a draft.

Values answer PyTorch's protocol ``__torch_function__``, so whatever is done with them, by the module's own code or by
the layers that it is made of, comes to :meth:`Trace.call`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from im2colnet.errors import Im2colnetError
from im2colnet.layers import Layer
from im2colnet.layers.merging import Elementwise
from im2colnet.layout import internal_shape
from im2colnet.network.draft import INPUT, Draft
from im2colnet.torch.values import BatchSize, Evaluating, Untraceable, Value, values_in
from im2colnet.types import Shape

F = TypeVar("F", bound=Callable[..., Any])
#: name of a function, method or module class -> the function that adds its layers; filled by the modules of `importers`
IMPORTERS: dict[str, Callable[..., Any]] = {}
#: other names that PyTorch takes for arguments
ALIASES = {"axis": "dim", "keepdims": "keepdim", "split_size": "split_size_or_sections"}
#: the batch size for asking PyTorch for the shape of a result that cannot be translated
SAMPLES = 7
#: functions whose result shares its numbers with their input, so that a change in place affects both
VIEWS = {"chunk", "contiguous", "expand", "flatten", "getitem", "narrow", "permute", "reshape", "select", "split"}
VIEWS |= {"mT", "squeeze", "swapaxes", "swapdims", "transpose", "unbind", "unflatten", "unsqueeze", "view"}
VIEWS |= {"reshape_as", "split_with_sizes", "view_as"}
#: functions that may return their input itself
VIEWS |= {"cpu", "dropout", "dropout2d", "feature_dropout", "float", "to", "type_as"}


class Refused(Exception):
    """A function cannot be translated; the message says why, as a sentence about it."""


def importer(*names: str) -> Callable[[F], F]:
    """Register the function that adds the layers for functions, methods or modules with one of these names.

    It is called with the trace and the arguments of PyTorch's function, and returns values, or raises
    :class:`Refused`. For a different module that only has the same name it returns NotImplemented. Functions whose
    names end in ``_``, or with ``inplace=True``, also change their first argument: the trace does that.
    """

    def register(add: F) -> F:
        IMPORTERS.update(dict.fromkeys(names, add))
        return add

    return register


class Missing(Layer):
    """A placeholder for a function that cannot be translated, so that the functions after it are checked too."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def output_shape(self, *inputs: Shape) -> Shape:
        return internal_shape(self.shape, 1)


class Trace:
    """The trace of a module: the layers and problems found so far.

    Parameters
    ----------
    torch : module
        PyTorch.
    module : torch.nn.Module
    input_shape : (C, H, W), or that of any other sample

    Attributes
    ----------
    draft : Draft
        The layers so far.
    module : torch.nn.Module
        The innermost module whose forward pass is running.
    """

    def __init__(self, torch: Any, module: Any, input_shape: Sequence[int]) -> None:
        self.torch = torch
        self.root = self.module = module
        self.draft = Draft(input_shape)
        self.problems: list[str] = []
        self.lacking: dict[str, list[str]] = {}  # operation -> where it is
        self.asked: dict[str, None] = {}  # the modules whose way depends on whether they train
        self.frozen: list[str] = []  # names of the network's parameters and state that do not learn
        self.renamed: dict[str, str] = {}  # name in the module -> in the network
        self.constants: list[str] = []  # parameters that are constants of the network
        self._users: dict[str, str] = {}  # name of a parameter -> the layer that has it
        self._paths: dict[int, str] = {id(m): path for path, m in module.named_modules()}
        tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        self._tensors = {id(tensor): name for name, tensor in reversed(tensors)}
        first = next((tensor for _, tensor in tensors if tensor.is_floating_point()), None)
        self.dtype, self.device = getattr(first, "dtype", None), getattr(first, "device", None)
        self._derived: list[Any] = []
        self._without_gradient: set[str] = set()  # layers that are computed within torch.no_grad
        self._modules = [module]
        self.operation = ""  # the function that is being translated
        self._training = {id(m): m.training for m in module.modules()}

    # ------------------------------------------------------------------ what importers ask

    def sample_shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape of a sample of a value, (C, H, W) of images."""
        if value.name is None:
            raise Untraceable("it depends on the shape of a value that could not be translated")
        return value.repeated or self.draft.shape(value.name)

    def statistics_are_frozen(self) -> bool:
        """Whether the innermost module evaluates while the whole module trains, as a batch norm after ``eval()``."""
        return self._training[id(self.root)] and not self._training.get(id(self.module), True)

    def name_of(self, tensor: Any) -> str | None:
        """Return the name of a parameter or buffer of the module; None of any other tensor."""
        return self._tensors.get(id(tensor))

    # ------------------------------------------------------------------ what importers do

    def derived(self, tensor: Any, parameter: Any) -> Any:
        """Return a tensor made from a parameter or buffer, such as its transpose, registered with the same name."""
        if parameter._base is not None and parameter._base.numel() == parameter.numel():  # it is a view of all of it
            parameter = parameter._base
        found = tensor.detach()
        found.requires_grad = parameter.requires_grad
        if name := self.name_of(parameter):
            self._tensors[id(found)] = name
        self._derived.append(found)  # while it is alive, no other tensor has its id
        return found

    def add(self, layer: Layer, *inputs: Value, **tensors: Any) -> Value:
        """Add a layer that reads these values, and whose parameters and state are these tensors, where not None."""
        weights = {key: tensor for key, tensor in tensors.items() if tensor is not None}
        found = {key: self.name_of(tensor) for key, tensor in weights.items()}
        layer_name = next((n.removesuffix(f".{key}") for key, n in found.items() if n and n.endswith(f".{key}")), "")
        for key, tensor in weights.items():
            if found[key] is None and tensor.requires_grad and not tensor.is_leaf:
                raise Refused(
                    f"its {key} is computed from parameters: a layer of a network must use its parameters unchanged"
                )
        for key, name in found.items():
            if name is not None and name in self._users and key != "constant":
                where = self._users[name]
                raise Refused(
                    f"its {key} {name!r} is shared with the layer {where!r}: in a network each layer has its own copy"
                )
        reads = [_layer_of(value) for value in inputs]
        if any(value.repeated for value in inputs):
            wanted = tuple(map(max, zip(*map(self.sample_shape, inputs), strict=False)))
            if not isinstance(layer, Elementwise) or self.draft.output_shape(layer, reads) != wanted:
                raise Refused("it reads a tensor from expand, which is only supported in arithmetic")
        made = self.draft.add(layer_name or self._free_place(), layer, reads, weights)
        if not self.torch.is_grad_enabled():
            self._cut(made)
        for key, name in found.items():
            if name is not None:
                self._users[name] = made
                if name != f"{made}.{key}":
                    self.renamed[name] = f"{made}.{key}"
            if key in layer.parameters() and not weights[key].requires_grad:
                self.frozen.append(f"{made}.{key}")
        return Value(self, made)

    def _cut(self, made: str) -> None:
        """Freeze a layer that the module computes without gradients; those before it must be frozen too."""
        entry = self.draft.entries[made]
        self._without_gradient.add(made)
        self.frozen += [f"{made}.{key}" for key in entry.layer.parameters()]
        before = [*entry.reads]
        while before:
            name = before.pop()
            if name == INPUT or name in self._without_gradient:
                continue
            learning = [k for k in self.draft.entries[name].layer.parameters() if f"{name}.{k}" not in self.frozen]
            if learning:
                raise Refused(
                    f"torch.no_grad stops the gradient before it reaches {name!r}, which is trainable: remove no_grad,"
                    " and set requires_grad=False for parameters that must not be trained"
                )
            before += self.draft.entries[name].reads

    def freeze(self, value: Value, *keys: str) -> None:
        """Keep state of the layer that makes a value as it is."""
        self.frozen += [f"{value.name}.{key}" for key in keys]

    def chain(self, value: Value, *steps: Layer) -> Value:
        """Add layers one after the other, and return the output of the last layer."""
        for layer in steps:
            value = self.add(layer, value)
        return value

    def same(self, value: Value) -> Value:
        """Return a value of its own with the same numbers."""
        made = Value(self, value.name)
        made.repeated = value.repeated
        return made

    def _free_place(self) -> str:
        """Return the name of a layer without a name of its own: that of its module, or that and the function's."""
        path, module = self._path(), self.module
        leaf = path and next(module.children(), None) is None
        own = next(chain(module.parameters(False), module.buffers(False)), None) is not None
        if leaf and not own and type(module).__module__.startswith("torch"):
            return path
        place = f"{path}{'_' if own else '.'}{self.operation}" if path else self.operation
        return f"{place}_" if place in self._paths.values() else place

    def _path(self) -> str:
        """Return the name of the innermost module that has one."""
        return next((self._paths[id(m)] for m in reversed(self._modules) if id(m) in self._paths), "")

    # ------------------------------------------------------------------ the walk

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Translate a call of a function of PyTorch, or note why that cannot be done."""
        operation = name.rstrip("_") or name
        changes = bool(kwargs.pop("inplace", False)) or (name.endswith("_") and not name.startswith("_"))
        try:
            self.check_read(args, kwargs)
            if operation in IMPORTERS:
                made = self.apply(operation, *args, **kwargs)
            else:
                self._lacks(operation)
                made = self._missing(function, args, kwargs)
        except Untraceable:
            raise
        except Exception as error:  # also of arguments that are not as expected
            kind = "" if isinstance(error, (Refused, Im2colnetError)) else f"{type(error).__name__}: "
            self.problems.append(f"{operation} in {self.where()}: {kind}{error}")
            made = self._missing(function, args, kwargs)
        first = next(values_in((args, kwargs)))
        if changes:
            return self._change(first, made)
        if operation in VIEWS:
            for value in values_in(made):
                value.views = first.views
                value.views.append(value)
        return made

    def apply(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        """Add the layers of a function of PyTorch, and return the values that it makes."""
        if any(value.name is None for value in values_in((args, kwargs))):
            return Value(self, None)
        outer, self.operation = self.operation, self.operation or operation
        try:
            given = {ALIASES.get(key, key): each for key, each in kwargs.items() if key != "out" or each is not None}
            return IMPORTERS[operation](self, *args, **given)
        finally:
            self.operation = outer

    def _missing(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return values of the shapes that PyTorch says a function gives; of unknown shapes, if that fails."""
        try:
            made = function(*self._without_numbers(args), **self._without_numbers(kwargs))
        except Exception:  # of any kind: it is given arrays without numbers
            return Value(self, None)
        return self._values_like(made)

    def _without_numbers(self, thing: Any) -> Any:
        """Return arguments in which tensors have a shape and no numbers."""
        if isinstance(thing, Value):
            return self.torch.empty((SAMPLES, *self.sample_shape(thing)), dtype=self.dtype, device="meta")
        if isinstance(thing, self.torch.Tensor):
            return thing.detach().to("meta")
        if isinstance(thing, (tuple, list)):
            return [*map(self._without_numbers, thing)]
        if isinstance(thing, dict):
            return {key: self._without_numbers(each) for key, each in thing.items()}
        return SAMPLES if isinstance(thing, BatchSize) else False if isinstance(thing, Evaluating) else thing

    def _values_like(self, made: Any) -> Any:
        if isinstance(made, self.torch.Tensor):
            is_value = made.ndim > 1 and made.shape[0] == SAMPLES
            return Value(self, self.draft.add("missing", Missing(tuple(made.shape[1:])), [INPUT]) if is_value else None)
        return tuple(map(self._values_like, made)) if isinstance(made, (tuple, list)) else made

    def check_read(self, *args: Any) -> None:
        """Refuse values that were changed by way of another view."""
        if any(value.stale for value in values_in(args)):
            raise Refused(
                "it reads a tensor that was changed in place through a view of it: write the change without inplace"
            )

    def _change(self, value: Value, made: Value) -> Value:
        """Replace a value by the result of a change in place; other views of its numbers cannot be read any more."""
        for view in value.views:
            view.stale = view is not value
        value.name, value.repeated, value.views, value.stale = made.name, made.repeated, [value], False
        return value

    def visit(self, module: Any, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Do what a module does when it is called with values."""
        kind, torch_s = type(module).__name__, _is_torch_s(module)
        self._modules.append(module)
        outer, self.module = self.module, module
        try:
            made = self.call(kind, partial(forward, module), *args, **kwargs) if kind in IMPORTERS else NotImplemented
            if made is not NotImplemented:
                return made
            return forward(module, *args, **kwargs)
        except Exception:
            if not torch_s:
                raise
            if any(value.name is None for value in values_in((args, kwargs))):
                return Value(self, None)
            self._lacks(kind)  # of PyTorch's own modules it says enough that they are not there
            return self._missing(partial(self._forward, module), args, kwargs)
        finally:
            self._modules.pop()
            self.module = outer

    def _forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a module with tensors that have no numbers."""
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        was = {m: m.training for m in module.modules()}
        try:
            for each in was:
                each.training = False
            return self.torch.func.functional_call(module, self._without_numbers(tensors), tuple(args), kwargs)
        finally:
            for each, training in was.items():
                each.training = training

    def _lacks(self, operation: str) -> None:
        what = type(self.module).__name__ if _is_torch_s(self.module) else operation
        places = self.lacking.setdefault(what, [])
        if (place := self.where()) not in places:
            places.append(place)

    def where(self) -> str:
        """Return where in the module the trace is, and the line of its code."""
        path, line = self._path() or type(self.root).__name__, own_line(traceback.extract_stack())
        return repr(path) + (f", {line}" if line else "")

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Within the block calls of modules with values are visited, and modules evaluate.

        Afterwards the modules' attributes are what they were, whatever their code has kept.
        """
        kind = self.torch.nn.Module
        forward = kind.__call__
        trace, attributes = self, {m: dict(vars(m)) for m in self.root.modules()}

        def visited(module: Any, *args: Any, **kwargs: Any) -> Any:
            if next(values_in((args, kwargs)), None) is None:
                return forward(module, *args, **kwargs)
            return trace.visit(module, forward, args, kwargs)

        try:
            for module in attributes:
                module.training = Evaluating(partial(self._note_asked, module))
            kind.__call__ = visited
            yield
        finally:
            kind.__call__ = forward
            for module, were in attributes.items():
                vars(module).clear()
                vars(module).update(were)

    def _note_asked(self, module: Any) -> None:
        if not _is_torch_s(module) and not isinstance(module, self.torch.nn.modules.batchnorm._BatchNorm):
            self.asked[type(module).__name__] = None


def _is_torch_s(module: Any) -> bool:
    """Whether a module is one of PyTorch's own, that holds no modules of users."""
    where = type(module).__module__
    return where.startswith(("torch.nn.", "torch.ao.nn.")) and where != "torch.nn.modules.container"


def _layer_of(value: Any) -> str:
    if not isinstance(value, Value):
        raise Refused(f"it reads {type(value).__name__} instead of a value of the network")
    return value.name or INPUT


def own_line(frames: Sequence[traceback.FrameSummary]) -> str:
    """Return the innermost line of a module's own code, that is neither PyTorch's nor this library's."""
    library = Path(__file__).parents[1]
    for frame in reversed(frames):
        file = Path(frame.filename)
        if file == library / "torch" / "__init__.py":
            break  # whoever asks for the network is before it
        if library not in file.parents and "torch" not in file.parts:
            return f"{file.name} line {frame.lineno}"
    return ""


def entries(module: Any) -> Mapping[str, Any]:
    """Return the entries of a module's state, but for the numbers of batches."""
    return {name: v for name, v in module.state_dict().items() if not name.endswith("num_batches_tracked")}

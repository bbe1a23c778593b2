"""Dropout, and functions that do not change a value."""

from __future__ import annotations

from typing import Any

from im2colnet.layers import Dropout, Dropout2d, StochasticDepth
from im2colnet.torch.trace import Refused, Trace, importer
from im2colnet.torch.values import Evaluating, Value

#: orders of memory, which a network chooses itself
ORDERS = ("torch.contiguous_format", "torch.preserve_format", "torch.channels_last")


@importer("dropout", "dropout2d", "feature_dropout")
def dropout(t: Trace, input: Value, p: float = 0.5, training: Any = True) -> Value:
    if training is True and p:
        raise Refused("it drops numbers in evaluation too: give it training=self.training")
    kind = Dropout if t.operation == "dropout" else Dropout2d
    return t.add(kind(p), input) if p and isinstance(training, Evaluating) else t.same(input)


@importer("StochasticDepth", "DropPath")
def stochastic_depth(t: Trace, input: Value) -> Any:
    """torchvision's, and what timm and many others call DropPath; others of these names do what their code does."""
    module, of_torchvision = t.module, type(t.module).__module__.startswith("torchvision.")
    p = module.p if of_torchvision else getattr(module, "drop_prob", None)
    if not isinstance(p, (int, float)) or not getattr(module, "scale_by_keep", True) or [*module.children()]:
        return NotImplemented
    return t.add(StochasticDepth(float(p), module.mode if of_torchvision else "row"), input) if p else t.same(input)


@importer("alpha_dropout", "feature_alpha_dropout")
def alpha_dropout(t: Trace, input: Value, p: float = 0.5, training: Any = True) -> Value:
    if p and (training is True or isinstance(training, Evaluating)):
        raise Refused("there is no such layer")
    return t.same(input)


@importer("contiguous", "clone", "cpu", "float", "type_as")
def unchanged(t: Trace, input: Value, *others: Any, **options: Any) -> Value:
    return t.same(input)


@importer("to")
def to(t: Trace, input: Value, *targets: Any, **options: Any) -> Value:
    kinds = {str(target) for target in (*targets, *options.values()) if str(target).startswith("torch.")}
    kinds -= {"torch.float32", str(t.dtype), *ORDERS}
    if kinds:
        raise Refused(f"it converts values of the network to {' '.join(kinds)}")
    return t.same(input)


@importer("_assert")
def check(t: Trace, condition: Any, message: str) -> None:
    """Skip a check of values that are not known; the layers check the shapes themselves."""

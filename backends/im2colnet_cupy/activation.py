"""Elementwise functions by kernels of their own (``kernels/formulas.cu``), or by the table of formulas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from im2colnet.backend.activation import Activation, formula
from im2colnet.backend.kernel import ScratchRule, kernel
from im2colnet.types import Call, Spec
from im2colnet_cupy.cuda import KERNELS, prepared

Array = Any


def _kinds() -> dict[str, int]:
    """Return the numbers of the functions in ``formulas.cu``, by their names in the table of formulas."""
    found = re.search(r"enum Kind \{([^}]*)\}", (KERNELS / "formulas.cu").read_text())
    assert found, "formulas.cu numbers its functions"
    return {name.strip().lower(): number for number, name in enumerate(found[1].split(","))}


KINDS = _kinds()


def kind_arguments(kind: str | None) -> tuple[int, float, float]:
    """Return an activation's arguments of a kernel: its number, and its two constants, 0 for those it does not have."""
    if kind is None:
        return KINDS["none"], 0.0, 0.0
    c, d, *_ = (*formula(kind).constants, 0.0, 0.0)
    return KINDS[kind.partition(":")[0]], c, d


def _scratch(name: str) -> ScratchRule:
    """Return the scratch rule of a kernel: none, but that of the base class for a row that ``formulas.cu`` lacks."""

    def rule(backend: Any, **arguments: Any) -> list[Spec]:
        if backend.fuses(arguments["kind"]):
            return []
        by_the_table: list[Spec] = getattr(Activation, name).scratch(backend, arguments)
        return by_the_table

    return rule


class CupyActivation(Activation):
    """Elementwise functions on the GPU."""

    epilogues = frozenset(KINDS) - {"none"}

    @kernel(scratch=_scratch("activation"))
    def activation(self, x: Array, kind: str, out: Array = None, scratch: Any = None) -> Iterator[Call]:
        if not self.fuses(kind):
            yield from super().activation.prepare(x, kind, out, scratch)
            return
        yield prepared("activation.cu", "activation", out, x, out, x.size, *kind_arguments(kind))

    @kernel(scratch=_scratch("activation_grad"))
    def activation_grad(
        self, read: Array, dy: Array, kind: str, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        if not self.fuses(kind):
            yield from super().activation_grad.prepare(read, dy, kind, out, scratch)
            return
        yield prepared("activation.cu", "activation_grad", out, read, dy, out, dy.size, *kind_arguments(kind))

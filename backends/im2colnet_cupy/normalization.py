"""Batch norm by kernels of its own (``kernels/normalization.cu``): nothing waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from im2colnet.backend.kernel import kernel
from im2colnet.backend.normalization import Normalization, Statistics
from im2colnet.types import Call, Spec
from im2colnet_cupy import sums
from im2colnet_cupy.activation import kind_arguments
from im2colnet_cupy.cuda import launch

Array = Any


def _parts(backend: Any, x: Spec, **others: Any) -> list[Spec]:
    return [Spec((sums.SUM_BLOCKS, 2, x.shape[1]), "float64")]


class CupyNormalization(Normalization):
    """Batch norm on the GPU."""

    @kernel(scratch=_parts)
    def batch_norm_sums(self, x: Array, out: Array = None, scratch: Any = None) -> Iterator[Call]:
        ((parts,), (H, C, M)) = scratch, sums.matrices(x)
        yield partial(sums.channel_sums, 1, x, x, parts, parts)
        yield partial(launch, "normalization.cu", "moments", x, parts, x, out, sums.SUM_BLOCKS, H, C, M, elements=C)

    @kernel(scratch=_parts)
    def batch_norm_grad_sums(
        self, x: Array, mean: Array, dy: Array, out: Array = None, scratch: Any = None
    ) -> Iterator[Call]:
        (parts,) = scratch
        yield partial(sums.channel_sums, 2, dy, x, mean, parts)
        yield partial(sums.join, parts, out)

    def batch_norm_statistics(
        self, sums: Array, n: int, eps: float, weight: Array | None, bias: Array | None
    ) -> Statistics:
        C, rows = sums.shape[1], self.empty((5, sums.shape[1]), "float64")
        given = [array for array in (weight, bias) if array is not None]
        any_of_them = given[0] if given else sums  # in the place of what there is not, and is not read
        w, b = (any_of_them if array is None else array for array in (weight, bias))
        arguments = C, float(n), float(eps), weight is not None, bias is not None
        launch("normalization.cu", "statistics", w, sums, w, b, rows, *arguments, elements=C)
        return Statistics(*(rows[k] for k in range(5)))

    def batch_norm_input_grad(self, sums: Array, n: int, of: Statistics) -> tuple[Array, Array]:
        C, rows = sums.shape[1], self.empty(sums.shape, "float64")
        arguments = of.mean, of.inverse, of.scale, rows, C, float(n)
        launch("normalization.cu", "input_grad", rows, sums, *arguments, elements=C)
        return rows[0], rows[1]

    def batch_norm_running(self, of: Statistics, n: int, momentum: float, mean: Array, var: Array) -> None:
        arguments = of.mean, of.var, mean, var, mean.size, float(momentum), n / (n - 1)
        launch("normalization.cu", "running", mean, *arguments)

    @kernel()
    def channel_affine(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        other: Array | None = None,
        other_scale: Array | None = None,
        activation: str | None = None,
        out: Array = None,
        scratch: Any = None,
    ) -> Iterator[Call]:
        second, b = (x, scale) if other is None else (other, other_scale)
        arguments = *sums.matrices(x), other is not None, *kind_arguments(activation)
        yield partial(launch, "normalization.cu", "affine", out, x, scale, shift, second, b, out, *arguments)

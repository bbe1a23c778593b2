"""Checks of products of matrices, and of sums over the samples, and faults of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from im2colnet.backend import kernel
from im2colnet.host import np
from im2colnet.testing import oracles
from im2colnet.testing.conformance.base import Call, Check, Fault, Subject, changing_arrays, rows, spoiling
from im2colnet.types import Array

#: shapes of the factors
PRODUCTS = [
    ((4, 7), (7, 3)),
    ((1, 1), (1, 1)),
    ((5, 9), (9, 1)),
    ((2, 4, 7), (2, 7, 3)),
    ((2, 3, 4, 5), (2, 3, 5, 2)),
    ((33, 130), (130, 17)),
]


def matmul(subject: Subject, a: Any, b: Any) -> None:
    """Check a product, batched over leading axes."""
    stacks = zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True)
    exact = np.stack([oracles.linear(p, q.T) for p, q in stacks])
    got = subject.call("matmul", a, b)
    subject.compare("the product", got, exact.reshape(*a.shape[:-1], b.shape[-1]), a.dtype.name)


def sum_samples(subject: Subject, dy: Any) -> None:
    """Check the sums of images (N, C, H, W), or of features (N, features)."""
    got = subject.call("sum_samples", rows(dy))
    axes = tuple(axis for axis in range(dy.ndim) if axis != 1)
    subject.compare("the sum", got, dy.astype("float64").sum(axes), dy.dtype.name)


def check_matmul(subject: Subject, dtype: str) -> None:
    """Of matrices and of stacks of them."""
    for a, b in PRODUCTS:
        for _ in range(5 if a[-1] < 100 else 1):  # a memory order each
            matmul(subject, subject.normal(*a, dtype=dtype), subject.normal(*b, dtype=dtype))


def check_sum_samples(subject: Subject, dtype: str) -> None:
    """Of images and of features."""
    for shape in ((3, 4, 5, 6), (1, 1, 1, 1), (7, 3, 1, 4), (9, 5), (1, 4), (130, 3)):
        sum_samples(subject, subject.normal(*shape, dtype=dtype))


CHECKS = [Check("matmul", check_matmul), Check("sum_samples", check_sum_samples)]


# Faults -------------------------------------------------------------------------------------------------------------
@kernel()
def read_too_early(self: Any, a: Array, b: Array, out: Array = None) -> Iterator[Any]:
    """A product with the contents that the arrays had when it was prepared."""
    early = self.asarray(np.array(self.to_numpy(a))), self.asarray(np.array(self.to_numpy(b)))
    yield partial(self.xp.matmul, *early, out=out)


def unsteady() -> Any:
    """A product that is never quite the same."""
    count = [0]

    def wrong(call: Call) -> Any:
        count[0] += 1
        result = call.right(**call.arguments)
        return call.give(np.array(call.backend.to_numpy(result)) * (1 + 1e-6 * (count[0] % 7)))

    return wrong


FAULTS = [
    Fault("matmul", "the result is not the same every time", "matmul", unsteady()),
    Fault("matmul", "prepared calls read their arrays too early", "matmul", read_too_early),
    Fault(
        "matmul",
        "the first matrix of a stack is used for all",
        "matmul",
        spoiling(lambda y: np.broadcast_to(y[:1], y.shape) if y.ndim > 2 else y),
    ),
    Fault("sum_samples", "the first sample is left out", "sum_samples", changing_arrays(dy=lambda dy: dy[..., 1:])),
    Fault("sum_samples", "it is the mean", "sum_samples", spoiling(lambda s, dy: s * len(s) / dy.size, among=["dy"])),
]

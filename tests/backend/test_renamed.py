"""A backend that is written for version 0.1 works under its old names, and is told the new ones."""

from functools import partial

import numpy as np
import pytest

import im2colnet as ic
from im2colnet.backend import kernel, like, one_like
from im2colnet.layers import Context
from im2colnet.types import run


def test_old_names_are_taken_and_told():
    with pytest.warns(DeprecationWarning, match=r"Old\.(chunk|shared|stage) is now called"):

        class Old(ic.Backend):
            name, xp, chunk = "old", np, 7

            def shared(self, shape, dtype):
                return np.full(shape, 3, dtype)

            def stage(self, array):
                return lambda: array + 1

    backend = Old()
    assert backend.update_chunk == 7
    assert backend.empty_shared((2,), "float32").tolist() == [3, 3]
    assert backend.prefetch(np.ones(1))() == 2


def test_a_kernel_takes_its_scratch_by_the_old_name():
    with pytest.warns(DeprecationWarning, match=r"twice: the argument work of a kernel is now called scratch"):

        class Old(ic.Backend):
            name, xp = "old", np

            @kernel(result=like("x"), scratch=one_like("x"))
            def twice(self, x, out=None, work=None):
                (copy,) = work
                yield partial(np.copyto, copy, x)
                yield partial(np.add, copy, copy, out=out)

    with pytest.warns(DeprecationWarning, match=r"twice: the argument work of a kernel is now called scratch"):

        class Older(Old):
            name = "older"

            def twice(self, x, out=None, work=None):
                assert len(work) == 1
                return np.add(x, x, out=out)

    for backend in Old(), Older():
        x, scratch = np.arange(3.0), [np.empty(3)]
        assert backend.twice(x, scratch=scratch).tolist() == [0, 2, 4]
        with pytest.warns(DeprecationWarning, match="the argument work of a kernel is now called scratch"):
            assert backend.twice(x, work=scratch).tolist() == [0, 2, 4]
        with pytest.warns(DeprecationWarning, match="the argument work of a kernel is now called scratch"):
            run(backend.twice.prepare(x, out=np.empty(3), work=scratch))
        assert backend.twice.scratch(x) == [((3,), "float64")]


def test_a_layer_finds_its_scratch_by_the_old_name():
    ctx = Context()
    ctx.scratch = {"conv2d": []}
    with pytest.warns(DeprecationWarning, match=r"ctx\.work is now called ctx\.scratch"):
        assert ctx.work is ctx.scratch

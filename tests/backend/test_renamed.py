"""A backend that is written for version 0.1 works under its old names, and is told the new ones."""

import numpy as np
import pytest

import im2colnet as ic


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

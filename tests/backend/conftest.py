"""The backends that every test of this folder runs on."""

import numpy as np
import pytest
from im2colnet_numpy import NumpyBackend

import im2colnet


class GenericBackend(im2colnet.Backend):
    """Nothing but an array module: the textbook kernels of the base class."""

    name = "generic"
    xp = np


@pytest.fixture(params=[NumpyBackend, GenericBackend], ids=lambda cls: cls.name, scope="session")
def backend(request):
    """A started backend."""
    return request.param()

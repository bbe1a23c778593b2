"""The CuPy backend twice: on a GPU where there is one, and on a stand-in for CuPy everywhere.

``IM2COLNET_REQUIRE_GPU=1`` makes a missing GPU an error instead of a reason to skip.
"""

import os

import pytest
import strict_cupy

import im2colnet as ic


@pytest.fixture(scope="session", params=["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def gpu(request):
    """A started backend."""
    if request.param == "stand-in":
        return strict_cupy.cupy_backend()
    try:
        return ic.get_backend("cupy")
    except ic.BackendError as error:
        if os.environ.get("IM2COLNET_REQUIRE_GPU") == "1":
            raise
        pytest.skip(f"no GPU: {error}")

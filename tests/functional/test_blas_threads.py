"""What functions do to the threads of BLAS: nothing that lasts."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from im2colnet_numpy import blas

SCRIPT = """
import numpy as np
import im2colnet as ic, im2colnet.functional as F
from im2colnet.functional.arguments import on_arrays
from threadpoolctl import threadpool_info, threadpool_limits

def threads():
    return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

@on_arrays("input")
def inside(backend, input):
    print("inside", threads())
    return input

x, w = np.ones((2, 3, 8, 8), "f4"), np.ones((4, 3, 3, 3), "f4")
threadpool_limits(limits=3, user_api="blas")
F.conv2d(x, w)
F.linear(x, np.ones((3, 8), "f4"))
F.batch_norm(x, None, None, training=True)
F.cross_entropy(x[:, :, 0, 0], np.zeros(2, int))
inside(x)
print("after", threads())
for n in 1, 2, 5:
    with ic.num_threads(n):
        inside(x)
    print("after", threads())
ic.Sequential([ic.Linear(3, 2)]).init(0)
print("network", threads())
with ic.num_threads(4):
    inside(x)
print("after", threads())
"""


@pytest.mark.skipif(not blas.loaded(), reason="threadpoolctl finds no BLAS")
def test_functions_leave_blas_as_it_is_and_networks_limit_it():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [
        "inside 3",
        "after 3",
        *("inside 1", "after 3"),
        *("inside 2", "after 3"),
        *("inside 3", "after 3"),
        "network 1",
        *("inside 1", "after 1"),
    ], done.stderr


@pytest.mark.skipif(not blas.loaded(), reason="threadpoolctl finds no BLAS")
def test_blocks_of_several_threads_may_overlap():
    from threadpoolctl import threadpool_limits

    def threads():
        return blas.loaded()[0]["num_threads"]  # NumPy's; SciPy brings another, which Numba imports

    first_is_in, second_is_in, first_is_out = Barrier(2), Barrier(2), Barrier(2)

    def first():
        with blas.at_most(1):
            first_is_in.wait()
            second_is_in.wait()
        first_is_out.wait()

    def second():
        first_is_in.wait()
        with blas.at_most(1):
            second_is_in.wait()
            first_is_out.wait()
            return threads()

    with threadpool_limits(limits=2, user_api="blas"), ThreadPoolExecutor(2) as pool:
        ended = pool.submit(first)
        assert pool.submit(second).result(20) == 1
        ended.result(20)
        assert threads() == 2
        with blas.at_most(1):
            blas.limit_process()
        assert threads() == 1  # a block that ends does not undo what is for the process

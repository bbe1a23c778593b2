"""MPI moves numbers in several ways, and the bits of a join are those of one process."""

from pathlib import Path

import pytest
from mpi_jobs import run

PROGRAM = Path(__file__).with_name("movements.py")


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_movements(size):
    assert run(size, PROGRAM).out == ["right\n"] * size


@pytest.mark.parametrize("size", [2, 3])
def test_movements_over_a_network(size):
    assert run(size, PROGRAM, network=True).out == ["right\n"] * size

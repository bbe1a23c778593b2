"""On each rank: every movement of the joins gives the bits that one process has, and numbers and failures are told."""

from itertools import product

import numpy as np
import pytest
from mpi4py import MPI

from im2colnet.errors import NonFiniteError, WorkerError
from im2colnet.parallel import Communicator, ranks, tree_sum
from im2colnet.parallel.ranks import RankCommunicator, Ranks

COUNTS = (1, 3, 4, 8, 13)
SIZES = (0, 3, 33, 1001)
LIMITS = ranks.MOST_BYTES, ranks.OWN_MESSAGE, ranks.PIECE


def check_joins(joined, count, n, dtype, bounds):
    """Compare each join of arrays that only their owners have with the sum of one process, which has all of them."""
    values = [np.random.default_rng([shard, n]).standard_normal(n).astype(dtype) for shard in range(count)]
    expected = [value.copy() for value in values]
    tree_sum(expected)
    mine, own = joined.partition(count), slice(*bounds[joined.number : joined.number + 2])

    def parts():
        return [value.copy() if shard in mine else None for shard, value in enumerate(values)]

    case = count, n, dtype, bounds
    assert joined.all_reduce(parts(), np.full(n, np.nan, dtype)).tobytes() == expected[0].tobytes(), case
    out = np.full(n, np.nan, dtype)
    joined.reduce_scatter(parts(), out, bounds)
    assert out[own].tobytes() == expected[0][own].tobytes(), case
    joined.all_gather(out, bounds)
    assert out.tobytes() == expected[0].tobytes(), case


def check_large(joined):
    """Gradients of a large network, which MPI moves in other ways than small ones."""
    n = 300_003
    check_joins(joined, 2 * joined.ranks, n, "float32", [n * rank // joined.ranks for rank in range(joined.ranks + 1)])


def check_agreement(comm):
    """Numbers, texts and failures of each rank reach all of them."""
    of = Ranks(comm)
    assert of.meet(7, of.rank, -(2**40)) == [(7, rank, -(2**40)) for rank in range(of.size)]
    assert of.texts(f"rank {of.rank}") == [f"rank {rank}" for rank in range(of.size)]
    assert of.of_first((of.rank, "first")) == (0, "first")
    of.agree()
    last = of.size - 1
    for failure, kind in ((NonFiniteError("image 3"), NonFiniteError), (KeyboardInterrupt(), WorkerError)):
        with pytest.raises((NonFiniteError, WorkerError, KeyboardInterrupt)) as caught:
            of.agree(failure if of.rank == last else None)
        error = caught.value
        assert error is failure or (type(error) is kind and f"rank {last} failed: " in str(error)), error
        assert error.agreed


def main():
    world = MPI.COMM_WORLD
    halves = world.Split(world.rank % 2)
    for comm, doubling in product((world, halves), (True, False)):
        joined, size = RankCommunicator(Communicator(), Ranks(comm, doubling)), comm.size
        for ranks.MOST_BYTES, ranks.OWN_MESSAGE, ranks.PIECE, sizes in (
            (*LIMITS, SIZES),
            (100, 1 << 17, 40, SIZES[:3]),
            (1 << 30, 1, 40, SIZES),
        ):
            for count, n, dtype in product(COUNTS, sizes, ("float16", "float64")):
                for bounds in ([n * rank // size for rank in range(size + 1)], [0] + [n] * size):
                    check_joins(joined, count, n, dtype, bounds)
        ranks.MOST_BYTES, ranks.OWN_MESSAGE, ranks.PIECE = LIMITS
        check_large(joined)
        check_agreement(comm)
    print("right")


main()

"""Workers and ranks, and the communicators that join them.

Every worker runs the same program on its own shards of the batch and meets the others in a :class:`Communicator`, the
only thing the program knows of parallelism. Workers are threads or forked processes of one process. Processes that MPI
has started on one machine or several are *ranks*, and each of them has workers of its own. Sums over the shards are
made along a *fixed binary tree*, so that they do not depend on how many ranks and workers there are, to the last bit:

    sum of shards [i, i + 2d)  =  sum of [i, i + d)  +  sum of [i + d, i + 2d),      d = 1, 2, 4, ...
"""

from im2colnet.launcher import launched
from im2colnet.parallel.communicator import Communicator, SharedCommunicator
from im2colnet.parallel.threads import Team, ThreadCommunicator
from im2colnet.parallel.tree import bounds, partition, tree_sum
from im2colnet.settings import get_num_threads, get_workers, num_threads, set_num_threads, set_workers

if launched() > 1:  # from now on a rank that fails ends the job
    import im2colnet.parallel.mpi  # noqa: F401

__all__ = [
    "Communicator",
    "SharedCommunicator",
    "Team",
    "ThreadCommunicator",
    "bounds",
    "get_num_threads",
    "get_workers",
    "num_threads",
    "partition",
    "set_num_threads",
    "set_workers",
    "tree_sum",
]

"""The ranks of an MPI job: their machines, the cores of each rank, and the time to sum over all ranks."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from im2colnet.errors import install
from im2colnet.parallel import bounds, get_num_threads, get_workers
from im2colnet.settings import forks_forbidden

if TYPE_CHECKING:
    from im2colnet.parallel.ranks import Ranks

SMALL = 128  #: float64 of a small join: the sums of a batch norm of 64 channels
LARGE = 11_200_000  #: float32 of a large one: the gradients of ResNet-18
ROUNDS = 7  #: a time is the lowest of this number of rounds: others use the machine too
REPEATS = 200  #: small joins of a round


def examine(ranks: Ranks) -> dict[str, Any]:
    """Describe the ranks of a job, and time sums over them. Every rank must call it, and gets the same result.

    Parameters
    ----------
    ranks : Ranks

    Returns
    -------
    dict
        ``mpi``: the library and its version; ``ranks``: the number of ranks; ``machines``: the number of ranks on each
        machine, by name; ``threads``: the number of cores that each rank may use; ``workers``: the kind of workers on
        the first rank, and the reason; ``small_join_seconds``: the time to sum 128 float64 numbers over the ranks, so
        that each rank gets the total; ``large_join_seconds``: the time to sum 11.2 million float32 numbers, where each
        rank gets its part before all ranks get the whole; ``small_allreduce_seconds``, ``large_allreduce_seconds``: the
        times of ``MPI_Allreduce`` for the same arrays, whose sums depend on the number of ranks.
    """
    from im2colnet.host import np
    from im2colnet.parallel.mpi import library

    rank, size, comm = ranks.rank, ranks.size, ranks.comm
    everyone = comm.allgather((platform.node(), get_num_threads()))
    ends = bounds(LARGE, size)

    def parts(array: Any) -> list[Any]:
        """Of one shard for each rank, this rank's."""
        return [array if q == rank else None for q in range(size)]

    few, many = np.ones(SMALL), np.ones(LARGE, np.float32)
    few_total, total = np.empty_like(few), np.empty_like(many)

    def large_join() -> None:
        ranks.scatter_sum(parts(many), total, ends)
        ranks.all_gather(total, ends)

    found = lowest(
        comm,
        {
            "small_join": (lambda: ranks.all_sum(parts(few), few_total), REPEATS),
            "small_allreduce": (lambda: comm.Allreduce(few, few_total), REPEATS),
            "large_join": (large_join, 1),
            "large_allreduce": (lambda: comm.Allreduce(many, total), 1),
        },
    )
    return {
        "mpi": library(),
        "ranks": size,
        "machines": dict(Counter(name for name, _ in everyone)),
        "threads": [threads for _, threads in everyone],
        "workers": ranks.of_first(workers()),
        **{f"{name}_seconds": seconds for name, seconds in found.items()},
    }


def lowest(comm: Any, calls: dict[str, tuple[Callable[[], Any], int]]) -> dict[str, float]:
    """Return the shortest time of each call over several rounds; the slowest rank counts in each round."""
    seconds = {name: float("inf") for name in calls}
    for _ in range(ROUNDS):
        for name, (call, repeats) in calls.items():
            comm.Barrier()
            began = time.perf_counter()
            for _ in range(repeats):
                call()
            of_all = comm.allgather((time.perf_counter() - began) / repeats)
            seconds[name] = min(seconds[name], max(of_all))
    return seconds


def workers() -> str:
    """Return the number and kind of the workers of a rank, and the reason."""
    from im2colnet.parallel import processes

    if get_num_threads() == 1:
        return "one worker for each rank"
    kind = "processes" if processes.wanted() else "threads"
    reason = forks_forbidden() if get_workers() == "auto" and kind == "threads" else ""
    return f"{get_num_threads()} {kind} for each rank{': ' * bool(reason)}{reason}"


def rows(found: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the result of :func:`examine` as lines with their names; ``None`` is for a process without ranks."""
    if found is None:
        if find_spec("mpi4py"):
            return [("ranks", "one process; mpi4py is installed, so mpiexec -n 4 starts a training on 4 ranks")]
        return [("ranks", f"one process; mpi4py is not installed, ranks of MPI need it: {install('mpi')}")]
    machines = found["machines"]
    places = ", ".join(f"{count} on {name}" for name, count in list(machines.items())[:4])
    places += f" and others on {len(machines) - 4} more machines" * (len(machines) > 4)
    threads = sorted(set(found["threads"]))
    of_each = f"{threads[0]}" if len(threads) == 1 else f"{threads[0]} to {threads[-1]}"
    few, many = (
        f"{amount} in {found[f'{kind}_join_seconds'] * scale:.3g} {unit}"
        f" (MPI_Allreduce: {found[f'{kind}_allreduce_seconds'] * scale:.3g} {unit})"
        for kind, amount, scale, unit in (
            ("small", f"{SMALL} float64", 1e6, "µs"),
            ("large", f"{LARGE / 1e6:.3g} million float32", 1e3, "ms"),
        )
    )
    return [
        ("ranks", f"{found['ranks']} by {found['mpi']}: {places}; cores for each rank: {of_each}"),
        ("workers", found["workers"]),
        ("joins", f"{few}, {many}"),
    ]

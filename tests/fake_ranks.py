"""Ranks in threads: what :class:`im2colnet.parallel.ranks.Ranks` calls of mpi4py, without MPI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from copy import deepcopy
from itertools import accumulate
from typing import Any

import numpy as np

#: seconds that a rank waits for the others
LIMIT = 60.0


class Job:
    """What the ranks of one job share."""

    def __init__(self, size: int) -> None:
        self.size, self.given, self.barrier = size, [None] * size, threading.Barrier(size, timeout=LIMIT)
        self.mail: dict[tuple[int, int, int], list[Any]] = {}
        self.arrived = threading.Condition()


class FakeCommunicator:
    """One rank's communicator. The methods are those of mpi4py; all but ``Sendrecv`` and its kind are collective."""

    def __init__(self, job: Job, rank: int) -> None:
        self.job, self.rank, self.size = job, rank, job.size

    def Get_rank(self) -> int:
        return self.rank

    def Get_size(self) -> int:
        return self.size

    def Barrier(self) -> None:
        self.job.barrier.wait()

    def Abort(self, code: int = 0) -> None:
        self.job.barrier.abort()
        raise SystemExit(code)

    def _all(self, thing: Any) -> list[Any]:
        """Return what every rank has given."""
        self.job.given[self.rank] = thing
        self.job.barrier.wait()
        found = list(self.job.given)
        self.job.barrier.wait()
        return found

    def allgather(self, thing: Any) -> list[Any]:
        return [deepcopy(each) for each in self._all(deepcopy(thing))]

    def bcast(self, thing: Any, root: int = 0) -> Any:
        return deepcopy(self._all(thing)[root])

    def Allgather(self, sent: np.ndarray, received: np.ndarray) -> None:
        received[...] = np.stack(self._all(sent.copy())).reshape(received.shape)

    def Allgatherv(self, sent: np.ndarray | None, received: tuple[np.ndarray, list[int]]) -> None:
        """Gather parts of different sizes, which lie one after the other; None if this rank's part is in its place."""
        into, sizes = received
        places = [slice(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]
        mine = into[places[self.rank]] if sent is None else sent
        for place, found in zip(places, self._all(mine.copy()), strict=True):
            assert found.size == place.stop - place.start, "the sizes that two ranks have told differ"
            into[place] = found

    def Alltoallv(self, sent: tuple[np.ndarray, list[int]], received: tuple[np.ndarray, list[int]]) -> None:
        give, sizes = sent
        into, wanted = received
        assert sum(sizes) <= give.size
        for rank, its in enumerate(self._all(np.split(give.copy(), [*accumulate(sizes)]))):
            assert its[self.rank].size == wanted[rank], "the sizes that two ranks have told differ"
            start = sum(wanted[:rank])
            into[start : start + wanted[rank]] = its[self.rank]

    def Sendrecv(self, sent: np.ndarray, to: int, tag: int, received: np.ndarray, source: int, its_tag: int) -> None:
        with self.job.arrived:
            self.job.mail.setdefault((self.rank, to, tag), []).append(sent.copy())
            self.job.arrived.notify_all()
            key = source, self.rank, its_tag
            assert self.job.arrived.wait_for(lambda: self.job.mail.get(key) or self.job.barrier.broken, LIMIT)
            if self.job.barrier.broken:
                raise threading.BrokenBarrierError
            found = self.job.mail[key].pop(0)
        assert found.size == received.size, "the sizes that two ranks have told differ"
        received[...] = found


def run_ranks(size: int, function: Callable[[FakeCommunicator], Any]) -> list[Any]:
    """Return what ``function(communicator)`` returns on each rank; raise the error of the lowest rank that has one.

    A rank that has failed is no longer waited for: the others get a BrokenBarrierError.
    """
    job = Job(size)
    results: list[Any] = [None] * size
    errors: dict[int, BaseException] = {}

    def work(rank: int) -> None:
        try:
            results[rank] = function(FakeCommunicator(job, rank))
        except BaseException as error:
            errors[rank] = error
            job.barrier.abort()
            with job.arrived:
                job.arrived.notify_all()

    threads = [threading.Thread(target=copy_context().run, args=(work, rank), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LIMIT)
        assert not thread.is_alive(), "a rank waits for ever"
    real = {rank: error for rank, error in errors.items() if not isinstance(error, threading.BrokenBarrierError)}
    if errors:
        raise (real or errors)[min(real or errors)]
    return results

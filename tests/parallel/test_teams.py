"""Teams of threads: everyone runs the program, meets the others, and ends when one fails."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import assert_same_bits, batches, unequal_parts, whole_tree

import im2colnet as ic
from im2colnet.parallel import Communicator, Team

batch = batches((1, 8, 8), classes=2, n=20)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_team_runs_the_program_on_every_worker(size):
    team, seen = Team(size), []
    for _ in range(3):
        team.run(lambda comm: seen.append((comm.rank, comm.size, threading.get_ident())))
    assert sorted({rank for rank, _, _ in seen}) == list(range(size))
    assert len(seen) == 3 * size
    assert {s for _, s, _ in seen} == {size}
    assert all((thread == threading.get_ident()) == (rank == 0) for rank, _, thread in seen)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_communicators(size):
    shards = 7
    parts = unequal_parts(shards)
    expected, found = whole_tree(parts), {}

    def program(comm):
        comm.barrier()
        total = list(parts_of_run)
        comm.all_reduce(total, total[0])
        found[comm.rank] = total[0].copy(), comm.partition(shards)

    for _ in range(2):
        parts_of_run = list(parts.copy())
        Team(size).run(program)
        assert sorted(found) == list(range(size))
        for total, _ in found.values():
            assert_same_bits(total, expected)
        assert [s for rank in range(size) for s in found[rank][1]] == list(range(shards))


def test_all_reduce_of_few_numbers_by_many_workers():
    parts = [np.array([1.0]), np.array([2.0]), np.array([4.0])]
    Team(5).run(lambda comm: comm.all_reduce(parts, parts[0]))
    assert parts[0] == 7


def test_a_barrier_waits_for_all():
    arrived, seen = [], []

    def program(comm):
        time.sleep(0.02 * comm.rank)
        arrived.append(comm.rank)
        comm.barrier()
        seen.append(len(arrived))

    Team(3).run(program)
    assert seen == [3, 3, 3]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_of_a_worker_ends_all_and_the_team_stays_usable(failing):
    team = Team(3)

    def program(comm):
        comm.barrier()
        if comm.rank == failing:
            raise KeyError("the worker's own")
        comm.barrier()  # nobody comes
        pytest.fail("went on without the others")

    for _ in range(2):
        with pytest.raises(KeyError, match="the worker's own"):
            team.run(program)
        parts = list(unequal_parts(6))
        expected = whole_tree(np.array(parts))
        team.run(lambda comm, parts=parts: comm.all_reduce(parts, parts[0]))
        assert_same_bits(parts[0], expected)


def test_all_workers_may_fail():
    def program(comm):
        raise ValueError(f"worker {comm.rank}")

    with pytest.raises(ValueError, match=r"worker \d"):
        Team(4).run(program)


@pytest.mark.parametrize("attempt", range(5))
def test_the_error_is_that_of_the_first_worker_whoever_failed_first(attempt):
    def program(comm):
        raise ValueError(comm.rank)

    with pytest.raises(ValueError, match=r"^0$"):
        Team(3).run(program)


def test_an_interrupt_while_workers_are_sent_off_leaves_a_team_that_works(monkeypatch):
    team, met, submit = Team(3), [], ThreadPoolExecutor.submit

    def interrupted(*args):
        submit(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            team.run(lambda comm: comm.barrier())

    def program(comm):
        comm.barrier()
        met.append(comm.rank)

    runner = threading.Thread(target=team.run, args=(program,), daemon=True)
    runner.start()
    runner.join(20)
    assert sorted(met) == [0, 1, 2]


def test_threads_end_with_their_team():
    team, threads = Team(4), []

    def program(comm):
        comm.barrier()
        threads.append(threading.current_thread())

    team.run(program)
    workers = [thread for thread in threads if thread is not threading.current_thread()]
    assert len(workers) == 3
    assert all(thread.is_alive() for thread in workers)
    del team
    gc.collect()
    for thread in workers:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.usefixtures("shards_of_32")
def test_scratch_and_threads_do_not_pile_up():
    trainer, before, started = ic.Trainer(ic.models.notebook()), ic.get_num_threads(), threading.active_count()
    try:
        for n in (2, 3, 4, 2, 3):
            ic.set_num_threads(n)
            trainer.step(*batch(200))
        assert threading.active_count() - started <= 4  # of the last two teams
    finally:
        ic.set_num_threads(before)


def test_one_worker_needs_nobody():
    comm, parts = Communicator(), [np.arange(3.0)]
    comm.all_reduce(parts, parts[0])
    comm.barrier()
    assert_same_bits(parts[0], np.arange(3.0))
    assert (comm.rank, comm.size, comm.partition(5)) == (0, 1, range(5))

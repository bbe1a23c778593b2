"""The fixed tree, its division among ranks, and how the ranks' numbers move: bits are those of one process."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import strict_cupy
from fake_ranks import FakeCommunicator, Job, run_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

from im2colnet.errors import NonFiniteError, ShapeError, WorkerError
from im2colnet.parallel import ranks as module
from im2colnet.parallel.communicator import Communicator
from im2colnet.parallel.ranks import END, RankCommunicator, Ranks
from im2colnet.parallel.threads import Team
from im2colnet.parallel.tree import across, nodes, pairs, partition, tree_sum


def recursive(first: int, stop: int, width: int) -> str:
    """Return the tree's sum of the shards ``first`` to ``stop`` as a formula; ``width`` is a power of two."""
    if width == 1:
        return str(first)
    middle = first + width // 2
    left = recursive(first, min(stop, middle), width // 2)
    return left if middle >= stop else f"({left}+{recursive(middle, stop, width // 2)})"


def formula(count: int) -> str:
    return recursive(0, count, 1 << (count - 1).bit_length())


class Term:
    """A number that remembers how it was added up."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __add__(self, other: Term) -> Term:
        return Term(f"({self.text}+{other.text})")


@given(count=st.integers(1, 70), size=st.integers(1, 17))
@settings(deadline=None)
def test_ranks_make_the_additions_of_one_process(count: int, size: int) -> None:
    """The own additions of all ranks, and then those across ranks, give the formula of the recursive definition."""
    terms = [Term(str(shard)) for shard in range(count)]
    for rank in range(size):
        mine = partition(count, rank, size)
        for a, b in pairs(count, mine.start, mine.stop):
            assert a in mine
            assert b in mine
            terms[a] += terms[b]
    held = [terms[shard] for of_rank in nodes(count, size) for shard in of_rank]
    for a, b in across(count, size):
        held[a] += held[b]
    assert held[0].text == formula(count)
    assert sum(len(of_rank) for of_rank in nodes(count, size)) - 1 == len(across(count, size))


@given(count=st.integers(1, 200))
@settings(deadline=None)
def test_tree_sum_is_the_recursive_definition(count: int) -> None:
    parts = [np.array([Term(str(shard))], object) for shard in range(count)]
    tree_sum(parts)
    assert parts[0][0].text == formula(count)


def bounds_of(kind: str, n: int, size: int) -> list[int]:
    if kind == "even":
        return [*(partition(n, rank, size).start for rank in range(size)), n]
    return [0] + [n] * size if kind == "first" else [0] * size + [n]


@pytest.mark.parametrize("kind", ["even", "first", "last"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@given(
    count=st.integers(1, 20),
    size=st.integers(1, 8),
    n=st.sampled_from([0, 1, 3, 33]),
    limits=st.tuples(st.sampled_from([64, 1 << 30]), st.sampled_from([1, 1 << 17]), st.sampled_from([16, 1 << 21])),
)
@settings(deadline=None, max_examples=40)
def test_joins_have_the_bits_of_one_process(
    kind: str, dtype: str, count: int, size: int, n: int, limits: tuple[int, int, int]
) -> None:
    """Sums for every rank, sums in pieces, and gathered vectors; also with few shards, and in messages of few bytes."""
    rng = np.random.default_rng([count, size, n])
    given_ = [rng.standard_normal(n).astype(dtype) for _ in range(count)]
    expected = [part.copy() for part in given_]
    tree_sum(expected)
    total, bounds = expected[0].tobytes(), bounds_of(kind, n, size)

    def work(comm):
        joined = RankCommunicator(Communicator(), ranks := Ranks(comm))
        mine = joined.partition(count)
        parts = [part.copy() if shard in mine else None for shard, part in enumerate(given_)]
        everywhere = joined.all_reduce(parts, np.full(n, np.nan, dtype)).tobytes()
        parts = [part.copy() if shard in mine else None for shard, part in enumerate(given_)]
        out = parts[mine.start] if mine else np.full(n, np.nan, dtype)  # as the engine's, it may be one of the parts
        joined.reduce_scatter(parts, out, bounds)
        own = out[bounds[ranks.rank] : bounds[ranks.rank + 1]].tobytes()
        joined.all_gather(out, bounds)
        assert ranks.joins == 3
        return everywhere, own, out.tobytes()

    before = module.MOST_BYTES, module.OWN_MESSAGE, module.PIECE
    try:
        module.MOST_BYTES, module.OWN_MESSAGE, module.PIECE = limits
        results = run_ranks(size, work)
    finally:
        module.MOST_BYTES, module.OWN_MESSAGE, module.PIECE = before
    for rank, (everywhere, own, gathered) in enumerate(results):
        assert everywhere == total
        assert own == expected[0][bounds[rank] : bounds[rank + 1]].tobytes()
        assert gathered == total


class Counting(FakeCommunicator):
    """A communicator that notes which methods move numbers."""

    def __init__(self, job: Job, rank: int) -> None:
        super().__init__(job, rank)
        self.used: list[str] = []

    def Sendrecv(self, *arguments: Any) -> None:
        self.used.append("Sendrecv")
        super().Sendrecv(*arguments)

    def Allgatherv(self, *arguments: Any) -> None:
        self.used.append("Allgatherv")
        super().Allgatherv(*arguments)

    def Alltoallv(self, *arguments: Any) -> None:
        self.used.append("Alltoallv")
        super().Alltoallv(*arguments)


@pytest.mark.parametrize("own", [False, True], ids=["packed", "own messages"])
@pytest.mark.parametrize("size", [2, 4, 8])
def test_movements_agree(size: int, own: bool) -> None:
    """Exchanges at the distances 1, 2, 4 and the gathering of all nodes give the same bits, in few messages."""
    rng, n = np.random.default_rng(0), 37 + own * size * module.OWN_MESSAGE // 4
    values = [rng.standard_normal(n, "float32") for _ in range(2 * size)]

    def work(comm, doubling):
        counting = Counting(comm.job, comm.rank)
        joined = RankCommunicator(Communicator(), Ranks(counting, doubling))
        mine, found, bounds = joined.partition(len(values)), [], bounds_of("even", n, size)

        def parts():
            return [v.copy() if s in mine else None for s, v in enumerate(values)]

        out = np.empty(n, "float32")
        found.append(joined.all_reduce(parts(), out).tobytes())
        joined.reduce_scatter(parts(), out, bounds)
        found.append(out[bounds[comm.rank] : bounds[comm.rank + 1]].tobytes())
        joined.all_gather(out, bounds)
        return [*found, out.tobytes()], counting.used

    distances = size.bit_length() - 1
    exchanged, gathered = (run_ranks(size, partial(work, doubling=doubling)) for doubling in (True, False))
    assert [found for found, _ in exchanged] == [found for found, _ in gathered]
    if own or size == 2:
        moves = ["Sendrecv"] * (distances + 2 * (size - 1))
    else:
        moves = [*["Sendrecv"] * 2 * distances, "Allgatherv"]
    assert all(used == moves for _, used in exchanged)
    assert all(used == ["Allgatherv", "Alltoallv", "Allgatherv"] for _, used in gathered)


def test_workers_of_ranks() -> None:
    """Two ranks with three threads each sum like one worker."""
    values = [np.random.default_rng(shard).standard_normal(41) for shard in range(11)]
    expected = [value.copy() for value in values]
    tree_sum(expected)

    def work(comm):
        ranks, rows, out = Ranks(comm), [value.copy() for value in values], np.empty(41)
        mine = ranks.partition(11)
        parts = [row if shard in mine else None for shard, row in enumerate(rows)]
        shares = []

        def program(local):
            joined = RankCommunicator(local, ranks)
            shares.append(joined.partition(11))
            joined.all_reduce(parts, out)

        Team(3).run(program)
        assert sorted(shard for share in shares for shard in share) == list(mine)
        return out.tobytes()

    assert run_ranks(2, work) == [expected[0].tobytes()] * 2


def test_numbers_and_texts_meet() -> None:
    def work(comm):
        ranks = Ranks(comm)
        ranks.begin_step("step 3")
        met = ranks.meet(4, ranks.rank, -(2**40))
        return met, ranks.texts(f"I am {ranks.rank}"), ranks.of_first({"rank": ranks.rank}), ranks.waiting

    for met, texts, first, waiting in run_ranks(3, work):
        assert met == [(4, rank, -(2**40)) for rank in range(3)]
        assert texts == ["I am 0", "I am 1", "I am 2"]
        assert first == {"rank": 0}
        assert waiting is None


def test_a_failure_is_raised_on_every_rank() -> None:
    def work(comm):
        ranks = Ranks(comm)
        ranks.agree()
        try:
            ranks.agree(TypeError("no such\nlayer") if ranks.rank in (1, 2) else None)
        except Exception as error:
            return error
        return None

    first, second, third, fourth = run_ranks(4, work)
    assert isinstance(second, TypeError)
    assert isinstance(third, TypeError)
    for error in first, fourth:
        assert type(error) is WorkerError
        assert str(error).startswith("rank 1 failed: TypeError: no such")
        assert any("TypeError" in note for note in error.__notes__)
    assert all(error.agreed for error in (first, second, third, fourth))


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (NonFiniteError("image 3 holds NaN"), NonFiniteError),
        (KeyboardInterrupt(), WorkerError),
        (SystemExit(3), WorkerError),
        (type("UsersError", (NonFiniteError,), {})("no"), WorkerError),  # the other ranks may not know the class
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_others_get_an_error_of_the_same_class_if_the_library_has_it(failure, kind) -> None:
    def work(comm):
        ranks = Ranks(comm)
        try:
            ranks.agree(failure if ranks.rank else None)
        except BaseException as error:
            return error
        return None

    told, own = run_ranks(2, work)
    assert own is failure
    assert type(told) is kind
    name, text = type(failure).__name__, f": {failure}" if str(failure) else ""
    assert str(told).startswith("rank 1 failed: ")
    assert str(told).endswith(name + text)
    assert told.agreed
    assert own.agreed


@pytest.mark.parametrize(("size", "count"), [(2, 4), (3, 5), (3, 2)])
def test_arrays_on_a_device(size: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go through the host: CuPy's arrays are no NumPy arrays."""
    backend = strict_cupy.cupy_backend()
    monkeypatch.setattr(module, "backend_of", lambda **arrays: backend)
    values = [np.random.default_rng(shard).standard_normal((3, 11)).astype("float32") for shard in range(count)]
    expected = [value.copy() for value in values]
    tree_sum(expected)
    bounds = bounds_of("even", 33, size)

    def work(comm):
        joined, found = RankCommunicator(Communicator(), Ranks(comm)), []
        mine = joined.partition(count)
        for scattered in (False, True):
            parts = [backend.asarray(value) if shard in mine else None for shard, value in enumerate(values)]
            out = parts[mine.start] if mine else backend.asarray(np.full((3, 11), np.nan, "float32"))
            if scattered:
                joined.reduce_scatter(parts, out, bounds)
                joined.all_gather(out, bounds)
            else:
                assert joined.all_reduce(parts, out) is out
            found.append(out.get().tobytes())
        return found

    assert run_ranks(size, work) == [[expected[0].tobytes()] * 2] * size


@pytest.mark.parametrize("bounds", [[1, 2, 4], [0, 2, 3]])
def test_elements_of_nobody_are_refused(bounds: list[int]) -> None:
    with pytest.raises(ShapeError, match="begin at 0 and end at 4"):
        run_ranks(2, lambda comm: Ranks(comm).scatter_sum([np.ones(4)] * 2, np.ones(4), bounds))
    with pytest.raises(ShapeError, match="begin at 0 and end at 4"):
        run_ranks(2, lambda comm: Ranks(comm).all_gather(np.ones(4), bounds))


def test_an_array_that_would_be_copied_is_refused() -> None:
    """Else a sum would be written to a copy, and lost."""
    out = np.zeros((4, 4)).T[1:]
    with pytest.raises(ValueError, match="copy"):
        run_ranks(2, lambda comm: Ranks(comm).all_sum([np.ones((3, 4)), np.ones((3, 4))], out))


def test_a_rank_that_has_ended_is_named() -> None:
    def work(comm):
        ranks, said = Ranks(comm), []
        if ranks.rank == 1:
            return ranks.meet(END)
        for _ in range(2):  # nobody would come to a second meeting
            with pytest.raises(WorkerError, match=r"rank 1 has ended, while rank [02] goes on") as caught:
                ranks.meet(2)
            said.append(str(caught.value))
        return said

    run_ranks(3, work)

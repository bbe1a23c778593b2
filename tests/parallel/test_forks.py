"""Processes that the user forks: they are independent, and results depend on no kind of workers."""

import multiprocessing
import os
import random
import threading

import numpy as np
import pytest
from helpers import assert_same_bits, batches, divided, everything

import im2colnet as ic
from im2colnet import memory
from im2colnet.parallel import processes

pytestmark = [
    pytest.mark.skipif(not processes.available(), reason="needs Linux on x86-64"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(params=["threads", "processes"])
def kind(request):
    """Two workers of either kind, from the first step on."""
    workers = ic.get_workers()
    ic.set_workers(request.param)
    with ic.num_threads(2), divided(steps_before_fork=1):
        yield request.param
    ic.set_workers(workers)


batch = batches((2, 6, 6), classes=3, n=8)


def network(*first):
    layers = [*first, ic.Conv2d(2, 4, 3, padding=1), ic.BatchNorm2d(4), ic.ReLU(), ic.Dropout(0.2), ic.Flatten()]
    return ic.Sequential([*layers, ic.Linear(144, 3)]).init(0)


def trainer(lr=0.05, net=None):
    return ic.Trainer(net or network(), optimizer=ic.SGD(lr, 0.9), seed=1, shard=3)


def in_child(work):
    """Fork, and return how to get what ``work()`` returned there."""
    here, there = multiprocessing.Pipe()
    pid = os.fork()
    if not pid:
        try:
            there.send(work())
        finally:
            os._exit(0)
    there.close()

    def result():
        try:
            return here.recv()
        finally:
            here.close()
            os.waitpid(pid, 0)

    return result


def test_a_server_that_has_warmed_up_forks(kind):
    """Children and parent predict at the same time, each its own images."""
    net = network()
    net.inference().shard = 3
    inputs = [batch(8, seed)[0] for seed in range(3)]
    expected = [net.predict(images) for images in inputs]

    def wrong(i):
        return sum(net.predict(inputs[i]).tobytes() != expected[i].tobytes() for _ in range(30))

    children = [in_child(lambda i=i: (wrong(i), net.inference().workers_text)) for i in (0, 1)]
    assert wrong(2) == 0
    for child in children:
        assert child() == (0, f"2 {kind}")


def test_trainings_of_forked_processes_are_independent(kind):
    teacher = trainer()
    teacher.step(*batch())
    before = everything(teacher)

    def train(lr):
        teacher.optimizer = ic.SGD(lr, 0.9)
        return [teacher.step(*batch(seed=i)) for i in range(4)], everything(teacher)

    children = {lr: in_child(lambda lr=lr: train(lr)) for lr in (0.01, 0.1)}
    found = {lr: child() for lr, child in children.items()}
    assert_same_bits(everything(teacher), before)
    for lr, (losses, state) in found.items():
        alone = trainer()
        alone.step(*batch())
        alone.optimizer = ic.SGD(lr, 0.9)
        assert losses == [alone.step(*batch(seed=i)) for i in range(4)]
        assert_same_bits(state, everything(alone))


def test_what_the_parent_does_next_does_not_reach_the_child(kind):
    """The parent changes its parameters at once; the child has those of the fork."""
    teacher = trainer()
    teacher.step(*batch())
    before = everything(teacher)
    child = in_child(lambda: everything(teacher))
    for parameter in teacher.net.parameters().values():
        parameter[...] = 7
    assert_same_bits(child(), before)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools(kind, method):
    net = network()
    expected = net.predict(batch()[0])
    net.predict(batch()[0])
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(net.predict, [batch()[0]] * 4)
    for one in found:
        assert_same_bits(one, expected)


class Forks:
    """A display that forks in the middle of an epoch."""

    def __init__(self, after):
        self.after, self.result = after, None

    def step(self, progress):
        if (progress.epoch, progress.batch) == (2, self.after) and self.result is None:
            here, there = multiprocessing.Pipe()
            self.pid = os.fork()
            self.result = here if self.pid else there

    def epoch(self, record):
        pass


def test_a_fork_in_the_middle_of_fit(kind):
    """Both go on to the end, with the results of a training that nobody forked."""
    data, (expected, teacher) = batch(20), (trainer(), trainer())
    expected.fit(data, 3, 5)
    display = Forks(2)
    teacher.fit(data, 3, 5, display=display)
    state = everything(teacher), teacher.history["loss"]
    if not display.pid:
        try:
            display.result.send(state)
        finally:
            os._exit(0)
    assert display.result.poll(30)
    for found, losses in state, display.result.recv():
        assert losses == expected.history["loss"]
        assert_same_bits(found, everything(expected))
    os.waitpid(display.pid, 0)


def test_a_fork_while_another_thread_trains(kind):
    """The child has the parameters of a whole number of steps."""
    teacher, alone, found = trainer(), trainer(), []
    teacher.step(*batch())

    def train():
        while len(found) < 5 and teacher.steps < 1000:
            teacher.step(*batch())

    thread = threading.Thread(target=train)
    thread.start()
    while thread.is_alive():
        found.append(in_child(lambda: everything(teacher))())
    thread.join()
    assert len(found) > 2
    for state in found:
        while alone.steps < state["step"]:
            alone.step(*batch())
        assert_same_bits(state, everything(alone))


class ForksWithin(ic.Layer):
    """Forks in a forward pass; the child goes on."""

    stateless = True

    def forward(self, x, ctx):
        if FORK and threading.current_thread() is threading.main_thread():
            FORK.append(os.fork())
            if not FORK[-1]:
                FORK.clear()
        return x

    def backward(self, dy, ctx):
        return dy


FORK = []


def test_a_child_of_the_middle_of_a_step_says_that_its_workers_are_gone():
    before, workers = ic.get_num_threads(), ic.get_workers()
    ic.set_num_threads(2)
    ic.set_workers("threads")
    parent = os.getpid()
    try:
        teacher = trainer(net=network(ForksWithin()))
        teacher.step(*batch())
        here, there = multiprocessing.Pipe()
        FORK.append(None)
        try:
            teacher.step(*batch())
        except ic.WorkerError as error:
            if os.getpid() == parent:
                raise
            there.send(str(error))
        finally:
            if os.getpid() != parent:
                os._exit(0)
        assert here.poll(20)
        assert "forked in the middle of a step" in here.recv()
        for pid in FORK[1:]:
            os.waitpid(pid, 0)
    finally:
        FORK.clear()
        ic.set_num_threads(before)
        ic.set_workers(workers)


def test_scratch_is_copied_only_while_it_is_used():
    blocks = [memory.allocate(5000), memory.allocate(5000)]
    blocks[1].scratch = True
    for block in blocks:
        block[:] = b"x" * 5000
    look = lambda: [bytes(block) for block in blocks]  # noqa: E731
    assert in_child(look)() == [b"x" * 5000, bytes(5000)]
    with memory.working():
        assert in_child(look)() == [b"x" * 5000] * 2
    assert look() == [b"x" * 5000] * 2


def test_a_child_of_a_child(kind):
    teacher = trainer()
    teacher.step(*batch())
    expected = everything(teacher)

    def middle():
        inner = in_child(lambda: (teacher.step(*batch(seed=5)), everything(teacher))[1])
        teacher.step(*batch(seed=6))
        return inner(), everything(teacher)

    inner, outer = in_child(middle)()
    assert_same_bits(everything(teacher), expected)
    for seed, state in (5, inner), (6, outer):
        alone = trainer()
        alone.step(*batch())
        alone.step(*batch(seed=seed))
        assert_same_bits(state, everything(alone))


# Classes of the user's that keep something --------------------------------------------------------------------------
class Passes(ic.Layer):
    def forward(self, x, ctx):
        return x * self.factor(x)

    def backward(self, dy, ctx):
        return dy


class Counter(Passes):
    calls = 0

    def factor(self, x):
        self.calls += 1
        return 1 + 0.01 * self.calls


class Inside(Passes):
    """A counter within other objects."""

    def __init__(self):
        self.parts = {"one": [Counter()]}

    def factor(self, x):
        return self.parts["one"][0].factor(x)


class Draws(Passes):
    def __init__(self):
        self.rng = np.random.default_rng(3)

    def factor(self, x):
        return self.rng.random(dtype="float32")


class DrawsGlobally(Passes):
    def factor(self, x):
        return np.float32(np.random.rand() + random.random())  # noqa: NPY002


class OfItsClass(Passes):
    calls = 0

    def factor(self, x):
        OfItsClass.calls += 1
        return 1 + 0.01 * OfItsClass.calls


SEEN = []


class OfItsModule(Passes):
    def factor(self, x):
        SEEN.append(1)
        return 1 + 0.01 * len(SEEN)


class InAClosure(Passes):
    def __init__(self):
        count = [0]

        def factor(x):
            count[0] += 1
            return 1 + 0.01 * count[0]

        self.factor = factor


class Iterates(Passes):
    def __init__(self):
        self.factors = iter(np.linspace(1, 2, 1000, dtype="float32"))

    def factor(self, x):
        return next(self.factors)


class Noisy(ic.CrossEntropyLoss):
    def __init__(self):
        self.rng = random.Random(0)

    def __call__(self, logits, labels, scale, metrics, dlogits, backend):
        super().__call__(logits, labels, scale, metrics, dlogits, backend)
        if dlogits is not None:
            dlogits *= np.float32(self.rng.random())


class Langevin(ic.SGD):
    """Adds noise of its own to what it learns."""

    def update(self, p, g, state, lr, t, work, xp):
        g += NOISE.standard_normal(g.shape, dtype=g.dtype)
        super().update(p, g, state, lr, t, work, xp)


NOISE = np.random.default_rng(0)


def train_with(layer=None, loss=None, optimizer=None, change=None):
    OfItsClass.calls = 0
    SEEN.clear()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    NOISE.bit_generator.state = np.random.default_rng(0).bit_generator.state
    made = [layer()] if layer else []
    net = network(*made)
    teacher = ic.Trainer(net, loss and loss(), optimizer or ic.SGD(0.05, 0.9), seed=1, shard=3)
    losses, workers = [], []
    for i in range(5):
        losses.append(teacher.step(*batch(seed=i)))
        workers.append(teacher.workers)
        if change:
            change(net.layers[0], i)
    return losses, everything(teacher), workers


@pytest.mark.filterwarnings("ignore::im2colnet.errors.WorkerWarning")
@pytest.mark.parametrize(
    "what",
    [
        *({"layer": c} for c in (Counter, Inside, Draws, DrawsGlobally, OfItsClass, OfItsModule, InAClosure, Iterates)),
        {"loss": Noisy},
        {"optimizer": Langevin(0.05, 0.9)},
    ],
    ids=lambda what: getattr(next(iter(what.values())), "__name__", "Langevin"),
)
def test_what_changes_itself_gives_the_results_of_one_worker(kind, what):
    losses, state, workers = train_with(**what)
    assert set(workers) == {"1 thread"}
    ic.set_num_threads(1)
    one, expected, _ = train_with(**what)
    assert losses == one
    assert_same_bits(state, expected)


class Scales(Passes):
    """Keeps an array that the user changes between the steps."""

    def __init__(self):
        self.array = np.ones((1, 2, 1, 1), "float32")

    def factor(self, x):
        return self.array


class DeclaredScales(Scales):
    stateless = True


def test_an_array_that_is_changed_in_place_between_the_steps_is_seen(kind):
    """And a class that changes nothing itself is worked on by all threads, or by processes if it says so."""

    def change(layer, i):
        layer.array[...] += i

    ic.set_num_threads(1)
    losses, expected, _ = train_with(Scales, change=change)
    ic.set_num_threads(2)
    for layer in Scales, DeclaredScales:
        if layer is Scales and kind == "processes":
            with pytest.warns(ic.WorkerWarning, match="Scales is not marked as stateless"):
                found = train_with(layer, change=change)
        else:
            found = train_with(layer, change=change)
        assert found[0] == losses
        assert_same_bits(found[1], expected)
        # processes that are outdated in every step give way to threads
        assert found[2][1:3] == [f"2 {kind if layer is DeclaredScales else 'threads'}"] * 2


@pytest.mark.filterwarnings("ignore::im2colnet.errors.WorkerWarning")
def test_a_function_put_on_a_layer_sees_every_shard(kind):
    teacher = trainer()
    teacher.step(*batch())
    layer, seen = teacher.net.layers[0], []

    def look(x, ctx, forward=layer.forward):
        seen.append(ctx.key[-1])
        return forward(x, ctx)

    layer.forward = look
    for _ in range(2):
        teacher.step(*batch())
    assert seen == [0, 1, 2] * 2

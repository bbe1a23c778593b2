"""Steps: PyTorch's ten, the same bits for any number of threads, the fixed tree, what errors leave behind."""

import copy
import gc
import os
import pickle
import threading
import time

import numpy as np
import pytest
from helpers import assert_same_bits, everything, loss_and_gradient, normal, predicts_in_a_fork
from numpy.testing import assert_allclose
from reference.torch_values import every_case

import im2colnet as ic
from im2colnet.backend import Division, shard_sizes
from im2colnet.parallel import Communicator, Team, partition, tree_sum
from im2colnet.plan import folds, gradient_rows
from im2colnet.testing import oracles

pytestmark = pytest.mark.usefixtures("one_thread")


def conv(channels, filters):
    return ic.Conv2d(channels, filters, 3, padding=1)


# PyTorch ------------------------------------------------------------------------------------------------------------
def torch_net():
    body = [conv(4, 4), ic.BatchNorm2d(4), ic.ReLU(), conv(4, 4), ic.BatchNorm2d(4)]
    head = [ic.ReLU(), ic.Flatten(), ic.Linear(64, 3)]
    stem = [conv(2, 4), ic.BatchNorm2d(4), ic.ReLU(), ic.MaxPool2d(2)]
    return ic.Sequential([*stem, ic.Residual(ic.Sequential(body)), *head])


def part(arrays, prefix):
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


@pytest.mark.parametrize("shard", [32, 2, 1])
@every_case("net")
def test_ten_steps_against_pytorch(config, arrays, shard):
    images, labels = arrays["images"], arrays["labels"]
    net = torch_net().init(0, "float64")
    net.load_state_dict(part(arrays, "initial/"))
    running = {k: v for k, v in net.state_dict().items() if "running" in k}
    (loss, correct), gradient = loss_and_gradient(net, images, labels, shard=shard)
    assert correct == (arrays["logits"].argmax(1) == labels).sum()
    assert_allclose(loss, arrays["losses"][0], rtol=1e-12)
    gradients = part(arrays, "gradient/")
    for node in net.graph.nodes:
        for key, value in net.views(node, gradient).items():
            expected = gradients.pop(f"{node.name}.{key}")
            # that of a bias before a batch norm is zero but for rounding
            assert_allclose(value, expected, rtol=1e-9, atol=1e-13)
    assert not gradients
    assert any((net.state_dict()[name] != value).any() for name, value in running.items())

    net.load_state_dict(part(arrays, "initial/"))
    trainer = ic.Trainer(net, optimizer=ic.SGD(**config), shard=shard)
    losses = [trainer.step(images, labels) for _ in range(10)]
    assert_allclose(losses, arrays["losses"], rtol=1e-9)
    final = {name: value for name, value in part(arrays, "final/").items() if not name.endswith("num_batches_tracked")}
    assert net.state_dict().keys() == final.keys()
    for name, value in net.state_dict().items():
        assert_allclose(value, final[name], rtol=1e-8, atol=1e-10, err_msg=name)
    assert_allclose(net.predict(images), arrays["eval_logits"], rtol=1e-8)


@every_case("net")
def test_ten_steps_in_float32_stay_near(config, arrays):
    net = torch_net().init(0, "float32")
    net.load_state_dict(part(arrays, "initial/"))
    trainer = ic.Trainer(net, optimizer=ic.SGD(**config))
    losses = [trainer.step(arrays["images"], arrays["labels"]) for _ in range(10)]
    assert_allclose(losses, arrays["losses"], rtol=1e-3)
    assert {value.dtype.name for value in net.state_dict().values()} == {"float32"}
    assert net.predict(arrays["images"]).dtype == np.float32


# The same bits for any number of threads ----------------------------------------------------------------------------
def plain():
    convolutions = [conv(3, 5), ic.ReLU(), ic.MaxPool2d(2), conv(5, 4), ic.ReLU()]
    return ic.Sequential([*convolutions, ic.Flatten(), ic.Linear(64, 4)])


def with_batch_norm():
    body = ic.Sequential([conv(6, 6), ic.BatchNorm2d(6), ic.ReLU(), conv(6, 6), ic.BatchNorm2d(6)])
    stem = [conv(3, 6), ic.BatchNorm2d(6), ic.ReLU(), ic.Residual(body), ic.ReLU()]
    return ic.Sequential([*stem, ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(6, 4)])


def with_dropout():
    return ic.Sequential([conv(3, 6), ic.ReLU(), ic.Dropout(0.3), ic.Flatten(), ic.Dropout(0.2), ic.Linear(384, 4)])


def with_both():
    return ic.Sequential([conv(3, 6), ic.Dropout(0.3), ic.BatchNorm2d(6), ic.ReLU(), ic.Flatten(), ic.Linear(384, 4)])


def trained(make, sizes, threads, dtype="float32", shard=4, optimizer=None):
    """Losses, state and predictions after a step for each batch size; ``threads`` may change from step to step."""
    net = make().init(3, dtype)
    trainer = ic.Trainer(net, optimizer=optimizer or ic.SGD(0.05, 0.9), seed=5, shard=shard)
    rng, found = np.random.default_rng(0), {"loss": []}
    for i, n in enumerate(sizes):
        ic.set_num_threads(threads[i % len(threads)])
        x, labels = rng.standard_normal((n, 3, 8, 8)).astype(dtype), rng.integers(0, 4, n)
        found["loss"].append(trainer.step(x, labels))
    found |= net.state_dict()
    found["predictions"] = net.predict(x)
    evaluation = trainer.evaluate(ic.datasets.Dataset(x, labels, classes=tuple("abcd")))
    return found | {"evaluation": [evaluation["loss"], evaluation["accuracy"]]}


@pytest.mark.parametrize(
    ("batch", "values", "shard"),
    [
        (64, 1_000, 262),  # a small network: not so few that the calls take longer than the work
        (1024, 1_000, 512),  # enough for two
        (4096, 1_000, 1048),  # not more than the cache holds
        (64, 15_000, 32),
        (256, 15_000, 69),
        (64, 500_000, 32),
        (256, 500_000, 32),
        (32, 500_000, 16),
        (16, 10**7, 8),
        (10, 10**7, 8),
        (1, 10**7, 8),
    ],
)
def test_shards_suit_the_network_and_leave_work_for_two(batch, values, shard):
    assert Division().shard_size(batch, values) == shard


@pytest.mark.parametrize("make", [plain, with_batch_norm, with_dropout, with_both])
@pytest.mark.parametrize(
    ("sizes", "shard"),
    [([37, 37, 37], 4), ([37, 37, 3], 4), ([8, 5, 8, 2], 1), ([64, 64], 32), ([5, 40, 5], 7)],
    ids=["not whole shards", "a small last batch", "shards of one", "the default", "growing batches"],
)
def test_threads_do_not_change_a_bit(make, sizes, shard):
    one = trained(make, sizes, [1], shard=shard)
    assert len(set(one["loss"])) == len(sizes)
    assert_same_bits(trained(make, sizes, [2], shard=shard), one)
    assert_same_bits(trained(make, sizes, [3], shard=shard), one)
    assert_same_bits(trained(make, sizes, [1, 4, 2], shard=shard), one)


def test_float64_threads():
    assert_same_bits(trained(with_both, [19, 4], [3], "float64"), trained(with_both, [19, 4], [1], "float64"))


def test_more_threads_than_shards_or_samples():
    assert_same_bits(trained(with_batch_norm, [3, 2], [6], shard=2), trained(with_batch_norm, [3, 2], [1], shard=2))


def test_the_seed_and_the_shard_matter():
    one = trained(with_dropout, [37], [1])
    assert one["loss"] != trained(with_dropout, [37], [1], shard=8)["loss"]  # other masks
    assert_same_bits(one, trained(with_dropout, [37], [1]))


def test_what_a_batch_was_before_does_not_matter():
    """Buffers are used again and again: nothing of a former step may be left in them."""
    x, labels = normal(13, 3, 8, 8, dtype="float32"), np.arange(13) % 4
    for make in (plain, with_batch_norm):
        fresh = ic.Trainer(make().init(1), optimizer=ic.SGD(0.1), shard=4)
        used = ic.Trainer(make().init(1), optimizer=ic.SGD(0.1), shard=4)
        before = used.net.state_dict()
        for n in (40, 13, 1, 5):
            used.step(1e3 * normal(n, 3, 8, 8, dtype="float32"), np.arange(n) % 4)
        used.net.load_state_dict(before)
        assert used.step(x, labels) == fresh.step(x, labels)
        assert_same_bits(used.net.state_dict(), fresh.net.state_dict())


# Batch norm over shards ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("n", "shard"), [(10, 3), (7, 1), (5, 32)])
def test_running_statistics_are_those_of_the_whole_batch(n, shard, threads):
    ic.set_num_threads(threads)
    net = ic.Sequential([ic.BatchNorm2d(3, momentum=0.3), ic.Flatten(), ic.Linear(60, 2)]).init(0, "float64")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.0), shard=shard)
    mean, var = np.zeros(3), np.ones(3)
    for step in range(3):
        x = normal(n, 3, 4, 5, seed=step) * 3 + 100
        trainer.step(x, np.zeros(n, int))
        _, mean, var = oracles.batch_norm(x, mean, var, np.ones(3), np.zeros(3), training=True, momentum=0.3)
        assert_allclose(net.state_dict()["0.running_mean"], mean, rtol=1e-12)
        assert_allclose(net.state_dict()["0.running_var"], var, rtol=1e-10)


def test_running_statistics_in_float32_of_pixels_far_from_zero():
    """The variance is not the difference of two large numbers."""
    net = ic.Sequential([ic.BatchNorm2d(1, momentum=1.0), ic.Flatten(), ic.Linear(100, 2)]).init(0)
    x = (normal(64, 1, 10, 10) + 1000).astype("float32")
    ic.Trainer(net, optimizer=ic.SGD(0.0), shard=8).step(x, np.zeros(64, int))
    assert_allclose(net.state_dict()["0.running_var"], [x.astype("f8").var(ddof=1)], rtol=1e-4)


# The fixed tree -----------------------------------------------------------------------------------------------------
def tree(parts, first, width):
    """The sum of shards [first, first + width), ``width`` a power of two, from the definition."""
    if first >= len(parts):
        return None
    if width == 1:
        return parts[first]
    left, right = tree(parts, first, width // 2), tree(parts, first + width // 2, width // 2)
    return left if right is None else left + right


def whole_tree(parts):
    return tree(parts, 0, 64)


def unequal_parts(count, size=7):
    """Numbers of many magnitudes in float32: the order of additions shows."""
    rng = np.random.default_rng(count)
    return (rng.standard_normal((count, size)) * 10.0 ** rng.integers(-3, 4, (count, size))).astype("float32")


def test_order_shows():
    parts = unequal_parts(37)
    assert (whole_tree(parts) != parts.sum(0)).any()
    assert (whole_tree(parts) != np.add.accumulate(parts)[-1]).any()


@pytest.mark.parametrize("count", range(1, 41))
def test_tree_sum(count):
    parts = unequal_parts(count)
    given = list(parts.copy())
    tree_sum(given)
    assert_same_bits(given[0], whole_tree(parts))
    halves = list(parts.copy())
    tree_sum(halves, 0, 3)
    tree_sum(halves, 3, 7)
    assert_same_bits(halves[0], whole_tree(parts))


@pytest.mark.parametrize("count", range(1, 41))
def test_folding_gradients_gives_the_tree_s_sum(count):
    """Each of 1 to 5 workers adds up its shards as it goes, holding few at a time; then all join."""
    parts = unequal_parts(count)
    for workers in range(1, 6):
        ranges = [partition(count, rank, workers) for rank in range(workers)]
        assert [s for mine in ranges for s in mine] == list(range(count))
        assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
        row_of, live, count_of_rows = gradient_rows(ranges)
        assert count_of_rows <= sum(2 * len(mine).bit_length() for mine in ranges)
        rows = np.full((count_of_rows, parts.shape[1]), np.nan, "float32")
        for mine in ranges:
            for s in mine:
                rows[row_of[s]] = parts[s]  # nothing that is still needed may be there
                here = s
                for into in folds(s, mine.start):
                    assert into in mine
                    rows[row_of[into]] += rows[row_of[here]]
                    here = into
        tree_sum([rows[row_of[s]] if s in live else None for s in range(count)])
        assert_same_bits(rows[row_of[0]], whole_tree(parts))


@pytest.mark.parametrize("shard", [1, 2, 7, 32])
def test_shards_are_few_and_as_equal_as_can_be(shard):
    for batch in range(1, 100):
        sizes = shard_sizes(batch, shard)
        assert sum(sizes) == batch
        assert max(sizes) <= shard
        assert len(sizes) == -(-batch // shard)
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("n", "threads"), [(1, 1), (5, 2), (6, 1), (7, 3), (11, 4), (13, 2)])
def test_a_run_adds_gradients_along_the_tree(n, threads):
    """Shards of one sample, whose gradients are known exactly: a linear layer's are dy·x."""
    ic.set_num_threads(threads)
    x, net = unequal_parts(n, 5), ic.Sequential([ic.Linear(5, 1, bias=False)]).init(0)

    class Sum(ic.CrossEntropyLoss):
        def __call__(self, logits, labels, scale, metrics, dlogits, backend):
            metrics[...], dlogits[...] = (1, 0), 1

    (loss, _), found = loss_and_gradient(net, x, np.zeros(n, int), Sum(), shard=1)
    assert loss == n
    assert_same_bits(found, whole_tree(x))


# Teams --------------------------------------------------------------------------------------------------------------
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
        mine = np.full(3, float(comm.rank))
        comm.broadcast(mine, root=comm.size - 1)
        comm.barrier()
        total = list(parts_of_run)
        comm.all_reduce(total)
        found[comm.rank] = mine, total[0].copy(), comm.partition(shards)

    for _ in range(2):
        parts_of_run = list(parts.copy())
        Team(size).run(program)
        assert sorted(found) == list(range(size))
        for mine, total, _ in found.values():
            assert_same_bits(mine, np.full(3, size - 1.0))
            assert_same_bits(total, expected)
        assert [s for rank in range(size) for s in found[rank][2]] == list(range(shards))


def test_all_reduce_of_few_numbers_by_many_workers():
    parts = [np.array([1.0]), np.array([2.0]), np.array([4.0])]
    Team(5).run(lambda comm: comm.all_reduce(parts))
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
        team.run(lambda comm, parts=parts: comm.all_reduce(parts))
        assert_same_bits(parts[0], expected)


def test_all_workers_may_fail():
    def program(comm):
        raise ValueError(f"worker {comm.rank}")

    with pytest.raises(ValueError, match=r"worker \d"):
        Team(4).run(program)


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("shards_of_32")
def test_a_forked_process_has_workers_of_its_own():
    ic.set_num_threads(3)
    net = plain().init(0)
    images = normal(100, 3, 8, 8, dtype="float32")
    expected = net.predict(images)  # now the parent's workers have started
    assert predicts_in_a_fork(net, images, expected)


def test_one_worker_needs_nobody():
    comm, array = Communicator(), np.arange(3.0)
    comm.broadcast(array)
    comm.barrier()
    assert_same_bits(array, np.arange(3.0))
    assert (comm.rank, comm.size, comm.partition(5)) == (0, 1, range(5))


def test_number_of_threads():
    with ic.num_threads(2):
        assert ic.get_num_threads() == 2
    assert ic.get_num_threads() == 1
    ic.set_num_threads(3)
    assert ic.get_num_threads() == 3
    for bad in (0, -1, 1.5, "2", True, None):
        with pytest.raises(ic.ShapeError, match="positive integer"):
            ic.set_num_threads(bad)
    assert ic.get_num_threads() == 3


# What errors leave behind -------------------------------------------------------------------------------------------
def bad_pixel(value, n=9):
    x = normal(n, 3, 8, 8, dtype="float32")
    x[n - 1, 2, 7, 7] = value
    return x


GOOD, LABELS = normal(9, 3, 8, 8, dtype="float32"), np.arange(9) % 4
BAD_BATCHES = {
    "no images": (GOOD[:0], LABELS[:0], ic.ShapeError, ["empty", "(0, 3, 8, 8)"]),
    "one image without its batch": (GOOD[0], LABELS[:1], ic.ShapeError, ["(N, channels, height, width)", "(3, 8, 8)"]),
    "no channels": (GOOD[:, 0], LABELS, ic.ShapeError, ["(9, 8, 8)", "images[:, None]"]),
    "features": (GOOD.reshape(9, -1), LABELS, ic.ShapeError, ["(N, channels, height, width)", "(9, 192)"]),
    "channels": (GOOD[:, :2], LABELS, ic.ShapeError, ["layer '0'", "Conv2d", "expected 3 input channels, got 2"]),
    "size": (GOOD[..., :4], LABELS, ic.ShapeError, ["layer", "Linear", "features"]),
    "letters": (np.full((9, 3, 8, 8), "a"), LABELS, ic.DTypeError, ["images must be uint8", "<U1"]),
    "complex": (GOOD.astype("complex64"), LABELS, ic.DTypeError, ["images must be uint8", "complex64"]),
    "too few labels": (GOOD, LABELS[:8], ic.ShapeError, ["labels must have shape (9,)", "(8,)"]),
    "one-hot labels": (GOOD, np.eye(4, dtype=int)[LABELS], ic.ShapeError, ["labels must have shape (9,)", "(9, 4)"]),
    "a label too large": (GOOD, LABELS + 1, ic.ShapeError, ["labels must be 0 to 3", "1 to 4"]),
    "a negative label": (GOOD, LABELS - 1, ic.ShapeError, ["labels must be 0 to 3", "-1 to 2"]),
    "float labels": (GOOD, LABELS.astype(float), ic.DTypeError, ["labels must be integers", "float64"]),
    "boolean labels": (GOOD, LABELS > 0, ic.DTypeError, ["labels must be integers", "bool"]),
    "labels of text": (GOOD, list("abcdabcda"), ic.DTypeError, ["labels must be integers"]),
    "NaN": (bad_pixel(np.nan), LABELS, ic.NonFiniteError, ["image 8 of the batch holds NaN or infinity"]),
    "infinity": (bad_pixel(np.inf), LABELS, ic.NonFiniteError, ["image 8 of the batch holds NaN or infinity"]),
    "minus infinity": (bad_pixel(-np.inf), LABELS, ic.NonFiniteError, ["image 8 of the batch holds NaN or infinity"]),
    "too large for float32": (bad_pixel(0).astype("f8") * 1e300, LABELS, ic.NonFiniteError, ["NaN or infinity"]),
    "no loss": (np.sign(GOOD) * np.float32(3e38), LABELS, ic.NonFiniteError, ["unchanged", "learning rate"]),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [plain, with_both])
@pytest.mark.parametrize("name", BAD_BATCHES)
def test_an_error_in_a_step_changes_nothing(name, make, threads):
    """Neither parameters nor optimiser nor running statistics; and training goes on as if it had not been."""
    ic.set_num_threads(threads)
    images, labels, kind, texts = BAD_BATCHES[name]
    trainer, other = (ic.Trainer(make().init(0), optimizer=ic.Adam(0.01), shard=4) for _ in range(2))
    for teacher in (trainer, other):
        teacher.step(GOOD, LABELS)
    before = everything(trainer)
    with pytest.raises(kind) as error:
        trainer.step(images, labels)
    for text in texts:
        assert text in str(error.value)
    assert_same_bits(everything(trainer), before)
    assert trainer.step(GOOD, LABELS) == other.step(GOOD, LABELS)
    assert_same_bits(everything(trainer), everything(other))


@pytest.mark.parametrize("make", [plain, with_both])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_learning_rate_that_is_too_high(make, threads):
    ic.set_num_threads(threads)
    trainer = ic.Trainer(make().init(0), optimizer=ic.SGD(1e30, momentum=0.9), shard=4)
    states = []

    def train():
        while len(states) < 50:
            states.append(everything(trainer))
            trainer.step(GOOD, LABELS)

    with pytest.raises(ic.NonFiniteError, match=r"(the loss is (nan|inf)|is infinite or NaN).*lower learning rate"):
        train()
    assert len(states) > 1
    assert_same_bits(everything(trainer), states[-1])


def test_a_batch_norm_needs_two_values_per_channel():
    net = ic.Sequential([ic.Conv2d(3, 4, 8), ic.BatchNorm2d(4), ic.Flatten(), ic.Linear(4, 2)])
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.1, 0.9))
    before = everything(trainer)
    with pytest.raises(ic.ShapeError) as error:
        trainer.step(GOOD[:1], [0])
    for text in ("layer '1'", "BatchNorm2d", "more than one value per channel", "larger batch"):
        assert text in str(error.value)
    assert_same_bits(everything(trainer), before)
    trainer.step(GOOD[:2], [0, 1])


ONLY_TRAINING = "no loss", "no images"


@pytest.mark.parametrize("name", [name for name in BAD_BATCHES if "label" not in name and name not in ONLY_TRAINING])
def test_the_same_errors_in_prediction(name):
    net, (images, _, kind, texts) = plain().init(0), BAD_BATCHES[name]
    net.predict(GOOD)
    with pytest.raises(kind) as error:
        net.predict(images)
    for text in texts:
        assert text in str(error.value)


def test_a_first_batch_tells_the_shape():
    net = plain().init(0)
    assert net.input_shape is None
    assert net.predict(GOOD[:0]).shape == (0, 4)
    assert net.input_shape is None  # no images are none to go by
    with pytest.raises(ic.ShapeError, match="images must have shape"):
        net.predict(np.ones(5))
    net.predict(GOOD)
    assert net.input_shape == (3, 8, 8)


# Images and labels of every kind ------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", ">f4"])
def test_images_of_every_type(dtype):
    """uint8 is scaled to [0, 1]; floating-point numbers are taken as they are."""
    x = np.random.default_rng(0).integers(0, 2, (5, 3, 8, 8)).astype(dtype)
    same = x.astype("float32") / (255 if dtype == "uint8" else 1)
    a, b = (ic.Trainer(plain().init(0), optimizer=ic.SGD(0.1)) for _ in range(2))
    assert a.step(x, [0, 1, 2, 3, 0]) == pytest.approx(b.step(same, [0, 1, 2, 3, 0]), rel=1e-6)
    assert_allclose(a.net.flat, b.net.flat, rtol=1e-5, atol=1e-7)
    assert_allclose(a.net.predict(x), b.net.predict(same), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint16", "bool"])
def test_whole_numbers_of_unknown_scale_are_refused(dtype):
    with pytest.raises(ic.DTypeError, match=f"images must be uint8, .* got {dtype}"):
        plain().init(0).predict(np.ones((5, 3, 8, 8), dtype))


@pytest.mark.parametrize("labels", [[0, 1, 2], (0, 1, 2), np.array([0, 1, 2], "uint8"), np.array([0, 1, 2], ">i8")])
def test_labels_of_every_type(labels):
    losses = [ic.Trainer(plain().init(0)).step(GOOD[:3].tolist(), given) for given in (labels, np.arange(3))]
    assert losses[0] == losses[1]


def test_arrays_of_any_strides_that_are_not_changed():
    x, labels = np.asfortranarray(GOOD), np.repeat(LABELS, 2)[::2]
    x.flags.writeable = labels.flags.writeable = False
    a, b = (ic.Trainer(plain().init(0), shard=4) for _ in range(2))
    assert a.step(x[:, ::-1, :, ::-1], labels) == b.step(GOOD[:, ::-1, :, ::-1].copy(), LABELS)
    assert_same_bits(a.net.predict(x), b.net.predict(GOOD))


def test_a_network_on_features():
    x, labels = normal(10, 6, dtype="float64"), np.arange(10) % 3
    net = ic.Sequential([ic.Linear(6, 8), ic.ReLU(), ic.Linear(8, 3)]).init(0, "float64")
    p = net.parameters()
    hidden = oracles.relu(oracles.linear(x, p["0.weight"], p["0.bias"]))
    logits = oracles.linear(hidden, p["2.weight"], p["2.bias"])
    assert_allclose(net.predict(x), logits, rtol=1e-12)
    assert ic.Trainer(net, shard=3).step(x, labels) == pytest.approx(oracles.cross_entropy(logits, labels), rel=1e-12)


def test_predictions_are_the_caller_s():
    net = plain().init(0)
    first = net.predict(GOOD)
    copy = first.copy()
    second = net.predict(2 * GOOD)
    assert_same_bits(first, copy)
    assert not np.shares_memory(first, second)


def test_predictions_of_images_are_images():
    net = ic.Sequential([conv(3, 2)]).init(0, "float64")
    x = normal(37, 3, 5, 4)
    expected = oracles.conv2d(x, net.parameters()["0.weight"], net.parameters()["0.bias"], padding=1)
    assert_allclose(net.predict(x), expected, rtol=1e-11, atol=1e-13)


def test_predictions_do_not_depend_on_the_company():
    """Each sample by itself, whatever the batch and its shards (up to rounding)."""
    net = with_batch_norm().init(0, "float64")
    ic.Trainer(net).step(GOOD, LABELS)
    x = normal(40, 3, 8, 8)
    alone = np.concatenate([net.predict(image[None]) for image in x])
    assert_allclose(net.predict(x), alone, rtol=1e-10)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("shards_of_32")
def test_several_threads_of_the_user_may_predict_at_once(threads):
    ic.set_num_threads(threads)
    net, wrong = plain().init(0), []
    batches = [normal(40, 3, 8, 8, seed=i, dtype="float32") for i in range(4)]
    expected = [net.predict(x) for x in batches]

    def work(x, y):
        wrong.extend(i for i in range(10) if not np.array_equal(net.predict(x), y))

    users = [threading.Thread(target=work, args=pair) for pair in zip(batches, expected, strict=True)]
    for user in users:
        user.start()
    for user in users:
        user.join(30)
        assert not user.is_alive()
    assert wrong == []


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_is_a_network_of_its_own(copied, used):
    net, other = with_batch_norm().init(0), with_batch_norm().init(0)
    if used:
        for each in (net, other):
            each.predict(GOOD)
            ic.Trainer(each).step(GOOD, LABELS)
    twin, before = copied(net), net.state_dict()
    assert_same_bits(twin.state_dict(), before)
    assert_same_bits(twin.predict(GOOD), net.predict(GOOD))
    for each in (twin, other):
        ic.Trainer(each, optimizer=ic.SGD(0.5)).step(GOOD, LABELS)
    assert_same_bits(twin.state_dict(), other.state_dict())
    assert_same_bits(net.state_dict(), before)


def test_networks_may_share_layers_but_not_parameters():
    net = plain().init(0)
    before = net.predict(GOOD)
    part = ic.Sequential(net.layers[:-1]).init(5)
    drawn = part.predict(GOOD)
    assert_same_bits(net.predict(GOOD), before)
    part.load_state_dict({k: v for k, v in net.state_dict().items() if k in part.parameters()})
    weight, bias = (net.state_dict()[f"{len(net.layers) - 1}.{name}"] for name in ("weight", "bias"))
    assert_allclose(part.predict(GOOD) @ weight.T + bias, before, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(part.predict(GOOD), drawn)


def test_a_network_initialised_again_needs_a_new_trainer():
    net = plain().init(0)
    trainer = ic.Trainer(net)
    trainer.step(GOOD, LABELS)
    net.init(1, "float64")
    with pytest.raises(ic.ShapeError, match="make a new Trainer"):
        trainer.step(GOOD, LABELS)
    ic.Trainer(net).step(GOOD, LABELS)


def test_evaluation_is_that_of_the_predictions():
    x, labels = normal(70, 3, 8, 8, dtype="float32"), np.random.default_rng(0).integers(0, 4, 70)
    trainer = ic.Trainer(with_both().init(0, "float64"))
    trainer.step(GOOD, LABELS)
    before = everything(trainer)
    result = trainer.evaluate(ic.datasets.Dataset(x, labels))
    logits = trainer.net.predict(x)
    assert result["loss"] == pytest.approx(oracles.cross_entropy(logits, labels), rel=1e-10)
    assert result["accuracy"] == (logits.argmax(1) == labels).mean()
    assert_same_bits(everything(trainer), before)


def test_a_network_must_have_parameters():
    for call in (lambda net: net.predict(GOOD), lambda net: net.state_dict(), lambda net: net.parameters()):
        with pytest.raises(ic.ShapeError, match=r"net\.init"):
            call(plain())
    assert ic.Trainer(plain(), seed=4).net.initialized
    assert_same_bits(ic.Trainer(plain(), seed=4).net.state_dict(), plain().init(4).state_dict())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"shard": 0}, "shard"),
        ({"shard": -1}, "shard"),
        ({"shard": 1.5}, "shard"),
        ({"seed": -1}, "seed"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"optimizer": ic.SGD}, "optimizer"),
    ],
)
def test_bad_arguments_of_a_trainer(arguments, text):
    with pytest.raises(ic.Im2colnetError, match=text):
        ic.Trainer(plain(), **arguments)

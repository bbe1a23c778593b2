"""Workers as processes: the same to the last bit, and whatever happens to one is told and does no harm."""

import copy
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import assert_same_bits, batches, divided, everything
from im2colnet_numpy import NumpyBackend

import im2colnet as ic
from im2colnet import memory
from im2colnet.parallel import processes

pytestmark = [
    pytest.mark.skipif(not processes.available(), reason="needs Linux on x86-64"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def workers():
    """Three processes, from the first step on."""
    kind = ic.get_workers()
    ic.set_workers("processes")
    with ic.num_threads(3), divided(steps_before_fork=1):
        yield ic.set_workers
    ic.set_workers(kind)


def small():
    return ic.Sequential(
        [
            ic.Conv2d(3, 6, 3, padding=1),
            ic.BatchNorm2d(6),
            ic.ReLU(),
            ic.Dropout(0.3),
            ic.MaxPool2d(2),
            ic.Flatten(),
            ic.Linear(96, 4),
        ]
    )


batch = batches((3, 8, 8), classes=4, n=12)


def trainer(net=None, optimizer=None):
    return ic.Trainer((net or small()).init(0), optimizer=optimizer or ic.SGD(0.05, 0.9), seed=1, shard=4)


def pids(trained):
    return trained.engine.worker_processes()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_results_are_those_of_one_worker(workers):
    def train(threads, kind):
        ic.set_num_threads(threads)
        workers(kind)
        teacher = trainer(optimizer=ic.Adam(0.01))
        losses = [
            teacher.step(*batch(n, n, dtype))
            for n, dtype in (
                (12, "float32"),
                (12, "float32"),
                (5, "float32"),
                (12, "float64"),
                (9, "float32"),
                (12, "float32"),
                (2, "float32"),
            )
        ]
        return losses, everything(teacher), teacher.workers

    losses, state, _ = train(1, "threads")
    for threads in 2, 3:
        found, others, _ = train(threads, "processes")
        assert found == losses
        assert_same_bits(others, state)


def test_which_workers_ran_is_visible(workers):
    teacher = trainer()
    teacher.step(*batch())
    assert teacher.workers == "3 processes"
    assert len(pids(teacher)) == 2
    teacher.step(*batch(3))
    assert teacher.workers == "1 worker"
    workers("threads")
    teacher.step(*batch())
    assert teacher.workers == "3 threads"


def test_only_steps_that_are_repeated_start_processes():
    with divided(steps_before_fork=3):
        teacher, seen = trainer(), []
    for n in 12, 12, 9, 12, 12:
        teacher.step(*batch(n))
        seen.append(teacher.workers)
    assert seen == ["3 threads"] * 3 + ["3 processes"] * 2


def test_another_number_of_them_ends_those_there_were():
    teacher = trainer()
    teacher.step(*batch())
    before = pids(teacher)
    ic.set_num_threads(2)
    teacher.step(*batch())
    assert teacher.workers == "2 processes"
    assert not any(map(alive, before))


def test_the_same_processes_go_on():
    teacher = trainer()
    teacher.step(*batch())
    first = pids(teacher)
    for i in range(5):
        teacher.step(*batch(seed=i))
    assert pids(teacher) == first


def test_what_changes_between_steps_reaches_the_workers(workers):
    def train(kind):
        workers(kind)
        teacher = trainer()
        teacher.step(*batch())
        teacher.optimizer = ic.SGD(0.05, 0.5)
        teacher.step(*batch())
        teacher.net.layers[3].p = 0.6
        teacher.step(*batch())
        teacher.net.load_state_dict({k: v * 0.5 for k, v in teacher.net.state_dict().items()})
        return [teacher.step(*batch()) for _ in range(2)], everything(teacher)

    losses, state = train("threads")
    found, others = train("processes")
    assert found == losses
    assert_same_bits(others, state)


class Counts(ic.Layer):
    """Changes itself at every step, which no other process can see."""

    def __init__(self):
        self.calls = 0

    def output_shape(self, x):
        return x

    def forward(self, x, ctx):
        self.calls += 1
        return x

    def backward(self, dy, ctx):
        return dy


def test_workers_that_are_outdated_after_every_step_become_threads():
    teacher, seen = trainer(), []
    for i in range(8):
        teacher.net.layers[3].p = 0.1 + i / 100
        teacher.step(*batch())
        seen.append(teacher.workers)
    assert seen[0] == "3 processes"
    assert seen[-1] == "3 threads"


def test_a_layer_that_changes_itself_is_worked_on_in_one_order_and_that_is_said():
    teacher = trainer(ic.Sequential([Counts(), *small().layers]))
    with pytest.warns(ic.WorkerWarning, match=r"Counts: its state changes.*stateless = True"):
        teacher.step(*batch())
    for _ in range(3):
        teacher.step(*batch())
        assert teacher.workers == "1 thread"
    assert teacher.net.layers[0].calls == 12
    assert not pids(teacher)


def test_a_copied_network_is_shared_like_any_other():
    teacher, other = ic.Trainer(copy.deepcopy(small().init(0)), shard=4), ic.Trainer(small().init(0), shard=4)
    assert [teacher.step(*batch()) for _ in range(2)] == [other.step(*batch()) for _ in range(2)]
    assert teacher.workers == "3 processes"


def test_threads_train_where_a_backend_s_arrays_are_not_shared():
    class Alone(NumpyBackend):
        empty_shared = ic.Backend.empty_shared

    teacher = ic.Trainer(small().init(0, backend=Alone()), shard=4)
    teacher.step(*batch())
    assert teacher.workers == "3 threads"


# Inference ----------------------------------------------------------------------------------------------------------
def predictor(shards=4):
    """A network whose inference is in shards of so many images."""
    net = small().init(0)
    net.inference().shard = shards
    return net


def workers_of(net):
    return net.inference().workers_text


def test_predictions_and_evaluations_are_those_of_one_worker(workers):
    def infer(threads, kind):
        ic.set_num_threads(threads)
        workers(kind)
        net, teacher = predictor(), None
        teacher = ic.Trainer(net, seed=1, shard=4)
        found = []
        for n, dtype in (12, "float32"), (9, "float32"), (12, "float64"), (2, "float32"), (12, "float32"):
            images, labels = batch(n, n, dtype)
            found += [net.predict(images), *teacher.evaluate((images, labels)).values()]
            found += [net.predict((images * 9).astype("uint8")), teacher.step(images, labels)]
        return found

    expected = infer(1, "threads")
    for threads in 2, 3:
        for found, one in zip(infer(threads, "processes"), expected, strict=True):
            assert_same_bits(found, one)


def test_predictions_are_made_by_processes_from_the_third_of_a_batch_size_on():
    with divided(steps_before_fork=3):
        net, seen = predictor(), []
    for n in 12, 12, 9, 12, 12, 1:
        net.predict(batch(n)[0])
        seen.append(workers_of(net))
    assert seen == ["3 threads"] * 3 + ["3 processes"] * 2 + ["1 worker"]


def test_the_same_processes_predict_and_evaluate_while_a_network_is_trained():
    net = predictor()
    teacher = ic.Trainer(net, seed=1, shard=4)
    teacher.evaluate(batch())
    first = net.inference().worker_processes()
    for _ in range(3):
        teacher.step(*batch())
        teacher.evaluate(batch())
        net.predict(batch()[0])
    assert net.inference().worker_processes() == first
    assert workers_of(net) == "3 processes"


def test_a_prediction_is_the_user_s_own():
    net = predictor()
    one, other = net.predict(batch()[0]), net.predict(batch(seed=1)[0])
    assert not np.array_equal(one, other)
    one[...] = 0
    assert net.predict(batch(seed=1)[0]).tobytes() == other.tobytes()


def test_a_network_that_is_loaded_again_reaches_the_workers():
    net, other = predictor(), small().init(7)
    net.predict(batch()[0])
    net.load_state_dict(other.state_dict())
    other.inference().shard = 4
    assert_same_bits(net.predict(batch()[0]), other.predict(batch()[0]))


def test_a_batch_that_would_take_much_memory_to_copy_stays_with_threads():
    with divided(steps_before_fork=1, max_copied_bytes=12 * 3 * 8 * 8 * 4 - 1):
        net = predictor()
    net.predict(batch()[0])
    assert workers_of(net) == "3 threads"
    net.predict(batch(9)[0])
    assert workers_of(net) == "3 processes"


def of_every_layer(conv=ic.Conv2d, dtype="float32"):
    """A network of every layer that can be divided by rows, and of some that cannot."""
    block = ic.Sequential([conv(8, 8, 3, padding=1, groups=8, bias=False), ic.BatchNorm2d(8)])
    strided = ic.Sequential([conv(8, 16, 3, stride=2, padding=1), ic.BatchNorm2d(16)])
    net = ic.Sequential(
        [
            conv(3, 8, 5, padding=((2, 1), (0, 3))),
            ic.BatchNorm2d(8),
            ic.ReLU(),
            ic.Residual(block),
            ic.BatchNorm2d(8),
            ic.AvgPool2d(3, 1, 1, count_include_pad=False),
            ic.Residual(strided, ic.ZeroPadShortcut(8, 16, 2)),
            ic.ReLU(),
            conv(16, 12, 1),
            ic.MaxPool2d(3, 2, 1),
            ic.AvgPool2d(2, ceil_mode=True),
            conv(12, 40, 3, padding=2, dilation=2),
            ic.GlobalAvgPool2d(),
            ic.Flatten(),
            ic.Dropout(0.5),
            ic.Linear(40, 4),
        ]
    )
    return net.init(0, dtype)


def image(n=1, dtype="float32"):
    return np.random.default_rng(n).standard_normal((n, 3, 23, 19)).astype(dtype)


def in_bands(bands, make=of_every_layer):
    """A network whose layers are all divided into this many bands."""
    with divided(steps_before_fork=1, bands=bands, band_min_flops=1):
        return make()


def test_workers_share_one_image(workers):
    """The results are those of a whole image, and the same to the last bit for any number of workers."""
    for dtype in "float32", "float64":

        def make(dtype=dtype):
            return of_every_layer(dtype=dtype)

        whole = [in_bands(1, make).predict(image(n, dtype)) for n in (1, 3)]
        found = []
        for threads in 1, 2, 3:
            ic.set_num_threads(threads)
            net = in_bands(3, make)
            labels = np.arange(3) % 4
            teacher = ic.Trainer(net)
            found.append([net.predict(image(n, dtype)) for n in (1, 3)])
            found[-1] += teacher.evaluate((image(3, dtype), labels)).values()
            assert workers_of(net) == (f"{threads} processes" if threads > 1 else "1 worker")
        for results in found:
            for result, exact in zip(results, whole, strict=False):
                np.testing.assert_allclose(result, exact, rtol=1e-4 if dtype == "float32" else 1e-11, atol=1e-6)
            for result, first in zip(results, found[0], strict=True):
                assert_same_bits(result, first)


def test_workers_share_one_image_after_one_worker_alone(workers):
    """What one worker has made in memory of its own, several do not share."""
    net, expected = in_bands(2), in_bands(2).predict(image())
    for threads in 1, 2, 1, 2:
        ic.set_num_threads(threads)
        for _ in range(2):
            assert_same_bits(net.predict(image()), expected)


def test_threads_do_not_share_an_image(workers):
    expected = in_bands(2).predict(image())
    workers("threads")
    net = in_bands(2)
    assert_same_bits(net.predict(image()), expected)
    assert workers_of(net) == "1 worker"


class Doubled(ic.Conv2d):
    """A convolution whose rows depend on the whole image, which its base class does not know."""

    def forward(self, x, ctx):
        y = super().forward(x, ctx)
        y *= x.shape[0]
        return y


def test_a_layer_of_the_user_s_is_not_divided():
    expected = in_bands(1, lambda: of_every_layer(Doubled)).predict(image())
    found = in_bands(2, lambda: of_every_layer(Doubled)).predict(image())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_small_network_s_image_stays_with_one_worker():
    net = predictor()
    net.predict(batch(1)[0])
    assert workers_of(net) == "1 worker"
    assert net.plan(1, training=False).band_count == 1
    assert ic.models.vgg8(input_size=96).plan(1, training=False, threads=2).workers == 2


def test_images_that_are_not_finite_and_a_worker_that_is_killed_while_predicting():
    net, (images, _) = predictor(), batch()
    expected, bad = net.predict(images), images.copy()
    bad[-1, 0, 0, 0] = np.nan
    with pytest.raises(ic.NonFiniteError, match="image 11 of the batch"):
        net.predict(bad)
    assert_same_bits(net.predict(images), expected)
    killed = net.inference().worker_processes()[0]
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(ic.WorkerError, match=rf"process {killed}\) was killed"):
        net.predict(images)
    assert_same_bits(net.predict(images), expected)


# When something goes wrong ------------------------------------------------------------------------------------------
def test_a_worker_that_is_killed_is_told_and_another_takes_its_place():
    teacher = trainer()
    teacher.step(*batch())
    before, killed = everything(teacher), pids(teacher)[1]
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(ic.WorkerError, match=rf"worker 2 \(process {killed}\) was killed by signal 9"):
        teacher.step(*batch())
    assert_same_bits(everything(teacher), before)
    assert not any(map(alive, [killed, *pids(teacher)]))
    other = trainer()
    other.step(*batch())
    assert teacher.step(*batch()) == other.step(*batch())
    assert teacher.workers == "3 processes"


def test_a_worker_whose_end_somebody_else_has_waited_for():
    teacher = trainer()
    teacher.step(*batch())
    killed = pids(teacher)[0]
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    with pytest.raises(ic.WorkerError, match=rf"worker 1 \(process {killed}\) has ended"):
        teacher.step(*batch())
    assert np.isfinite(teacher.step(*batch()))


class Fails(ic.Layer):
    """Fails in one worker when it is told to, by a file."""

    stateless = True

    def __init__(self, file, error):
        self.file, self.error = file, error

    def output_shape(self, x):
        return x

    def forward(self, x, ctx):
        if self.file.exists() and self.file.read_text() == str(ctx.key[-1]):
            raise self.error
        return x

    def backward(self, dy, ctx):
        return dy


class Local(Exception):
    def __init__(self, one, two):  # so it cannot be unpickled
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("no good"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(3), SystemExit),
        (Local("this", "that"), (Local, ic.WorkerError)),
    ],
)
def test_an_error_in_any_worker_is_raised_and_changes_nothing(error, kind, shard, tmp_path):
    file = tmp_path / "fail"
    layers = small().layers
    teacher, other = (trainer(ic.Sequential([*layers[:2], Fails(file, error), *layers[2:]])) for _ in range(2))
    teacher.step(*batch())
    other.step(*batch())
    before, first = everything(teacher), pids(teacher)
    file.write_text(str(shard))
    with pytest.raises(kind) as caught:
        teacher.step(*batch())
    if kind is ValueError:
        assert "no good" in str(caught.value)
    if isinstance(error, Local):
        assert "this and that" in str(caught.value)
    assert_same_bits(everything(teacher), before)
    vars(error).clear()  # the notes: they are new, and the layer holds the error
    file.unlink()
    assert pids(teacher) == first, "they go on"
    assert [teacher.step(*batch()) for _ in range(2)] == [other.step(*batch()) for _ in range(2)]


def test_an_error_says_where_in_the_worker_it_was(tmp_path):
    file = tmp_path / "fail"
    teacher = trainer(ic.Sequential([Fails(file, ValueError("no good")), *small().layers]))
    file.write_text("2")
    with pytest.raises(ValueError, match="no good") as caught:
        teacher.step(*batch())
    assert any("in forward" in note for note in caught.value.__notes__)


def test_an_image_that_is_not_finite_in_another_worker():
    teacher, other = trainer(), trainer()
    images, labels = batch()
    images[-1, 0, 0, 0] = np.nan
    for one in teacher, other:
        one.step(*batch())
    with pytest.raises(ic.NonFiniteError, match="image 11 of the batch"):
        teacher.step(images, labels)
    assert teacher.step(*batch()) == other.step(*batch())


# Beginning and end --------------------------------------------------------------------------------------------------
def test_the_workers_end_with_the_trainer():
    teacher = trainer()
    teacher.step(*batch())
    workers = pids(teacher)
    assert all(map(alive, workers))
    del teacher
    assert not any(map(alive, workers))


SCRIPT = """
import os, sys, time
import numpy as np
import im2colnet as ic
print("begins", flush=True)

class Mine(ic.ReLU):
    stateless = True

ic.set_num_threads(2)
ic.set_workers("processes")
trainer = ic.Trainer(ic.Sequential([ic.Conv2d(3, 4, 3), Mine(), ic.Flatten(), ic.Linear(144, 2)]), shard=4)
images, labels = np.random.default_rng(0).random((8, 3, 8, 8), "float32"), np.arange(8) % 2
for _ in range(4):
    trainer.step(images, labels)
print(trainer.workers, *trainer.engine.worker_processes(), flush=True)
"""


def test_a_script_without_a_guard_is_not_run_again():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    begins, ran = done.stdout.splitlines()
    assert begins == "begins"
    assert ran.startswith("2 processes ")
    wait_for(lambda: not alive(int(ran.split()[-1])))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_workers_end_with_the_process(how):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + "time.sleep(60)"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        child.stdout.readline()
        worker = int(child.stdout.readline().split()[-1])
        assert alive(worker)
        child.send_signal(how)
        child.wait(10)
        wait_for(lambda: not alive(worker))


def test_a_process_of_the_user_s_has_workers_of_its_own():
    teacher, other = trainer(), trainer()
    for one in teacher, other:
        one.step(*batch())
    expected, read = other.step(*batch()), os.pipe()
    pid = os.fork()
    if not pid:
        try:
            loss = teacher.step(*batch())
            os.write(read[1], f"{loss == expected} {teacher.workers}".encode())
        finally:
            os._exit(0)
    os.close(read[1])
    assert os.read(read[0], 100) == b"True 3 processes"
    os.close(read[0])
    os.waitpid(pid, 0)


def test_the_kind_of_workers_is_checked(workers, monkeypatch):
    with pytest.raises(ic.ShapeError, match="workers must be one of auto, processes, threads, got 'fibres'"):
        workers("fibres")
    monkeypatch.setattr(memory, "AVAILABLE", False)  # as on another processor
    teacher = trainer()
    with pytest.raises(ic.WorkerError, match="needs Linux on x86-64"):
        teacher.step(*batch())
    workers("auto")
    teacher.step(*batch())
    assert teacher.workers == "3 threads"


DAEMON = """
import os, sys, threading, time
import numpy as np
import im2colnet as ic

data = np.random.default_rng(0).random((64, 3, 8, 8), "float32"), np.arange(64) % 2

def train():
    while True:
        trainer = ic.Trainer(ic.Sequential([ic.Conv2d(3, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(144, 2)]), shard=4)
        trainer.fit(data, 4, 8, progress=False)

for moment in [0.01 * i for i in range(20)]:  # each in a process of its own, which saves the import
    if os.fork() == 0:
        ic.set_num_threads(2)
        ic.set_workers(sys.argv[1])
        threading.Thread(target=train, daemon=True).start()
        time.sleep(moment)
        sys.exit()
    status = os.waitstatus_to_exitcode(os.wait()[1])
    if status:
        sys.exit(f"{moment} s: exit status {status}")
"""


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_daemon_thread_that_trains_at_the_end_ends_quietly(kind):
    done = subprocess.run([sys.executable, "-c", DAEMON, kind], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_nonsense_in_the_environment_is_refused_with_one_worker_too():
    code = "import im2colnet as ic; ic.set_num_threads(1); ic.models.notebook().init(0).predict([[[[0.0] * 8] * 8]])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"IM2COLNET_WORKERS": "nope"}
    )
    assert done.returncode == 1
    assert "workers must be one of auto, processes, threads, got 'nope'" in done.stderr

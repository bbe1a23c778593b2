"""Ctrl-C, SIGTERM and errors at any moment: whole steps, or a trainer that refuses to go on."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_bits, batches, divided, everything
from im2colnet_numpy import denormal

import im2colnet as ic
from im2colnet import memory
from im2colnet.parallel import processes

ROOT = os.path.dirname(ic.__file__)


@pytest.fixture(autouse=True)
def one_worker():
    before, handlers = ic.get_num_threads(), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    ic.set_num_threads(1)
    yield
    ic.set_num_threads(before)
    # an error out of nowhere at the end of a with block, where no signal can strike, leaves its lock held
    memory.let_go()
    for number, handler in handlers.items():
        signal.signal(number, handler)


batch = batches((1, 5, 5), classes=3, n=6)


def adam_trainer():
    net = ic.Sequential([ic.Conv2d(1, 2, 3), ic.BatchNorm2d(2), ic.ReLU(), ic.Flatten(), ic.Linear(18, 3)]).init(0)
    return ic.Trainer(net, optimizer=ic.Adam(0.01), seed=1, shard=3)


@pytest.fixture(autouse=True)
def arithmetic_as_before():
    """An error that is planted while arithmetic is set, or set back, leaves the thread as it is then."""
    before = denormal.Environment()
    if denormal.LIBRARY is not None:
        denormal.LIBRARY.fegetenv(ctypes.byref(before))
    yield
    if denormal.LIBRARY is not None:
        denormal.LIBRARY.fesetenv(ctypes.byref(before))


class Planted(BaseException):
    """No code of the library expects it."""


class Raises:
    """Raises an error at the n-th line that is run within the library."""

    def __init__(self, n, error):
        self.left, self.error = n, error

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise self.error()  # a new one each time, which holds no frame of an earlier try
        return self


def lines_of(work):
    counting = Raises(-1, None)
    sys.settrace(counting)
    try:
        work()
    finally:
        sys.settrace(None)
    return -1 - counting.left


def interrupted_at(n, work, error):
    before = sys.gettrace()
    sys.settrace(Raises(n, error))
    try:
        work()
    except error:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_step_that_is_interrupted_anywhere(error):
    """Even by an error out of nowhere, such as that of a signal handler of the user's."""
    batches, states = [batch(seed=i) for i in range(4)], []
    whole = adam_trainer()
    for one in batches:
        whole.step(*one)
        states.append(everything(whole))

    def warm():
        teacher = adam_trainer()
        teacher.step(*batches[0])
        return teacher

    teacher = warm()
    count = lines_of(lambda: teacher.step(*batches[1]))
    refused = went_on = 0
    for n in range(1, count + 1, max(1, count // 150)):
        teacher = warm()
        interrupted_at(n, lambda teacher=teacher: teacher.step(*batches[1]), error)
        try:
            done = everything(teacher)["step"]
            for one in batches[done:]:
                teacher.step(*one)
        except ic.InterruptedStepError:
            refused += 1
            with pytest.raises(ic.InterruptedStepError, match="checkpoint"):
                teacher.save("nowhere")
            with pytest.raises(ic.InterruptedStepError, match="checkpoint"):
                teacher.evaluate(batches[0])
            continue
        went_on += 1
        assert done in (1, 2)
        assert_same_bits(everything(teacher), states[-1])
    assert refused > 5
    assert went_on > 50


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_fit_that_is_interrupted_anywhere():
    data = batch(20)

    def fit(teacher, epochs=3):
        return teacher.fit(data, epochs, 6, validation=batch(4, 1))

    expected = adam_trainer()
    fit(expected)
    went_on = 0
    count = lines_of(lambda: fit(adam_trainer()))
    for n in range(1, count + 1, max(1, count // 120)):
        teacher = adam_trainer()
        interrupted_at(n, lambda teacher=teacher: fit(teacher), Planted)
        try:
            history = fit(teacher)
        except ic.InterruptedStepError:
            continue
        went_on += 1
        assert history["loss"] == expected.history["loss"]
        assert history["epoch"] == [1, 2, 3]
        assert_same_bits(everything(teacher), everything(expected))
    assert went_on > 50


def test_ctrl_c_in_a_step_waits_for_its_end():
    class Presses(ic.ReLU):
        stateless, armed = True, False

        def forward(self, x, ctx):
            if Presses.armed:
                signal.raise_signal(signal.SIGINT)
            return super().forward(x, ctx)

    def make():
        return ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(25, 4), Presses(), ic.Linear(4, 3)]).init(0), shard=6)

    expected, teacher = make(), make()
    expected.step(*batch())
    Presses.armed = True
    with pytest.raises(KeyboardInterrupt):
        teacher.step(*batch())
    Presses.armed = False
    assert_same_bits(everything(teacher), everything(expected))
    assert everything(teacher)["step"] == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_in_a_layer_leaves_a_trainer_that_goes_on():
    class Fails(ic.ReLU):
        def backward(self, dy, ctx):
            if FAIL:
                raise FAIL.pop()
            return super().backward(dy, ctx)

    FAIL = []
    teacher, expected = (
        ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(25, 4), Fails(), ic.Linear(4, 3)]).init(0), shard=3)
        for _ in range(2)
    )
    for one in teacher, expected:
        one.step(*batch())
    FAIL.append(ValueError("no good"))
    with pytest.raises(ValueError, match="no good"):
        teacher.step(*batch(seed=1))
    assert teacher.step(*batch(seed=2)) == expected.step(*batch(seed=2))


SCRIPT = """
import sys, time
import numpy as np
import im2colnet as ic
class Shows:
    def step(self, progress):
        print(progress.epoch, progress.batch, flush=True)
        time.sleep(0.02)
    def epoch(self, record):
        pass
rng = np.random.default_rng(0)
data = rng.random((60, 1, 8, 8), dtype="float32"), rng.integers(0, 3, 60)
ic.set_num_threads(2)
trainer = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 3)]).init(0), seed=1, shard=5)
trainer.fit(data, 100, 10, directory=sys.argv[1], display=Shows())
"""


def stopped_by(number, folder, *prefix):
    """Send a signal to a training in its second epoch; return the exit status and what it wrote to stderr."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", SCRIPT, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        for line in process.stdout:
            if line.startswith("2 3"):
                target = process.pid
                if prefix:
                    target = int(Path(f"/proc/{target}/task/{target}/children").read_text())
                os.kill(target, number)
                break
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, errors


def check_checkpoint(folder):
    rng = np.random.default_rng(0)
    data = rng.random((60, 1, 8, 8), dtype="float32"), rng.integers(0, 3, 60)
    teacher = ic.Trainer.load(folder / "checkpoint.safetensors")
    assert teacher.epoch == 1
    teacher.fit(data, 100, 10)
    expected = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 3)]).init(0), seed=1, shard=5)
    expected.fit(data, 100, 10)
    assert_same_bits(everything(teacher), everything(expected))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_fit_saves_when_it_is_stopped(number, status, tmp_path):
    code, errors = stopped_by(number, tmp_path)
    assert code in (status, 1 if number == signal.SIGINT else status), errors
    check_checkpoint(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or not shutil.which("unshare"), reason="needs unshare")
def test_fit_saves_as_process_1_of_a_container(tmp_path):
    probe = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("no new namespace of processes is allowed here")
    code, errors = stopped_by(signal.SIGTERM, tmp_path, "unshare", "--pid", "--fork")
    assert code == 143, errors
    check_checkpoint(tmp_path)


@pytest.mark.skipif(not processes.available(), reason="needs Linux on x86-64")
def test_a_worker_that_is_stopped_is_ended_by_the_first_ctrl_c():
    kind, before = ic.get_workers(), signal.getsignal(signal.SIGALRM)
    ic.set_workers("processes")
    try:
        with ic.num_threads(2):
            with divided(steps_before_fork=1):
                teacher = adam_trainer()
            teacher.step(*batch())
            (pid,) = teacher.engine.worker_processes()
            os.kill(pid, signal.SIGSTOP)
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                teacher.step(*batch(seed=1))
            assert time.monotonic() - began < 20
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            expected = adam_trainer()
            expected.step(*batch())
            assert teacher.step(*batch(seed=2)) == expected.step(*batch(seed=2))
    finally:
        signal.signal(signal.SIGALRM, before)
        ic.set_workers(kind)

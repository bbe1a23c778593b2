"""Whatever fails on one rank, the job ends in time or all ranks go on, and the cause is told."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from mpi_jobs import Job, launcher, run
from starting import ROOT

LIMIT = 20  # seconds for every job here
#: a small network, whose batches of 12 images are 4 shards, and one batch
START = """
import json, os, signal, sys, time, zlib
import numpy as np
import im2colnet as ic
ic.set_num_threads(1)
class Probe(ic.ReLU):
    stateless = True
    def forward(self, x, ctx):
        probe(ctx)
        return super().forward(x, ctx)
def probe(ctx):
    pass
def make(lr=0.1, first=0, **how):
    net = ic.Sequential([ic.Conv2d(1, 4, 3), Probe(), ic.BatchNorm2d(4), ic.Flatten(), ic.Linear(144, 4)]).init(first)
    return ic.Trainer(net, optimizer=ic.SGD(lr, momentum=0.9), seed=1, shard=3, **how)
rng = np.random.default_rng(0)
images, labels = rng.standard_normal((12, 1, 8, 8)).astype("float32"), rng.integers(0, 4, 12)
def show(trainer):
    arrays = [*trainer.net.state_dict().values(), *trainer.optimizer_state.values()]
    print(f"{zlib.crc32(b''.join(array.tobytes() for array in arrays)):08x}")
"""


def failed(code):
    return code != 0


def ends(size, script, code=failed, **options):
    """Run a script that must end in time, and return the job and all that it wrote to stderr."""
    done = run(size, script=START + script, code=code, limit=LIMIT, **options)
    return done, "\n".join(done.err)


def alone(script):
    """What a script prints as one process without MPI."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, "-c", START + script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# In a step ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_error_in_a_layer_of_one_rank_ends_all(rank):
    """Every rank raises it or an error that names it; it is printed once."""
    done, err = ends(
        3,
        f"""
trainer = make()
trainer.step(images, labels)
def probe(ctx):
    if trainer.rank == {rank}:
        raise ValueError("the layer is broken")
trainer.step(images, labels)
""",
    )
    assert "ValueError: the layer is broken" in err
    assert err.count("Traceback (most recent call last)") <= 2  # what failed, and what rank 0 makes of it


CAUGHT = """
trainer = make()
bad = images.copy()
bad[{image}, 0, 3, 3] = np.nan
for batch in images, bad, images[::-1].copy(), bad, images:
    try:
        trainer.step(batch, labels)
    except ic.Im2colnetError as error:
        print("failed:", "image" in str(error))
show(trainer)
"""


@pytest.mark.parametrize(("size", "image"), [(2, 0), (2, 11), (3, 5), (4, 11)])
def test_training_goes_on_after_an_image_that_is_not_finite(size, image):
    script = CAUGHT.format(image=image)
    done, _ = ends(size, script, code=0)
    assert done.out == [alone(script)] * size


def test_training_goes_on_after_an_error_that_a_script_catches():
    script = """
trainer = make()
broken = []
def probe(ctx):
    if broken and (trainer.rank == 1 or {alone}):
        broken.clear()
        raise ValueError("now and then")
for step in range(4):
    if step in (1, 2):
        broken.append(1)
    try:
        trainer.step(images, labels)
    except (ValueError, ic.Im2colnetError) as error:
        print("failed:", "now and then" in str(error))
    broken.clear()
show(trainer)
"""
    done, _ = ends(3, script.format(alone=False), code=0)
    assert done.out == [alone(script.format(alone=True))] * 3


@pytest.mark.parametrize("call", ["step(images, labels)", "fit((images, labels), 2, 12, progress=False)"])
def test_an_error_after_the_last_join_ends_the_job(call):
    """The others wait for what this rank makes of its part of the gradient, so that no meeting can tell them."""
    _, err = ends(
        2,
        f"""
class Breaks(ic.SGD):
    stateless = True
    def update(self, *arguments):
        if trainer.rank == 0:
            raise ValueError("the optimizer is broken")
        super().update(*arguments)
trainer = ic.Trainer(make().net, optimizer=Breaks(0.1), seed=1, shard=3)
trainer.{call}
""",
    )
    assert "ValueError: the optimizer is broken" in err
    assert "the job is aborted" in err


def test_an_idle_rank_is_told_too():
    """A batch of one shard leaves the other ranks without work."""
    done, err = ends(
        3,
        """
trainer = make()
def probe(ctx):
    raise ValueError("of the only shard")
try:
    trainer.step(images[:2], labels[:2])
except (ValueError, ic.Im2colnetError) as error:
    print("told:", "of the only shard" in str(error))
""",
        code=0,
    )
    assert done.out == ["told: True\n"] * 3


def test_a_worker_that_is_killed_is_told():
    script = """
ic.set_num_threads(2)
trainer = make()
for step in range(10**6):
    trainer.step(images, labels)
    if step == 20:
        print("trains", flush=True)
"""
    with Job(2, script=START + script) as job:
        job.wait_for(job.files / "out.1")
        os.kill(job.pids(1)[1], signal.SIGKILL)
        job.finish(failed, limit=LIMIT)
        assert "WorkerError" in "\n".join(job.err)


# Between the steps --------------------------------------------------------------------------------------------------
def test_an_error_outside_of_steps_ends_the_job():
    done, err = ends(
        3,
        """
trainer = make()
trainer.step(images, labels)
if trainer.rank == 1:
    raise RuntimeError("of the script")
trainer.step(images, labels)
""",
    )
    assert "RuntimeError: of the script" in done.err[1]


def test_a_rank_that_exits_early_ends_the_job():
    """By sys.exit, while the others still train."""
    ends(
        2,
        """
trainer = make()
trainer.step(images, labels)
if trainer.rank == 1:
    sys.exit(3)
trainer.step(images, labels)
""",
    )


def test_a_rank_that_vanishes_does_not_hang_the_others():
    """os._exit(0) can end the job with status 0, but not by way of the line after the training."""
    done = run(
        2,
        script=START
        + """
trainer = make()
trainer.step(images, labels)
if trainer.rank == 1:
    os._exit(0)
trainer.step(images, labels)
print("all is done")
""",
        code=None,
        limit=LIMIT,
        variables={"IM2COLNET_RANK_TIMEOUT": "3"},
    )
    assert "all is done" not in "".join(done.out)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_the_job(rank, tmp_path):
    script = """
trainer = make()
while True:
    trainer.step(images, labels)
    if trainer.steps == 5:
        print("trains", flush=True)
"""
    with Job(3, script=START + script) as job:
        job.wait_for(job.files / f"out.{rank}")
        began = time.monotonic()
        os.kill(job.pid(rank), signal.SIGKILL)
        job.finish(failed, limit=LIMIT)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("how", ["sleeps", "is stopped"])
def test_a_rank_that_does_not_come_is_named(how):
    """By the watchdog of the ranks that wait."""
    absent = {"sleeps": "time.sleep(600)", "is stopped": "os.kill(os.getpid(), signal.SIGSTOP)"}[how]
    _, err = ends(
        3,
        f"""
trainer = make()
trainer.step(images, labels)
if trainer.rank == 1:
    {absent}
trainer.step(images, labels)
""",
        variables={"IM2COLNET_RANK_TIMEOUT": "2"},
    )
    assert re.search(r"rank [02] of 3 .*has waited 2 s for .*step", err)


def test_ranks_that_do_different_things():
    done, err = ends(
        2,
        """
trainer = make()
try:
    if trainer.rank == 1:
        trainer.evaluate((images, labels))
    else:
        trainer.step(images, labels)
except ic.Im2colnetError as error:
    print(error)
    raise
""",
    )
    for text in done.out:
        assert "rank 1" in text
        assert "evaluate" in text
        assert "step" in text


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("trainer.step(images[:12 - trainer.rank], labels[:12 - trainer.rank])", "11"),
        ("trainer.step(images, (labels + trainer.rank) % 4)", "labels"),
        ("trainer.fit((images + trainer.rank, labels), 1, 6, progress=False)", "data"),
        ("trainer.fit((images, labels), 1 + trainer.rank, 6, progress=False)", "epochs"),
        ("trainer.fit((images, labels), 1, 6 + trainer.rank, progress=False)", "batch"),
    ],
)
def test_ranks_that_train_on_different_things(call, what):
    done, err = ends(
        2, f"trainer = make()\ntry:\n    {call}\nexcept ic.Im2colnetError as error:\n    print(error)\n    raise"
    )
    for text in done.out:
        assert what in text
        assert "rank" in text


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("lr=0.1 + rank", "optimizer"),
        ("first=rank", "weights"),
        ("clip_norm=1 + rank", "clip_norm"),
        ("accumulate=1 + rank", "accumulate"),
    ],
)
def test_ranks_that_would_train_different_networks(how, what):
    """The error says what differs, and how trainings that are meant to be independent are."""
    done, _ = ends(
        2,
        f"""
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
try:
    make({how})
except ic.Im2colnetError as error:
    print(error)
    raise
""",
    )
    for text in done.out:
        assert what in text
        assert "IM2COLNET_RANKS" in text


def test_independent_trainings_by_setting():
    """Of each rank its own bits, those of one process."""
    script = """
trainer = make(first={first})
trainer.step(images, labels)
show(trainer)
"""
    done, _ = ends(
        2,
        "rank = int(os.environ['OF_RANK'])\n" + script.format(first="rank"),
        code=0,
        variables={"IM2COLNET_RANKS": "none"},
        by_rank=lambda q: {"OF_RANK": str(q)},
    )
    assert done.out == [alone(script.format(first=q)) for q in range(2)]


def test_two_trainings_on_parts_of_the_ranks():
    """A communicator of some ranks is given to the trainer."""
    script = """
from mpi4py import MPI
world = MPI.COMM_WORLD
half = world.Split(world.rank % 2, world.rank)
trainer = make(first=world.rank % 2, ranks=half)
for _ in range(3):
    trainer.step(images, labels)
show(trainer)
"""
    done, _ = ends(4, script, code=0)
    expected = [
        alone(f"trainer = make(first={q})\nfor _ in range(3):\n    trainer.step(images, labels)\nshow(trainer)")
        for q in (0, 1)
    ]
    assert done.out == expected * 2


FIT = """
trainer = make()
class Fails(ic.callbacks.Callback):
    def step(self, progress):
        if trainer.rank == {rank} and trainer.steps == 2:
            raise RuntimeError("of a callback")
trainer.fit((images, labels), 2, 6, progress=False, callbacks=[Fails()])
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_a_callback_ends_all(rank):
    _, err = ends(2, FIT.format(rank=rank))
    assert "of a callback" in err


def test_a_folder_that_cannot_be_written_is_an_error_on_all(tmp_path):
    (tmp_path / "file").write_text("")
    done, _ = ends(
        2,
        f"""
try:
    make().fit((images, labels), 1, 6, progress=False, directory={str(tmp_path / "file" / "run")!r})
except ic.Im2colnetError as error:
    print("told:", error)
    raise
""",
    )
    for text in done.out:
        assert "told:" in text
        assert "cannot make the folder" in text


# Launches that cannot work ------------------------------------------------------------------------------------------
def test_without_mpi4py_it_is_said_what_is_missing():
    done, err = ends(2, "sys.modules['mpi4py'] = None\nmake()")
    assert err.count("mpi4py") >= 1
    assert "pip install" in err


def test_a_launcher_of_another_mpi_is_named():
    """What it starts sees no other rank: N silent copies of one training would write one folder."""
    _, mpi = launcher()
    of_another = {
        "openmpi": {"PMI_SIZE": "2", "PMI_RANK": "0"},
        "mpich": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
    }[mpi]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("IM2COLNET_", "PMI", "OMPI"))}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends"))), **of_another}
    done = subprocess.run(
        [sys.executable, "-c", START + "make()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "MPI" in done.stderr
    assert "IM2COLNET_RANKS" in done.stderr


def test_a_setting_that_there_is_not():
    _, err = ends(2, "make()", variables={"IM2COLNET_RANKS": "many"})
    assert "IM2COLNET_RANKS" in err
    assert "many" in err


def test_without_a_launcher_mpi4py_is_not_imported():
    script = """
trainer = make()
trainer.step(images, labels)
trainer.evaluate((images, labels))
print(json.dumps(sorted(name for name in sys.modules if "mpi" in name.lower().split(".")[0] and "mpi4py" in name)))
"""
    assert json.loads(alone(script)) == []


# Processors that differ ---------------------------------------------------------------------------------------------
def test_ranks_with_different_processors_stay_together():
    """Their bits are not those of one process, but each other's: every parameter is updated once."""
    done, _ = ends(
        2,
        """
trainer = make()
for _ in range(5):
    trainer.step(images, labels)
show(trainer)
print(zlib.crc32(trainer.predict(images).tobytes()))
""",
        code=0,
        by_rank=lambda q: {"OPENBLAS_CORETYPE": ["Haswell", "Sandybridge"][q]},
    )
    assert done.out[0] == done.out[1]

"""Files, displays and copies of a training that several ranks share."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from fake_ranks import run_ranks
from helpers import assert_same_bits, everything, normal

import im2colnet as ic
from im2colnet.errors import Im2colnetError, TrainingWarning

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = normal(22, 2, 6, 6, dtype="float32"), np.arange(22) % 3
TEST = normal(13, 2, 6, 6, seed=1, dtype="float32"), np.arange(13) % 3


def new_trainer(comm):
    net = ic.Sequential([ic.Conv2d(2, 4, 3), ic.BatchNorm2d(4), ic.ReLU(), ic.Flatten(), ic.Linear(64, 3)]).init(0)
    return ic.Trainer(net, optimizer=ic.Adam(0.05), seed=1, shard=3, ranks=comm or "none")


def fit(trainer, epochs=2, **more):
    return trainer.fit(DATA, epochs, 10, **({"validation": TEST, "progress": False} | more))


def assert_as_one_process(size, work, epochs=2):
    """On each of the ranks ``work`` returns what one process ends with after these epochs."""
    alone = new_trainer(None)
    fit(alone, epochs)
    for of_rank in run_ranks(size, work):
        assert_same_bits(of_rank, everything(alone))


@pytest.mark.parametrize("averages", [False, True])
def test_a_checkpoint_is_that_of_one_process(averages, tmp_path):
    def work(comm):
        trainer = new_trainer(comm)
        fit(trainer, callbacks=[ic.callbacks.EMA(0.5)] if averages else [])
        trainer.save(tmp_path / f"{trainer.rank_count}.safetensors")
        return trainer.marks

    work(None)
    first, second, third = run_ranks(3, work)
    assert first == second == third
    alone, shared = (ic.Trainer.load(tmp_path / f"{n}.safetensors", ranks="none") for n in (1, 3))
    assert_same_bits(everything(shared), everything(alone))
    for trainer in alone, shared:
        fit(trainer, 3, callbacks=[ic.callbacks.EMA(0.5)] if averages else [])
    assert_same_bits(everything(shared), everything(alone))


def test_only_rank_0_writes(tmp_path):
    """Each rank is told other places, of which only those of rank 0 are written to."""

    def work(comm):
        own = tmp_path / str(comm.rank)
        trainer = new_trainer(comm)
        callbacks = [
            ic.callbacks.CSVLog(tmp_path / f"log-{comm.rank}.csv"),
            ic.callbacks.KeepBest(path=tmp_path / f"best-{comm.rank}.safetensors"),
        ]
        fit(trainer, directory=own, callbacks=callbacks)
        trainer.save(tmp_path / f"saved-{comm.rank}.safetensors")

    run_ranks(2, work)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("0", "best-0.safetensors", "log-0.csv", "saved-0.safetensors")
    ]


def test_a_folder_is_written_again_by_a_training_that_goes_on(tmp_path):
    def work(comm):
        trainer = new_trainer(comm)
        fit(trainer, 1, directory=tmp_path, callbacks=[ic.callbacks.KeepBest()])
        fit(trainer, 2, directory=tmp_path, callbacks=[ic.callbacks.KeepBest()])
        return everything(trainer)

    assert_as_one_process(3, work)


def test_saved_after_a_time_by_the_clock_of_rank_0(tmp_path):
    """Clocks of ranks differ, and so would their decisions to write a checkpoint."""

    def work(comm):
        trainer = new_trainer(comm)
        fit(trainer, 3, directory=tmp_path, save_every="0.0001 s")
        return everything(trainer)

    assert_as_one_process(3, work, epochs=3)


@pytest.mark.parametrize("how", ["pickle", "copy"])
def test_copies_are_those_of_one_process(how):
    """A copy trains with the same ranks, and one that is pickled on its own, since it has lost its communicator."""

    def work(comm):
        trainer = new_trainer(comm)
        fit(trainer, 1)
        other = pickle.loads(pickle.dumps(trainer)) if how == "pickle" else copy.deepcopy(trainer)
        assert other.rank_count == (1 if how == "pickle" else 2)
        fit(other, 2)
        return everything(other)

    assert_as_one_process(2, work)


def test_a_checkpoint_that_one_rank_cannot_read(tmp_path):
    trainer = new_trainer(None)
    fit(trainer)
    trainer.save(tmp_path / "checkpoint.safetensors")

    def work(comm):
        try:
            ic.Trainer.load(tmp_path / ("missing" if comm.rank else "checkpoint.safetensors"), ranks=comm)
        except Im2colnetError as error:
            return str(error), error.agreed
        return None

    first, second = run_ranks(2, work)
    assert first[1]
    assert second[1]
    assert "rank 1 failed" in first[0]
    assert "missing" in first[0]
    assert "missing" in second[0]


def test_checkpoints_of_two_trainings(tmp_path):
    for seed in 0, 1:
        net = ic.Sequential([ic.Flatten(), ic.Linear(72, 3)]).init(seed)
        ic.Trainer(net, seed=1).save(tmp_path / f"{seed}.safetensors")

    def work(comm):
        with pytest.raises(ic.errors.WorkerError, match="checkpoint"):
            ic.Trainer.load(tmp_path / f"{comm.rank}.safetensors", ranks=comm)
        return True

    assert run_ranks(2, work) == [True, True]


def test_one_display_and_one_warning(capfd):
    """Rank 0 alone shows the progress, and warns that another number of epochs changes the learning rate."""

    def work(comm):
        net = ic.Sequential([ic.Flatten(), ic.Linear(72, 3)]).init(0)
        trainer = ic.Trainer(net, optimizer=ic.SGD(ic.Cosine(0.05)), seed=1, shard=3, ranks=comm)
        fit(trainer, 1, progress="log")
        fit(trainer, 3, progress="log")

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run_ranks(3, work)
    assert len([each for each in told if issubclass(each.category, TrainingWarning)]) == 1
    shown = capfd.readouterr().err
    assert shown.count("epoch 1/1") == 1
    assert shown.count("epoch 3/3") == 1


def test_the_history_is_the_same_on_every_rank():
    """Even its seconds, which each rank measures for itself."""

    class Adds(ic.Callback):
        def __init__(self, rank):
            self.rank = rank

        def epoch(self, record):
            record["rank"] = self.rank

    def work(comm):
        trainer = new_trainer(comm)
        fit(trainer, callbacks=[Adds(comm.rank)])
        return list(trainer.history)

    first, second = run_ranks(2, work)
    assert first == second
    assert [record["rank"] for record in first] == [0, 0]

"""What the head of a training says of shards, ranks and workers, and who has nothing to do."""

import re

import pytest
import strict_cupy
from fake_ranks import run_ranks

import im2colnet as ic
from im2colnet.cli.shards import idle_text, shards_text

SHAPE = (3, 32, 32)


class OfRanks(ic.Trainer):
    """A trainer that takes itself for one of several ranks."""

    rank_count = 1


@pytest.fixture(scope="module")
def make():
    net = ic.models.make("resnet20", 10, 3, 32).init(0)

    def trainer(ranks, shard=None):
        made = OfRanks(net, shard=shard, ranks="none")
        made.rank_count = ranks
        return made

    return trainer


@pytest.mark.parametrize(
    ("ranks", "workers", "batch", "said"),
    [
        (1, 1, 1, "1 image in 1 shard on 1 worker"),
        (1, 2, 64, "64 images in 2 shards on 2 workers"),
        (1, 16, 64, "64 images in 2 shards on 2 of 16 workers"),
        (4, 2, 256, "256 images in 8 shards on 4 ranks x 2 workers"),
        (3, 2, 160, "160 images in 5 shards on 3 ranks x 2 workers"),
        (2, 4, 128, "128 images in 4 shards on 2 ranks x 2 of 4 workers"),
        (4, 1, 64, "64 images in 2 shards on 4 ranks x 1 worker"),
    ],
)
def test_head_of_a_training(make, ranks, workers, batch, said):
    with ic.num_threads(workers):
        assert shards_text(make(ranks), batch, SHAPE) == said


@pytest.mark.parametrize(
    ("ranks", "workers", "batch", "shard", "said"),
    [
        (4, 1, 64, None, "2 of 4 ranks have nothing to do: a batch of 64 images makes 2 shards"),
        (4, 8, 64, None, "2 of 4 ranks have nothing to do: a batch of 64 images makes 2 shards"),
        (3, 1, 64, None, "1 of 3 ranks has nothing to do: a batch of 64 images makes 2 shards"),
        (2, 4, 128, None, "4 of 8 workers have nothing to do: a batch of 128 images makes 4 shards"),
        (6, 1, 10, 5, "4 of 6 ranks have nothing to do: a batch of 10 images makes 2 shards"),
        (12, 1, 10, 1, "2 of 12 ranks have nothing to do: a batch of 10 images makes 10 shards"),
    ],
)
def test_warning_of_idle_ranks_names_numbers_that_fit(make, ranks, workers, batch, shard, said):
    """With each of them, planned anew, nobody is idle."""
    with ic.num_threads(workers):
        text = idle_text(make(ranks, shard), batch, SHAPE)
        assert text.startswith(said)
        fits = dict(re.findall(r"--(shard|batch-size) (\d+)", text))
        assert ("shard" in fits) == (batch >= ranks)
        if "shard" in fits:
            better = make(ranks, int(fits["shard"]))
            assert "ranks have nothing" not in idle_text(better, batch, SHAPE) or "workers" in said
            assert len(better.net.plan(batch, SHAPE, shard=better.shard).sizes) >= ranks
        larger = make(ranks, shard).net.plan(int(fits["batch-size"]), SHAPE, shard=shard).sizes
        assert len(larger) == (ranks * workers if "workers" in said else ranks)


def test_a_device_divides_its_batch_into_eighths():
    """What is said is what the engine does; a larger batch would have as many shards."""
    backend = strict_cupy.cupy_backend()

    def work(comm):
        net = ic.Sequential([ic.Flatten(), ic.Linear(8, 3)]).init(0, backend=backend)
        trainer = ic.Trainer(net, ranks=comm)
        return shards_text(trainer, 64, (2, 2, 2)), idle_text(trainer, 64, (2, 2, 2))

    assert run_ranks(2, work) == [("64 images in 8 shards on 2 ranks x 1 worker", "")] * 2
    for said, warning in run_ranks(12, work):
        assert said == "64 images in 8 shards on 12 ranks x 1 worker"
        assert warning.startswith("4 of 12 ranks have nothing to do: a batch of 64 images makes 8 shards")
        assert "--shard 5" in warning
        assert "--batch-size" not in warning


def test_nobody_is_warned_where_all_have_work_or_there_are_no_ranks(make):
    with ic.num_threads(2):
        assert idle_text(make(4), 256, SHAPE) == ""
    with ic.num_threads(16):
        assert idle_text(make(1), 64, SHAPE) == ""

"""How a batch is divided among ranks and workers, and which of them have nothing to do."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.parallel import get_num_threads
from im2colnet.text import count
from im2colnet.training.trainer import Trainer

#: number of images of a batch whose shards have the largest size
LARGE = 1 << 14


def shards_text(trainer: Trainer, batch: int, shape: Sequence[int]) -> str:
    """Say how a batch of images is divided, such as "256 images in 8 shards on 4 ranks x 2 workers".

    Parameters
    ----------
    trainer : Trainer
    batch : int
        The batch size.
    shape : (C, H, W)
        The shape of an image.
    """
    shards, workers = len(_sizes(trainer, batch, shape)), _workers(trainer)
    most = -(-shards // trainer.rank_count)  # of a rank
    busy = f"{most} of " if most < workers else ""
    return (
        f"{count(batch, 'image')} in {count(shards, 'shard')} on {ranks_text(trainer.rank_count)}"
        f"{busy}{count(workers, 'worker')}"
    )


def ranks_text(ranks: int) -> str:
    """Return the number of ranks in words, if there are several, to put before the number of workers."""
    return f"{ranks} ranks x " if ranks > 1 else ""


def idle_text(trainer: Trainer, batch: int, shape: Sequence[int]) -> str:
    """Say how many ranks or workers have nothing to do, and which options would change that; empty if all have work.

    Parameters
    ----------
    trainer, batch, shape
        See :func:`shards_text`.
    """
    ranks, workers = trainer.rank_count, _workers(trainer)
    if ranks == 1:
        return ""
    shards = len(_sizes(trainer, batch, shape))
    many, who = (ranks, "ranks") if shards < ranks else (ranks * workers, "workers")
    if shards >= many:
        return ""
    fits = []
    if many <= batch:
        shard = -(-batch // many)
        fits.append(f"--shard {shard if -(-batch // shard) == many else batch // many}")
    largest = max(_sizes(trainer, LARGE, shape))
    if largest == max(_sizes(trainer, 2 * LARGE, shape)):  # on a GPU a shard is a part of the batch, however large
        fits.append(f"--batch-size {many * largest}")
    idle = f"{many - shards} of {many} {who} {'has' if many - shards == 1 else 'have'} nothing to do"
    return (
        f"{idle}: a batch of {count(batch, 'image')} makes {count(shards, 'shard')}. All have work with"
        f" {' or '.join(fits)}, but that changes the result of the training; the number of ranks does not"
    )


def _sizes(trainer: Trainer, batch: int, shape: Sequence[int]) -> list[int]:
    return trainer.engine.shard_sizes(tuple(shape), batch)


def _workers(trainer: Trainer) -> int:
    """Return the largest number of workers of a rank."""
    return get_num_threads() if trainer.net.backend.threads else 1

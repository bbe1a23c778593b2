"""How a batch is divided among those who compute it: what the head of a training says."""

from __future__ import annotations

from collections.abc import Sequence

from im2colnet.parallel import get_num_threads
from im2colnet.text import count
from im2colnet.training.trainer import Trainer


def shards_text(trainer: Trainer, batch: int, shape: Sequence[int]) -> str:
    """Say how a batch of images is divided, such as "64 images in 2 shards on 2 of 4 workers".

    Parameters
    ----------
    trainer : Trainer
    batch : int
        The batch size.
    shape : (C, H, W)
        The shape of an image.
    """
    shards = trainer.net.plan(batch, shape, shard=trainer.shard).count
    workers = get_num_threads() if trainer.net.backend.threads else 1
    busy = f"{shards} of " if shards < workers else ""
    return f"{count(batch, 'image')} in {count(shards, 'shard')} on {busy}{count(workers, 'worker')}"

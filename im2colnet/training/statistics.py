"""Running statistics of batch norms, computed again for weights that training did not produce, such as averages."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any, ClassVar

from im2colnet.engine.program import Moment
from im2colnet.parallel import Communicator
from im2colnet.types import Array


class Still:
    """A replacement for an update that leaves the parameters unchanged."""

    stateless: ClassVar[bool] = True

    def known(self) -> list[dict[str, Any]]:
        """Return the values that forked workers must know: this object is not the update of the training."""
        return [{"still": self}]

    def bounds(self, ranks: int) -> list[int]:
        """Return bounds that give the whole gradient to the first rank, whatever its size."""
        return [0] + [sys.maxsize] * ranks

    def apply(self, gradient: Array, comm: Communicator, moment: Moment, weight: float) -> bool:
        """Set a worker's range of the gradient to 0, as the next step expects it."""
        mine = comm.partition(gradient.size)
        gradient[mine.start : mine.stop] = 0
        return True


def renew_statistics(trainer: Any) -> bool:
    """Set running means and variances to their means over the batches of an epoch, with the network's present weights.

    Each batch is one step of training whose update is left out. The order of the images is that of the present epoch.

    Returns
    -------
    bool
        Whether the network has any running statistics.
    """
    net, engine, loader = trainer.net, trainer.engine, trainer.fitting.loader
    norms = [
        node
        for node in net.graph.nodes
        if "running_mean" in node.buffers.keys() - node.frozen and getattr(node.layer, "momentum", 0) != 0
    ]
    if not norms:
        return False
    still, count = Still(), 0
    sums = [dict.fromkeys(("running_mean", "running_var"), 0.0) for _ in norms]
    with closing(loader.epoch(trainer.epoch, reuse=True)) as batches:
        for images, labels in batches:
            with engine.alone():
                for node in norms:
                    for array in node.buffers.values():
                        array[...] = 0
                engine.train(images, labels, still, Moment(trainer.seed, count, (0.0,)), samples=len(labels))
                engine.changing = False
                count += 1
                for node, means in zip(norms, sums, strict=True):
                    momentum = 1.0 if node.layer.momentum is None else node.layer.momentum
                    for key in means:  # (1 - momentum) · 0 + momentum · batch
                        means[key] = means[key] + node.buffers[key].astype("float64") / momentum
    with net.backend.context():
        for node, means in zip(norms, sums, strict=True):
            for key, total in means.items():
                node.buffers[key][...] = total / count
    return True

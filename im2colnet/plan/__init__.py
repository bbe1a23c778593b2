"""Planning: the steps of a run, and the place and the lifetime of each array in memory, before anything runs.

A run on one shard of the batch is a list of steps: forward through the layers, the loss, backward. It is cut into
*stages* at the layers that need sums over the whole batch (batch norm): there every shard must have computed its sums
before any shard continues.

Each array is a :class:`Buffer` with a lifetime in steps. Arrays that live within one stage are in an arena of the
worker, which all its shards use one after the other. Arrays that live across stages are in an arena of the shard. In
both arenas, arrays whose lifetimes do not overlap share memory.
"""

from im2colnet.plan.buffers import Buffer, Placed, lay_out, nbytes
from im2colnet.plan.shards import BatchPlan, folds, gradient_rows
from im2colnet.plan.steps import Band, Kind, Plan, Stage, Step

__all__ = [
    "Band",
    "BatchPlan",
    "Buffer",
    "Kind",
    "Placed",
    "Plan",
    "Stage",
    "Step",
    "folds",
    "gradient_rows",
    "lay_out",
    "nbytes",
]

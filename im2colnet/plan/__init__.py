"""Planning: before anything runs, the steps of a run, and where in memory each array lives and how long.

A run on one shard of the batch is a list of steps: forward through the layers, the loss, backward. It is cut into
*stages* at the layers that need sums over the whole batch (batch norm): there every shard must have given its sums
before any shard goes on.

Each array is a :class:`Buffer` with a lifetime in steps. Those that live within one stage are laid out in an arena of
the worker, which all its shards use one after the other; those that live across stages in an arena of the shard. In
either, arrays whose lifetimes do not meet share memory.
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

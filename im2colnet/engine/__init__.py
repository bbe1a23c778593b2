"""Running a plan: the memory, the workers, and the work of each worker."""

from im2colnet.engine.engine import Engine
from im2colnet.engine.program import Moment, Update

__all__ = ["Engine", "Moment", "Update"]

"""Running a plan: memory, workers, and what each of them does."""

from im2colnet.engine.engine import Engine
from im2colnet.engine.program import Moment, Update

__all__ = ["Engine", "Moment", "Update"]

"""Training: steps, epochs, evaluation, and checkpoints from which training resumes exactly."""

from im2colnet.show.display import Display, Progress
from im2colnet.training.folder import CHECKPOINT, METRICS
from im2colnet.training.history import History
from im2colnet.training.trainer import Trainer

__all__ = ["CHECKPOINT", "METRICS", "Display", "History", "Progress", "Trainer"]

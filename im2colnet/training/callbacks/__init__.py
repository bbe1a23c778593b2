"""Callbacks: objects whose methods a training calls, such as to stop early, to average weights or to write logs."""

from im2colnet.training.callbacks.averaging import EMA, SWA
from im2colnet.training.callbacks.base import Callback
from im2colnet.training.callbacks.logs import CSVLog, Function, TensorBoard
from im2colnet.training.callbacks.monitoring import EarlyStopping, KeepBest

__all__ = ["EMA", "SWA", "CSVLog", "Callback", "EarlyStopping", "Function", "KeepBest", "TensorBoard"]

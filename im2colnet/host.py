"""Arrays that live on the host whatever the backend (data sets, checkpoints, labels): NumPy's."""

import numpy as np

__all__ = ["np"]

"""The host's array module. The library takes NumPy from here, so that every array library comes from a backend."""

import numpy as np

__all__ = ["np"]

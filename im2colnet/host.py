"""Arrays that live on the host whatever the backend (data sets, checkpoints, labels): the CPU backend's NumPy."""

try:
    from im2colnet_numpy.host import np
except ModuleNotFoundError as error:
    if error.name != "im2colnet_numpy":
        raise
    raise ModuleNotFoundError(
        "im2colnet is not installed: run `python -m pip install .` in its folder, or set PYTHONPATH=.:backends there"
    ) from error

__all__ = ["np"]

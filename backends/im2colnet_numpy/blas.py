"""Whether NumPy's BLAS computes with one thread, as equal results for any number of workers need."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

#: environment variables that set the number of threads, by the name of the BLAS
VARIABLES = {"accelerate": ("VECLIB_MAXIMUM_THREADS",), "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS")}
OTHERS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


def built_with() -> str:
    """Return the name of the BLAS that NumPy was built with, in small letters; "unknown" if it does not say."""
    try:
        configuration: Any = np.show_config(mode="dicts")  # type: ignore[call-overload, unused-ignore]
        return str(configuration["Build Dependencies"]["blas"]["name"]).lower()
    except (KeyError, TypeError, ValueError):
        return "unknown"


def loaded() -> list[dict[str, Any]] | None:
    """Return the BLAS libraries that threadpoolctl finds in this process; None without it."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]


def uncontrolled(pools: list[dict[str, Any]] | None) -> str:
    """Say why the BLAS may use several threads, so that results differ in their last bits; empty where it does not.

    Parameters
    ----------
    pools
        What :func:`loaded` returns.
    """
    name = built_with()
    variables = VARIABLES.get(name, OTHERS)
    if any(os.environ.get(variable) == "1" for variable in variables):
        return ""
    then = f"set {variables[0]}=1 before Python starts"
    if name == "accelerate":
        return f"NumPy computes with Apple's Accelerate, whose threads threadpoolctl cannot limit: {then}"
    if pools is None:
        return f"nothing limits the threads of NumPy's BLAS ({name}): install threadpoolctl, or {then}"
    if pools and all(pool["num_threads"] != 1 for pool in pools):  # another package may have brought one more
        return f"{pools[0]['internal_api']} uses {pools[0]['num_threads']} threads in spite of the limit: {then}"
    if not pools and name not in ("none", "unknown"):
        return f"threadpoolctl does not find NumPy's BLAS ({name}), so nothing limits its threads: {then}"
    return ""

"""Reads the values that PyTorch computed, ``torch_values.npz`` (written by ``make_torch_values.py``)."""

import json
from functools import cache
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("torch_values.npz")


def _tuples(value):
    """JSON's lists as tuples."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


@cache
def _load():
    groups = {}
    with np.load(PATH, allow_pickle=False) as file:
        for key in file.files:
            group, number, name = key.split("/", 2)
            groups.setdefault(group, {}).setdefault(int(number), {})[name] = file[key]
    for group in groups.values():
        for arrays in group.values():
            for array in arrays.values():
                array.flags.writeable = False
    return groups


def groups():
    """Names of the groups, such as "conv2d"."""
    return sorted(_load())


def cases(group):
    """List of (configuration, arrays by name) of the group; the arrays are read-only."""
    result = []
    for _, arrays in sorted(_load()[group].items()):
        config = _tuples(json.loads(str(arrays["config"])))
        result.append((config, {name: array for name, array in arrays.items() if name != "config"}))
    return result

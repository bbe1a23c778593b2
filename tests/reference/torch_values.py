"""Reads the values that PyTorch computed, ``values/FAMILY.npz`` (written by ``make_torch_values.py``)."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).with_name("values")


def _tuples(value):
    """JSON's lists as tuples."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


@cache
def _load():
    """Group -> case -> (configuration, arrays by name); the arrays are read-only."""
    groups = {}
    for path in sorted(FOLDER.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                group, case, name = key.split("/", 2)
                config, arrays = groups.setdefault(group, {}).setdefault(case, ({}, {}))
                if name == "config":
                    config |= _tuples(json.loads(str(file[key])))
                else:
                    arrays[name] = file[key]
                    arrays[name].flags.writeable = False
    return groups


def groups():
    """Names of the groups, such as "conv2d"."""
    return sorted(_load())


def cases(group):
    """Return the group's cases: name -> (configuration, arrays by name)."""
    return dict(_load()[group])


def every_case(group):
    """Run a test, with the arguments ``config`` and ``arrays``, for each case of the group."""
    found = [pytest.param(*case, id=name) for name, case in cases(group).items()]
    return pytest.mark.parametrize(("config", "arrays"), found)

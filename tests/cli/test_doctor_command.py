"""``im2colnet doctor``."""

import importlib.util
import json

import numpy as np
import pytest

from im2colnet.reports import doctor

pytestmark = pytest.mark.usefixtures("folder")


def test_doctor(run):
    lines = dict(line.split(maxsplit=1) for line in run("doctor")[0].splitlines())
    assert lines["numpy"] == np.__version__
    assert lines["correct"].startswith("yes: ")
    assert "ms for a training step of resnet20 with 64 images" in lines["speed"]


@pytest.mark.parametrize("installed", [False, True])
def test_a_faster_backend_that_is_installed_and_not_used_is_named(run, monkeypatch, installed):
    """Nothing is imported for it, and a choice is not doubted."""
    monkeypatch.setattr(doctor, "step_seconds", lambda *arguments: 0.1)  # test_doctor measures both
    monkeypatch.setattr(doctor, "peaks", lambda *arguments: (1e9, 1e9))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed if name == "numba" else real(name))
    said = "numba is installed and not used: IM2COLNET_BACKEND=numba trains faster"
    train = ("train", "--model", "notebook", "--epochs", "1")
    for command in train, ("doctor",):
        assert (said in run(*command)[0]) == installed
        assert said not in run(*command, "--backend", "numpy")[0]
    assert (said in run(*train, "--json")[1]) == installed
    assert said not in run(*train, "--quiet")[0]
    assert json.loads(run("doctor", "--json")[0])["hint"] == (said if installed else "")
    monkeypatch.setenv("IM2COLNET_BACKEND", "numpy")
    assert said not in run("doctor")[0]

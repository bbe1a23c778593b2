"""What tests of several commands share."""

import pytest
from starting import FAST

from im2colnet import datasets
from im2colnet.cli import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The checkpoint of a short training."""
    out = tmp_path_factory.mktemp("trained")
    assert main([*FAST, "--epochs", "3", "--out", str(out), "--json"]) == 0
    return out / "checkpoint.safetensors"


@pytest.fixture(scope="session")
def digits():
    """The held-out digits, (359, 1, 8, 8) uint8."""
    return datasets.load("digits")[1].images

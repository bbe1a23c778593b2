"""``im2colnet doctor``."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("folder")


def test_doctor(run):
    lines = dict(line.split(maxsplit=1) for line in run("doctor")[0].splitlines())
    assert lines["numpy"] == np.__version__
    assert lines["correct"].startswith("yes: ")
    assert "ms for a training step of resnet20 with 64 images" in lines["speed"]

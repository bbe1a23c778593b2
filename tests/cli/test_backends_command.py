"""``im2colnet backends``."""

import json

import pytest

from im2colnet.backend import registry

pytestmark = pytest.mark.usefixtures("folder")


def test_backends(run, monkeypatch):
    monkeypatch.setitem(registry.BUILT_IN, "broken", "no_such_module:Backend")
    report = json.loads(run("backends", "--json")[0])
    assert (report["selected"], report["selected_by"]) == ("numpy", "default")
    broken, cupy, numba, numpy = report["backends"]
    assert cupy["name"] == "cupy"
    assert cupy["available"] or "pip install 'cupy-cuda12x[ctk]'" in cupy["reason"] or "GPU" in cupy["reason"]
    assert numpy == {"name": "numpy", "source": "built-in", "available": True, "reason": "", "selected": True}
    assert (broken["name"], broken["available"], broken["selected"]) == ("broken", False, False)
    assert "no_such_module" in broken["reason"]
    monkeypatch.setenv("IM2COLNET_BACKEND", "broken:1")
    report = json.loads(run("backends", "--json")[0])
    assert (report["selected"], report["selected_by"]) == ("broken:1", "environment")
    assert report["backends"][0]["selected"]
    assert "selected: broken:1 (by the environment variable IM2COLNET_BACKEND)\n" in run("backends")[0]
    report = json.loads(run("backends", "--backend", "numpy", "--json")[0])
    assert (report["selected"], report["selected_by"]) == ("numpy", "argument")


def test_backends_when_the_selected_one_does_not_exist(run, monkeypatch):
    monkeypatch.setenv("IM2COLNET_BACKEND", "nonsense")
    assert run("backends")[0].endswith("but there is no such backend\n")

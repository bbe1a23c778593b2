"""``im2colnet check-backend``."""

import json

import numpy as np
import pytest
from helpers import GenericBackend

from im2colnet.backend import registry
from im2colnet.testing import check_names
from im2colnet.testing.check_backend import BackendReport, CheckResult, summary

pytestmark = pytest.mark.usefixtures("folder")


class Wrong(GenericBackend):
    """A product that forgets ``out``."""

    name = "wrong"

    def matmul(self, a, b, out=None):
        return np.matmul(a, b)


@pytest.fixture
def wrong(monkeypatch, nothing_started):
    monkeypatch.setitem(registry.BUILT_IN, "wrong", "test_check_backend_command:Wrong")


def test_a_line_for_each_check_and_the_certificate(run):
    out, err = run("check-backend", "numpy", "--only", "to_rows,random", "--only", "sum_samples", "--seed", "5")
    lines = out.splitlines()
    assert lines[0].split() == ["backend", "numpy"]
    assert ["ok", "to_rows", "float32", "float64"] in [line.split()[:4] for line in lines]
    on = f"numpy {registry.version_of('numpy')} on numpy {np.__version__}, float32 float64"
    assert lines[-1] == f"passed: {on}, 3 of {len(check_names())} checks, seed 5"
    assert err == ""


def test_a_backend_that_has_passed_all_checks_is_certified():
    results = tuple(CheckResult(name, ("float32", "float64"), "", 0.0) for name in check_names())
    report = BackendReport("mine:1", "2.0", "array_module 3.0", {}, 7, results)
    number = len(results)
    assert summary(report) == f"certified: mine:1 2.0 on array_module 3.0, float32 float64, {number} checks, seed 7"


def test_json(run):
    report = json.loads(run("check-backend", "numpy", "--only", "im2col", "--plant", "--json")[0])
    assert report["certified"]
    assert [check["name"] for check in report["checks"]] == ["im2col"]
    assert len(report["faults"]) >= 3
    assert all(fault["found"] for fault in report["faults"])


def test_planted_faults_have_a_line_each(run):
    out, _ = run("check-backend", "numpy", "--only", "im2col", "--plant")
    assert "found   im2col                 fill is ignored" in out.splitlines()
    assert out.splitlines()[-1] == "3 planted faults: each found by the check of its kernel"


def test_by_default_it_is_the_selected_backend(run, monkeypatch):
    monkeypatch.setenv("IM2COLNET_BACKEND", "nonsense")
    assert "there is no backend 'nonsense'" in run("check-backend", "--only", "random", code=2)[1]
    monkeypatch.delenv("IM2COLNET_BACKEND")
    assert json.loads(run("check-backend", "--only", "random", "--json")[0])["backend"] == "numpy"


@pytest.mark.usefixtures("wrong")
def test_what_is_wrong_is_said_and_nothing_is_planted(capsys):
    from im2colnet import cli

    assert cli.main(["check-backend", "wrong", "--only", "matmul,random", "--plant"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("WRONG   matmul "))
    assert lines[place + 1].startswith("        in float32: matmul does not return the array out that it was given; ")
    assert lines[-2].startswith("NOT certified: wrong ")
    assert lines[-2].endswith("seed 0, 1 of 2 checks failed: matmul")
    assert lines[-1] == "no fault was planted: a check has already failed"


def test_wrong_usage(run):
    assert "there is no backend 'nonsense'; there are: " in run("check-backend", "nonsense", code=2)[1]
    err = run("check-backend", "--only", "conv", code=2)[1]
    assert "--only: there is no check 'conv'; the checks are: contract" in err
    assert "must be a whole number of at least 0" in run("check-backend", "--seed", "-1", code=2)[1]


def test_a_backend_that_exists_and_cannot_start(run, monkeypatch):
    monkeypatch.setitem(registry.BUILT_IN, "broken", "no_such_module:Backend")
    assert "the backend 'broken' cannot start" in run("check-backend", "broken", code=1)[1]

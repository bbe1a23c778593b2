"""Backends are certified by the published checks, and each planted fault is found by the check of its kernel."""

import json
from inspect import signature

import numpy as np
import pytest
import strict_cupy
from helpers import GenericBackend, numba_backend
from im2colnet_demo import DemoBackend
from im2colnet_numpy import NumpyBackend

import im2colnet as ic
from im2colnet.backend import Backend, Kernel, kernel
from im2colnet.testing import check_backend, check_names, plant_faults
from im2colnet.testing.conformance import CHECKS, FAULTS, Subject
from im2colnet.testing.conformance.activation import EXACT

MADE = {
    "numpy": NumpyBackend,
    "generic": GenericBackend,
    "cupy": strict_cupy.cupy_backend,
    "numba": numba_backend,
    "demo": DemoBackend,
}


@pytest.fixture(scope="module", params=MADE)
def started(request):
    return MADE[request.param]()


def failed(report):
    return {result.name: result.error for result in report.results if not result.ok}


@pytest.mark.parametrize("check", check_names())
def test_a_backend_is_certified(started, check):
    if started.name == "demo" and check.startswith("layers"):
        pytest.skip("it has the generic backend's kernels but for one")
    report = check_backend(started, only=[check])
    assert failed(report) == {}
    assert report.certified
    assert not report.left_out


@pytest.mark.parametrize("check", sorted({fault.check for fault in FAULTS}))
def test_each_planted_fault_is_found_by_the_check_of_its_kernel(started, check):
    if started.name == "demo":
        pytest.skip("it has the generic backend's kernels but for one")
    results = plant_faults(started, only=[check])
    assert [result.about for result in results if not result.ok] == []
    assert not [result.found for result in results if "cannot start" in result.found]  # found before the check was made


def test_each_kernel_has_its_check_and_a_fault():
    kernels = {name for name in dir(Backend) if isinstance(getattr(Backend, name), Kernel)}
    assert kernels <= set(check_names())
    checks = set(check_names()) - {"contract"}  # whose own tests are below
    assert {fault.check for fault in FAULTS} == checks
    assert len(FAULTS) >= 90


def test_each_activation_is_checked():
    from im2colnet.backend import FORMULAS

    assert {kind.partition(":")[0] for kind in EXACT} == set(FORMULAS)


def test_another_seed_draws_other_numbers_and_finds_nothing_either():
    assert failed(check_backend("numpy", seed=7, only=["conv2d", "max_pool2d_grad", "set_norm", "matmul"])) == {}


def test_a_report_can_be_printed():
    seen = []
    report = check_backend("numpy", 3, ["to_rows", "random"], seen.append)
    assert [result.name for result in seen] == ["to_rows", "random"] == [r.name for r in report.results]
    facts = json.loads(json.dumps(report.facts()))
    assert (facts["backend"], facts["seed"], facts["certified"]) == ("numpy", 3, True)
    assert facts["dtypes"] == ["float32", "float64"]
    assert facts["module"] == f"numpy {np.__version__}"
    assert {check["error"] for check in facts["checks"]} == {""}


def test_an_unknown_check_lists_those_there_are():
    with pytest.raises(ic.BackendError, match=r"no check 'conv'; the checks are: contract, arrays.*conv2d"):
        check_backend("numpy", only="conv")
    with pytest.raises(ic.BackendError, match="no backend 'nonsense'"):
        check_backend("nonsense")


# What each check says ------------------------------------------------------------------------------------------------
def wrong(base=GenericBackend, **methods):
    """The generic backend with other methods."""
    return type("Wrong", (base,), methods)()


def test_what_is_wrong_is_said_with_numbers_and_place():
    def matmul(self, a, b, out=None):
        y = np.matmul(a, b, out=out)
        y[..., 0, 0] += 1
        return y

    (result,) = check_backend(wrong(matmul=matmul), only=["matmul"]).results
    assert "in float32: the product is" in result.error
    assert "at [0, 0], expected" in result.error
    assert "matmul(float32[4, 7], float32[7, 3])" in result.error


def test_an_exception_of_the_backend_is_a_fault():
    def matmul(self, a, b, out=None):
        raise MemoryError("no accelerator")

    report = check_backend(wrong(matmul=matmul), only=["matmul", "random"])
    assert not report.certified
    assert "MemoryError: no accelerator" in failed(report)["matmul"]
    assert "random" not in failed(report)


def test_a_method_with_other_parameters_is_named():
    def to_rows(self, pictures, out):
        return super(GenericBackend, self).to_rows(pictures, out)

    error = failed(check_backend(wrong(to_rows=to_rows), only=["contract"]))["contract"]
    assert "to_rows(self, pictures, out) has other parameters than to_rows(self, images" in error


def test_a_kernel_with_other_parameters_is_named():
    @kernel()
    def matmul(self, left, right, out=None):
        yield lambda: np.matmul(left, right, out=out)

    assert "matmul" in failed(check_backend(wrong(matmul=matmul), only=["contract"]))["contract"]


def test_a_device_that_does_not_exist_must_be_refused(monkeypatch):
    from im2colnet.backend import registry

    class Anywhere(GenericBackend):
        def __init__(self, device=None):
            pass

    monkeypatch.setitem(registry.BUILT_IN, "anywhere", "test_check_backend:Anywhere")
    monkeypatch.setitem(globals(), "Anywhere", Anywhere)
    monkeypatch.setattr(registry, "started", {})
    error = failed(check_backend("anywhere", only=["errors"]))["errors"]
    assert "the device of 'anywhere:no-such-device' is not refused, expected a BackendError" in error


def test_a_precision_that_cannot_be_had_is_left_out_and_said():
    class Half(GenericBackend):
        precisions = ("float32", "float16")

        def with_precision(self, precision):
            if precision == "float16":
                raise ic.BackendError("this one is too old")
            return super().with_precision(precision)

    report = check_backend(Half(), only=["sum_samples"])
    assert report.certified
    assert report.left_out == {"float16": "this one is too old"}
    assert "float16" not in report.dtypes


def test_the_textbook_s_kernels_compute_in_16_bits_too():
    class Half(GenericBackend):
        precisions = ("float32", "float16")

    names = ["activation", "activation_grad", "activation_and_slope", "max_pool2d", "max_pool2d_grad", "im2col"]
    report = check_backend(Half(), only=names)
    assert failed(report) == {}
    assert report.dtypes == ["float32", "float64", "float16"]


def test_memory_orders_are_what_they_say():
    """The checks would pass if all arguments were C-contiguous."""
    from im2colnet.testing.conformance.base import LAYOUTS, laid_out

    x = np.arange(120.0).reshape(2, 3, 4, 5)
    made = {layout: laid_out(ic.get_backend("numpy"), x, layout) for layout in LAYOUTS}
    assert len({array.strides for array in made.values()}) == len(LAYOUTS)
    for array in made.values():
        assert np.array_equal(array, x)


def test_checks_take_a_subject_and_an_element_type():
    for check in CHECKS:
        parameters = signature(check.run).parameters
        assert [*parameters][-2:] == ["subject", "dtype"]
    assert Subject(GenericBackend(), 0).normal(2, 3).shape == (2, 3)

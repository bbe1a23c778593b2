"""ONNX's own cases: what docs/conformance.md says passes must pass."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="ONNX's cases come with the package onnx")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def conformance():
    return runpy.run_path(str(ROOT / "docs/conformance.py"))


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs/conformance.md").read_text(encoding="utf-8")


def test_no_case_is_lost(conformance, page):
    known = conformance["passing"](page)
    found = conformance["results"]()
    assert [result for result in found if result.state == "wrong"] == []
    lost = {f"{r.name}: {r.reason}" for r in found if r.state != "pass" and r.name in known[r.kind]}
    assert lost == set(), "these cases no longer pass"


def test_the_page_has_what_is_promised(conformance, page):
    known = conformance["passing"](page)
    assert len(known["node"]) >= 300
    assert len(known["pytorch-converted"]) >= 55


def test_a_wrong_output_is_not_a_pass(conformance):
    """The comparison can fail: of another number, of a lost NaN, of another shape."""
    import numpy as np

    agree = conformance["_agree"]
    right = np.array([[1.0, np.nan, np.inf, -2.0]], "float32")
    assert agree(right, right)
    for wrong in (
        [[1.0, np.nan, np.inf, -2.0001]],
        [[1.0, 0.0, np.inf, -2.0]],
        [[1.0, np.nan, -np.inf, -2.0]],
        [[1.0]],
    ):
        assert not agree(np.array(wrong, "float32"), right)

"""The tests know the library by what is public: none reads what is private, or changes a module's constants."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
#: with an underscore, but part of what Python or IPython documents
DOCUMENTED = {"_asdict", "_exit", "_fields", "_getframe", "_make", "_replace", "_repr_html_", "_repr_png_"}
#: functions that read or change an attribute by its name
CHANGES = {"setattr", "delattr", "getattr", "hasattr"}
#: what tests still reach into: the file, the name, and why
EXCEPTIONS = {
    ("parallel/test_processes.py", "AVAILABLE"): "another processor than the one that runs the tests",
    ("dashboard/test_benchmarks.py", "DEVICE"): "CuPy's stand-in computes where PyTorch has no GPU",
    ("dashboard/test_benchmarks.py", "PASSES"): "the script's own, which has no option for it",
    ("dashboard/test_benchmarks.py", "PATIENCE"): "the script's own, which has no option for it",
}


def private(name):
    return name.startswith("_") and not name.endswith("__") and name not in DOCUMENTED


def reached_into(source):
    """Names of others that a file reads, imports or patches though they are private, or patches though constant."""
    tree = ast.parse(source)
    mine = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    mine |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    found, constants = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.append(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names] if node.module != "__future__" else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in CHANGES:
            texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            found += [text.rpartition(".")[2] for text in texts]
            if ast.unparse(node.func).endswith(".setattr"):
                constants |= {text.rpartition(".")[2] for text in texts if text.rpartition(".")[2].isupper()}
    return {name for name in found if private(name) and name not in mine} | constants


def test_the_check_sees_every_way():
    source = """
from im2colnet.backend import _private
from im2colnet.training import checkpoint
class Own:
    def __init__(self):
        self._mine = 1
    def _method(self):
        return self._mine + self._method() + Own()._mine + self._inherited
checkpoint._checksum()
object()._images.shape
monkeypatch.setattr(checkpoint, "_known", None)
monkeypatch.setattr("im2colnet.datasets.archives._available", None)
getattr(checkpoint, "_by_name")
monkeypatch.setattr(processes, "GRACE", 0.3)
monkeypatch.setattr(os, "replace", None)
os._exit(0)
point._replace(x=1)
checkpoint.__doc__
"""
    assert reached_into(source) == {
        "_private",
        "_inherited",
        "_checksum",
        "_images",
        "_known",
        "_available",
        "_by_name",
        "GRACE",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_test_reaches_into_the_library(path):
    name = path.relative_to(TESTS).as_posix()
    assert reached_into(path.read_text(encoding="utf-8")) == {what for file, what in EXCEPTIONS if file == name}

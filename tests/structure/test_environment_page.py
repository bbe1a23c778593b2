"""The page of environment variables has every one that the source reads, and no other."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/environment.md").read_text(encoding="utf-8")
NAME = r"[A-Z][A-Z0-9]*(?:_[A-Za-z0-9]+)+"
#: constants of `os`, which have the form of a variable's name
FLAGS = re.compile(r"O_[A-Z]+")


def is_environment(node):
    return ast.unparse(node) in ("os.environ", "environment")


def read_by(path):
    """The names that a file reads: what is looked up in the environment, and beside that all that look like names."""
    text = path.read_text(encoding="utf-8")
    if "environ" not in text:
        return set()
    found = set()
    for node in ast.walk(ast.parse(text)):
        given = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_environment(node.func.value):
            given = node.args[:1]
        elif isinstance(node, ast.Subscript) and is_environment(node.value):
            given = [node.slice]
        elif isinstance(node, ast.Compare) and any(map(is_environment, node.comparators)):
            given = [node.left]
        found |= {each.value for each in given if isinstance(each, ast.Constant)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(NAME, node.value):
            found.add(node.value)
    return {name for name in found if not FLAGS.fullmatch(name)}


def files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.fixture(scope="module")
def read():
    return set().union(*map(read_by, files("im2colnet", "backends")))


def shown(part):
    """The names that a part of the page shows as code."""
    return set(re.findall(rf"`({NAME}|TERM|[A-Z]{{8,}})`", part))


def test_none_is_missing(read):
    assert {"IM2COLNET_BACKEND", "TERM", "PMI_FD", "OMP_NUM_THREADS"} <= read
    assert read - shown(PAGE) == set()


def test_none_is_dead(read):
    library, _, tests = PAGE.partition("## Of tests and benchmarks")
    assert shown(library) - read == set()
    texts = "".join(path.read_text(encoding="utf-8") for path in files("tests", "benchmarks"))
    assert {name for name in shown(tests) if f'"{name}"' not in texts.replace("``", '"')} == set()


def test_faults_are_found(tmp_path):
    """Each of the three ways to read a variable is seen."""
    source = 'import os\nos.environ.get("ALPHA")\nos.environ["BETA"]\n"GAMMA" in os.environ\nDELTA = "DELTA_EPSILON"\n'
    (tmp_path / "module.py").write_text(source)
    assert read_by(tmp_path / "module.py") == {"ALPHA", "BETA", "GAMMA", "DELTA_EPSILON"}


def test_a_variable_that_is_empty_is_not_set(tmp_path):
    """As the page says; tests/gpu has IM2COLNET_PRECISION."""
    own = [name for name in shown(PAGE.partition("## Of other programs")[0]) if name.startswith("IM2COLNET_")]
    program = (
        "import numpy as np, im2colnet as ic\n"
        "net = ic.Sequential([ic.Conv2d(16, 16, 3, padding=1)]).init(seed=0)\n"
        "print(net.predict(np.ones((64, 16, 32, 32))).shape[1], ic.get_workers(), ic.get_backend().name)"
    )
    environment = os.environ | dict.fromkeys(own, "") | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'backends'}"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.stdout.split() == ["16", "auto", "numpy"], run.stderr

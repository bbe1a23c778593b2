"""pytest's plug-in: a test for each check where the option is given, and nothing at all elsewhere."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from im2colnet.testing import check_names

ROOT = Path(__file__).parents[2]


def pytest_run(folder, *arguments):
    """Run pytest in another process, in a project of somebody else; return the exit code and what it writes."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("IM2COLNET_", "PYTEST_"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # where the package is installed, it would be loaded twice
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_im2colnet", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


OWN = """
import sys
def test_own():
    assert not [name for name in sys.modules if name.partition(".")[0] in ("im2colnet", "numpy")]
"""


def test_without_the_option_nothing_is_imported(tmp_path):
    (tmp_path / "test_own.py").write_text(OWN)
    code, said = pytest_run(tmp_path, "-q")
    assert code == 0, said
    assert "1 passed" in said


def test_with_the_option_there_is_a_test_for_each_check(tmp_path):
    code, said = pytest_run(tmp_path, "--collect-only", "-q", "--im2colnet-backend", "numpy")
    assert code == 0, said
    listed = [line for line in said.splitlines() if line.startswith("im2colnet-backend")]
    assert listed == [f"im2colnet-backend[numpy]::{name}" for name in check_names()]
    assert f"{len(listed)} tests collected" in said


def test_they_run_beside_the_project_s_own_and_can_be_chosen(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_matmul_of_mine(): pass\ndef test_other(): pass\n")
    arguments = ["--im2colnet-backend=numpy", "--im2colnet-seed=3", "-W", "error", "-v", "-k", "matmul or to_rows"]
    code, said = pytest_run(tmp_path, *arguments)
    assert code == 0, said
    assert "test_own.py::test_matmul_of_mine PASSED" in said
    assert "im2colnet-backend[numpy]::matmul PASSED" in said
    assert "3 passed" in said


BROKEN = """
import numpy
from im2colnet.backend import registry
registry.BUILT_IN["broken"] = "conftest:Broken"
from im2colnet import Backend
class Broken(Backend):
    name, xp = "broken", numpy
    def __init__(self, device=None): pass
    def matmul(self, a, b, out=None):
        return numpy.matmul(a, b)
"""


def test_what_is_wrong_is_said_without_a_traceback(tmp_path):
    (tmp_path / "conftest.py").write_text(BROKEN)
    code, said = pytest_run(tmp_path, "-q", "--im2colnet-backend", "broken", "-k", "matmul or to_rows")
    assert code == 1, said
    assert "1 failed, 1 passed" in said
    assert "matmul: in float32: matmul does not return the array out that it was given; the call was matmul(" in said
    assert "Traceback" not in said


def test_a_backend_that_does_not_exist_is_a_usage_error(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own(): pass")
    code, said = pytest_run(tmp_path, "--im2colnet-backend", "nonsense")
    assert code == 4, said
    assert "ERROR: --im2colnet-backend: there is no backend 'nonsense'; there are: " in said


def test_pytest_finds_it_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"im2colnet": "pytest_im2colnet"}
    assert (ROOT / "backends" / "pytest_im2colnet.py").exists()

"""What imports what: array libraries only through a backend, and nothing that is not needed yet."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "im2colnet").rglob("*.py"))

#: packages beside the standard library that the library may import, each inside the function that needs it
LIBRARIES = {"IPython", "google", "matplotlib", "mpi4py", "onnx", "PIL", "rich", "safetensors", "tensorboardX", "torch"}
#: modules that are made for another library, by that library's name: they import it at once
MADE_FOR = {"sklearn.py": "sklearn"}
#: rooms and modules whose own business is arrays on the host; all others take them from the backend they are given
HOST = {
    "arrays.py",
    "backend/foreign.py",
    "cli",
    "datasets",
    "lazy.py",
    "losses",
    "metrics.py",
    "onnx",
    "show",
    "sklearn.py",
    "parallel/ranks.py",
    "parallel/state.py",
    "reports/explain.py",
    "reports/windows.py",
    "testing",
    "training/agreement.py",
    "visualize.py",
    "weights.py",
}
#: what a training step can do without
OPTIONAL = ("matplotlib", "PIL", "rich", "safetensors", "threadpoolctl")


def name(path):
    """Return a module's place in the library, such as "layers/pooling.py"."""
    return path.relative_to(ROOT / "im2colnet").as_posix()


class Import(NamedTuple):
    line: int
    module: str
    at_once: bool  # when the module itself is imported, not in a function of it


def imports(source):
    """Every module that is imported, by a statement or by importlib with a literal name."""
    found = []

    def visit(node, at_once):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = node.module or ""
            assert node.level == 0, "the library's own modules are imported by their full names"
            names = [package, *(f"{package}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call):
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if function in ("import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                names = [node.args[0].value]
        found.extend(Import(node.lineno, name, at_once) for name in names)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            at_once = False
        for child in ast.iter_child_nodes(node):
            visit(child, at_once and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    visit(ast.parse(source), True)
    return found


def every_module(function):
    """Run a test for each module of the library."""
    return pytest.mark.parametrize("path", MODULES, ids=name)(function)


# The source --------------------------------------------------------------------------------------------------------
def test_the_check_sees_every_way_to_import():
    source = """
import numpy.linalg as a
from cupy import b
if TYPE_CHECKING:
    from torch import c
def f():
    import jax
    importlib.import_module("tensorflow")
class C:
    d = __import__("scipy.fft")
"""
    assert [(found.module, found.at_once) for found in imports(source)] == [
        ("numpy.linalg", True),
        ("cupy", True),
        ("cupy.b", True),
        ("torch", False),
        ("torch.c", False),
        ("jax", False),
        ("tensorflow", False),
        ("scipy.fft", True),
    ]


@every_module
def test_no_module_imports_an_array_library(path):
    """Nor anything else but the standard library, itself, and the few packages named above."""
    allowed = set(sys.stdlib_module_names) | LIBRARIES | {"im2colnet"}
    if path.name == "host.py":
        allowed.add("numpy")
    allowed.add(MADE_FOR.get(name(path), ""))
    wrong = [found for found in imports(path.read_text()) if found.module.partition(".")[0] not in allowed]
    assert not wrong, f"{path.name} imports {wrong}"


@every_module
def test_packages_are_imported_where_they_are_used(path):
    wrong = [
        found for found in imports(path.read_text()) if found.at_once and found.module.partition(".")[0] in LIBRARIES
    ]
    assert not wrong, f"{path.name} imports {wrong} before they are needed"


@every_module
def test_only_modules_about_host_arrays_take_numpy_from_the_host(path):
    wrong = [
        found
        for found in imports(path.read_text())
        if found.at_once
        and found.module.startswith("im2colnet.host")
        and HOST.isdisjoint({name(path), name(path).partition("/")[0]})
    ]
    assert not wrong, f"{path.name} imports host arrays for all it does: {wrong}"


# The process -------------------------------------------------------------------------------------------------------
def python(script, **variables):
    """Run a script in a new interpreter that has only the checkout, not an installed library; return what it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("IM2COLNET_", "PYTHON"))}
    environment |= {"PYTHONPATH": f".{os.pathsep}backends", **variables}
    hidden = "import importlib.metadata\nimportlib.metadata.entry_points = lambda **_: ()\n"
    done = subprocess.run(
        [sys.executable, "-c", hidden + script],
        cwd=ROOT,
        env=environment,
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


STEP = """
import im2colnet as ic
train, test = ic.datasets.load("digits")
net = ic.models.vgg8(in_channels=1, input_size=8)
trainer = ic.Trainer(net, optimizer=ic.SGD(lr=0.01), seed=0)
first = trainer.step(train.images[:64], train.labels[:64])
assert trainer.step(train.images[:64], train.labels[:64]) < first
assert net.predict(test.images[:3]).shape == (3, 10)
assert "Conv2d" in net.summary()
from im2colnet.backend.registry import BUILT_IN
assert [row.name for row in ic.list_backends()] == sorted(BUILT_IN), ic.list_backends()
"""


def test_the_import_waits_for_nothing():
    python("""
import sys
import im2colnet
assert "numpy" not in sys.modules
assert {name for name in sys.modules if name.startswith("im2colnet.")} == {"im2colnet.startup", "im2colnet.version"}
""")


def test_every_public_name_is_found_on_first_use():
    names = python('import im2colnet as ic\nprint(*ic.__all__, "onnx", "torch", "checks")').split()
    assert {"Conv2d", "Trainer", "callbacks", "datasets", "save_weights"} <= set(names)
    python(f"""
import im2colnet as ic
for name in {names}:
    assert getattr(ic, name) is getattr(ic, name), name
assert set({names[:-1]}) <= set(dir(ic))
""")
    python(f"from im2colnet import *\nassert set({names[:-3]}) <= set(globals())")


@pytest.mark.parametrize("name", ["Conv", "nothing", "__nothing__"])
def test_a_name_that_there_is_not(name):
    python(f"""
import im2colnet
try:
    im2colnet.{name}
except AttributeError as error:
    assert str(error) == "module 'im2colnet' has no attribute {name!r}"
else:
    raise AssertionError
""")


def test_the_first_name_loads_nothing_but_numpy_and_the_standard_library():
    loaded = python("""
import sys, numpy
before = set(sys.modules)
import im2colnet
im2colnet.Sequential
print(*(set(sys.modules) - before), sep="\\n")
""").split()
    packages = {module.partition(".")[0] for module in loaded}
    assert packages - set(sys.stdlib_module_names) == {"im2colnet"}
    slow = {
        "argparse",
        "asyncio",
        "concurrent",
        "csv",
        "gzip",
        "http",
        "json",
        "logging",
        "multiprocessing",
        "random",
        "subprocess",
        "tempfile",
        "unittest",
        "urllib",
        "xml",
        "zipfile",
    }
    assert not packages & slow
    assert {"im2colnet.cli", "im2colnet.datasets", "im2colnet.reports"}.isdisjoint(loaded)


def test_import_starts_no_backend():
    python(
        "import im2colnet; from im2colnet.backend import registry; assert not registry.started",
        IM2COLNET_BACKEND="nonsense",
    )


def test_a_bare_checkout_trains():
    where = python(STEP + "print(ic.__file__)")
    assert Path(where.strip()).resolve() == ROOT / "im2colnet" / "__init__.py"


def test_a_training_step_needs_only_numpy():
    python(f"import sys\nsys.modules.update(dict.fromkeys({OPTIONAL}))\n{STEP}")


PARTS = 8  # that the modules are divided into
FIRST = [
    "im2colnet",
    "im2colnet_numpy",
    "im2colnet_numpy.lowering",
    "im2colnet.host",
    *(f"im2colnet.{name(path)[:-3].replace('/', '.')}" for path in MODULES if path.stem[0] != "_"),
    *(f"im2colnet.{path.parent.name}" for path in (ROOT / "im2colnet").glob("*/__init__.py")),
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("part", range(PARTS))
def test_modules_can_be_imported_in_any_order(part):
    """A circular import shows only from one side. Forks of a process with NumPy take a fifth of new processes' time."""
    python(f"""
import os, sys, numpy, threadpoolctl
wrong = []
for first in {FIRST[part::PARTS]}:
    child = os.fork()
    if child:
        if os.waitpid(child, 0)[1]:
            wrong.append(first)
    else:
        status = 1
        try:
            __import__(first)
            import im2colnet, im2colnet_numpy
            assert im2colnet.get_backend().name == "numpy"
            status = 0
        finally:
            sys.excepthook(*sys.exc_info()) if status else None
            os._exit(status)
assert not wrong, wrong
""")

"""The floors of the house: a room imports only from floors below it, and no import goes in a circle.

Imports within functions and for types count: what a module needs to be understood is what it imports.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: from the ground upwards; a room is a package or a module, the ground is one room
GROUND = {
    "arrays",
    "checks",
    "errors",
    "files",
    "host",
    "interrupt",
    "launcher",
    "layout",
    "lazy",
    "memory",
    "moved",
    "normalization",
    "settings",
    "startup",
    "text",
    "types",
    "version",
    "weights",
    "window",
}
BACKENDS = {path.name for path in (ROOT / "backends").glob("im2colnet_*")}
ON_NUMPY = {"im2colnet_numba"}  # backends that stand on NumPy's
FLOORS = [
    {"ground"},
    {"show"},
    {"backend", "datasets"},
    {"layers", "losses", "optim", "metrics", "parallel", *(BACKENDS - ON_NUMPY)},
    {"graph", "functional", *ON_NUMPY},
    {"plan"},
    {"engine"},
    {"network"},
    {"training", "models"},
    {"testing"},
    {"reports", "onnx", "sklearn", "torch", "visualize"},
    {"cli"},
    {"im2colnet"},
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
#: old names of public modules, which lead to the new ones
MOVED = {"inputs", "loader", "registry", "trainer"}

#: arrows that run up or along a floor today, as "module -> module"; this list may only shrink
OFFENDERS: set[str] = set()
#: modules that import each other today; this list may only shrink
CIRCLES: set[frozenset[str]] = set()


def modules():
    """Every module of the library and of its backends, by its full name."""
    found = {}
    for source in (ROOT, ROOT / "backends"):
        for package in sorted(source.glob("im2colnet*")):
            for path in sorted(package.rglob("*.py")):
                parts = path.relative_to(source).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports(source):
    """The library's modules that a source imports, at once or later, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the library's own modules are imported by their full names"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "moved")):
            found |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return {name for name in found if name.partition(".")[0].startswith("im2colnet")}


def room(module):
    """The room that a module is in."""
    first, _, rest = module.partition(".")
    if first != "im2colnet":
        return first
    name = rest.partition(".")[0]
    return "ground" if name in GROUND else "im2colnet" if name in ("", "__main__", "public", *MOVED) else name


def arrows(sources):
    """Imports between rooms that do not run down."""
    return {
        f"{module} -> {other}"
        for module, source in sources.items()
        for other in imports(source)
        if room(module) != room(other) and HEIGHT[room(other)] >= HEIGHT[room(module)]
    }


def circles(sources):
    """Sets of modules that import each other, by way of others or not."""
    edges = {module: imports(source) & set(sources) - {module} for module, source in sources.items()}
    reached = {module: {module} for module in edges}
    changed = True
    while changed:
        changed = False
        for module, others in edges.items():
            more = set().union(*(reached[other] for other in others)) - reached[module]
            reached[module] |= more
            changed |= bool(more)
    same = {m: frozenset(o for o in reached[m] if m in reached[o]) for m in edges}
    return {group for group in same.values() if len(group) > 1}


SOURCES = {module: path.read_text() for module, path in MODULES.items()}


def test_every_module_has_a_floor():
    unknown = {module for module in MODULES if room(module) not in HEIGHT}
    assert not unknown, f"{unknown} belong to no room: FLOORS has the rooms, docs/design.md says what they are for"


def test_imports_run_down():
    found = arrows(SOURCES)
    assert found <= OFFENDERS, f"imports that run up, or to another room of the same floor: {sorted(found - OFFENDERS)}"
    assert found == OFFENDERS, f"mended, so take them off the list: {sorted(OFFENDERS - found)}"


def test_no_import_goes_in_a_circle():
    found = circles(SOURCES)
    assert found <= CIRCLES, f"modules that import each other: {[sorted(group) for group in found - CIRCLES]}"
    assert found == CIRCLES, f"mended, so take them off the list: {[sorted(group) for group in CIRCLES - found]}"


def test_a_backend_knows_only_the_contract():
    known = {(room(module), room(other)) for module, source in SOURCES.items() for other in imports(source)}
    above = {
        (one, other) for one, other in known if one in BACKENDS and HEIGHT[other] > HEIGHT["backend"] and one != other
    }
    assert above == {(backend, "im2colnet_numpy") for backend in ON_NUMPY}


PLANTED = [
    "from im2colnet.network import Network",
    "from im2colnet import network",
    "import im2colnet.network.containers",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from im2colnet.network import Network",
    "def f():\n    from im2colnet.network import Network",
    "def f():\n    importlib.import_module('im2colnet.network')",
]


@pytest.mark.parametrize("line", PLANTED)
def test_a_planted_arrow_is_named(line):
    """Up from a layer to the network, however it is written."""
    planted = SOURCES | {"im2colnet.layers.linear": f"{SOURCES['im2colnet.layers.linear']}\n{line}\n"}
    found = arrows(planted) - OFFENDERS
    assert found
    assert all(arrow.startswith("im2colnet.layers.linear -> im2colnet.network") for arrow in found)


def test_a_planted_circle_is_named():
    planted = SOURCES | {"im2colnet.window": "import im2colnet.layout", "im2colnet.layout": "import im2colnet.window"}
    assert frozenset({"im2colnet.window", "im2colnet.layout"}) in circles(planted)

"""The reference: every public name has an entry on a page, a docstring with all its sections, and examples that run."""

import doctest
import inspect
import io
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic
import im2colnet.functional as F

REFERENCE = Path(__file__).parents[2] / "docs/reference"
#: the modules whose names users write; a name that several of them have is the first one's
MODULES = [
    "im2colnet",
    "im2colnet.functional",
    "im2colnet.metrics",
    "im2colnet.visualize",
    "im2colnet.models",
    "im2colnet.datasets",
    "im2colnet.datasets.transforms",
    "im2colnet.training.callbacks",
    "im2colnet.testing",
    "im2colnet.onnx",
    "im2colnet.torch",
    "im2colnet.sklearn",
]
#: what the examples take for granted, as the site says
ASSUMED = {"np": np, "ic": ic, "F": F}
#: numpydoc's checks: sections known and in order, a summary of one line, parameters and results as the signature has
#: them, with types and descriptions, and an example
CHECKS = {
    "GL06",
    "GL07",
    "GL08",
    "SS01",
    "SS03",
    "SS06",
    "PR01",
    "PR02",
    "PR03",
    "PR04",
    "PR05",
    "PR06",
    "PR07",
    "PR10",
    "RT01",
    "RT03",
    "EX01",
}


def public_names():
    """Classes and functions by the name that users write, each once."""
    found, seen = {}, set()
    for name in MODULES:
        module = pytest.importorskip(name) if name == "im2colnet.sklearn" else import_module(name)
        for attribute in module.__all__:
            thing = getattr(module, attribute)
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and id(thing) not in seen:
                seen.add(id(thing))
                found[f"{name}.{attribute}"] = thing
    return found


def entries():
    """The entries of the pages: full name -> page, for names and for members of classes."""
    found = {}
    for page in sorted(REFERENCE.rglob("*.md")):
        for block in re.findall(r"```\{eval-rst\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            module = name = ""
            for line in block.split("\n"):
                if match := re.match(r"\.\. (?:currentmodule|automodule):: (\S+)", line):
                    module = match[1]
                elif match := re.match(
                    r"\.\. auto(?:class|function|exception|method|attribute|property)\w*:: (\S+)", line
                ):
                    name = f"{module}.{match[1]}"
                    assert name not in found, f"{name} stands on {found[name]} and again on {page.name}"
                    found[name] = page.name
                elif match := re.match(r"\s+:members: *(\S.*)", line):
                    found |= {f"{name}.{member.strip()}": page.name for member in match[1].split(",")}
    return found


PUBLIC, ENTRIES = public_names(), entries()


def resolved(name):
    """What a full name stands for."""
    if name in PUBLIC:
        return PUBLIC[name]
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            thing = import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            thing = inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
        return thing
    raise AssertionError(name)


def docstring(thing):
    return inspect.getdoc(thing.fget if isinstance(thing, property) else thing) or ""


def is_error(thing):
    return inspect.isclass(thing) and issubclass(thing, Exception)


def problems(name):
    """What numpydoc finds in a docstring, of :data:`CHECKS`."""
    checks = pytest.importorskip("numpydoc.validate")
    thing, left_out = resolved(name), set()
    if is_error(thing) or isinstance(thing, property) or not callable(getattr(thing, "__func__", thing)):
        left_out = {"EX01", "PR01", "RT01"}
    elif name not in PUBLIC:  # a method of a class whose docstring has an example
        left_out = {"EX01"}
    shadowed = name in sys.modules  # a module of the same name, which numpydoc would look at
    found = checks.validate(checks.get_doc_object(thing) if shadowed else name)["errors"]
    return [f"{code}: {text}" for code, text in found if code in CHECKS - left_out]


WANTED = sorted(PUBLIC.keys() | ENTRIES.keys())


@pytest.mark.parametrize("name", WANTED)
def test_the_docstring_is_whole(name):
    assert problems(name) == []


def planted(x):
    """Return x twice."""
    return x, x


def test_what_is_missing_is_found():
    assert {problem[:4] for problem in problems(f"{__name__}.planted")} == {"PR01", "RT01"}


def test_every_public_name_has_an_entry():
    missing = sorted(PUBLIC.keys() - ENTRIES.keys())
    assert not missing, f"no page of docs/reference has {missing}"


def test_every_entry_is_of_a_name_that_there_is():
    for name in ENTRIES:
        assert docstring(resolved(name)), f"{name} on {ENTRIES[name]} has no docstring"


#: a package that an example needs and the library does not
OPTIONAL = {
    "im2colnet.datasets.from_csv": "PIL",
    "im2colnet.datasets.from_folder": "PIL",
    "im2colnet.visualize.sheet": "matplotlib",
}


def run(name, text):
    """Run the examples of a docstring; return how many lines there were, and what went wrong."""
    test = doctest.DocTestParser().get_doctest(text, dict(ASSUMED), name, None, None)
    said = io.StringIO()
    result = doctest.DocTestRunner(verbose=False).run(test, out=said.write)
    return result.attempted, said.getvalue()


@pytest.mark.parametrize("name", [name for name in WANTED if ">>> " in docstring(resolved(name))])
def test_the_example_runs(name, tmp_path, monkeypatch):
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    monkeypatch.chdir(tmp_path)
    attempted, wrong = run(name, docstring(resolved(name)))
    assert attempted
    assert not wrong, wrong


def test_an_example_that_is_wrong_is_found():
    assert run("planted", ">>> np.add(1, 1) + 0.0\n3.0\n")[1]

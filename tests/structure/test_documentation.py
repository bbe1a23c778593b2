"""The programs in the documentation run, in the order in which they stand there.

For one page: ``python -m pytest tests/structure/test_documentation.py -k own-images``. The programs of a page share a
namespace, in a folder with what :func:`pages.prepare` makes. The cells of notebook pages run where the site is built;
of those whose results are compared here, they run as plain Python.
"""

import doctest
import runpy
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pages
import pytest
from blocks import run_programs
from pages import programs

import im2colnet as ic
import im2colnet.functional as F

ROOT = Path(__file__).resolve().parents[2]


#: modules of the library whose docstrings show a session
SESSIONS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "im2colnet").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
PAGES = [pages.name(page) for page in pages.blocks.pages() if programs(page)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """Run the programs of a page, or the cells of a notebook page, and return their names; once for all tests."""
    results = {}

    def run(page, cells=False):
        if page not in results:
            folder = tmp_path_factory.mktemp("page")
            shutil.copytree(prepared, folder, dirs_exist_ok=True)
            with pytest.MonkeyPatch.context() as patch, ic.num_threads(1):
                patch.chdir(folder)
                patch.setenv("MPLBACKEND", "agg")
                patch.syspath_prepend(str((ROOT / page).parent))
                results[page] = run_programs(programs(page, cells), page) | {"__folder__": folder}
        return results[page]

    return run


@pytest.mark.parametrize("page", PAGES)
def test_programs(page, run):
    run(page)


#: a package that the examples of a module need and the library does not
OPTIONAL = {"im2colnet.datasets.folder": "PIL", "im2colnet.visualize": "matplotlib"}


@pytest.mark.parametrize("module", SESSIONS)
def test_docstrings(module):
    """With the names that the site's reference says they take for granted."""
    if module in OPTIONAL:
        pytest.importorskip(OPTIONAL[module])
    found = doctest.testmod(import_module(module), extraglobs={"np": np, "ic": ic, "F": F})
    assert found.attempted > 0
    assert found.failed == 0


def test_readme(run):
    names = run("README.md")
    assert names["trainer"].evaluate(names["test"])["accuracy"] > 0.97


@pytest.fixture(scope="module")
def own_parts(run):
    """What the cells of the guide to own parts have made."""
    return run("docs/guides/own-parts.md", cells=True)


def test_label_smoothing_of_the_guide(own_parts):
    logits, labels, eps, h = np.random.default_rng(0).standard_normal((4, 3)), np.array([1, 3, 0]), 0.3, 1e-6

    def loss(z):
        p = np.exp(z) / np.exp(z).sum(0)
        target = (1 - eps) * np.eye(4)[labels].T + eps / 4
        return -(target * np.log(p)).sum() / 3

    metrics, gradient = np.empty(2), np.empty((4, 3))
    own_parts["Smoothed"](eps)(logits, labels, 1 / 3, metrics, gradient, ic.get_backend("numpy"))
    assert metrics[0] == pytest.approx(loss(logits), rel=1e-12)
    for i in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[i] = h
        assert gradient[i] == pytest.approx((loss(logits + step) - loss(logits - step)) / (2 * h), abs=1e-8)


def test_onnx(run):
    names = run("docs/onnx.md")
    assert names["facts"]["missing"] == []
    images = names["test"].images[:3]
    np.testing.assert_allclose(
        ic.onnx.load(names["__folder__"] / "tuned.onnx").predict(images),
        names["imported"].predict(images),
        rtol=0,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        ic.onnx.load(names["__folder__"] / "own.onnx").predict(images), names["own"].predict(images), rtol=0, atol=1e-6
    )


def test_layers_of_the_guide(own_parts):
    names = own_parts
    net = ic.Sequential(
        [
            ic.Conv2d(1, 8, 3, padding=1),
            names["Swish"](),
            names["Scale"](8),
            names["Crop"](),
            ic.Flatten(),
            ic.Linear(8 * 36, 10),
        ]
    )
    train, test = ic.datasets.load("digits")
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.05, 0.9))
    trainer.fit(train, 3)
    assert trainer.evaluate(test)["accuracy"] > 0.8


def test_what_the_guides_have_learned(run):
    """The numbers that their text takes for granted."""
    pytest.importorskip("matplotlib")
    names = run("docs/guides/regression.md", cells=True)
    found = abs(names["net"].predict(names["test"][0]) - names["test"][1]).mean(axis=0)
    assert (found < [1, 1, 0.05]).all()
    names = run("docs/guides/segmentation.md", cells=True)
    assert names["iou"].min() > 0.6


@pytest.mark.filterwarnings("ignore:.* cannot be read and are left out")
def test_the_mistake_that_the_guide_to_own_images_finds(run):
    """It is the picture that lies in the folder of another class."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    names = run("docs/guides/own-images.md", cells=True)
    assert [mistake.file for mistake in names["trainer"].mistakes(names["test"])[:1]] == ["square/18.png"]
    assert names["trainer"].evaluate(names["test"])["accuracy"] > 0.9


def test_the_tables_are_those_of_the_code():
    """Of layers, losses, optimisers, schedules and models."""
    names = runpy.run_path(str(ROOT / "docs/tables.py"))
    written = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
    assert written == names["text"](), "python docs/tables.py writes them anew"

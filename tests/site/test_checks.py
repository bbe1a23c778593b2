"""The checks of the build find what is planted, and are silent where nothing is wrong."""

import subprocess
import sys

import pytest
from browser import ROOT

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
import repository

GOOD = {
    "index.md": "# Title\n\nA {term}`window`, many {term}`windows <window>`, a `kernel` and a size.\n\n"
    "![a square](a.svg)\n\n```{raw} html\n<svg><title>a square</title></svg>\n<svg aria-hidden='true'></svg>\n"
    "<img alt='a square' src='a.svg'>\n```\n\n[the glossary](words.md), [a file](FILE)\n\n"
    "```{toctree}\nwords\nnames\n```\n",
    "words.md": "# Words\n\n```{glossary}\nwindow\n  a part of an image\n\nkernel\n  numbers\n\nbatch\n  images\n```\n",
    "names.md": "# Names\n\n```{eval-rst}\n.. automodule:: planted\n   :members: described\n```\n",
}
CONF = """
import sys
sys.path[:0] = [{ext!r}, {folder!r}]
extensions = ["myst_parser", "sphinx.ext.autodoc", "checks"]
exclude_patterns = ["_build"]
import checks
checks.MODULES = ("planted",)
"""
PLANTED = '''
__all__ = ["described", "forgotten"][:{names}]
def described():
    """A function."""
def forgotten():
    """Another one."""
'''


@pytest.fixture
def build(tmp_path):
    """Build a small site, and return what is warned of."""

    def build(names=1, **changes):
        for name, text in GOOD.items():
            for old, new in changes.get(name.partition(".")[0], {}).items():
                assert old in text
                text = text.replace(old, new)
            (tmp_path / name).write_text(text.replace("FILE", "words.md"), encoding="utf-8")
        (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
        (tmp_path / "planted.py").write_text(PLANTED.format(names=names), encoding="utf-8")
        (tmp_path / "conf.py").write_text(
            CONF.format(ext=str(ROOT / "docs" / "_ext"), folder=str(tmp_path)), encoding="utf-8"
        )
        # -B: of two builds within a second the later one would take the module that the earlier one has compiled
        command = [sys.executable, "-B", "-m", "sphinx", "-q", "-E", ".", "_build"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [line.partition("WARNING: ")[2] for line in done.stderr.splitlines() if "WARNING: " in line]

    return build


def test_nothing_is_said_of_a_good_page_and_faults_are_found(build):
    assert build() == []
    (said,) = build(index={"![a square]": "![]"})
    assert said.startswith("a picture without an alternative text: a.svg")
    (said,) = build(index={"<svg><title>a square</title></svg>": "<svg><rect/></svg>"})
    assert said.startswith("a picture without an alternative text: <svg>")
    (said,) = build(index={"<img alt='a square'": "<img"})
    assert said.startswith("a picture without an alternative text: <img>")
    said = build(index={"a `kernel` and a size": "Kernels, and batches"})
    assert [line.rpartition(": write ")[2].split()[0] for line in said] == ["{term}`batch`", "{term}`kernel`"]
    (said,) = build(names=2)
    assert said.startswith("no page of the reference describes planted.forgotten")
    (said,) = build(index={"FILE": "words.md#nowhere"})
    assert "nowhere" in said
    (said,) = build(index={"FILE": "missing.md"})
    assert "missing.md" in said


def test_links_lead_to_the_site_or_to_the_repository():
    docs, where = ROOT / "docs", "https://example.org/i"
    page, top = docs / "guides" / "own-images.md", ROOT / "CONTRIBUTING.md"
    text = (
        "[a](../tour.md#x) [b](../../CONTRIBUTING.md#check) [c](../../im2colnet/window.py) [d](../examples) "
        "![e](../run.svg) [f](#here) [g](https://example.org) [![h](../run.svg)](../../README.md) [i](no.md)\n"
        "```text\n[j](../../im2colnet/window.py)\n```\n"
    )
    assert repository.rewrite(text, page, page, where) == (
        "[a](../tour.md#x) [b](../contributing.md#check) [c](https://example.org/i/blob/main/im2colnet/window.py) "
        "[d](https://example.org/i/tree/main/docs/examples) ![e](../run.svg) [f](#here) [g](https://example.org) "
        "[![h](../run.svg)](https://example.org/i/blob/main/README.md) [i](no.md)\n"
        "```text\n[j](../../im2colnet/window.py)\n```\n"
    )
    assert repository.rewrite("[a](docs/gpu.md) [b](CHANGELOG.md)", top, docs / "contributing.md", where) == (
        "[a](gpu.md) [b](changelog.md)"
    )

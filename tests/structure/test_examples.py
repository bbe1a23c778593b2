"""The examples in docs/examples run, and show what they say that they show."""

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
#: one worker, so that the time of the tests does not depend on what else the machine does; the results are the same
pytestmark = pytest.mark.usefixtures("folder", "one_thread")
#: what each program must have found in the end
FOUND = {
    "digits": lambda names: names["accuracy"] > 0.97,
    "fine_tuning": lambda names: names["accuracy"]["fine-tuned"] > names["accuracy"]["from nothing"] + 0.02,
    "folder_of_pictures": lambda names: names["accuracy"] > 0.9,
    "onnx_network": lambda names: names["accuracy"] > 0.9 and names.get("same", 1) == 1,
    "segmentation": lambda names: names["iou"].min() > 0.6,
}


def test_every_program_is_tried_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == FOUND.keys()
    assert {path.suffix for path in EXAMPLES.iterdir() if path.is_file()} == {".py"}


@pytest.mark.parametrize("name", FOUND)
def test_programs(name, capsys):
    if name == "folder_of_pictures":
        pytest.importorskip("PIL")
    if name == "onnx_network":
        pytest.importorskip("onnx")
    names = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert FOUND[name](names), capsys.readouterr().out


@pytest.mark.parametrize("name", FOUND)
def test_programs_are_short_and_say_what_they_show(name):
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 60
    assert max(map(len, source.splitlines())) <= 120
    assert ast.get_docstring(ast.parse(source))

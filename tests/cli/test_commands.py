"""A command is a module of its folder: nothing else has to be told of it."""

import json
import re
import sys

from starting import ROOT, finish

from im2colnet.cli import commands
from im2colnet.cli.command_line import command_names

#: all of a new command
COUNT = '''
"""``im2colnet count``: count the images of a data set."""

from im2colnet.cli.arguments import add_command, add_data, add_machine
from im2colnet.cli.data import load_data
from im2colnet.cli.report import Report

ORDER = 25


def register(commands):
    parser = add_command(commands, "count", run, "count the images of a data set", "im2colnet count --data digits")
    add_data(parser, "none")
    add_machine(parser)


def run(args):
    return Report({"images": sum(map(len, load_data(args)))}, describe)


def describe(facts, width):
    return f"{facts['images']:,} images"
'''


def test_a_new_command_is_one_module(run, folder, monkeypatch):
    (folder / "count.py").write_text(COUNT)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(folder)])
    try:
        assert run("count", "--data", "digits")[0] == "1,797 images\n"
        assert json.loads(run("count", "--data", "digits", "--json")[0]) == {"images": 1797}
        assert "usage: im2colnet count" in run("count", code=2)[1]
        listed = re.findall("^    ([a-z]+) ", run("--help")[0], re.MULTILINE)
        assert listed[listed.index("evaluate") :][:3] == ["evaluate", "count", "predict"]
    finally:
        sys.modules.pop(f"{commands.__name__}.count")


def test_the_readme_shows_every_command():
    shown = re.findall(r"^im2colnet ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(shown) == set(command_names())


def test_only_the_command_that_is_asked_for_is_imported():
    script = (
        "import sys\nfrom im2colnet.cli.command_line import command_names, make_parser\nmake_parser(['backends'])\n"
        "print(*(name for name in command_names() if f'im2colnet.cli.commands.{name}' in sys.modules))"
    )
    assert finish(script=script).stdout == "backends\n"

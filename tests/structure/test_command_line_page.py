"""The page of the command line is made of the parsers, so every command and option of the help stands on it."""

import re
import shlex

import pytest

from im2colnet.cli import main
from im2colnet.cli.command_line import make_parser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page as HTML, made alone with the extension."""
    application = pytest.importorskip("sphinx.application")
    pytest.importorskip("myst_parser")
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.md").write_text("# Page\n\n```{commands}\n```\n\n{option}`im2colnet train --epochs`\n")
    settings = {"extensions": ["myst_parser", "command_line"], "myst_heading_anchors": 3}
    made = application.Sphinx(
        folder, None, folder / "out", folder / "trees", "html", settings, status=None, warningiserror=True
    )
    made.build()
    return (folder / "out" / "index.html").read_text(encoding="utf-8")


def help_of(capsys, *arguments):
    assert main([*arguments, "--help"]) == 0
    return capsys.readouterr().out


def commands_of(help_text):
    return re.findall(r"^    ([a-z][a-z-]+)(?: {2,}\S|$)", help_text, re.MULTILINE)


def test_every_command_and_option(page, capsys):
    commands = commands_of(help_of(capsys))
    assert len(commands) >= 11
    assert "check-backend" in commands
    for command in commands:
        assert f'<section id="{command}">' in page
        options = set(re.findall(r"^  (?:-\w, )?(--[a-z][a-z-]+)", help_of(capsys, command), re.MULTILINE)) - {"--help"}
        assert options
        for option in options:
            assert f'id="cmdoption-im2colnet-{command}{option[1:]}"' in page, (command, option)


def test_the_examples_parse(capsys):
    """The examples at the end of each help, which the page shows, are what the parser understands."""
    parsed = 0
    for command in commands_of(help_of(capsys)):
        examples = help_of(capsys, command).partition("examples:\n")[2].partition("\n\n")[0]
        for line in examples.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            words = words[words.index("im2colnet") + 1 :]
            assert make_parser(words).parse_args(words).run, line
            parsed += 1
    assert parsed >= 30


def test_options_are_code_and_links_reach_them(page):
    assert "–" not in re.sub(r"<title>.*?</title>", "", page)  # no dash has been made of two hyphens
    assert 'href="#cmdoption-im2colnet-train-epochs"' in page


def test_lines_fit(page):
    blocks = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    lines = [re.sub("<.*?>", "", line) for block in blocks for line in block.splitlines()]
    assert max(map(len, lines)) < 120  # with &gt; and the like; they are broken at 76


def test_an_argument_that_is_longer_than_a_line():
    broken = pytest.importorskip("command_line").broken
    path = "x" * 100
    assert broken(f"im2colnet train --data {path}") == f"im2colnet train \\\n    --data {path}"

"""The commands on pages run: those of README, CONTRIBUTING and the site, in the order in which they stand there.

For one page: ``python -m pytest tests/structure/test_commands_of_pages.py -k own-images``. Each page gets a new folder,
in which there is what :func:`pages.prepare` makes: ``pictures/``, ``new/``, ``labels.csv``, ``mine.npz``, ``net.onnx``.
Trainings end after two epochs, so that a page takes seconds.
A command that cannot be run has ``<!-- not run: REASON -->`` before its block, or ``# not run: REASON`` at its end.
"""

import re
import shutil

import pages
import pytest

#: commands that are run by something else than this test: a pattern, and what runs them
ELSEWHERE = {
    r"^python -m pip install \. && im2colnet train$": "the part wheel of .ci/run installs, and trains",
    r"^python -m pip install -e '\.\[test\]' && python -m pytest$": "the part tests of .ci/run, word for word",
    r"^python -m pip install -e '\.\[docs\]' && python -m sphinx -W docs docs/_build$": "the part docs of .ci/run",
    r"^mpiexec -n \d im2colnet (train|doctor)\b": "tests/ranks/test_rank_commands.py",
    r"^until .*\n(.*\n)*? *mpiexec ": "tests/ranks/test_ranks_page.py",
    r"^python -m pip install (-e )?'?\.(\[[a-z0-9,]+\])?'?$": "the parts of .ci/run install the library and its extras",
}
PAGES = [page for page in pages.blocks.pages() if pages.blocks.commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_commands(page, prepared, trained, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "folder"
    shutil.copytree(prepared, folder)
    terminal, left_out = pages.Terminal(folder, capsys, monkeypatch, trained), []
    for command in pages.blocks.commands(page):
        if command.reason or any(re.match(pattern, pages.bare(command.text)) for pattern in ELSEWHERE):
            continue
        assert not pages.OUTSIDE.search(command.text), f"line {command.line} wants a mark: {command.text}"
        lacks = pages.lacking(command.text)
        if lacks:
            left_out.append(f"line {command.line} for want of {lacks}")
            continue
        code, said = terminal.run(command.text)
        assert code == 0, f"{pages.name(page)}, line {command.line}: {command.text}\nended with {code}:\n{said[-3000:]}"
    if left_out:
        pytest.skip("not all: " + "; ".join(left_out))


def test_a_page_with_a_command_that_fails_is_found(tmp_path, prepared, capsys, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "```console\nfalse            # not run: it fails\nim2colnet evaluate none\nfor i in 1; do\n    false\ndone\n"
        "python -c 'print(\n  1)'\necho a \\\n  b\n```\n\n<!-- not run: one\nreason -->\n```sh\nsbatch job.sh\n```\n"
    )
    found = pages.blocks.commands(page)
    assert [(c.line, c.reason) for c in found] == [
        (2, "it fails"),
        (3, None),
        (4, None),
        (7, None),
        (9, None),
        (16, "one reason"),
    ]
    assert [c.line for c in pages.blocks.not_run(page)] == [2, 16]
    terminal = pages.Terminal(tmp_path, capsys, monkeypatch, {})
    assert [terminal.run(command.text)[0] for command in found[1:5]] == [1, 1, 0, 0]


def test_a_mark_is_of_the_next_block_alone():
    text = "<!-- not run: a GPU -->\n```sh\na\n```\nWords.\n\n<!-- a comment -->\n```sh\nb\n```\n\n" * 2
    assert [block.reason for block in pages.blocks.blocks(text)] == ["a GPU", None] * 2


def test_marks_within_boxes_are_seen_and_examples_of_marks_are_not():
    text = (
        ":::{note}\n<!-- not run: a GPU -->\n```python\nimport cupy\n```\n:::\n\n````text\n<!-- not run: no mark -->\n"
        "```python\nx\n```\n````\n```{code-cell}\n---\ntags: [hide-input]\n---\nx = 1\n```\n"
        "```{code-cell}\n:tags: [a]\n\ny = 2\n```\n"
    )
    found = [*pages.blocks.blocks(text)]
    assert [(b.language, b.line, b.reason) for b in found] == [
        ("python", 4, "a GPU"),
        ("text", 9, None),
        ("{code-cell}", 15, None),
        ("{code-cell}", 21, None),
    ]
    assert [pages.blocks.cell_source(b.text) for b in found[2:]] == ["x = 1\n", "y = 2\n"]

"""The progress of a training: plain lines, and the live bar of a terminal."""

import io
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

import im2colnet as ic
from im2colnet.errors import ShapeError
from im2colnet.show.automatic import progress_display
from im2colnet.show.display import Progress
from im2colnet.show.notebook import NotebookDisplay
from im2colnet.show.progress import LiveDisplay, PlainDisplay, make_display


class Terminal(io.StringIO):
    def isatty(self):
        return True


RECORD = {
    "epoch": 3,
    "loss": 0.5,
    "accuracy": 0.75,
    "validation_loss": 0.25,
    "validation_accuracy": 1.0,
    "lr": 0.1,
    "seconds": 61.0,
    "images_per_second": 12_345.6,
}


def test_display_suits_the_stream(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert type(make_display(io.StringIO(), 3)) is PlainDisplay
    assert type(make_display(Terminal(), 3)) is LiveDisplay
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_display(Terminal(), 3)) is PlainDisplay
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setitem(sys.modules, "rich", None)
    assert type(make_display(Terminal(), 3)) is PlainDisplay


def test_plain_display():
    stream = io.StringIO()
    with PlainDisplay(stream, 10) as display:
        display.step(Progress(3, 10, 1, 5, 0.5, {"accuracy": 0.75}, 100.0, 7.0))
        display.epoch(RECORD)
        display.epoch({key: value for key, value in RECORD.items() if "validation" not in key})
    begin, test, end = (
        "epoch  3/10  loss 0.5000  accuracy  75.00%",
        "test loss 0.2500  test accuracy 100.00%",
        "12,346 images/s  1 min 01 s",
    )
    assert stream.getvalue().splitlines() == [f"{begin}  {test}  {end}", f"{begin}  {end}"]


def test_live_display(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream, now = Terminal(), [0.0]
    monkeypatch.setattr("im2colnet.show.progress.time.monotonic", lambda: now[0])
    with LiveDisplay(stream, 10) as display:
        for batch in range(1, 301):  # a step takes 10 ms
            now[0] += 0.01
            display.step(Progress(3, 10, batch, 300, 0.5, {"accuracy": 0.75}, 12_345.6, 7.0))
        assert 25 <= stream.getvalue().count("loss 0.5000  75.0%  12,346/s") <= 31  # ten a second
        display.epoch(RECORD)
        display.epoch(RECORD)
    assert "\x1b[" in stream.getvalue()
    lines = [line.split("\x1b[2K")[-1].strip() for line in stream.getvalue().splitlines()]
    assert sum("test accuracy" in line for line in lines) == 1
    assert lines.count("3/10    0.5000    75.00%     0.2500        100.00%    12,346  1 min 01 s") == 2


def test_live_display_without_colour(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with LiveDisplay(stream, 10) as display:
        display.step(Progress(3, 10, 1, 5, 0.5, {"accuracy": 0.75}, 100.0, 7.0))
    assert "\x1b[36m" not in stream.getvalue()
    assert "loss 0.5000" in stream.getvalue()


def test_lines_on_narrow_terminals(monkeypatch):
    record = {
        "epoch": 3,
        "loss": 0.5,
        "accuracy": 0.75,
        "validation_loss": 0.25,
        "validation_accuracy": 1.0,
        "seconds": 61.0,
        "images_per_second": 12_345.6,
    }
    for columns in (26, 40, 60, 71):
        monkeypatch.setenv("COLUMNS", str(columns))
        for display in (PlainDisplay, LiveDisplay):
            if display is LiveDisplay:
                pytest.importorskip("rich")
            stream = Terminal()
            with display(stream, 10) as shown:
                shown.epoch(record)
            text = stream.getvalue()
            assert all(whole in text for whole in ("0.5000", "75.00%", "0.2500", "100.00%", "12,346", "1 min 01 s"))
            if display is PlainDisplay:
                assert max(map(len, text.splitlines())) <= columns


def test_lines_within_a_long_epoch(monkeypatch):
    now, stream = [0.0], io.StringIO()
    monkeypatch.setattr("im2colnet.show.progress.time.monotonic", lambda: now[0])
    display = PlainDisplay(stream, 10, interval=30)
    display.start(None)
    for batch in range(1, 101):  # a step takes a second
        now[0] += 1
        display.step(Progress(3, 10, batch, 300, 0.5, {"accuracy": 0.75}, 100.0, 200.0))
    line = "epoch  3/10  batch {}/300  loss 0.5000  accuracy 75.00%  100 images/s  3 min 20 s left"
    assert stream.getvalue().splitlines() == [line.format(batch) for batch in (30, 60, 90)]
    display.epoch(RECORD)  # which is a line too, so that the next one has time
    now[0] += 29
    display.step(Progress(4, 10, 1, 300, 0.5, {}, 100.0, 200.0))
    assert len(stream.getvalue().splitlines()) == 4


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 120])
def test_the_bar_fits_the_terminal(columns, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    with LiveDisplay(stream, 100) as display:
        display.step(Progress(33, 100, 1, 5, 0.5, {"accuracy": 0.75, "other": 1.0}, 12_345.0, 7.0))
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue())
    (line,) = {line for line in re.split(r"[\r\n]", text) if "loss" in line}
    assert "epoch 33/100" in line
    assert "loss 0.5000" in line
    assert "…" not in line
    assert len(line) <= columns
    assert ("12,345/s" in line) == (columns >= 60)
    assert ("━" in line) == (columns >= 80)


def test_a_new_number_in_the_records_has_a_header(monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with LiveDisplay(stream, 10) as display:
        for record in RECORD, RECORD, RECORD | {"[red]f1": 0.5}:
            display.epoch(record)
    lines = stream.getvalue().splitlines()
    assert [bool(re.search("epoch", line)) for line in lines] == [True, False, False, True, False]
    assert "[red]f1" in lines[3]


def test_what_fit_shows(monkeypatch, capsys):
    for wrong in ("yes", None, 1, "LOG"):
        with pytest.raises(ShapeError, match='progress must be True, False or "log"'):
            progress_display(wrong, 3)
    assert progress_display(False, 3) is None
    assert type(progress_display(True, 3)) is PlainDisplay
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert type(progress_display(True, 3)) is LiveDisplay
    assert type(progress_display("log", 3)) is PlainDisplay
    monkeypatch.setattr(sys, "stderr", None)
    assert progress_display(True, 3) is None


def test_a_training_goes_on_where_nobody_reads_what_it_shows(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Closed())
    train, _ = ic.datasets.load("digits")
    trainer = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 10)]))
    assert len(trainer.fit(train[:40], 2)) == 2


# In a notebook ------------------------------------------------------------------------------------------------------
class ZMQInteractiveShell:
    """The shell of a notebook has this name."""


@pytest.fixture
def notebook(monkeypatch):
    """A stand-in for IPython in a notebook: what a cell shows, one list for each place, the newest last."""
    shown = []

    def display(html, display_id):
        shown.append([html])
        return SimpleNamespace(update=shown[-1].append)

    module = SimpleNamespace(get_ipython=ZMQInteractiveShell)
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    return shown


def tags(html):
    """The names of the tags, which must all be closed, and the texts."""
    found, texts, open_ = [], [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: (found.append(tag), open_.append(tag))
    parser.handle_endtag = lambda tag: [open_.pop()].index(tag)
    parser.handle_data = texts.append
    parser.feed(html)
    assert not open_
    return found, texts


def test_a_notebook_shows_a_bar_and_a_table(notebook, monkeypatch):
    assert type(progress_display(True, 12)) is NotebookDisplay
    assert type(progress_display("log", 12)) is PlainDisplay
    now = [0.0]
    monkeypatch.setattr("im2colnet.show.notebook.time.monotonic", lambda: now[0])
    display = NotebookDisplay(io.StringIO(), 12)
    for epoch in range(1, 13):
        for batch in range(1, 101):
            now[0] += 0.01
            display.step(Progress(epoch, 12, batch, 100, 0.5, {"accuracy": 0.75}, 100.0, 200.0))
        display.epoch(RECORD | {"epoch": epoch, "<b>f1": 0.5})
    display.say("a & b")
    found, texts = tags(notebook[0][-1])
    assert "progress" in found
    assert found.count("tr") == 11  # the header and the last ten
    assert {"val loss", "val accuracy", "<b>f1", "12/12", "a & b"} <= {*texts}
    assert "b" not in found
    display.end()
    assert "progress" not in tags(notebook[0][-1])[0]
    assert len(notebook) == 1
    assert len(notebook[0]) <= 12 * 4 + 14  # four a second, and one for each epoch and text


def test_fit_in_a_notebook(notebook):
    train, test = ic.datasets.load("digits")
    history = ic.Trainer(ic.Sequential([ic.Flatten(), ic.Linear(64, 10)])).fit(train[:40], 2, validation=test[:20])
    assert "2/2" in tags(notebook[0][-1])[1]
    found, texts = tags(history._repr_html_())
    assert found[:2] == ["details", "summary"]
    assert found.count("tr") == 3

"""The progress of a training: plain lines, and the live bar of a terminal."""

import io
import sys

import pytest

from im2colnet.show.display import Progress
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

"""A history as text, as a table, and as a picture."""

import sys

import pytest

import im2colnet as ic

HISTORY = ic.History(
    [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.5, "validation_loss": 1.5, "lr": 0.1, "seconds": 1.0},
        {"epoch": 2, "loss": 1.0, "accuracy": 0.75, "validation_loss": 1.25, "f1": 0.5, "lr": 0.05, "seconds": 90.0},
    ]
)


def test_a_history_is_printed_as_a_table():
    head, rule, *rows = str(HISTORY).splitlines()
    assert head.split() == ["epoch", "loss", "accuracy", "val", "loss", "lr", "time", "f1"]
    assert rows[0].split() == ["1", "2.0000", "50.00%", "1.5000", "0.1", "1.0", "s"]
    assert rows[1].split() == ["2", "1.0000", "75.00%", "1.2500", "0.05", "1", "min", "30", "s", "0.5000"]
    assert len(rule) == max(map(len, (head, *rows)))


def test_the_short_form_is_one_line():
    assert repr(HISTORY) == "<History of 2 epochs: loss 1.0000, accuracy 75.00%, f1 0.5000, val loss 1.2500>"
    assert repr(ic.History()) == "<History of 0 epochs>"
    assert str(ic.History())
    assert "0 epochs" in ic.History()._repr_html_()


def test_a_part_of_a_history_is_one():
    assert type(HISTORY[1:]) is ic.History
    assert HISTORY[1:]["loss"] == [1.0]
    assert list(HISTORY) == HISTORY


def test_names_are_data():
    html = ic.History([{"epoch": 1, "loss": 1.0, "<script>": 1.0, "a\x1b[31mb": 2.0}])
    assert "<script>" not in html._repr_html_()
    assert "\x1b" not in str(html)


@pytest.mark.parametrize("quantities", [1, 2, 5])
def test_a_history_is_drawn(quantities, tmp_path):
    pytest.importorskip("matplotlib")
    history = ic.History({"epoch": i, "loss": 1 / i, **{f"${n}": i * n for n in range(1, quantities)}} for i in (1, 2))
    figure = history.plot(tmp_path / "curves.png")
    assert len(figure.axes) == quantities
    assert (tmp_path / "curves.png").read_bytes()[:8] == figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ic.ShapeError, match="no epoch to draw"):
        ic.History().plot()


def test_matplotlib_may_be_missing(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ic.Im2colnetError, match="pip install matplotlib"):
        HISTORY.plot()

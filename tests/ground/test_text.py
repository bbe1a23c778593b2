"""Texts for people: times, counts, tables."""

import pytest

from im2colnet.text import amount, duration, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (7.44, "7.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "base", "text"),
    [
        (1023, 1024, "1023 "),
        (1536, 1024, "1.5 Ki"),
        (1000 * 1024, 1024, "1000 Ki"),
        (1023.7 * 1024, 1024, "1 Mi"),
        (999_400, 1000, "999 k"),
        (999_600, 1000, "1 M"),
    ],
)
def test_amount_has_no_exponent(value, base, text):
    assert amount(value, base) == text


def test_tables_on_narrow_terminals():
    rows = [("layer", "what it is", "parameters", "FLOPs"), ("0", "Conv2d(1, 16, 3)", "1,234,567", "12.3 M")]
    wide = table(rows, (2, 3))
    assert table(rows, (2, 3), width=len(wide.splitlines()[0])) == wide
    for width in (20, 25, 30, 40):
        lines = table(rows, (2, 3), width=width).splitlines()
        assert max(map(len, lines)) <= max(width, len("layer  Conv2d(1, 16, 3)"))
        assert sum(line.count("1,234,567") + line.count("12.3 M") for line in lines) == 2  # whole

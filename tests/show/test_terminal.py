"""Streams of any encoding."""

import io

import pytest

from im2colnet.show import terminal as output


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "latin-1", "utf-16"])
def test_characters_that_an_encoding_lacks(encoding):
    raw = io.BytesIO()
    stream = output.Output(io.TextIOWrapper(raw, encoding), True)
    stream.write("1×8×8 – ─ … 日 \udcff\n")
    stream.flush()
    shown = raw.getvalue().decode(encoding)
    lacking = [c for c in "×–─…" if c not in shown]
    plain = {"×": "x", "–": "-", "─": "-", "…": "..."}
    assert shown == "1×8×8 – ─ … {} \\udcff\n".translate({ord(c): plain[c] for c in lacking}).format(
        "日" if encoding == "utf-16" else "\\u65e5"
    )
    assert bool(lacking) == (encoding != "utf-16")

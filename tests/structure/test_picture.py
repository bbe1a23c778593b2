"""The picture of the floors in docs/design.md shows the floors that the imports are held to."""

import re

from test_floors import FLOORS, MODULES, ROOT, room


def test_the_picture_shows_the_floors():
    picture = (ROOT / "docs" / "floors.svg").read_text(encoding="utf-8")
    drawn = re.findall(r'y="([0-9]+)"[^>]*font-family="monospace"[^>]*>([^<]+)<', picture)
    heights = sorted({int(y) for y, _ in drawn}, reverse=True)
    there = {room(module) for module in MODULES} - {"im2colnet"}
    floors = [floor & there for floor in FLOORS if floor & there]
    assert [{name for y, name in drawn if int(y) == height} for height in heights] == floors

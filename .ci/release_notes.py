"""Print the notes of a version: ``python .ci/release_notes.py 0.2.0``.

The notes are the version's section of CHANGELOG.md. Links to files lead to the repository at the version's tag. It is
an error if a version in the files is another one, or if the changelog has no such section.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
version = sys.argv[1]
found = {
    "im2colnet/version.py": re.search(r'__version__ = "(.+)"', (ROOT / "im2colnet/version.py").read_text())[1],
    "CITATION.cff": re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1],
}
for name, other in found.items():
    if other != version:
        sys.exit(f"{name} has the version {other}, not {version}")
sections = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
notes = [section for section in sections if section.startswith(f"{version} (")]
if len(notes) != 1 or not re.match(r"\S+ \(\d{4}-\d\d-\d\d\)\n", notes[0]):
    sys.exit(f"CHANGELOG.md has {len(notes)} sections that begin with '## {version} (', and one with a date is needed")
address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]
files = re.compile(r"\]\((?!https?://|#)([^)\s]+)\)")
print(files.sub(rf"]({address}/blob/v{version}/\1)", notes[0].partition("\n")[2].strip()))

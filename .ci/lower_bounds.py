"""Print the oldest packages that pyproject.toml allows, for the library and its tests, as requirements of pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
    name, oldest = re.match(r"([\w.-]+)>=([\d.]+)", requirement).groups()
    print(f"{name}=={oldest}")

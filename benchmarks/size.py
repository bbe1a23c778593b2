"""What a user pays before anything runs: the size of what is installed, and the import."""

from __future__ import annotations

import io
import zipfile
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import im2colnet_numpy

import im2colnet


def track_wheel() -> int:
    """Compress the installed packages as a wheel does."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in contents().items():
            archive.write(path, name)
    return len(wheel.getvalue())


track_wheel.unit, track_wheel.version = "bytes", "1"


def contents() -> dict[str, Path]:
    """The files of the wheel; of a checkout that is used in place, those that it would have."""
    try:
        recorded = {str(file): Path(str(file.locate())) for file in files("im2colnet") or ()}
    except PackageNotFoundError:
        recorded = {}
    if any(name.endswith("im2colnet/__init__.py") for name in recorded):
        return {n: p for n, p in recorded.items() if ".." not in n and "__pycache__" not in n}
    folders = [Path(str(package.__file__)).parent for package in (im2colnet, im2colnet_numpy)]
    found = [(str(path.relative_to(folder.parent)), path) for folder in folders for path in sorted(folder.rglob("*"))]
    return {name: path for name, path in found if path.is_file() and "__pycache__" not in name}


def timeraw_import() -> str:
    return "import im2colnet"


def timeraw_import_numpy() -> str:
    """For comparison: most of it is NumPy's."""
    return "import numpy"


timeraw_import.version = timeraw_import_numpy.version = "1"

"""Check what a wheel contains: ``python .ci/check_wheel.py WHEEL WHEEL_OF_THE_SOURCE_DISTRIBUTION``."""

import subprocess
import sys
import zipfile
from pathlib import Path

LIMIT = 1_200_000  # bytes that a wheel must be under
NEEDED = {"im2colnet/py.typed", "im2colnet/datasets/data/digits.npz", "im2colnet/datasets/data/ATTRIBUTION.md"}
PLUG_IN = "pytest_im2colnet.py"

tracked = subprocess.check_output(["git", "ls-files", "im2colnet", "backends"], text=True).splitlines()
sources = {name.removeprefix("backends/") for name in tracked}
packages = {name.split("/")[0] for name in sources}

wheel = Path(sys.argv[1])
files, again = ({info.filename: info.CRC for info in zipfile.ZipFile(path).infolist()} for path in sys.argv[1:])
size = wheel.stat().st_size
info = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
print(f"{wheel.name}: {len(files)} files, {size / 1000:.0f} KB, {', '.join(sorted(packages))}")
problems = {
    "it is not a pure wheel": not wheel.name.endswith("-py3-none-any.whl"),
    f"it is not under {LIMIT / 1000:.0f} KB": size >= LIMIT,
    "it lacks": (sources | NEEDED) - set(files),
    "it lacks the licence": f"{info}/licenses/LICENSE" not in files,
    "it holds what is in no package of the checkout": {n.split("/")[0] for n in files} - packages - {info},
    "it holds what git does not know": {name for name in files if not name.startswith(info)} - sources,
    "it holds tests": {name for name in files if "test" in name.replace("im2colnet/testing/", "").replace(PLUG_IN, "")},
    "the wheel made from the source distribution differs": set(files.items()) ^ set(again.items()),
}
for problem, found in problems.items():
    if found:
        print(problem, "" if found is True else sorted(found))
sys.exit(any(problems.values()))

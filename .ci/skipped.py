"""Print the tests that a run of pytest skipped, one a line, from its report: python .ci/skipped.py JUNIT.xml."""

import sys
from pathlib import Path
from xml.etree import ElementTree


def place(case: ElementTree.Element) -> str:
    """Return what pytest takes to run a test, or a file that was skipped as a whole, again."""
    module, name = case.get("classname", ""), case.get("name", "")
    if "[numba" not in name and "numba]" not in name:  # of a test for each backend the other backends' were run
        name = name.partition("[")[0]
    if not module:
        return f"{name.replace('.', '/')}.py"
    names = module.split(".")
    files = [n for n in range(len(names), 0, -1) if Path(*names[:n]).with_suffix(".py").is_file()]
    path = Path(*names[: files[0]]).with_suffix(".py").as_posix()
    return "::".join([path, *names[files[0] :], name])


cases = ElementTree.parse(sys.argv[1]).iter("testcase")
print(*dict.fromkeys(place(case) for case in cases if case.find("skipped") is not None), sep="\n")

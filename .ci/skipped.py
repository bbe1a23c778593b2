"""Print the tests that a run of pytest skipped, one a line, from its report: python .ci/skipped.py JUNIT.xml."""

import sys
from pathlib import Path
from xml.etree import ElementTree


def place(case: ElementTree.Element) -> str:
    """Return the name by which pytest runs a test again, or a file that was skipped as a whole."""
    module, name = case.get("classname", ""), case.get("name", "")
    if not module:
        return f"{name.replace('.', '/')}.py"
    names = module.split(".")
    files = [n for n in range(len(names), 0, -1) if Path(*names[:n]).with_suffix(".py").is_file()]
    path = Path(*names[: files[0]]).with_suffix(".py").as_posix()
    return "::".join([path, *names[files[0] :], name])


cases = list(ElementTree.parse(sys.argv[1]).iter("testcase"))
skipped = [place(case) for case in cases if case.find("skipped") is not None]
ran = {place(case).partition("[")[0] for case in cases if case.find("skipped") is None}
# If no case of a test has run, the whole test runs again: with the optional packages it may have other cases.
print(*dict.fromkeys(name if (test := name.partition("[")[0]) in ran else test for name in skipped), sep="\n")

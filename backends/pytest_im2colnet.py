"""pytest's plug-in: ``pytest --im2colnet-backend NAME`` certifies a backend, one test for each check.

It is not a module of the library: pytest imports it in every project that has im2colnet installed, and must not import
NumPy and the library unless the option is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from im2colnet.testing.check_backend import CheckResult


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("im2colnet", "certify a backend of im2colnet")
    group.addoption(
        "--im2colnet-backend",
        metavar="NAME",
        help="certify the backend NAME of im2colnet: a test for each check of im2colnet.testing",
    )
    group.addoption("--im2colnet-seed", metavar="N", type=int, default=0, help="random seed of the checks (default: 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Start the backend, where the option is given: a usage error if there is none, or it cannot start."""
    name = config.getoption("--im2colnet-backend")
    if name is None:
        return
    from im2colnet.backend.registry import get_backend
    from im2colnet.errors import BackendError

    try:
        get_backend(name)
    except BackendError as error:
        raise pytest.UsageError(f"--im2colnet-backend: {error}") from None


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose among the tests
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the tests, where the option is given."""
    name = config.getoption("--im2colnet-backend")
    if name is not None:
        title = f"im2colnet-backend[{name}]"
        checks = BackendChecks.from_parent(session, name=title, nodeid=title, backend=name)
        found = list(checks.collect())
        items += found
        config.hook.pytest_collectreport(report=pytest.CollectReport(title, "passed", None, [*found]))  # counts them


class BackendChecks(pytest.Collector):
    """The checks of one backend."""

    def __init__(self, *, backend: str, **others: Any) -> None:
        super().__init__(**others)
        self.backend = backend

    def collect(self) -> Iterator[BackendCheck]:
        """Yield a test for each check."""
        from im2colnet.testing.check_backend import check_names

        for check in check_names():
            yield BackendCheck.from_parent(self, name=check)


class BackendCheck(pytest.Item):
    """One check."""

    parent: BackendChecks

    def runtest(self) -> None:
        """Make the check."""
        from im2colnet.testing.check_backend import check_backend

        report = check_backend(self.parent.backend, self.config.getoption("--im2colnet-seed"), [self.name])
        (result,) = report.results
        if not result.ok:
            raise CheckFailed(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any) -> Any:
        """Return the error message, without the traceback of the checks."""
        if isinstance(excinfo.value, CheckFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **options)

    def reportinfo(self) -> tuple[str, None, str]:
        """Return the place of the test, which is not in a file of the project."""
        return "im2colnet.testing", None, f"{self.parent.name} {self.name}"


class CheckFailed(AssertionError):
    """A check has failed."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(f"{result.name}: {result.error}")

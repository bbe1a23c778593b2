"""Certify a backend: does each kernel compute the right result, in every way of calling it?

>>> import im2colnet as ic
>>> ic.testing.check_backend("numpy", only=["matmul", "to_rows"]).certified
True
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from im2colnet.backend import Backend
from im2colnet.backend.registry import get_backend, version_of
from im2colnet.checks import whole
from im2colnet.errors import BackendError, ConformanceError
from im2colnet.testing.conformance import CHECKS, FAULTS, Check, Fault, Subject, planted
from im2colnet.text import count
from im2colnet.types import HALF
from im2colnet.version import __version__

__all__ = ["BackendReport", "CheckResult", "FaultResult", "check_backend", "check_names", "plant_faults"]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    name: str
    dtypes: tuple[str, ...]  #: the element types and precisions that it was made with
    error: str  #: what is wrong; empty if nothing is
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.error


@dataclass(frozen=True)
class FaultResult:
    """The result for one planted fault."""

    check: str  #: the check that must find it
    about: str  #: what is wrong
    found: str  #: what the check said; empty if it found nothing

    @property
    def ok(self) -> bool:
        """Whether the check found it."""
        return bool(self.found)


@dataclass(frozen=True)
class BackendReport:
    """The results of :func:`check_backend`.

    Parameters
    ----------
    backend : str
        The backend's name, with the device.
    version : str
        The version of the package that provides the backend.
    module : str
        The array module, with its version.
    versions : dict of str to str
        The versions of the software and hardware that compute, by name.
    seed : int
        The random seed of the numbers and shapes of the checks.
    results : tuple of CheckResult
        The results, with ``name``, ``dtypes``, ``error`` (empty if nothing is wrong), ``seconds`` and ``ok``.
    left_out : dict of str to str
        The precisions that are not available here, and the reason for each.

    Examples
    --------
    >>> report = ic.testing.check_backend("numpy", only=["to_rows"])
    >>> [(result.name, result.ok) for result in report.results]
    [('to_rows', True)]
    """

    backend: str
    version: str
    module: str
    versions: dict[str, str]
    seed: int
    results: tuple[CheckResult, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether all checks that were made have passed."""
        return bool(self.results) and all(result.ok for result in self.results)

    @property
    def dtypes(self) -> list[str]:
        """The element types of numbers, and the precisions, that were checked."""
        found = {dtype: None for result in self.results for dtype in result.dtypes if dtype not in ("bool",)}
        return [dtype for dtype in found if "int" not in dtype]

    def facts(self) -> dict[str, Any]:
        """Return the report in types that JSON can represent.

        Returns
        -------
        dict of str to object
            The object that ``im2colnet check-backend --json`` prints.
        """
        return {
            "backend": self.backend,
            "version": self.version,
            "module": self.module,
            "versions": self.versions,
            "seed": self.seed,
            "certified": self.certified,
            "dtypes": self.dtypes,
            "left_out": self.left_out,
            "checks": [
                {"name": r.name, "ok": r.ok, "error": r.error, "dtypes": [*r.dtypes], "seconds": round(r.seconds, 3)}
                for r in self.results
            ],
        }


def check_names() -> list[str]:
    """Return the names of all checks.

    Returns
    -------
    list of str
        The names, for the argument ``only`` of :func:`check_backend`.

    Examples
    --------
    >>> "conv2d" in ic.testing.check_names()
    True
    """
    return [check.name for check in CHECKS]


def chosen(only: Iterable[str] | None) -> list[Check]:
    """Return the checks with these names, or all checks for None; raise a BackendError for an unknown name."""
    wanted = check_names() if only is None else [only] if isinstance(only, str) else [*only]
    unknown = [name for name in wanted if name not in check_names()]
    if unknown:
        raise BackendError(f"there is no check {unknown[0]!r}; the checks are: {', '.join(check_names())}")
    return [check for check in CHECKS if check.name in wanted]


def check_backend(
    backend: str | Backend | None = None,
    seed: int = 0,
    only: Iterable[str] | None = None,
    done: Callable[[CheckResult], None] | None = None,
) -> BackendReport:
    """Check everything that a backend must do: kernels, arrays, random numbers, errors, layers and whole trainings.

    Results are compared with naive loops in float64 (``im2colnet.testing.oracles``). Three ways to call each kernel
    must agree to the bit: a plain call, a call with ``out`` and scratch arrays that hold NaN, and prepared calls that
    are repeated. A kernel must not change its inputs. The arguments are in several memory orders.

    Parameters
    ----------
    backend : str or Backend, optional
        The backend. By default the selected backend: see :func:`im2colnet.get_backend`.
    seed : int
        The random seed of the numbers and shapes of the checks.
    only : iterable of str, optional
        Names of the checks to make: see :func:`check_names`. By default all checks are made.
    done : callable, optional
        A function that is called with the ``CheckResult`` of each check, as soon as the check is done.

    Returns
    -------
    BackendReport
        ``report.certified`` says whether all checks have passed.

    Raises
    ------
    BackendError
        If there is no such backend, the backend cannot start, or ``only`` has an unknown name.

    Examples
    --------
    >>> report = ic.testing.check_backend("numpy", only=["matmul", "to_rows"])
    >>> report.certified, report.dtypes
    (True, ['float32', 'float64'])
    """
    subject, seed, results = get_backend(backend), whole("seed", seed, least=0), []
    precisions, left_out = precisions_of(subject)
    for check in chosen(only):
        results.append(made(check, subject, seed, precisions))
        if done is not None:
            done(results[-1])
    name, xp = subject.full_name, subject.xp
    module = f"{xp.__name__} {getattr(xp, '__version__', '')}".rstrip()
    version = version_of(name.partition(":")[0])
    return BackendReport(name, version, module, versions_of(subject), seed, tuple(results), left_out)


def versions_of(backend: Backend) -> dict[str, str]:
    """Return the versions of the software and hardware that compute, by name."""
    return {"im2colnet": __version__, **backend.versions()}


def precisions_of(backend: Backend) -> tuple[dict[str, Backend], dict[str, str]]:
    """Return the backend at each further precision, and the precisions that are missing here, with the reasons."""
    found, left_out = {}, {}
    for precision in backend.precisions:
        if precision != "float32":
            try:
                found[precision] = backend.with_precision(precision)
            except BackendError as error:
                left_out[precision] = str(error)
    return found, left_out


def made(check: Check, backend: Backend, seed: int, precisions: dict[str, Backend]) -> CheckResult:
    """Make one check, with each element type and precision that it has, until one is wrong."""
    began = time.perf_counter()
    trials = {dtype: (backend.with_precision("float32"), dtype) for dtype in check.dtypes}
    if check.halves:
        trials |= {name: (at, name if name in HALF else "float32") for name, at in precisions.items()}
    error = ""
    for name, (at, dtype) in trials.items():
        subject = Subject(at, [seed, zlib.crc32(check.name.encode())])
        try:
            check.run(subject, dtype)
        except ConformanceError as wrong:
            error = f"in {name}: {wrong}"
        except Exception as raised:  # whatever a backend's own code raises
            error = f"in {name}: {subject.wrong(' '.join(f'{type(raised).__name__}: {raised}'.split()))}"
        if error:
            break
    return CheckResult(check.name, tuple(trials), error, time.perf_counter() - began)


def plant_faults(
    backend: str | Backend | None = None,
    seed: int = 0,
    only: Iterable[str] | None = None,
    done: Callable[[FaultResult], None] | None = None,
) -> list[FaultResult]:
    """Plant faults in copies of a backend, one at a time, and test whether the check of the kernel finds each fault.

    The backend itself is not changed.

    Parameters
    ----------
    backend : str or Backend, optional
        As for :func:`check_backend`.
    seed : int
        As for :func:`check_backend`.
    only : iterable of str, optional
        Names of the checks whose faults are planted.
    done : callable, optional
        A function that is called with each ``FaultResult``, as soon as there is one.

    Returns
    -------
    list of FaultResult
        The results, with ``check``, ``about`` (the fault), ``found`` (the check's error) and ``ok``.

    Examples
    --------
    >>> planted = ic.testing.plant_faults("numpy", only=["matmul"])
    >>> all(fault.ok for fault in planted)
    True
    """
    subject, results = get_backend(backend), []
    checks = {check.name: check for check in chosen(only)}
    for fault in FAULTS:
        if fault.check in checks and fault.fits(subject):
            results.append(found(fault, checks[fault.check], subject, seed))
            if done is not None:
                done(results[-1])
    return results


def found(fault: Fault, check: Check, backend: Backend, seed: int) -> FaultResult:
    """Plant one fault, and make its check."""
    return FaultResult(fault.check, fault.about, made(check, planted(backend, fault), seed, {}).error)


def summary(report: BackendReport) -> str:
    """Return a one-line summary of a report; a backend is certified only if all checks were made and have passed."""
    checks, seed = count(len(report.results), "check"), f"seed {report.seed}"
    on = f"{f'{report.backend} {report.version}'.rstrip()} on {report.module}"
    wrong = [result.name for result in report.results if not result.ok]
    if wrong:
        return f"NOT certified: {on}, {seed}, {len(wrong)} of {checks} failed: {', '.join(wrong)}"
    numbers = " ".join(report.dtypes)
    if len(report.results) < len(CHECKS):
        return f"passed: {on}, {numbers}, {len(report.results)} of {count(len(CHECKS), 'check')}, {seed}"
    return f"certified: {on}, {numbers}, {checks}, {seed}"

"""The dashboard of the benchmarks as a part of the site: ``dashboard/index.html`` beside the pages.

It is published at the end of a build where asv, git and npm are there, and the whole history of the repository. Elsewhere
a page stands in its place that says how it is made. If neither the results nor what publishes them has changed since, it
stays as it is.
"""

from __future__ import annotations

import hashlib
import html
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from repository import ROOT
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
#: what the dashboard is made of
SOURCES = ("asv.conf.json", "benchmarks/dashboard.py", "benchmarks/npm/package-lock.json", "benchmarks/results")
STAMP = ".made-of"
INSTEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The dashboard was not made</title>
<style>body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 45rem; margin: 3rem auto; padding: 0 1rem;
color-scheme: light dark }}</style>
<h1>The dashboard was not made</h1>
<p>It shows the results of the benchmarks over the commits. Where this site was built, it could not be made: {reason}</p>
<p>It needs asv, git with the whole history, and npm. In a copy of the repository, this makes it and shows it:</p>
<pre>python -m pip install -e '.[bench]'
python -m benchmarks.dashboard --serve</pre>
<p><a href="../benchmarks.html">How the benchmarks are made</a></p>
"""


def made_of() -> str:
    """Return a digest of all that the dashboard is made of."""
    digest = hashlib.sha256()
    for name in SOURCES:
        source = ROOT / name
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file():
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def lacks() -> str:
    """Return what is missing to publish it; empty if nothing is."""
    missing = [name for name in ("git", "npm") if not shutil.which(name)]
    missing += [] if find_spec("asv") else ["asv"]
    return f"{' and '.join(missing)} missing." if missing else ""


def publish(folder: Path) -> str:
    """Publish the dashboard; return why that failed, or nothing."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.dashboard import DashboardError
    from benchmarks.dashboard import publish as write

    try:
        write(folder)
    except (DashboardError, OSError) as error:
        return str(error)
    finally:
        sys.path.remove(str(ROOT))
    return ""


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Put the dashboard, or the page in its place, beside the pages."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "dashboard"
    stamp, now = folder / STAMP, made_of()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == now:
        return
    reason = "it was left out." if not app.config.dashboard else lacks()
    if not reason:
        if folder.exists() and not (folder / "regressions.json").exists():
            shutil.rmtree(folder)  # the page in its place
        reason = publish(folder)
    if reason:
        logger.info("the dashboard is not made: %s", reason.splitlines()[0])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "index.html").write_text(INSTEAD.format(reason=html.escape(reason)), encoding="utf-8")
    else:
        stamp.write_text(now, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Publish it at the end of a build, unless ``-D dashboard=0``."""
    app.add_config_value("dashboard", True, "", bool)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Publish the results as a dashboard that needs nothing from elsewhere: ``python -m benchmarks.dashboard``.

``asv publish`` makes pages that load ten scripts and styles from other hosts, and show an error where these cannot be
reached. Here they come from npm, at the versions that asv asks for (checked by asv's own hashes where npm has the same
file), and are put beside the pages. What is published is ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ROOT / "benchmarks" / "npm"
LIBRARY = ("im2colnet", "backends")  # a commit that changes neither needs no new results
BACKEND = "IM2COLNET_BACKEND"

#: the end of an address that asv's pages load -> the same thing in npm's packages
ASSETS = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}


class DashboardError(Exception):
    """The dashboard cannot be made; what was there before is still there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Publish, and serve if asked to; 0 done, 1 it failed, 2 wrong usage."""
    args = _parser().parse_args(argv)
    try:
        publish(args.html)
        print(freshness(args.html))
        if args.serve is None:
            print(f"written to {args.html}; look at it with: python -m benchmarks.dashboard --serve")
        else:
            serve(args.html, args.serve)
    except (DashboardError, OSError) as error:
        print(f"python -m benchmarks.dashboard: error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dashboard", description="Publish benchmarks/results as a dashboard for a browser."
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FOLDER",
        default=ROOT / ".asv" / "html",
        help="where to write it (default: .asv/html)",
    )
    parser.add_argument(
        "--serve",
        type=int,
        nargs="?",
        const=8080,
        metavar="PORT",
        help="then serve it on this machine until Ctrl-C (default port: 8080)",
    )
    return parser


# Making it ----------------------------------------------------------------------------------------------------------
def publish(html: Path, config: Path = ROOT / "asv.conf.json") -> None:
    """Write the dashboard to a folder, whole or not at all.

    Raises
    ------
    DashboardError
        If something is missing or fails.
    """
    if html.exists() and any(html.iterdir()) and not (html / "regressions.json").exists():
        raise DashboardError(f"{html} holds something that is no dashboard: choose another folder")
    settings = _settings(config)
    if _git(config.parent / settings["repo"], "rev-parse", "--is-shallow-repository") == "true":
        raise DashboardError(
            "asv places results by the whole history, of which this clone has a part: run git fetch --unshallow"
        )
    html.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=html.parent, prefix=".dashboard-") as folder:
        made, asv = Path(folder) / "html", [sys.executable, "-m", "asv", "--config", str(config)]
        _run([*asv, "publish", "--no-pull", "-o", str(made)], config.parent)
        _bring(made, _packages(Path(folder)))
        _offer_every_backend(made, settings["matrix"]["env_nobuild"][BACKEND])
        if html.exists():
            html.rename(Path(folder) / "before")
        made.rename(html)


def _settings(config: Path) -> dict[str, Any]:
    try:
        from asv.util import load_json
    except ModuleNotFoundError as error:
        raise DashboardError(f"{error}: python -m pip install -e '.[bench]'") from error
    settings: dict[str, Any] = load_json(str(config), js_comments=True)
    return settings


def _run(command: list[str], where: Path) -> str:
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        hint = " (Node.js brings it; on Debian: apt-get install npm)" if command[0] == "npm" else ""
        raise DashboardError(f"there is no {command[0]} on this machine{hint}") from error
    if done.returncode:
        raise DashboardError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()}")
    return done.stdout


def _git(where: Path, *arguments: str) -> str:
    return _run(["git", *arguments], where).strip()


def _packages(folder: Path) -> Path:
    """Install npm's packages as the lock file has them, and return where they are."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, folder)
    _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return folder / "node_modules"


def _bring(html: Path, packages: Path) -> None:
    """Put what the pages load from elsewhere beside them."""
    vendor, page = html / "vendor", html / "index.html"
    vendor.mkdir(exist_ok=True)

    def replace(tag: re.Match[str]) -> str:
        text = tag.group(0)
        address = re.search(r'(?:src|href)="(https?:)?//[^"]+"', text)
        if address is None:
            return text
        name = address.group(0).rstrip('"').rpartition("/")[2]
        if name not in ASSETS:
            raise DashboardError(f"asv's pages load {address.group(0)}, which is not in the ASSETS of {__name__} yet")
        shutil.copy(packages / ASSETS[name], vendor / name)
        text = text.replace(address.group(0), f'{address.group(0).partition("=")[0]}="vendor/{name}"')
        text = re.sub(r'\s+(crossorigin|referrerpolicy)="[^"]*"', "", text)
        # where npm's file is another build than the one asv names, its hash is another too
        return re.sub(r'\s+integrity="([^"]+)"', lambda m: m.group(0) * _has_hash(vendor / name, m.group(1)), text)

    text = re.sub(r"<(?:script|link)\b[^>]*>", replace, page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")


def _has_hash(file: Path, integrity: str) -> bool:
    kind, _, expected = integrity.partition("-")
    return base64.b64encode(hashlib.new(kind, file.read_bytes()).digest()).decode() == expected


def _offer_every_backend(html: Path, backends: Sequence[str]) -> None:
    """Let the sidebar offer all backends that are measured, also where one has no results yet."""
    index = json.loads((html / "index.json").read_text(encoding="utf-8"))
    found = index["params"].get(f"env-{BACKEND}", [])
    index["params"][f"env-{BACKEND}"] = [*found, *(name for name in backends if name not in found)]
    (html / "index.json").write_text(json.dumps(index, separators=(",", ":")), encoding="utf-8")


# Looking at it ------------------------------------------------------------------------------------------------------
def newest(html: Path) -> str:
    """Return the last commit that has results."""
    index = json.loads((html / "index.json").read_text(encoding="utf-8"))
    measured = {json.loads(path.read_text(encoding="utf-8")).get("commit_hash") for path in RESULTS.glob("*/*.json")}
    # the pages number the commits, and those that have only a tag too
    commits = {int(number): str(name) for number, name in index["revision_to_hash"].items() if name in measured}
    if not commits:
        raise DashboardError(f"there are no results of this project's commits in {RESULTS}")
    return commits[max(commits)]


def commits_since(commit: str) -> int:
    """Return how many commits have changed the library since."""
    return int(_git(ROOT, "rev-list", "--count", f"{commit}..HEAD", "--", *LIBRARY))


def freshness(html: Path) -> str:
    """Say how old the newest results are."""
    commit = newest(html)
    behind, date = commits_since(commit), _git(ROOT, "show", "-s", "--format=%cs", commit)
    return f"newest results: of {commit[:8]}, {date}; {behind or 'no'} commit{'s' * (behind != 1)} to the library since"


def serve(html: Path, port: int) -> None:
    """Serve the dashboard on this machine alone, until Ctrl-C."""
    with ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=html)) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    sys.exit(main())

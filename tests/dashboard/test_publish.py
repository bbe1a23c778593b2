"""What can go wrong when the dashboard is made: it is told, and what was there stays."""

import shutil
import subprocess
import sys

import pytest
from browser import PAGES, ROOT, need

from benchmarks import dashboard
from benchmarks.dashboard import DashboardError


@pytest.fixture(autouse=True)
def _needed():
    need(*PAGES)


@pytest.fixture
def there(tmp_path):
    """A dashboard made before."""
    html = tmp_path / "html"
    html.mkdir()
    (html / "regressions.json").write_text("{}")
    (html / "index.html").write_text("before")
    return html


def test_a_new_dashboard_takes_the_place_of_the_old(there):
    dashboard.publish(there)
    assert "vendor/jquery" in (there / "index.html").read_text()
    assert [path.name for path in there.parent.iterdir()] == ["html"]
    assert dashboard.freshness(there).startswith("newest results: of ")


@pytest.mark.parametrize("broken", ["unknown address", "no npm", "no asv", "asv fails"])
def test_what_fails_leaves_the_old_dashboard(there, monkeypatch, tmp_path, broken, configuration):
    config = ROOT / "asv.conf.json"
    if broken == "unknown address":
        monkeypatch.delitem(dashboard.ASSETS, "md5.min.js")
        message = r"asv's pages load .*md5\.min\.js.* ASSETS"
    elif broken == "no npm":
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "git").symlink_to(shutil.which("git"))
        monkeypatch.setenv("PATH", str(tools))
        message = "there is no npm on this machine .*apt-get install npm"
    elif broken == "no asv":
        monkeypatch.setitem(sys.modules, "asv.util", None)
        message = r"asv.* pip install -e '\.\[bench\]'"
    else:
        config = tmp_path / "asv.conf.json"
        config.write_text(config_text(configuration).replace('"HEAD"', '"no-such-branch"'))
        message = "no-such-branch"
    with pytest.raises(DashboardError, match=message):
        dashboard.publish(there, config)
    assert (there / "index.html").read_text() == "before"
    assert not list(there.parent.glob(".dashboard-*"))


def config_text(configuration):
    text = configuration.path.read_text()
    return text.replace('"repo": "."', f'"repo": "{ROOT}"').replace(
        '"benchmarks/results"', f'"{ROOT / "benchmarks" / "results"}"'
    )


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("five years")
    with pytest.raises(DashboardError, match="no dashboard: choose another folder"):
        dashboard.publish(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "five years"


def test_a_shallow_clone_says_what_to_do(there, tmp_path, configuration):
    command = ["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", str(tmp_path / "shallow")]
    subprocess.run(command, check=True, capture_output=True)
    config = tmp_path / "shallow" / "asv.conf.json"
    shutil.copy(configuration.path, config)
    with pytest.raises(DashboardError, match="git fetch --unshallow"):
        dashboard.publish(there, config)


def test_the_command_says_where_it_is_and_how_to_look_at_it(tmp_path, capsys):
    assert dashboard.main(["--html", str(tmp_path / "html")]) == 0
    out = capsys.readouterr().out
    assert "newest results: of " in out
    assert f"written to {tmp_path / 'html'}" in out
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert dashboard.main(["--html", str(tmp_path / "other")]) == 1
    assert capsys.readouterr().err.startswith("python -m benchmarks.dashboard: error: ")

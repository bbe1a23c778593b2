"""The dashboard in a browser: every page, what is drawn, and that it asks nobody else for anything."""

import json
import shutil
import subprocess
import sys

import pytest
from browser import ROOT

from benchmarks import dashboard

GRAPH = "ratios.Torch.track_ratio_torch_training"
#: how many pixels of the graph have a colour: neither grey nor transparent
COLOURED = """(() => {
    const drawn = document.querySelector("#main-graph canvas"), copy = document.createElement("canvas");
    if (!drawn || !drawn.width) return 0;
    [copy.width, copy.height] = [drawn.width, drawn.height];
    const context = copy.getContext("2d", {willReadFrequently: true});
    context.drawImage(drawn, 0, 0);
    const p = context.getImageData(0, 0, copy.width, copy.height).data;
    let n = 0;
    for (let i = 0; i < p.length; i += 4)
        n += p[i + 3] > 128 && Math.max(p[i], p[i + 1], p[i + 2]) - Math.min(p[i], p[i + 1], p[i + 2]) > 60;
    return n;
})()"""


def results(folder=ROOT / "benchmarks" / "results"):
    """The files with results of the numpy backend."""
    return sorted(folder.glob("*/*IM2COLNET_BACKENDnumpy.json"))


@pytest.fixture(scope="module")
def index(pages):
    return json.loads((pages / "index.json").read_text())


def test_several_commits_have_results(index):
    measured = {json.loads(path.read_text())["commit_hash"] for path in results()}
    assert len(measured) >= 5
    assert measured <= set(index["revision_to_hash"].values())
    history = subprocess.run(["git", "rev-list", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert measured <= set(history.split())


def test_the_newest_results_are_not_stale(pages):
    """Two hundred changes of the library without a measurement, and nobody would believe the dashboard."""
    assert dashboard.commits_since(dashboard.newest(pages)) <= 200


def test_the_grid_shows_every_benchmark(browser, serve, pages, index):
    browser.open(serve(pages), "#/")
    browser.until(f"document.querySelectorAll('.benchmark-container').length == {len(index['benchmarks'])}")
    assert "im2colnet" in browser.until("document.querySelector('#nav').innerText")
    browser.until("document.querySelectorAll('#summarygrid-display canvas').length > 4")  # those in view are drawn


def test_the_list_shows_a_value_for_each_case(browser, serve, pages):
    browser.open(serve(pages), "#/summarylist")
    text = browser.until(
        "(t => t && t.innerText.includes('ratio_self') && t.innerText)"
        "(document.querySelector('#summarylist-body table'))"
    )
    assert "ratios.Torch.track_ratio_torch_training ('lenet5-b64', 2)" in text


def test_a_graph_is_drawn_with_the_newest_commit_and_a_selector_of_backends(browser, serve, pages):
    browser.open(serve(pages), f"#{GRAPH}")
    browser.until(f"{COLOURED} > 100")
    assert dashboard.newest(pages)[:8] in browser.until("document.querySelector('#range').value")
    sidebar = browser.until("document.querySelector('#graphdisplay-state-params').innerText").split()
    assert {"numpy", "cupy"} <= set(sidebar)
    assert "IM2COLNET_BACKEND" in "".join(sidebar)
    assert "lenet5-b64" in browser.until("document.querySelector('#main-graph .legend').innerText")


def test_the_regressions_page(browser, serve, pages):
    browser.open(serve(pages), "#/regressions")
    heads = browser.until(
        "(h => h.length > 4 && h)([...document.querySelectorAll('#regressions-body th')].map(h => h.innerText.trim()))"
    )
    assert [head.split()[0] for head in heads[:3]] == ["Benchmark", "Date", "Commit"]
    assert not browser.until("document.querySelector('#regressions-body').innerText").startswith("Could not")


@pytest.fixture(scope="module")
def both(tmp_path_factory, configuration):
    """A dashboard in which a second backend has results, twice as high: for the test alone."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(ROOT / "benchmarks" / "results", folder / "results")
    newest = max(results(folder / "results"), key=lambda path: json.loads(path.read_text())["date"])
    report = json.loads(newest.read_text())
    report["env_vars"]["IM2COLNET_BACKEND"] = "cupy"
    report["env_name"] = report["env_name"].replace("BACKENDnumpy", "BACKENDcupy")
    for result in report["results"].values():
        if result[0] is not None:
            result[0] = [value and 2 * value for value in result[0]]
    newest.with_name(newest.name.replace("BACKENDnumpy", "BACKENDcupy")).write_text(json.dumps(report))
    settings = configuration.raw | {"results_dir": str(folder / "results"), "repo": str(ROOT)}
    (folder / "asv.conf.json").write_text(json.dumps(settings))
    dashboard.publish(folder / "html", folder / "asv.conf.json")
    return folder / "html"


def test_two_backends_are_drawn_together_and_can_be_told_apart(browser, serve, both):
    origin = serve(both)
    for backends in (["numpy"], ["cupy"], ["numpy", "cupy"]):
        browser.open(origin, f"#{GRAPH}?" + "&".join(f"env-IM2COLNET_BACKEND={name}" for name in backends))
        browser.until(f"{COLOURED} > 50")
        active = browser.until(
            "[...document.querySelectorAll('#graphdisplay-state-params a.active')].map(a => a.innerText.trim())"
        )
        assert set(backends) == set(active) & {"numpy", "cupy"}
        legend = browser.until("document.querySelector('#main-graph .legend').innerText")
        named = [name for name in ("numpy", "cupy") if f"BACKEND-{name}" in legend]
        assert named == (backends if len(backends) > 1 else [])


def test_pages_as_asv_writes_them_are_found_to_ask_elsewhere(window, serve, tmp_path):
    """So that the other tests' silence means something."""
    command = [sys.executable, "-m", "asv", "publish", "--no-pull", "-o", str(tmp_path / "html")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    window.forget()
    origin = serve(tmp_path / "html")
    window.open(origin)
    window.until("document.readyState == 'complete'")
    window.read_logs(origin)
    assert any("jquery" in url for url in window.elsewhere)
    assert window.complaints

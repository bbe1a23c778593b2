"""The report of a run in a real browser."""

import json

import pytest
from starting import finish

WIDTHS = 600, 1200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the report of a short training, whose class is called <script>."""
    pytest.importorskip("matplotlib")
    found = tmp_path_factory.mktemp("run")
    run = found / "run"
    assert finish("train", "--model", "notebook", "--epochs", "3", "--out", run).returncode == 0
    record = json.loads((run / "run.json").read_text())
    names = ["<script>alert(1)</script>", *(f"a rather long name of a class {i}" for i in range(9))]
    (run / "run.json").write_text(json.dumps(record | {"classes": names}))
    done = finish("report", run, "--out", found / "index.html", "--steps", "1")
    assert done.returncode == 0, done.stderr
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page(browser, serve, folder, width, scheme):
    """It fits into the window, in the colours that the user prefers; nothing is loaded, and nothing is refused."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.open(serve(folder))
        assert browser.until("document.querySelectorAll('h2').length") >= 7
        assert browser.driver.execute_script("return document.documentElement.scrollWidth") <= width
        text, back = (
            browser.driver.execute_script(f"return getComputedStyle(document.body).{name}")
            for name in ("color", "backgroundColor")
        )
        bright = [sum(map(int, colour[4:-1].split(","))) / 3 for colour in (text, back)]
        assert (bright[0] < 100 and bright[1] > 200) if scheme == "light" else (bright[0] > 200 and bright[1] < 60)
        assert browser.driver.execute_script(
            "return [...document.images].every(image => image.naturalWidth > 0) && document.images.length > 0"
        )
        label = "document.querySelector('svg text')"
        assert browser.driver.execute_script(f"return getComputedStyle({label}).fill") == text
        drawn = "document.querySelector('svg').getBoundingClientRect().width"
        assert browser.driver.execute_script(f"return {drawn}") > 250
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

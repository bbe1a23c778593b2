"""The site as it is built, and a browser for its pages."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from browser import ROOT, Browser, need

BUILT = "IM2COLNET_SITE"  # a folder with the site, where it has been built before

NEEDED = ("sphinx", "myst_nb", "pydata_sphinx_theme", "sphinx_copybutton", "sphinx_design")  # for a build


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site: that of IM2COLNET_SITE, or one that is built now, which takes minutes."""
    if BUILT in os.environ:
        return Path(os.environ[BUILT]).resolve()
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"no site is named in {BUILT}, and {missing[0]} is missing: python -m pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site") / "html"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends")))}
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.fixture(scope="session")
def browser(site, tmp_path_factory):
    """A browser that opens the pages from the folder, without a server."""
    need("selenium", "chromium", "chromedriver")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.origin = site.as_uri()
    yield browser
    browser.driver.quit()


@pytest.fixture
def look(browser):
    """Open a page of the site in a window of a width, in a theme; and nothing may be missing at the end of the test."""
    browser.forget()
    browser.read_logs(browser.origin)
    browser.forget()

    def look(page, width=1280, theme="light"):
        command = browser.driver.execute_cdp_cmd
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        command("Emulation.setDeviceMetricsOverride", size)
        command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
        browser.driver.get(f"{browser.origin}/{page}")
        return browser

    yield look
    browser.read_logs(browser.origin)
    assert browser.elsewhere == []
    assert browser.complaints == []

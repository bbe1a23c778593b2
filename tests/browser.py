"""What the tests of the dashboard and of the site share: what they need, and a real browser.

It is Debian's chromium, driven by selenium.
"""

import importlib.util
import json
import os
import shutil
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REQUIRE = "IM2COLNET_REQUIRE_BROWSER"  # if set, what is missing makes these tests fail instead of skipping them
MODULES = {"asv", "selenium"}
PAGES = {"asv": "python -m pip install -e '.[bench]'", "git": "apt-get install git", "npm": "apt-get install npm"}
BROWSER = PAGES | {
    "selenium": "python -m pip install selenium",
    "chromium": "apt-get install chromium",
    "chromedriver": "apt-get install chromium-driver",
}


def need(*names):
    """Skip unless all of these modules and programs are there."""
    __tracebackhide__ = True  # pytest names the test as the place of the skip, and .ci/run runs that file again
    # a program asv may be another environment's
    lacks = [name for name in names if not (importlib.util.find_spec if name in MODULES else shutil.which)(name)]
    if lacks:
        commands = " && ".join(BROWSER[name] for name in lacks)
        (pytest.fail if os.environ.get(REQUIRE) else pytest.skip)(f"{', '.join(lacks)} missing: {commands}")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Browser:
    """A window, what it asked other hosts for, and what its console complained of."""

    def __init__(self, profile):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in (
            "headless=new",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-component-update",
            "disable-background-networking",
            "disable-sync",
            "disable-dev-shm-usage",
            "window-size=1400,1000",
            "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        self.driver.get("about:blank")
        self.elsewhere, self.complaints = [], []
        self.read_logs("about:blank")
        self.forget()

    def forget(self):
        """Begin with empty lists."""
        self.elsewhere.clear()
        self.complaints.clear()

    def open(self, origin, place=""):
        """Load a page afresh, even if only what follows the # is new."""
        self.origin = origin
        self.driver.get("about:blank")
        self.driver.get(f"{origin}/index.html{place}")

    def until(self, expression, seconds=20):
        """Wait until a script's value is true, and return it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds).until(lambda driver: driver.execute_script(f"return {expression}"))

    def read_logs(self, origin):
        """Add what has been logged since; reading empties the browser's own lists."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith((f"{origin}/", "data:", "about:", "chrome:")):
                    self.elsewhere.append(url)
        self.complaints += [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]

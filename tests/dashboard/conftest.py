"""Pages in a real browser: Debian's chromium, without a window, driven by selenium."""

import json
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

REQUIRE = "IM2COLNET_REQUIRE_BROWSER"  # set: what is missing fails the tests instead of skipping them


def missing():
    """What the tests of the dashboard lack on this machine."""
    modules = {"asv": "python -m pip install -e '.[bench]'", "selenium": "python -m pip install selenium"}
    programs = {name: f"apt-get install {package}" for name, package in
                {"chromium": "chromium", "chromedriver": "chromium-driver", "npm": "npm", "git": "git"}.items()}
    for name, command in modules.items():
        try:
            __import__(name)
        except ModuleNotFoundError:
            yield f"{name} ({command})"
    yield from (f"{name} ({command})" for name, command in programs.items() if shutil.which(name) is None)


def pytest_collection_modifyitems(items):
    lacks = ", ".join(missing())
    if lacks and not os.environ.get(REQUIRE):
        for item in items:
            if item.path.parent == ROOT:
                item.add_marker(pytest.mark.skip(reason=f"missing: {lacks}"))


ROOT = __import__("pathlib").Path(__file__).parent


class Browser:
    """A page, what it asked for and what it complained of."""

    def __init__(self, profile):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
                         "disable-background-networking", "disable-component-update", "disable-sync",
                         "disable-dev-shm-usage", "window-size=1400,1000", f"user-data-dir={profile}"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options, service)
        self.requests, self.complaints = [], []

    def open(self, address):
        """Load a page afresh, also where only what follows the # is new."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def until(self, condition, seconds=30):
        """Wait for a script's result that is true, and return it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds).until(lambda d: d.execute_script(f"return {condition}"))

    def collect(self):
        """Read the logs: they are emptied by being read."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        self.complaints += [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """The browser; its logs must be empty in the end, of complaints and of requests to elsewhere."""
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.driver.quit()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def serve():
    """Serve a folder on this machine and return its address."""
    servers = []

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()

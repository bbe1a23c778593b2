"""The asv suite from outside: asv itself, and its pages in a browser."""

import threading
from functools import partial
from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from browser import BROWSER, PAGES, ROOT, Browser, Quiet, need

from benchmarks import dashboard


@pytest.fixture(scope="session")
def configuration():
    """The project's asv.conf.json, and how asv reads it."""
    need("asv")
    from asv.config import Config
    from asv.util import load_json

    path = ROOT / "asv.conf.json"
    return SimpleNamespace(path=path, raw=load_json(str(path), js_comments=True), read=Config.load(str(path)))


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """The dashboard of the committed results."""
    need(*PAGES)
    html = tmp_path_factory.mktemp("dashboard") / "html"
    dashboard.publish(html)
    return html


@pytest.fixture(scope="session")
def serve():
    """Serve a folder on this machine and return its address."""
    servers = []

    def start(folder):
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def window(tmp_path_factory):
    """One browser for all tests."""
    need(*BROWSER)
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.driver.quit()


@pytest.fixture
def browser(window):
    """The browser; in the end it must have asked no other host and complained of nothing."""
    window.driver.get("about:blank")
    window.read_logs("about:blank")  # what the test before has left
    window.forget()
    yield window
    window.read_logs(window.origin)
    assert not window.elsewhere
    assert not window.complaints

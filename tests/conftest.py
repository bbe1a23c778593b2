"""What tests of several folders share."""

import signal

import pytest
import strict_cupy
from helpers import divided, numba_backend
from hypothesis import HealthCheck, settings
from im2colnet_numpy import NumpyBackend
from narrow_module import NarrowBackend

import im2colnet as ic
from im2colnet import cli
from im2colnet.backend import registry
from im2colnet.cli.command_line import DEBUG, FAULT

# No test depends on how fast the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
settings.register_profile("few", settings.get_profile("untimed"), max_examples=10)  # pytest --hypothesis-profile few

# Tests that are started in the background of a shell script would ignore Ctrl-C, which many of them send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def shards_of_32():
    """By default the batches of small networks would be one shard, which leaves nothing for a second worker."""
    with divided(shard_max_numbers=1, shard_min_numbers=1):
        yield


@pytest.fixture(params=["numpy", "generic", "cupy", "numba"], scope="session")
def every_backend(request):
    """A started backend; CuPy's is on a stand-in for CuPy, and the textbook kernels are on the least array module."""
    made = {"numpy": NumpyBackend, "generic": NarrowBackend, "cupy": strict_cupy.cupy_backend, "numba": numba_backend}
    return made[request.param]()


@pytest.fixture
def nothing_started():
    """No backend is started at the beginning, and afterwards those that were before."""
    before = dict(registry.started)
    registry.started.clear()
    yield
    registry.started.clear()
    registry.started.update(before)


@pytest.fixture
def one_thread():
    """One thread, unless a test sets another number; afterwards the default again."""
    with ic.num_threads(1):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, and no settings from outside."""
    monkeypatch.chdir(tmp_path)
    for variable in ("IM2COLNET_BACKEND", "IM2COLNET_DATA", DEBUG):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command, check how it ends, and return what it writes to stdout and stderr."""

    def run(*arguments, code=0):
        capsys.readouterr()
        found = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert found == code, err
        assert "Traceback" not in err
        assert FAULT not in err
        if code == 1:
            assert err.startswith("im2colnet: error: ")
            assert out == "" or arguments[0] in ("train", "predict", "onnx")
        if code == 2:
            assert err.startswith("usage: ")
            assert out == ""
        return out, err

    return run

"""The command as a process: Ctrl-C while it starts, closed and broken streams, odd environments."""

import os
import signal
import sys
from pathlib import Path

import pytest
from starting import ONE_EPOCH, finish, start

from im2colnet import startup

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_early(folder, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        for command in ("summary", "train --model notebook", "--help"):
            child = start(*command.split(), stdout=writing, variables={"PYTHONUNBUFFERED": unbuffered})
            _, err = child.communicate(timeout=60)
            assert err == ""
            assert child.returncode == 1 or command == "--help"  # where argparse ignores it
    finally:
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(folder):
    with open("/dev/full", "w") as full:
        child = start("summary", stdout=full)
        assert child.communicate(timeout=60)[1].startswith("im2colnet: error: cannot write the output: ")
    assert child.returncode == 1


def test_a_terminal_without_unicode(folder):
    child = start("plan", variables={"PYTHONIOENCODING": "ascii"})
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert "parameters" in out


def test_a_training_on_a_terminal_without_unicode(folder):
    child = finish(
        *ONE_EPOCH,
        "--out",
        "ü",
        variables={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert child.returncode == 0, child.stderr
    assert "images of 1x8x8" in child.stdout
    child = finish("summary", "--model", "lenet5", variables={"PYTHONIOENCODING": "cp1252"})
    assert "\n-----" in child.stdout


CLOSED = "import os, sys\nos.close({})\nos.execv(sys.executable, [sys.executable, '-m', 'im2colnet', *sys.argv[1:]])"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no exec")
def test_closed_streams(folder):
    child = finish(*ONE_EPOCH, "--out", "run", script=CLOSED.format(1))
    assert child.returncode == 1
    assert child.stderr.startswith("im2colnet: error: cannot write the output: stdout is closed; redirect it")
    assert os.listdir(folder) == []
    child = finish(*ONE_EPOCH, "--out", "run", script=CLOSED.format(2))
    assert child.returncode == 0
    assert "epoch 1/1" in child.stdout
    child = finish("evaluate", "nothing", script=CLOSED.format(2))
    assert (child.returncode, child.stdout) == (1, "")


@pytest.mark.parametrize(
    "variables",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "1"},
        {"COLUMNS": "wide"},
        {"TERM": "dumb"},
        {"TERM": ""},
        {"HOME": None},
        {"TMPDIR": "/nonexistent", "MPLCONFIGDIR": "/nonexistent"},
    ],
)
def test_odd_environments(folder, variables):
    assert finish("train", "--help", variables=variables).returncode == 0
    child = finish(*ONE_EPOCH, variables=variables)
    assert child.returncode == 0, child.stderr
    assert "Traceback" not in child.stderr


def test_import_loads_no_plotting_and_no_terminal_library(folder):
    script = (
        "import sys\nfrom im2colnet.cli.command_line import make_parser\nmake_parser()\n"
        "print(*{'rich', 'matplotlib', 'PIL', 'safetensors'} & set(sys.modules))"
    )
    assert start(script=script).communicate(timeout=60)[0] == "\n"


#: starts the command with an interruption where a module begins to be looked for
STARTING = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, *arguments):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass    # Python handles signals between steps of its own

signal.signal(signal.SIGINT, signal.default_int_handler)
wanted, started_as = sys.argv[1:]
for name in wanted, "typing":
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Interrupting())
if started_as == "-m":
    sys.orig_argv, sys.argv = ["python", "-m", "im2colnet", "summary"], ["-m", "summary"]
    runpy.run_module("im2colnet", run_name="__main__", alter_sys=True)
else:
    sys.argv = [started_as, "summary"]
    from im2colnet.cli import main
    sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("started_as", ["-m", "/usr/bin/im2colnet"])
@pytest.mark.parametrize(
    "module", ["typing", "numpy", "im2colnet.training.trainer", "im2colnet.cli", "im2colnet.training"]
)
def test_ctrl_c_while_the_command_starts(folder, module, started_as):
    child = finish(module, started_as, script=STARTING)
    assert child.returncode == 130
    assert child.stdout == ""
    assert child.stderr in ("", "im2colnet: interrupted\n")


def test_a_program_that_imports_the_library_keeps_its_ctrl_c(folder):
    script = (
        "import signal\nbefore = signal.getsignal(signal.SIGINT)\nimport im2colnet.cli\n"
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    assert finish(script=script).returncode == 0
    assert signal.getsignal(signal.SIGINT) is not startup.end

"""The command as a process of its own, and a training of some milliseconds an epoch."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAST = ("train", "--model", "notebook", "--threads", "1")
ONE_EPOCH = (*FAST, "--epochs", "1")


def start(*arguments, script=None, variables=None, **options):
    """Start the command, or a script, and return its process; a variable that is None is not set."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends")))} | (variables or {})
    environment = {name: value for name, value in environment.items() if value is not None}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, **options}
    what = ["-c", script] if script else ["-m", "im2colnet"]
    return subprocess.Popen([sys.executable, *what, *map(str, arguments)], **options)


def finish(*arguments, **options):
    """Run the command, or a script, to its end."""
    with start(*arguments, **options) as child:
        try:
            out, err = child.communicate(timeout=120)
        except BaseException:
            child.kill()
            raise
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)

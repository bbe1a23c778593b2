"""Files are replaced whole or not at all: links, leftovers, pipes, full disks and interruptions included."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import im2colnet as ic
from im2colnet import files
from im2colnet.files import replace_file

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="pipes, links and /dev")


def python(script, *arguments, **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")])}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, timeout=60, check=False, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def temporary(path, machine=None, process=None):
    """A name that the temporary file of such a process has."""
    whose = f"{files.crc32(path.name.encode()):08x}"
    machine, process = machine or files.this_machine(), process or os.getpid()
    return path.with_name(f".im2colnet-{whose}-{machine}-{process}-{'0' * 16}.tmp")


def ended_process():
    return int(python("import os; print(os.getpid())", capture_output=True).stdout)


# Links --------------------------------------------------------------------------------------------------------------
@posix
def test_a_planted_link_is_not_followed(tmp_path, monkeypatch):
    victim, path = tmp_path / "victim", tmp_path / "a"
    victim.write_bytes(b"valuable")
    monkeypatch.setattr(os, "urandom", lambda n: bytes(n))  # the attacker has guessed the name
    temporary(path).symlink_to(victim)
    with pytest.raises(ic.CheckpointError, match=r"cannot write .*a: "):
        replace_file(path, b"new")
    assert victim.read_bytes() == b"valuable"
    assert temporary(path).is_symlink()


def test_names_cannot_be_guessed(tmp_path, monkeypatch):
    seen, replace = set(), os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.add(a), replace(a, b)))
    for _ in range(5):
        replace_file(tmp_path / "a", b"new")
    assert len(seen) == 5


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(there, tmp_path):
    (tmp_path / "data").mkdir()
    target, first, second = tmp_path / "data" / "target", tmp_path / "data" / "first", tmp_path / "second"
    if there:
        target.write_bytes(b"old")
    first.symlink_to("target")  # relative to its own folder
    second.symlink_to(Path("data") / "first")
    replace_file(second, b"new")
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert [first.readlink(), second.readlink()] == [Path("target"), Path("data/first")]
    assert names(tmp_path / "data") == ["first", "target"]


@posix
def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ic.CheckpointError, match="cannot write"):
        replace_file(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a", "b"]


# Permissions --------------------------------------------------------------------------------------------------------
@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666, 0o755])
def test_permissions_of_the_old_file_stay(mode, tmp_path):
    path = tmp_path / "a"
    replace_file(path, b"old")
    path.chmod(mode)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_any_other(mask, tmp_path):
    before = os.umask(mask)
    try:
        replace_file(tmp_path / "a", b"new")
        (tmp_path / "b").write_bytes(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_write_protected_file_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # as for all but root after chmod a-w
    with pytest.raises(ic.CheckpointError, match="a: it is write-protected"):
        replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


# Leftovers ----------------------------------------------------------------------------------------------------------
@posix
def test_what_a_killed_process_leaves_is_removed(tmp_path):
    path = tmp_path / "a"
    replace_file(path, b"old")
    script = """
import os, signal, sys
from im2colnet.files import replace_file
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
replace_file(sys.argv[1], b"half")
"""
    assert python(script, path).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    replace_file(tmp_path / "b", b"other")
    assert len(names(tmp_path)) == 3  # it belongs to another file
    replace_file(path, b"new")
    assert names(tmp_path) == ["a", "b"]
    assert path.read_bytes() == b"new"


@posix
@pytest.mark.parametrize(
    ("machine", "ended", "days", "stays"),
    [
        (None, True, 0, False),
        (None, False, 0, True),  # a process that lives, perhaps another with its number
        (None, False, 9, True),
        ("01234567", True, 0, True),  # the number means nothing here
        ("01234567", True, 0.9, True),
        ("01234567", False, 1.1, False),
    ],
)
def test_whose_leftovers_are_removed(machine, ended, days, stays, tmp_path):
    path = tmp_path / "a"
    leftover = temporary(path, machine, ended_process() if ended else os.getppid())
    leftover.write_bytes(b"half")
    past = leftover.stat().st_mtime - days * 24 * 3600
    os.utime(leftover, (past, past))
    replace_file(path, b"new")
    assert names(tmp_path) == ([leftover.name] if stays else []) + ["a"]


@posix
def test_what_only_looks_like_a_leftover_stays(tmp_path):
    path, number = tmp_path / "a", ended_process()
    name = temporary(path, process=number).name
    (tmp_path / name).mkdir()
    others = [name.replace("-0000", "-0001").replace(".tmp", ".txt"), name[1:], f"{name}~", ".a.123.tmp", "a.123.tmp"]
    for other in others:
        (tmp_path / other).write_bytes(b"mine")
    link = temporary(path, process=number).with_name(name.replace("-0000", "-0002"))
    link.symlink_to(tmp_path / others[0])
    replace_file(path, b"new")
    assert names(tmp_path) == sorted([name, *others, link.name, "a"])


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "scandir", scandir)
    replace_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


# Whole or not at all ------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a file that was opened when Ctrl-C came
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("there", [True, False])
def test_interrupted_at_any_line(there, tmp_path):
    """Ctrl-C at the first line, at the second, ...: the file is the old or the new one, and nothing else is there."""
    path, found, line = tmp_path / "a", set(), 0
    finished = False
    while not finished:
        path.unlink(missing_ok=True)
        if there:
            path.write_bytes(b"old")
        left = line

        def trace(frame, event, argument):
            nonlocal left
            if frame.f_code.co_filename == files.__file__:
                if event == "line":
                    left -= 1
                    if left == -1:
                        raise KeyboardInterrupt
                return trace
            return None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            replace_file(path, b"new")
            finished = left >= 0
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        content = path.read_bytes() if path.exists() else None
        found.add(content)
        assert content in (b"old" if there else None, b"new"), line
        assert set(names(tmp_path)) <= {"a"}, line
        line += 1
    assert line > 40
    assert len(found) == 2


@pytest.mark.parametrize("name", ["replace", "fsync", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_a_disk_that_fails(name, number, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fails(*args, **kwargs):
        raise OSError(number, os.strerror(number), "secret name")

    monkeypatch.setattr(os, name, fails)
    with pytest.raises(ic.CheckpointError, match=rf"^cannot write .*a: {os.strerror(number)}$"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@posix
def test_the_folder_is_synced_after_the_renaming(tmp_path, monkeypatch):
    calls, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    monkeypatch.setattr(
        os,
        "fsync",
        lambda file: (calls.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"), fsync(file)),
    )
    replace_file(tmp_path / "a", b"new")
    assert calls == ["file", "replace", "folder"]


def test_two_threads_write_one_file(tmp_path):
    path = tmp_path / "a"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=lambda c=c: [replace_file(path, c) for _ in range(5)]) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["a"]


def test_the_longest_name_and_odd_ones(tmp_path):
    for name in ("x" * 255, "ü" * 100, "a b", "a*[b]?", "-", ".hidden"):
        replace_file(tmp_path / name, b"old")
        replace_file(str(tmp_path / name), b"new")
        assert (tmp_path / name).read_bytes() == b"new"
        (tmp_path / name).unlink()
    assert names(tmp_path) == []
    for name in ("y" * 256, "a\0b", "missing/a", "."):
        with pytest.raises(ic.CheckpointError, match="cannot write"):
            replace_file(tmp_path / name, b"new")
    assert names(tmp_path) == []


def test_a_system_without_posix(tmp_path, monkeypatch):
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "fchmod", "fchown", "kill", "uname", "fork"):
        monkeypatch.delattr(os, name, raising=False)
    opening = os.open

    def no_folders(path, *args, **kwargs):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opening(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", no_folders)
    path = tmp_path / "a"
    temporary(path).write_bytes(b"half")
    for content in (b"old", b"new"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == [temporary(path).name, "a"]  # who knows whether that process lives


# What is no file ----------------------------------------------------------------------------------------------------
WRITE = """
import sys
from im2colnet.files import replace_file
print("before", flush=True)
replace_file(sys.argv[1], b"content\\n")
print("after")
"""


@posix
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output(path, tmp_path):
    if not Path(path).exists() and path != "link":
        pytest.skip(f"there is no {path}")
    if path == "link":
        path = tmp_path / "link"
        path.symlink_to("/dev/stdout")
    assert python(WRITE, path, stdout=subprocess.PIPE).stdout == b"before\ncontent\nafter\n"
    with (tmp_path / "out").open("wb") as out:
        assert python(WRITE, path, stdout=out).returncode == 0
    assert (tmp_path / "out").read_bytes() == b"before\ncontent\nafter\n"
    assert {"link", "out"} >= set(names(tmp_path))


@posix
def test_dev_null():
    replace_file("/dev/null", b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@posix
def test_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ic.CheckpointError, match="pipe: no process reads from this pipe"):
        replace_file(pipe, b"content")
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    content, found = os.urandom(300_000), []  # more than a pipe holds

    def read():
        while part := os.read(reading, 1 << 16):
            found.append(part)

    writer = threading.Thread(target=replace_file, args=(pipe, content))
    writer.start()
    while not found:
        found.append(os.read(reading, 1 << 16))
        if not found[-1]:  # not opened yet
            found.pop()
    read()
    writer.join()
    os.close(reading)
    assert b"".join(found) == content
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder(tmp_path):
    with pytest.raises(ic.CheckpointError, match=r"cannot write .*: it is a folder"):
        replace_file(tmp_path, b"content")


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link"])
def test_a_checkpoint_that_is_no_file_is_not_read(kind, tmp_path):
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        os.mkfifo(tmp_path / "b")
        path.symlink_to("b")
    path = Path("/dev/zero") if kind == "device" else path
    with pytest.raises(ic.CheckpointError, match=rf"{path}.* is a (folder|pipe)"):
        ic.Trainer.load(path)

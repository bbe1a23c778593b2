"""Atomic writing of files: whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, TypeAlias
from zlib import crc32

from im2colnet.errors import CheckpointError, Im2colnetError

if TYPE_CHECKING:
    from pathlib import Path

#: the content of a file: bytes, or a function that writes them into the open file
Content: TypeAlias = bytes | Callable[[IO[bytes]], object]
LINKS = 40  # a path may lead through; more are a circle
CACHE = "IM2COLNET_CACHE"  # environment variable: the folder of what can be made again
DAY = 24 * 60 * 60  # seconds
TEMPORARY = re.compile(r"\.im2colnet-([0-9a-f]{8})-([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{16}\.tmp")


def cache_folder() -> Path:
    """Return the cache folder, for decoded images and compiled kernels. It may not exist yet.

    It is the folder that the environment variable IM2COLNET_CACHE names, or else ``im2colnet`` in XDG_CACHE_HOME, or in
    the system's cache folder: ``~/.cache``, ``~/Library/Caches`` on macOS, ``LOCALAPPDATA`` on Windows.
    """
    from pathlib import Path

    if os.environ.get(CACHE):
        return Path(os.path.expanduser(os.environ[CACHE]))
    systems = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA") or "~/AppData/Local"}
    base = os.environ.get("XDG_CACHE_HOME")
    if not base or not os.path.isabs(base):
        base = os.path.expanduser(systems.get(sys.platform, "~/.cache"))
    # who has no home has no cache: in this place no folder can be made
    return Path(base if os.path.isabs(base) else os.devnull, "im2colnet")


def replace_file(path: str | os.PathLike[str], content: Content) -> None:
    """Write a file whole or not at all.

    The content goes to a temporary file in the same folder, which replaces the old file when it is on the disk. If the
    path is a link, its target is replaced. The new file has the permissions of the old file. A path that is not a
    regular file, such as ``/dev/stdout`` or a pipe with a reader, is written to directly. ``content`` may be a function
    that writes into the open file that it gets.

    The temporary file's name begins with ``.im2colnet-``. If a killed process has left such a file, the next process
    that writes the same file removes it: at once if the killed process ran on this machine, else after a day.

    Raises
    ------
    CheckpointError
        If the file cannot be written; an old file is then unchanged.
    """
    try:
        target, stream = _follow(os.fsdecode(path))
        try:
            old = os.stat(target)
        except FileNotFoundError:
            old = None
        if stream or (old is not None and not stat.S_ISREG(old.st_mode)):
            _send(target, content)
        else:
            _replace(target, old, content)
    except Im2colnetError:
        raise  # of the function that writes the content
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"cannot write {os.fspath(path)}: {reason}") from error


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise CheckpointError for a path that is not a regular file: opening a pipe might wait forever.

    A path that does not exist is no error here.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"{os.fspath(path)} is a folder: give the checkpoint.safetensors in it")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"cannot read {os.fspath(path)}: it is a pipe or a device, a file is needed")


def _follow(path: str) -> tuple[str, bool]:
    """Return the file that a path leads to, and whether it is an open file of a process, such as /dev/stdout."""
    for _ in range(LINKS):
        folder, name = os.path.split(os.path.abspath(path))
        folder = os.path.realpath(folder)
        path = os.path.join(folder, name)
        if folder == "/dev" or folder.startswith("/proc/"):
            return path, True
        if not os.path.islink(path):
            return path, False
        path = os.path.join(folder, os.readlink(path))
    raise OSError("its links lead in a circle")


def _send(path: str, content: Content) -> None:
    """Write to a path that is not a regular file: a pipe, a terminal, /dev/null."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise OSError("it is a folder")
    if stat.S_ISBLK(found.st_mode):
        raise OSError("it is a disk")
    for descriptor in (1, 2):  # through what is open already, or what is printed later would overwrite this
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(descriptor)):
                file = os.dup(descriptor)
                break
    else:
        try:  # without waiting for somebody to read from a pipe
            file = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
        except OSError as error:
            if stat.S_ISFIFO(found.st_mode):
                raise OSError("no process reads from this pipe") from error
            raise
        if stat.S_ISFIFO(found.st_mode):
            os.set_blocking(file, True)
    with open(file, "wb") as opened:
        _write(opened, content)


def _write(file: IO[bytes], content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content)


def _replace(target: str, old: os.stat_result | None, content: Content) -> None:
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise OSError(f"there is no folder {folder}")
    if old is not None and not os.access(target, os.W_OK):
        raise OSError("it is write-protected or belongs to another user")
    whose = f"{crc32(os.fsencode(os.path.normcase(name))):08x}"
    temporary = os.path.join(folder, f".im2colnet-{whose}-{this_machine()}-{os.getpid()}-{os.urandom(8).hex()}.tmp")

    def create(path: str, flags: int) -> int:
        mode = 0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o777
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), mode)

    try:
        with open(temporary, "xb", opener=create) as file:  # x: it must not exist, nor be a link
            if old is not None:
                _keep_owner(file.fileno(), old)
            _remove_leftovers(folder, whose, os.fstat(file.fileno()).st_mtime)
            _write(file, content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        if not isinstance(error, FileExistsError):
            with suppress(OSError):
                os.remove(temporary)
        raise
    with suppress(OSError):  # Windows opens no folders; there and on some file systems renaming is enough
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _keep_owner(file: int, old: os.stat_result) -> None:
    """Give a new file the owner and the permissions of the one that it replaces, as far as that is allowed."""
    new = os.fstat(file)
    if hasattr(os, "fchown") and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(OSError):
            os.fchown(file, old.st_uid, old.st_gid)
    if hasattr(os, "fchmod") and stat.S_IMODE(new.st_mode) != (mode := stat.S_IMODE(old.st_mode) & 0o777):
        with suppress(OSError):
            os.fchmod(file, mode)


def this_machine() -> str:
    """Return eight digits that name the machine, its start and the container, where process numbers are unique.

    The number has no meaning on another machine that writes into a shared folder, or in another container.
    """
    parts = [os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
        with open("/proc/sys/kernel/random/boot_id") as file:
            parts.append(file.read())
    return f"{crc32(' '.join(parts).encode()):08x}"


def _remove_leftovers(folder: str, whose: str, now: float) -> None:
    """Remove the temporary files of processes that have ended while they wrote the same file.

    ``now`` is the time on the machine that has the folder, which may be another machine.
    """
    machine = this_machine()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = TEMPORARY.fullmatch(entry.name)
            if match is None or match[1] != whose:
                continue
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False) and (
                    _has_ended(int(match[3]))
                    if match[2] == machine and os.name == "posix" and hasattr(os, "kill")
                    else now - entry.stat(follow_symlinks=False).st_mtime > DAY
                ):
                    os.remove(entry.path)


def _has_ended(process: int) -> bool:
    """Whether no process has this number (on POSIX: elsewhere ``os.kill`` would end it)."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False

"""Kernels that Numba compiles: the cache on disk, the line about progress, threads, forks, and the processor."""

import errno
import io
import os
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from narrow_module import NarrowBackend
from starting import finish, start

pytest.importorskip("numba")
from im2colnet_numba import cache, compile
from im2colnet_numba.compile import compiled
from numba.core.compiler_lock import global_compiler_lock

import im2colnet as ic
from im2colnet.backend.registry import backend_of
from im2colnet.files import cache_folder

X = np.arange(5, dtype="float32")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """An empty folder of caches."""
    monkeypatch.setenv("IM2COLNET_CACHE", str(tmp_path / "kept"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    forget()
    yield tmp_path / "kept"
    forget()


def forget():
    cache.folder.cache_clear()
    cache.warn.cache_clear()


def scaled_by(factor):
    """A kernel that closes over a number: all that this function makes have the same source."""

    @compiled
    def scaled(x, y):
        for i in range(x.size):
            y[i] = factor * x[i]

    return scaled


def result_of(kernel):
    kernel(X, y := np.empty_like(X))
    return y.tolist()


def was_loaded(kernel):
    """Whether the machine code of the one signature came from the disk."""
    (loaded,), (missed,) = kernel.stats.cache_hits.values() or (0,), kernel.stats.cache_misses.values() or (0,)
    assert loaded + missed == 1
    return bool(loaded)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_kernel_is_compiled_once_and_then_loaded(kept):
    first, again = scaled_by(3.0), scaled_by(3.0)
    assert result_of(first) == [0, 3, 6, 9, 12]
    assert not was_loaded(first)
    (name,) = files(kept)
    assert re.fullmatch(r"scaled-[0-9a-f]{24}\.bin", name)
    assert result_of(again) == [0, 3, 6, 9, 12]
    assert was_loaded(again)
    assert files(kept) == [name]


def test_kernels_that_differ_in_what_they_close_over_are_kept_apart(kept):
    @compiled
    def one(v):
        return v + 1

    @compiled
    def two(v):
        return v + 2

    def applied(function):
        @compiled
        def applied(x, y):
            for i in range(x.size):
                y[i] = function(x[i])

        return applied

    for factor in 2.0, 3.0, (np.float32(2)), np.array([3.0]).sum():
        assert result_of(scaled_by(factor)) == [i * factor for i in range(5)]
    for _ in range(2):
        assert [result_of(applied(one)), result_of(applied(two))] == [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]


class Constant:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    "make",
    [
        lambda n: n,
        lambda n: (1, n),
        lambda n: {"n": n},
        lambda n: frozenset({"a", n}),
        lambda n: np.array([n]),
        lambda n: Constant(n),
        lambda n: Constant([n]),
        lambda n: lambda: n,
        lambda n: compiled(lambda: n),
    ],
)
def test_what_a_kernel_names_tells_it_from_others(make):
    one, two, same = (cache.described(make(n), {}) for n in (1, 2, 1))
    assert one == same
    assert one != two


def test_a_function_that_names_itself_is_described():
    def factorial(n):
        return n * factorial(n - 1) if n else 1

    assert "factorial" in repr(cache.described(factorial, {}))


def test_another_version_has_another_folder(kept, tmp_path, monkeypatch):
    """Whatever changes in the sources, though the kernel itself does not."""
    result_of(scaled_by(3.0))
    before = cache.folder()
    source = tmp_path / "kernels.py"
    monkeypatch.setattr(cache, "sources", lambda: iter([source]))
    folders = {before}
    for text, version, numba in ("a", "0.1", "0.68"), ("b", "0.1", "0.68"), ("b", "0.2", "0.68"), ("b", "0.2", "0.69"):
        source.write_text(text)
        monkeypatch.setattr(cache, "__version__", version)
        monkeypatch.setattr(cache.numba, "__version__", numba)
        cache.folder.cache_clear()
        folders.add(cache.folder())
        assert not was_loaded((kernel := scaled_by(3.0), result_of(kernel))[0])
    assert len(folders) == 5
    assert len(files(kept)) == 5
    monkeypatch.setenv("NUMBA_OPT", "1")
    cache.folder.cache_clear()
    assert cache.folder() not in folders
    monkeypatch.undo()


def test_folders_that_nobody_used_for_a_month_are_removed(kept):
    old, new, other = (
        kept / "kernels-0.0.1-0123456789abcdef",
        kept / "kernels-0.0.2-0123456789abcdef",
        kept / "pictures",
    )
    for folder in old, new, other:
        folder.mkdir(parents=True)
        (folder / "a.bin").write_bytes(b"a" * 200_000)
        os.utime(folder, (time.time() - 40 * 86400 * (folder != new),) * 2)
    result_of(scaled_by(3.0))
    assert not old.exists()
    assert new.exists()
    assert other.exists()
    assert re.fullmatch(
        rf"1 kept in {re.escape(str(cache.folder()))} \(0\.0 MB\); those of other versions take 0\.2 MB", cache.facts()
    )


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-100], lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], lambda b: b"x"]
)
def test_a_damaged_file_is_compiled_again(kept, damage):
    result_of(scaled_by(3.0))
    (file,) = kept.rglob("*.bin")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    kernel = scaled_by(3.0)
    assert result_of(kernel) == [0, 3, 6, 9, 12]
    assert not was_loaded(kernel)
    result_of(again := scaled_by(3.0))
    assert was_loaded(again)


def test_where_no_folder_can_be_made_kernels_are_compiled_and_one_warning_says_so(kept):
    kept.write_text("a file")
    with pytest.warns(RuntimeWarning, match=r"cannot be saved in .*kept.* compiles them again: set IM2COLNET_CACHE"):
        assert result_of(scaled_by(3.0)) == [0, 3, 6, 9, 12]
    assert result_of(scaled_by(4.0)) == [0, 4, 8, 12, 16]  # a second warning would be an error
    assert cache.facts().startswith("0 kept in ")


def test_a_folder_that_cannot_be_written_to_is_read(kept, monkeypatch):
    result_of(scaled_by(3.0))

    def write(path, data):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", write)
    result_of(kernel := scaled_by(3.0))  # no warning
    assert was_loaded(kernel)
    with pytest.warns(RuntimeWarning, match="Read-only file system"):
        assert result_of(scaled_by(4.0)) == [0, 4, 8, 12, 16]


def test_nothing_is_left_of_a_file_that_found_no_room(kept, monkeypatch):
    def write(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write)
        with pytest.warns(RuntimeWarning, match="No space left on device"):
            assert result_of(scaled_by(3.0)) == [0, 3, 6, 9, 12]
    assert files(kept) == []


def test_the_folder_is_where_the_settings_say(kept, tmp_path, monkeypatch):
    assert cache.folder().parent == kept
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "of_numba"))
    cache.folder.cache_clear()
    assert cache.folder().parent == tmp_path / "of_numba" / "im2colnet"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "/nowhere/me/.cache/im2colnet"),
        ("linux", {"XDG_CACHE_HOME": "/var/me"}, "/var/me/im2colnet"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/nowhere/me/.cache/im2colnet"),
        ("darwin", {}, "/nowhere/me/Library/Caches/im2colnet"),
        ("win32", {"LOCALAPPDATA": "/c/me"}, "/c/me/im2colnet"),
        ("win32", {}, "/nowhere/me/AppData/Local/im2colnet"),
        ("linux", {"IM2COLNET_CACHE": "~/here"}, "/nowhere/me/here"),
        ("linux", {"HOME": "nowhere"}, f"{os.devnull}/im2colnet"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_each_system_has_a_folder_for_caches(monkeypatch, platform, variables, expected):
    for name in "IM2COLNET_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA":
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/nowhere/me"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert str(cache_folder()) == expected


TWO_KERNELS = """
import numpy as np
from im2colnet_numba.compile import compiled

@compiled
def add(x, y):
    for i in range(x.size):
        y[i] += x[i]

@compiled
def multiply(x, y):
    for i in range(x.size):
        y[i] *= x[i]

x, y = np.arange(5, dtype="float32"), np.ones(5, "float32")
add(x, y), multiply(x, y)
print(y.tolist(), sum(add.stats.cache_hits.values()) + sum(multiply.stats.cache_hits.values()))
"""


def test_processes_that_start_at_once_share_an_empty_folder(kept):
    def results():
        children = [start(script=TWO_KERNELS) for _ in range(3)]
        return [child.communicate(timeout=120) for child in children]

    for loaded in None, 2:
        for out, err in results():
            assert not err
            assert out.startswith("[0.0, 2.0, 6.0, 12.0, 20.0]")
            assert loaded is None or out.split()[-1] == str(loaded)
    assert len(files(kept)) == 2


def test_threads_that_meet_a_new_kernel_compile_it_once(kept):
    kernel, results = scaled_by(5.0), []
    threads = [threading.Thread(target=lambda: results.append(result_of(kernel))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[0, 5, 10, 15, 20]] * 4
    assert not was_loaded(kernel)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_that_is_forked_while_a_thread_compiles_can_compile(kept):
    begun, ended = threading.Event(), threading.Event()

    def hold():
        with global_compiler_lock:
            begun.set()
            ended.wait(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    child = os.fork()  # waits for the lock
    if not child:
        os._exit(0 if result_of(scaled_by(7.0)) == [0, 7, 14, 21, 28] else 1)
    ended.set()
    thread.join()
    deadline = time.monotonic() + 60
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child waits for a lock that nobody holds")
        time.sleep(0.01)
    assert found[1] == 0


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Proxy:
    """What rich puts in stderr's place while it shows a bar."""

    def __init__(self, stream):
        self.rich_proxied_file = stream


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("wrapped", [lambda stream: stream, Proxy])
def test_a_terminal_says_that_kernels_are_compiled(monkeypatch, wrapped):
    monkeypatch.setattr(sys, "stderr", wrapped(stream := Terminal()))
    monkeypatch.setenv("COLUMNS", "40")
    result_of(scaled_by(3.0))
    shown, *erased = stream.getvalue().rsplit("\r", 2)
    assert re.search(r"\rcompiling kernels for this processor, o$", shown)  # cut to what the terminal has room for
    assert erased == [" " * 39, ""]
    stream.truncate(0)
    result_of(scaled_by(3.0))  # from the disk
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("kept")
def test_nothing_is_said_where_no_terminal_is(monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    result_of(scaled_by(3.0))
    assert stream.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    result_of(scaled_by(4.0))


@pytest.mark.usefixtures("kept")
def test_the_line_is_erased_after_an_error(monkeypatch):
    @compiled
    def wrong(x):
        return x.no_such_attribute

    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with pytest.raises(Exception, match="no_such_attribute"):
        wrong(X)
    assert stream.getvalue().endswith("\r")


ASK = "from im2colnet_numba.compile import lanes; print(lanes())"


@pytest.mark.parametrize(("processor", "lanes"), [("x86-64", 4), ("haswell", 8), ("znver2", 8), ("skylake-avx512", 16)])
def test_vectors_are_those_of_the_processor(processor, lanes):
    if ic.get_backend("numpy").versions()["processor"].lower() not in ("x86_64", "amd64"):
        pytest.skip("names of processors of another kind")
    done = finish(script=ASK, variables={"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""})
    assert (done.stdout, done.stderr) == (f"{lanes}\n", "")


def test_vectors_of_this_processor():
    assert compile.lanes() in (4, 8, 16)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and "NUMBA_CPU_NAME" not in os.environ:
        assert (compile.lanes() == 16) == (" avx512f " in cpuinfo.read_text())


def test_the_machine_and_the_folder_are_told():
    versions = ic.get_backend("numba").versions()
    assert re.fullmatch(r"[0-9.a-z+]+, llvmlite [0-9.a-z+]+", versions["numba"])
    assert versions["vectors"] == f"{compile.lanes()} float32 numbers each"
    assert str(cache.folder()) in versions["kernels"]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            "raise ModuleNotFoundError(name='numba')",
            r"Numba is not installed: pip install 'numba>=0\.63' \(the extra fast: ",
        ),
        (
            "raise ImportError('Numba needs NumPy 2.5 or less.')",
            r"ImportError: Numba needs NumPy 2\.5 or less\..*pip install --upgrade numba",
        ),
        ("raise SystemError('initialization failed')", r"SystemError: initialization failed.*IM2COLNET_BACKEND=numpy"),
    ],
)
def test_a_numba_that_cannot_be_used_is_an_error_that_says_what_to_do(tmp_path, module, said):
    (tmp_path / "numba.py").write_text(module)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import im2colnet as ic; ic.get_backend('numba')"
    done = finish(script=script)
    assert re.search(rf"BackendError: the backend 'numba' cannot start: .*{said}", done.stderr)


def test_a_numba_that_may_not_compile_is_refused():
    done = finish(script="import im2colnet as ic; ic.get_backend('numba')", variables={"NUMBA_DISABLE_JIT": "1"})
    assert "'numba' cannot start: NUMBA_DISABLE_JIT prevents" in done.stderr


def test_numba_is_imported_only_by_its_backend():
    script = """
import sys, numpy as np, im2colnet as ic
ic.functional.relu(np.ones((1, 1, 5, 5), "float32"))
ic.Trainer(ic.models.notebook().init(0)).step(np.ones((2, 1, 8, 8), "float32"), [0, 1])
assert "numba" not in sys.modules
ic.get_backend("numba")
assert "numba" in sys.modules
"""
    done = finish(script=script, variables={"IM2COLNET_BACKEND": None})
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("nothing_started")
def test_numpys_arrays_are_numpys_unless_numba_is_selected(monkeypatch):
    monkeypatch.delenv("IM2COLNET_BACKEND", raising=False)
    ic.get_backend("numba")
    assert backend_of(x=X).name == "numpy"
    with ic.use_backend("numba"):
        assert backend_of(x=X).name == "numba"
    with ic.use_backend(NarrowBackend()):  # whose arrays are others; numba was started before numpy
        assert backend_of(x=X).name == "numpy"

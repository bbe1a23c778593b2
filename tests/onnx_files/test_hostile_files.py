"""Files that are damaged, or made to do harm: an error of the library, within its limits, whatever they hold."""

import os
import subprocess
import sys
import tracemalloc
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx_files
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper
from onnx_files import external, graph, model, node

import im2colnet as ic
from im2colnet.onnx.read import MOST_NODES, read

MB = 2**20
RELU = node("Relu", "x", "y")


def refused(source, text, **options):
    """The model is refused with this text in its error."""
    with pytest.raises(ic.ModelError) as caught:
        read(source, **options)
    assert text in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def with_tensor(tensor):
    """A model that adds a tensor."""
    return model([node("Add", "x w", "y")], arrays={"w": tensor})


# What is no model ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "the file is empty"),
        (b"\x08", "it is not an ONNX file, or it is damaged"),
        (b"\x08\x07", "it contains no graph"),
        (b"PK\x03\x04 a zip file", "it is not an ONNX file, or it is damaged"),
        (b"\x0a\xff\xff\xff\xff\x0f", "it is not an ONNX file, or it is damaged"),
        (b"\x3a\x00", "the graph has no output"),
        (b"<html>404 not found</html>", "it is not an ONNX file, or it is damaged"),
        (model([RELU]).SerializeToString()[:-5], "it is not an ONNX file, or it is damaged"),
    ],
)
def test_bytes_that_are_no_model(data, text, tmp_path):
    refused(data, text)
    (tmp_path / "a.onnx").write_bytes(data)
    refused(tmp_path / "a.onnx", f"{tmp_path / 'a.onnx'}: {text}")


def test_paths_that_are_no_file(tmp_path):
    refused(tmp_path / "a.onnx", "a.onnx: No such file or directory")
    refused(tmp_path, "Is a directory")
    refused("a\0b", "cannot read a")
    refused("/dev/zero", "a file is needed")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "a file is needed")  # and nobody waits for what it will hold


def test_without_the_package_onnx_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    refused(b"", "ONNX files need the package onnx: pip install 'onnx>=1.21' (the extra onnx")


# Sizes ---------------------------------------------------------------------------------------------------------------
def raw(dims, data=b"", kind=TensorProto.FLOAT, **more):
    return TensorProto(name="w", data_type=kind, dims=dims, raw_data=data, **more)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (raw([4], b"\0" * 12), "tensor 'w' of shape (4) should hold 16 bytes, it holds 12"),
        (raw([4]), "of shape (4) should hold 16 bytes, it holds 0"),
        (raw([-1, 4], b"\0" * 16), "tensor 'w' has a negative size: (-1, 4)"),
        (raw([10**9, 10**9]), "of shape (1000000000, 1000000000): it would take 3.64e+06 TiB, the limit is 2 GiB"),
        (raw([0, 2**62, 2**62]), "the limit is 2 GiB"),
        (raw([1] * 65, b"\0" * 4), "has 65 axes, 64 at most are read"),
        (raw([4], b"\0" * 16, 77), "has elements of the type 77, which im2colnet does not read"),
        (raw([4], b"\0" * 2, TensorProto.INT4), "has elements of the type INT4, which"),
        (TensorProto(name="w", data_type=8, dims=[1], string_data=[b"a"]), "has elements of the type STRING, which"),
        (TensorProto(name="w", data_type=1, dims=[3], float_data=[1, 2]), "should hold 3 numbers, it holds 2"),
        (TensorProto(name="w", data_type=1, dims=[3], int64_data=[1, 2, 3]), "should hold 3 numbers, it holds 0"),
        (raw([1], b"\0" * 4, segment=TensorProto.Segment(begin=0, end=1)), "is a segment of a tensor"),
    ],
)
def test_tensors_whose_size_is_wrong(tensor, text):
    refused(with_tensor(tensor), text)
    constant = node("Constant", "", "w", value=tensor)
    refused(model([constant, node("Add", "x w", "y")]), text.replace("tensor 'w'", "of node 'w' (Constant)"))


def test_problems_are_told_together():
    arrays = {"a": raw([-1]), "b": raw([5])}
    arrays["a"].name, arrays["b"].name = "a", "b"
    nodes = [node("Sum", "x a b nobody", "y")]
    refused(
        model(nodes, arrays=arrays), "no node computes the value 'nobody', which a node or an output needs; tensor 'a' "
    )
    refused(model(nodes, arrays=arrays), "has a negative size: (-1); tensor 'b' of shape (5) should hold 20 bytes")
    many = model([node("Sum", " ".join(f"n{i}" for i in range(100)), "y")])
    refused(many, "and 90 more")


def test_the_limit_counts_all_tensors_and_the_file(tmp_path):
    arrays = {name: np.zeros(250_000, "float32") for name in "abc"}
    made = model([node("Sum", "x a b c", "y")], arrays=arrays)
    refused(
        made, "its tensors would take 2.86 MiB, the limit is 2.86 MiB: max_bytes=... raises it", max_bytes=2_999_999
    )
    (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
    refused(tmp_path / "a.onnx", "it would take 2.86 MiB, the limit is 2.86 MiB", max_bytes=2_999_999)
    assert len(read(made, 3_000_000).constants) == 3
    halves = {"a": np.zeros(250_000, "float16")}  # they become float32
    refused(model([node("Add", "x a", "y")], arrays=halves), "it would take", max_bytes=600_000)


def length(size):
    """A length as protobuf writes it."""
    return bytes([*((size >> shift & 127) | 128 for shift in range(0, 28, 7)), size >> 28])


def test_messages_take_more_memory_than_the_file():
    """Three million empty nodes are 6 MB of a file, and would take half a gigabyte."""
    empty = b"\x0a\x00" * 3_000_000
    refused(
        b"\x3a" + length(len(empty)) + empty, "reading it would take 100 MiB, the limit is 100 MiB", max_bytes=100 * MB
    )
    refused(b"\x3a" + length(len(empty)) + empty, "it has more than 2,000,000 values")


def test_numbers_of_one_byte_take_eight():
    numbers = b"\x3a" + length(20 * MB) + bytes(20 * MB)  # int64_data of a tensor
    tensor = b"\x2a" + length(len(numbers)) + numbers
    refused(b"\x3a" + length(len(tensor)) + tensor, "reading it would take 160 MiB", max_bytes=100 * MB)


# The graph -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (
            [node("Relu", "x", "y"), node("Exp", "x", "y", name="e")],
            "two values are called 'y', the second is made by node 'e'",
        ),
        ([node("Relu", "x", "x"), node("Exp", "x", "y")], "two values are called 'x'"),
        ([node("Relu", "x", "w"), node("Add", "x w", "y")], "two values are called 'w'"),
        ([node("Relu", "a", "y")], "no node computes the value 'a'"),
        ([node("Relu", "x", "a")], "no node computes the value 'y'"),
        ([node("Add", "x y", "y", name="e")], "form a cycle: node 'e' (Add) is in the cycle or depends on it"),
        ([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")], "form a cycle"),
        ([node("Relu", "x", "y", a=1)], "has the attribute 'a' twice"),
    ],
)
def test_graphs_that_cannot_be_computed(nodes, text):
    if "twice" in text:
        nodes[0].attribute.append(nodes[0].attribute[0])
    refused(model(nodes, arrays={"w": np.float32(1)}), text)


def test_names_that_are_there_twice():
    made = with_tensor(raw([1], b"\0" * 4))
    made.graph.initializer.append(made.graph.initializer[0])
    refused(made, "two tensors are called 'w'")
    made = model([RELU])
    made.graph.input.append(made.graph.input[0])
    refused(made, "two inputs have the same name")


def test_names_are_quoted_and_cut():
    refused(model([node("Relu", "\x1b[31m\a" + 100 * "a", "y")]), r"the value '\x1b[31m\x07" + 51 * "a" + "...'")
    data = model([node("Relu", "abcd", "y")]).SerializeToString().replace(b"abcd", b"a\xff\xfed")
    refused(data, r"the value 'a\\xff\\xfed'")  # which is no UTF-8


def test_too_many_nodes():
    refused(model([RELU] * (MOST_NODES + 1)), "it has more than 100,000 nodes")


def test_functions_within_each_other():
    opsets = [helper.make_opsetid("own", 1)]

    def call(name, inputs, outputs):
        made = node(name, inputs, outputs)
        made.domain = "own"
        return made

    def function(name, nodes):
        return helper.make_function("own", name, ["a"], ["c"], nodes, opsets)

    itself = function("F", [call("F", "a", "c")])
    refused(model([call("F", "x", "y")], functions=[itself]), "functions or branches are nested more than 32 deep")
    many = [function(f"F{i}", [call(f"F{i + 1}", "a", "c")] * 4000) for i in range(26)]
    refused(model([call("F0", "x", "y")], functions=many), "it has more than 100,000 nodes")
    wide = function("W", [node("Relu", "a", "c", name=MB * "n")])
    calls = [call("W", f"x{i}" if i else "x", f"x{i + 1}") for i in range(500)]
    refused(model(calls, functions=[wide]), "its names and attributes take more than 191 MiB")
    refused(model([RELU], functions=[itself, itself]), "function 'F' is defined twice")


def test_branches_within_each_other():
    """A function whose branch calls it."""
    call = node("F", "a", "b")
    call.domain = "own"
    nodes = [node("If", "a", "c", then_branch=graph([call], {}, ["b"]), else_branch=graph([], {}, ["a"]))]
    function = helper.make_function("own", "F", ["a"], ["c"], nodes, [helper.make_opsetid("own", 1)])
    call.input[0], call.output[0] = "x", "y"
    refused(model([call], functions=[function]), "functions or branches are nested more than 32 deep")


def test_messages_within_each_other():
    inner = b""
    for _ in range(2000):
        inner = b"\x0a" + length(len(inner)) + inner  # a type of an optional of a type of ...
        inner = b"\x4a" + length(len(inner)) + inner
    kind = b"\x12" + length(len(inner)) + inner
    value = b"\x5a" + length(len(kind)) + kind
    refused(b"\x3a" + length(len(value)) + value, "its parts are nested too deeply")


@pytest.mark.parametrize(
    ("made", "arrays", "side"),
    [
        (node("Resize", "x _ s", "y"), {"s": np.array([1, 1, 1e5, 1e5], "float32")}, 8),
        (node("Resize", "x _ s", "y"), {"s": np.array([1, 1, 1e9, 1], "float32")}, 8),
        (node("Resize", "x _ s", "y"), {"s": np.array([1, 1, 0.5, 0.5], "float32")}, 2**31 - 1),
        (node("Upsample", "x s", "y"), {"s": np.array([1, 1, 1e9, 1], "float32")}, 8),
        (node("Expand", "x s", "y"), {"s": np.array([1, 3, 10**5, 10**5])}, 1),
        (node("LayerNormalization", "x o o", "y", axis=1), {"o": np.ones(1, "float32")}, 10**5),
        (node("Tile", "x s", "y"), {"s": np.array([1, 10**9, 1, 1])}, 8),
        (node("PRelu", "x o", "y"), {"o": np.ones((3, 1, 1), "float32")}, 10**5),
    ],
)
def test_layers_that_would_be_large(made, arrays, side):
    """Whatever the nodes of a small file ask for, no array of it is made."""
    try_it(
        model([made], {"x": ("N", 3, side, side)}, arrays=arrays, opset=9 if made.op_type == "Upsample" else 17), None
    )


# External data -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("location", "more", "text"),
    [
        (
            "../secret",
            {},
            "tensor 'w' is kept outside of the file, at '../secret': only files beside the model are read",
        ),
        ("{}/secret", {}, "only files beside the model are read"),
        ("folder/../../secret", {}, "only files beside the model are read"),
        ("folder/w.bin", {}, "only files beside the model are read"),
        ("..\\secret", {}, "only files beside the model are read"),
        ("C:secret", {}, "only files beside the model are read"),
        ("", {}, "only files beside the model are read"),
        ("..", {}, "only files beside the model are read"),
        ("w.bin\0", {}, "only files beside the model are read"),
        ("/dev/zero", {}, "only files beside the model are read"),
        ("link", {}, "is kept in 'link', which cannot be read: it is a link: copy the files by cp -L"),
        ("hard", {}, "it has another name elsewhere, a hard link: copy the files by cp -L"),
        ("folder", {}, "is kept in 'folder', which cannot be read: it is not a regular file"),
        ("pipe", {}, "it is not a regular file"),
        ("nobody", {}, "No such file or directory"),
        ("ok.bin", {"offset": -4}, "has external data with '-4' where a number of bytes is expected"),
        ("ok.bin", {"offset": "1e3"}, "where a number of bytes is expected"),
        ("ok.bin", {"offset": "٣"}, "where a number of bytes is expected"),
        ("ok.bin", {"offset": 10**30}, "where a number of bytes is expected"),
        ("ok.bin", {"offset": 4}, "would end at byte 404 of 'ok.bin', which has 400"),
        ("ok.bin", {"offset": 10**12}, "would end at byte 1,000,000,000,400"),
        ("ok.bin", {"length": 10**12}, "should hold 400 bytes, but the model says that 'ok.bin' has 1,000,000,000,000"),
        ("ok.bin", {"length": 4}, "should hold 400 bytes, but the model says that 'ok.bin' has 4"),
        ("empty.bin", {}, "would end at byte 400 of 'empty.bin', which has 0"),
    ],
)
def test_external_data_elsewhere(location, more, text, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(400))
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (home / "link").symlink_to("ok.bin")
    (home / "hard").hardlink_to(tmp_path / "secret")
    (home / "ok.bin").write_bytes(bytes(400))
    (home / "empty.bin").touch()
    os.mkfifo(home / "pipe")
    tensor = external("w", location.format(tmp_path), **more)
    (home / "a.onnx").write_bytes(with_tensor(tensor).SerializeToString())
    refused(home / "a.onnx", text)


def test_unknown_keys_of_external_data_mean_nothing(tmp_path):
    """They were set as attributes by onnx before 1.21."""
    (tmp_path / "w.bin").write_bytes(bytes(400))
    tensor = external("w", "w.bin", checksum="0", basepath="/etc", __class__="os")
    (tmp_path / "a.onnx").write_bytes(with_tensor(tensor).SerializeToString())
    assert read(tmp_path / "a.onnx").constants["w"].shape == (100,)


# Fuzzing -------------------------------------------------------------------------------------------------------------
EXAMPLES = [example.SerializeToString() for example in onnx_files.EXAMPLES]


def try_it(data, shape=(3, 8, 8)):
    """It becomes a network or an error of the library, and that takes little memory."""
    tracemalloc.start()
    try:
        with suppress(ic.Im2colnetError), warnings.catch_warnings():
            warnings.simplefilter("ignore", ic.InputWarning)
            ic.onnx.load(data, shape, max_bytes=MB)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 * MB


@given(st.data())
@settings(max_examples=250)
def test_bytes_that_have_changed(data):
    good = bytearray(data.draw(st.sampled_from(EXAMPLES)))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try_it(bytes(good))


@pytest.mark.parametrize("example", range(5))
def test_files_that_end_too_early(example):
    good = EXAMPLES[example]
    for end in {*range(min(len(good), 400)), *range(max(0, len(good) - 400), len(good))}:
        try_it(good[:end])


@pytest.mark.parametrize("example", range(5))
def test_sizes_that_have_grown(example):
    """Every number of every message, one after the other."""

    def numbers(message):
        for field, value in message.ListFields():
            if field.message_type is not None:
                for inner in [value] if isinstance(value, Message) else value:
                    yield from numbers(inner)
            elif field.cpp_type in (1, 2, 3, 4):
                yield message, field

    for number in (-1, 0, 1 << 30, 1 << 62):
        for i in range(len([*numbers(ModelProto.FromString(EXAMPLES[example]))])):
            made = ModelProto.FromString(EXAMPLES[example])
            message, field = [*numbers(made)][i]
            try:
                value = getattr(message, field.name)
                if hasattr(value, "__len__"):
                    value[0] = number
                else:
                    setattr(message, field.name, number)
            except ValueError:
                continue  # too large for the field
            try_it(made.SerializeToString())


SCRIPT = """
import resource, sys
import im2colnet as ic, onnx
from im2colnet.onnx.read import read
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for data in {files}:
    try:
        read(data)
    except ic.ModelError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of a process from /proc")
def test_memory_that_the_system_limits():
    """In a process that has 300 MB, files that ask for terabytes are refused before anything is allocated."""
    files = [with_tensor(raw([10**9, 10**9])), with_tensor(raw([5 * 10**8])), model([RELU] * (MOST_NODES + 1))]
    script = SCRIPT.format(files=[file.SerializeToString() for file in files[:2]])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the limit is 2 GiB") + done.stdout.count("it holds 0") == 2

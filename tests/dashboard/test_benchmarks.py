"""The benchmarks' own tools: what they skip, how they compare, what they tell. Not how fast anything is."""

import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial, wraps
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import pytest
import strict_cupy

import im2colnet as ic
from benchmarks import common, compare, device, memory, onnx_nets, random_nets, ratios, size, versus
from benchmarks.common import CASES, SHAPES, Case, Comparison, NotHere, Shape
from im2colnet.backend import registry

ROOT = Path(__file__).resolve().parents[2]


# What must be there -------------------------------------------------------------------------------------------------
@pytest.fixture
def variables(monkeypatch):
    for name in ("IM2COLNET_BACKEND", "IM2COLNET_BENCH_REQUIRE", "IM2COLNET_BENCH_QUICK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_backend_that_does_not_start_is_skipped(variables):
    assert common.start_backend().name == "numpy"
    variables.setenv("IM2COLNET_BACKEND", "nowhere")
    with pytest.raises(NotHere, match="nowhere"):
        common.start_backend()


@pytest.mark.parametrize("selected", ["nowhere", "numpy"])
def test_a_required_backend_that_does_not_start_is_an_error_whichever_is_selected(variables, selected):
    variables.setenv("IM2COLNET_BACKEND", selected)
    variables.setenv("IM2COLNET_BENCH_REQUIRE", "numpy, nowhere,torch")
    with pytest.raises(ic.BackendError, match="nowhere"):
        common.start_backend()


def test_pytorch_that_is_missing_is_skipped_unless_it_is_required(variables):
    variables.setitem(sys.modules, "torch", None)
    with pytest.raises(NotHere, match="pip install torch"):
        common.import_torch()
    variables.setenv("IM2COLNET_BENCH_REQUIRE", "torch")
    with pytest.raises(ModuleNotFoundError, match="torch"):
        common.import_torch()


def test_pytorch_that_is_broken_is_never_skipped(variables, tmp_path):
    (tmp_path / "torch.py").write_text("import a_library_that_is_not_there")
    variables.delitem(sys.modules, "torch", raising=False)
    variables.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        common.import_torch()


# How two things are compared ----------------------------------------------------------------------------------------
class Machine:
    """A clock, and a machine that becomes slower and slower: a call takes its cost times what the machine is at."""

    def __init__(self, monkeypatch, spinning=0.0):
        self.now, self.cpu, self.spinning, self.speed, self.calls = 0.0, 0.0, spinning, 1.0, []
        for name in ("perf_counter", "process_time", "sleep"):
            monkeypatch.setattr(common.time, name, getattr(self, name))

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.cpu

    def sleep(self, seconds):
        self.now += seconds
        busy = min(seconds, self.spinning)
        self.spinning -= busy
        self.cpu += busy

    def side(self, name, cost, cores=1.0, spins=0.0):
        def call():
            self.calls.append(name)
            self.now += cost * self.speed + min(self.spinning, cost)  # whoever still spins takes the core
            self.cpu += cost * self.speed * cores
            self.spinning = spins

        return call


def test_ratios_do_not_see_that_the_machine_changes(variables):
    machine = Machine(variables)
    fast, slow = machine.side("fast", 0.030), machine.side("slow", 0.045)

    def drifting():
        machine.speed *= 1.05
        slow()

    samples = common.interleave({"fast": fast, "slow": drifting}, rounds=15)
    times = samples.seconds["fast"]
    assert max(times) / min(times) > 1.8
    ratio = samples.ratio("slow", "fast")
    assert ratio["ratio"] == pytest.approx(1.5, rel=0.06)
    assert 1.4 < ratio["low"] <= ratio["ratio"] <= ratio["high"] < 1.6


def test_sides_take_turns_in_changing_order_and_short_calls_are_repeated(variables):
    machine = Machine(variables)
    samples = common.interleave(
        {"a": machine.side("a", 0.05), "b": machine.side("b", 0.005, cores=1.5)}, rounds=3, sample=0.02
    )
    assert machine.calls == ["a"] * 2 + ["b"] * 2 + ["a"] + ["b"] * 5 + ["b"] * 5 + ["a"] + ["a"] + ["b"] * 5
    assert samples.seconds == {"a": pytest.approx([0.05] * 3), "b": pytest.approx([0.005] * 3)}
    assert samples.cores("a") == pytest.approx(1)
    assert samples.cores("b") == pytest.approx(1.5)
    assert samples.median("b") == pytest.approx(0.005)


def test_threads_that_spin_after_one_side_do_not_slow_the_other(variables):
    machine = Machine(variables)
    sides = {"quiet": machine.side("quiet", 0.03), "spins": machine.side("spins", 0.03, spins=0.02)}
    samples = common.interleave(sides)
    assert samples.ratio("quiet", "spins")["high"] == pytest.approx(1)


def test_quick_is_one_round(variables):
    variables.setenv("IM2COLNET_BENCH_QUICK", "1")
    samples = common.interleave({"one": list, "other": list})
    assert {side: len(seconds) for side, seconds in samples.seconds.items()} == {"one": 1, "other": 1}


def test_spread_is_median_and_quartiles():
    values = np.random.default_rng(0).random(15)
    quantiles = {name: np.quantile(values, q) for name, q in (("ratio", 0.5), ("low", 0.25), ("high", 0.75))}
    assert common.spread(list(values)) == pytest.approx(quantiles)
    assert common.spread([2.0]) == {"ratio": 2.0, "low": 2.0, "high": 2.0}


def test_a_tick_of_the_clock_for_each_sample_is_no_core():
    samples = common.Samples(["NHWC"])
    for _ in range(6):
        samples.add("NHWC", 1000, wall=0.02, cpu=0.05)
    versus.check_cores(samples, 2)
    with pytest.raises(RuntimeError, match=r"NHWC kept 2\.50 cores busy, allowed are 1"):
        versus.check_cores(samples, 1)


def test_more_cores_than_allowed_are_an_error():
    samples = common.Samples(["im2colnet", "NHWC"])
    samples.add("im2colnet", 1, wall=1.0, cpu=1.0)
    samples.add("NHWC", 1, wall=1.0, cpu=1.9)
    versus.check_cores(samples, 2)
    with pytest.raises(RuntimeError, match=r"NHWC kept 1\.90 cores busy, allowed are 1"):
        versus.check_cores(samples, 1)


def test_sides_that_do_other_work_are_an_error():
    versus.same("the loss", [2.0, 1.5], [2.0, 1.5 + 1e-4])
    for wrong in ([2.0, 1.501], [2.0, np.nan]):
        with pytest.raises(AssertionError, match="the loss differs"):
            versus.same("the loss", [2.0, 1.5], wrong)


def faults(keep):
    """Page faults of ten arrays of 64 MiB, one after the other, which malloc by default always returns."""
    import resource  # not on Windows

    if keep:
        versus.keep_memory()
    np.ones(1 << 23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(1 << 23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems' malloc has no such setting")
def test_memory_that_is_freed_is_kept_where_times_are_compared():
    found = []
    for keep in (False, True):  # a fork would find free memory where tests before have left it
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found.append(pool.submit(faults, keep).result())
    assert found[0] > 100  # pages may be huge ones
    assert found[1] < 20


# What is measured ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_kernels_that_are_timed_compute_what_the_textbook_does(name, at_once):
    case = common.Convolution(ic.get_backend("numpy"), SHAPES[name], batch=2)
    case.forward()
    if at_once:
        case.gradients()
    else:
        case.input_grad()
        case.weight_grad()

    class Textbook(ic.Backend):
        name, xp = "textbook", np

    textbook, how = Textbook(), (case.window, SHAPES[name].groups)
    size = case.x.shape[0], case.x.shape[2]
    close = {"rtol": 1e-3, "atol": 1e-3}
    np.testing.assert_allclose(case.y, textbook.conv2d(case.x, case.w, case.b, *how), **close)
    np.testing.assert_allclose(case.dx, textbook.conv2d_input_grad(case.dy, case.w, size, *how), **close)
    np.testing.assert_allclose(case.dw, textbook.conv2d_weight_grad(case.x, case.dy, *how), **close)
    weight = case.w.shape
    flops = 2 * weight[1] * weight[2] * weight[3] * case.y.size
    assert SHAPES[name].cost(batch=2) == (flops, case.x.nbytes + case.w.nbytes + case.y.nbytes)


@pytest.mark.parametrize("name", CASES)
def test_the_networks_take_their_data(name):
    net, (images, labels) = CASES[name].make(), CASES[name].data(3)
    assert net.input_shape == images.shape[1:] == CASES[name].shape
    assert net.graph.shapes(ic.network.internal_shape(images.shape[1:], 3))[-1] == (CASES[name].classes, 3)
    assert (labels < CASES[name].classes).all()


def python(*arguments, **variables):
    """Run Python in the checkout and return the finished process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IM2COLNET_")} | variables
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'backends'}"
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can only be set back on Linux")
def test_memory_is_the_peak_of_the_steps_alone():
    done = python(
        "-c",
        """
import numpy as np
from benchmarks.memory import peak
before = np.ones(200 << 18)                    # 400 MiB before, freed: not counted
del before
kept = []
def make():
    kept.append(np.ones(32 << 17))             # 32 MiB that stay
    return lambda: np.ones(64 << 17).sum()     # 64 MiB at a time
print(peak(make))
""",
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / 2**20 == pytest.approx(96, abs=4)


def test_the_plan_is_the_planned_memory():
    from im2colnet.reports import memory as report

    case = CASES["lenet5-b64"]
    expected = report.plan(ic.models.lenet5(), (1, 28, 28), 64, ic.SGD(0.01, 0.9), 1)["training"]["total"]
    before = ic.get_num_threads()
    try:
        assert memory.peak_bytes("plan", case) == expected
    finally:
        ic.set_num_threads(before)


def test_the_wheel_is_measured_where_there_is_none():
    contents = size.contents()
    assert {"im2colnet/__init__.py", "im2colnet/datasets/data/digits.npz", "im2colnet_numpy/__init__.py"} <= set(
        contents
    )
    assert not any("__pycache__" in name for name in contents)
    assert 45_000 < size.track_wheel() < 950_000


def test_the_nets_that_are_drawn_are_the_same_everywhere():
    """What they are is said by a digest: whoever changes the rule changes what all earlier figures are of."""
    drawn = [(name, repr(case.make().layers)) for name, case in random_nets.RANDOM.items()]
    assert len(drawn) == 12
    assert sha256(repr(drawn).encode()).hexdigest()[:16] == "0e1b6b3547b39ddf"
    layers = [repr(case.make().layers) for case in random_nets.OUTSIDE.values()]
    assert [text.count("Conv2d") for text in layers] == [3, 5]


@pytest.mark.parametrize("name", [*random_nets.OUTSIDE, *random_nets.RANDOM])
def test_nets_that_nothing_is_tuned_for_are_what_the_rule_says(name):
    case = (random_nets.OUTSIDE | random_nets.RANDOM)[name]
    net, (images, labels) = case.make(), case.data(2)
    assert net.init(0).predict(images).shape == (2, 10)
    assert (labels < 10).all()
    for node in net.graph.nodes:
        if isinstance(node.layer, ic.Conv2d):
            assert max(node.layer.window.kernel) <= 7
            assert 8 <= node.layer.out_channels <= 256


def test_a_net_that_is_drawn_does_what_pytorch_s_does():
    pytest.importorskip("torch")
    versus.check_training(random_nets.RANDOM["random8-b8"])


# python -m benchmarks.compare ---------------------------------------------------------------------------------------
def test_compare_prints_a_table_and_writes_json(tmp_path):
    file = tmp_path / "figures.json"
    done = python(
        "-m",
        "benchmarks.compare",
        "--nets",
        "notebook",
        "--threads",
        "1",
        "--parts",
        "training",
        "memory",
        "--json",
        str(file),
        IM2COLNET_BENCH_QUICK="1",
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["machine"]["backend"] == "numpy"
    assert report["machine"]["numpy"] == np.__version__
    training, peak = report["rows"]
    assert (training["kind"], training["case"], training["threads"]) == ("training", "notebook-b64", 1)
    assert peak["plan"] == memory.peak_bytes("plan", CASES["notebook-b64"])
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        assert "n/a: PyTorch is not installed" in done.stdout
        assert "ratio" not in training
    else:
        assert training["ratio"] == pytest.approx(training["seconds"] / training["torch_seconds"])
        assert 0 < peak["im2colnet"] < 2**20
        assert 0 < peak["torch NCHW"] < 2**20
        assert "ratio" not in peak  # too small to tell
        assert f"{training['ratio']:.2f}" in done.stdout


def test_compare_beside_onnxruntime(tmp_path):
    pytest.importorskip("onnxruntime")
    file = tmp_path / "figures.json"
    cases = ["lenet5-onnx-b1", "lenet5-onnx-b8", "lenet5-onnx-b64"]
    arguments = ["--nets", *cases, "--threads", "1", "--parts", "onnx", "--json", str(file)]
    done = python("-m", "benchmarks.compare", *arguments, IM2COLNET_BENCH_QUICK="1")
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert [row["case"] for row in rows] == cases
    assert all(row["ratio"] == row["seconds"] / row["other_seconds"] > 0 for row in rows)
    assert f"{rows[0]['ratio']:.2f}" in done.stdout
    mean = geometric_mean([row["ratio"] for row in rows[1:]])
    assert f"geometric means, 1 thread: the suite, batches {mean:.2f} (2)" in done.stdout


def test_compare_fails_where_what_is_required_is_missing():
    done = python("-m", "benchmarks.compare", "--parts", "own", IM2COLNET_BENCH_REQUIRE="nowhere")
    assert done.returncode == 1
    assert "there is no backend 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nets", "alexnet"], "there is no network 'alexnet'; there are notebook, lenet5"),
        (["--threads", "4096"], "invalid choice: '?4096"),
        (["--parts", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_compare_says_what_is_wrong_with_its_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        compare.main(arguments)
    assert exit.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_compare_measures_every_case_by_default():
    args = compare.parser().parse_args([])
    untuned = [*random_nets.OUTSIDE, *random_nets.RANDOM]
    found = compare.nets(args.nets, [1], [*compare.ONE, *untuned])
    assert set(found) == {(case, 1) for case in [*CASES, *compare.ONE, *untuned]}
    assert {line.case for line in compare.training(args)} == {*CASES, *untuned}
    assert {line.case for line in compare.onnx(args)} == set(onnx_nets.CASES)
    assert set(args.parts) == set(compare.PARTS)


def test_compare_says_that_there_is_nothing_to_compare(capsys):
    assert compare.main(["--nets", "lenet5-b1", "--parts", "training"]) == 2
    assert "nothing to compare" in capsys.readouterr().err


# On a GPU -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def stand_in(monkeypatch):
    """CuPy's stand-in beside PyTorch on the CPU, one round of each."""
    pytest.importorskip("torch")
    monkeypatch.setattr(device, "DEVICE", "cpu")
    monkeypatch.setitem(registry.started, "cupy", strict_cupy.cupy_backend())
    for name, value in {"BACKEND": "cupy", "PRECISION": "float32", "BENCH_QUICK": "1"}.items():
        monkeypatch.setenv(f"IM2COLNET_{name}", value)


@pytest.mark.usefixtures("stand_in")
def test_what_is_compared_on_a_gpu():
    case, shape = Case("resnet20", 4, (3, 8, 8)), Shape(4, 6, 8, 3, padding=1)
    for found in device.training_samples(case, "float32"), device.inference_samples(case, "float32"):
        row = device.summary(4, [found])
        assert row["ratio"] == row["seconds"] / row["torch_seconds"] > 0
    for precision in "float32", "float16":
        assert device.summary(3, [device.convolution_samples(shape, precision, 3)])["ratio"] > 0
        assert ratios.above_roof(shape, 3, [device.roofline_samples(shape, precision, 3)])["ratio"] > 0


@pytest.mark.usefixtures("stand_in")
def test_a_kernel_that_is_wrong_is_not_compared(monkeypatch):
    kernel = type(registry.started["cupy"]).conv2d
    right = kernel.function

    @wraps(right)  # its signature may be looked up only now
    def wrong(self, **arguments):
        yield from right(self, **arguments)
        yield partial(arguments["out"].__imul__, 1.1)

    monkeypatch.setattr(kernel, "function", wrong)
    with pytest.raises(AssertionError, match="the two sides do not do the same: y differs"):
        device.convolution_samples(Shape(4, 6, 8, 3, padding=1), "float32", 3)


def test_compare_on_a_gpu_that_there_is_not():
    if {row.name: row.available for row in registry.list_backends()}["cupy"]:
        pytest.skip("there is one")
    done = python("-m", "benchmarks.compare", "--backend", "cupy", "--nets", "lenet5")
    assert done.returncode == 1
    assert "the backend 'cupy' cannot start" in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_has_other_cases_on_a_gpu():
    lines = list(compare.on_device(compare.parser().parse_args(["--nets", "resnet20"])))
    assert [line.case for part, line in lines if part == "training"] == [
        f"resnet20-b{batch} {precision}" for precision in device.PRECISIONS for batch in (256, 1024)
    ]
    assert {part for part, _ in lines} <= set(compare.PARTS)


def test_compare_chooses_cases_by_network_or_by_name():
    assert list(compare.nets(["lenet5"], [1])) == [("lenet5-b64", 1), ("lenet5-b256", 1)]
    assert list(compare.nets(["lenet5-b256", "vgg8"], [1, 2])) == [
        ("lenet5-b256", 1),
        ("vgg8-b64", 1),
        ("lenet5-b256", 2),
        ("vgg8-b64", 2),
    ]
    assert list(compare.nets(["vgg8"], [2], list(compare.ONE))) == [("vgg8-b64", 2), ("vgg8-b1", 2)]


def two_rounds(case, threads):
    if case == CASES["lenet5-b64"]:
        raise RuntimeError("it broke")
    if case == CASES["lenet5-b256"]:
        raise NotHere("no such thing here")
    samples = common.Samples(["im2colnet", "NCHW", "NHWC"])
    for factor in (0.8, 1.2):
        for side, seconds in (("im2colnet", 0.0012345 * factor), ("NCHW", 1.0), ("NHWC", 0.0024690)):
            samples.add(side, 1, seconds, seconds)
    return samples


def test_a_comparison_that_fails_is_told_and_the_others_go_on(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(common, "PASSES", 2)
    monkeypatch.setattr(compare, "PATIENCE", 0)
    monkeypatch.setattr(
        versus, "training", lambda case, n: Comparison(partial(two_rounds, case, n), partial(versus.summary, n, 64))
    )
    file = tmp_path / "figures.json"
    arguments = ["--nets", "notebook", "lenet5", "vgg8", "--threads", "1", "--parts", "training", "--json", str(file)]
    assert compare.main(arguments) == 1
    out, err = capsys.readouterr()
    table = [line.split() for line in out.splitlines()]
    row = ["1", "0.50", "0.40–0.60", "1.23", "ms", "2.47", "ms", "NHWC", "51,843", "25,921", "1.00", "1.00"]
    assert ["notebook-b64", *row] in table
    assert ["vgg8-b64", *row] in table
    for missing in "lenet5-b64", "lenet5-b256":
        assert [missing, "1", *["n/a"] * 9] in table
    assert "geometric means, 1 thread: the suite 0.50 (2)" in out
    assert "n/a: no such thing here" in out
    assert err == "FAILED: training lenet5-b64, 1 threads: RuntimeError: it broke\n"
    rows = {row["case"]: row for row in json.loads(file.read_text())["rows"]}
    assert rows["vgg8-b64"]["rounds"] == 4, "two of each pass"
    assert "in two_rounds" in rows["lenet5-b64"]["error"]


def test_a_run_that_is_interrupted_tells_what_it_found(monkeypatch, tmp_path, capsys):
    def interrupted(lines):
        lines[0].found += [two_rounds(CASES["notebook-b64"], 1)]
        yield "one done"
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "measure", interrupted)
    file = tmp_path / "figures.json"
    arguments = ["--nets", "notebook", "vgg8", "--threads", "1", "--parts", "training", "--json", str(file)]
    assert compare.main(arguments) == 130
    out, err = capsys.readouterr()
    assert "0.45–0.55" in out
    assert ["vgg8-b64", "1", *["n/a"] * 9] in [line.split() for line in out.splitlines()]
    assert err == "interrupted: one done\n"
    first, second = json.loads(file.read_text())["rows"]
    assert first["ratio"] == pytest.approx(0.5)
    assert second == {"kind": "training", "case": "vgg8-b64", "threads": 1}


# Several processes --------------------------------------------------------------------------------------------------
def one_round(numbers):
    samples = common.Samples(["a", "b"])
    with open(numbers, "a") as file:
        file.write(f"{os.getpid()}\n")
    for side, seconds in (("a", 1.0), ("b", 2.0)):
        samples.add(side, 2, seconds, seconds / 2)
    return samples


def test_samples_of_several_processes_are_put_together(variables, tmp_path):
    numbers, checks = tmp_path / "numbers", tmp_path / "checks"
    samples = Comparison(partial(one_round, numbers), common.Samples.pooled, partial(one_round, checks)).run()
    processes = numbers.read_text().split() + checks.read_text().split()
    assert len(set(processes)) == len(processes) == common.PASSES + 1
    assert str(os.getpid()) not in processes
    assert samples.seconds == {"a": [0.5] * common.PASSES, "b": [1.0] * common.PASSES}
    assert samples.cores("a") == samples.cores("b") == 0.5


def test_where_there_is_no_fork_this_process_does_it(variables, tmp_path):
    variables.setattr(common, "get_all_start_methods", lambda: ["spawn"])
    assert common.in_child(one_round, tmp_path / "numbers").seconds == {"a": [0.5], "b": [1.0]}
    assert (tmp_path / "numbers").read_text().split() == [str(os.getpid())]


def refuse():
    raise NotHere("no reason")


def test_what_a_child_cannot_do_is_told(variables):
    with pytest.raises(NotHere, match="no reason"):
        common.in_child(refuse)
    with pytest.raises(BrokenProcessPool):
        common.in_child(os._exit, 3)

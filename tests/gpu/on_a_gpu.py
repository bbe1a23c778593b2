"""What ``on_a_gpu.sh`` runs: sections in order of value, each on its own, all that they find in one folder.

``results.json`` and ``summary.txt`` are written anew after each section, so that what was found is kept if it is
stopped. Without time left a section is left out, and that is said.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from pathlib import Path
from statistics import median

SECONDS = {"smoke": 50.0, "all": 450.0}
TOLERANCE = {"float32": 2e-5, "tf32": 5e-3, "float64": 1e-12, "float16": 3e-3, "bfloat16": 3e-2}
REQUIRED = (
    "environment",
    "errors",
    "training follows the CPU",
    "tests",
    "graphs",
    "certificate",
)  # what has to hold; the rest is figures


class Report:
    """Sections, their results, and what is said of them."""

    def __init__(self, folder, seconds):
        self.folder, self.end = Path(folder), time.monotonic() + seconds
        self.results, self.lines, self.failed = {}, [], []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = open(self.folder / "log.txt", "w", buffering=1)  # noqa: SIM115 - until the process ends

    def left(self):
        return self.end - time.monotonic()

    def say(self, text):
        print(text, flush=True)
        self.lines.append(text)

    def run(self, name, function, least):
        """Run a section, if there is as much time left."""
        began = time.monotonic()
        if self.left() < least:
            self.results[name] = {"left out": f"it takes {least} seconds, {self.left():.0f} were left"}
            self.say(f"{name}: left out, no time")
        else:
            try:
                self.results[name] = function(self)
                state = "done"
            except Exception as error:
                self.results[name] = {"error": traceback.format_exc()}
                self.log.write(traceback.format_exc())
                if name in REQUIRED:
                    self.failed.append(name)
                state = f"FAILED ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
            self.say(f"{name}: {state}, {time.monotonic() - began:.1f} s")
        (self.folder / "results.json").write_text(json.dumps(self.results, indent=1, default=str))
        (self.folder / "summary.txt").write_text("\n".join([*self.lines, ""]))

    def command(self, arguments, seconds, **environment):
        """Run a command; its exit code and output."""
        try:
            done = subprocess.run(
                arguments,
                env=os.environ | environment,
                text=True,
                errors="replace",
                timeout=min(seconds, self.left()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            status, text = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            text = error.stdout or ""
            status, text = "no time", text.decode(errors="replace") if isinstance(text, bytes) else text
        except OSError as error:
            status, text = "not there", str(error)
        self.log.write(f"$ {' '.join(map(str, arguments))}\n{text}\n-> {status}\n")
        return status, text


def backend():
    import im2colnet as ic

    return ic.get_backend("cupy")


def environment(report):
    import numpy

    wanted = "name,driver_version,memory.total,clocks.max.sm,power.limit"
    found = {
        "Python": platform.python_version(),
        "NumPy": numpy.__version__,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        **backend().versions(),
        "nvidia-smi": report.command(["nvidia-smi", f"--query-gpu={wanted}", "--format=csv"], 20)[1].strip(),
        "libraries": report.command([sys.executable, "-m", "pip", "freeze"], 20)[1].split(),
    }
    for name in ("GPU", "CUDA", "cupy"):
        report.say(f"    {name}: {found.get(name)}")
    return found


def errors(report, precisions=tuple(TOLERANCE)):
    """Every kernel against float64."""
    from im2colnet.errors import BackendError
    from im2colnet.reports import doctor

    found, wrong = {}, []
    for precision in precisions:
        try:
            its = backend() if precision == "float64" else backend().with_precision(precision)
        except BackendError as error:  # an old GPU has no bfloat16
            found[precision] = str(error)
            continue
        found[precision] = dict(doctor.errors(its, "float32" if precision == "tf32" else precision))
        name, worst = max(found[precision].items(), key=lambda item: item[1] if item[1] == item[1] else float("inf"))
        report.say(f"    {precision:9} at most {worst:.1e} ({name}), {TOLERANCE[precision]:.0e} is allowed")
        wrong += [f"{precision} {name}" for name, e in found[precision].items() if not e <= TOLERANCE[precision]]
    assert not wrong, f"beyond what rounding explains: {', '.join(wrong)}"
    return found


def follows(report):
    """Losses of a few steps, on the GPU and on the CPU."""
    import numpy as np

    import im2colnet as ic

    def losses(where):
        net = ic.models.make("resnet20", 4, 3, 8).init(0, "float64", where)
        trainer, rng = ic.Trainer(net, optimizer=ic.SGD(0.01, 0.9)), np.random.default_rng(0)
        batches = [(rng.integers(0, 256, (8, 3, 8, 8), dtype="uint8"), rng.integers(0, 4, 8)) for _ in range(4)]
        return [trainer.step(*batch) for batch in batches]

    found, expected = losses(backend()), losses("numpy")
    report.say(f"    losses {', '.join(f'{loss:.6f}' for loss in found)}")
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    return {"gpu": found, "cpu": expected}


def tests(report):
    """The test suite of the backend, on the GPU."""
    status, text = report.command(
        [
            sys.executable,
            "-m",
            "pytest",
            "tests/gpu/test_gpu.py",
            "tests/gpu/test_cuda_graphs.py",
            "tests/gpu/test_depthwise.py",
            "-m",
            "gpu",
            "--tb=short",
            "-rf",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report.folder / 'tests.xml'}",
        ],
        150,
        IM2COLNET_REQUIRE_GPU="1",
    )
    last = (text.strip().splitlines() or [""])[-1]
    report.say(f"    {last}")
    if "No module named pytest" in text:
        return {"left out": "pytest is not installed"}
    assert status == 0, last
    return {"status": status, "output": text[-10000:]}


def certificate(report, least=30):
    """What ``im2colnet check-backend cupy`` checks, one after the other as long as there is time."""
    from im2colnet.testing import check_backend, check_names

    found, wrong, names = {}, {}, check_names()
    for name in names:
        if report.left() < least:
            break
        (result,) = check_backend(backend(), only=[name]).results
        found[name] = {"dtypes": result.dtypes, "seconds": result.seconds}
        if not result.ok:
            wrong[name] = result.error
    report.say(f"    {len(found) - len(wrong)} of {len(found)} checks hold" + f", {len(names) - len(found)} left out")
    assert not wrong, "; ".join(f"{name}: {error}" for name, error in wrong.items())
    return found


def milliseconds(call, repeats=15):
    """Of a call on the device, the median, between events."""
    import cupy as cp

    times = []
    for attempt in range(repeats + 3):
        start, stop = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        if attempt >= 3:
            times.append(cp.cuda.get_elapsed_time(start, stop))
    return median(times)


def convolutions(report, batch=256, repeats=15):
    """Times of the three passes for shapes of ResNets: channels, size, filters, kernel, stride."""
    import numpy as np

    from im2colnet.window import make_window

    found, rng = {}, np.random.default_rng(0)
    for C, H, F, K, stride in ((16, 32, 16, 3, 1), (64, 56, 64, 3, 1), (64, 56, 128, 3, 2), (256, 14, 256, 3, 1)):
        for precision in ("float32", "tf32", "float16"):
            its, dtype = backend().with_precision(precision), "float32" if precision == "tf32" else precision
            window = make_window(K, stride, K // 2)
            OH = window.output_size((H, H))[0]
            x, w, dy = (
                its.asarray(rng.standard_normal(shape, "float32").astype(dtype))
                for shape in ((H, C, H, batch), (F, C, K, K), (OH, F, OH, batch))
            )
            passes = {
                "forward": lambda: its.conv2d(x, w, None, window),  # noqa: B023 - called here
                "input": lambda: its.conv2d_input_grad(dy, w, (H, H), window),  # noqa: B023
                "weight": lambda: its.conv2d_weight_grad(x, dy, window),  # noqa: B023
            }
            name, flops = f"{C}-{F}-k{K}-s{stride}-{H} {precision}", 2 * C * K * K * F * OH * OH * batch
            found[name] = {what: milliseconds(call, repeats) for what, call in passes.items()}
            times = ", ".join(f"{what} {t:.3f} ms ({flops / t / 1e9:.0f} TFLOP/s)" for what, t in found[name].items())
            report.say(f"    {name:27}{times}")
    return found


def a_step(model, precision, batch):
    """A call that trains a step of a model of the command line, on images of the device."""
    import numpy as np

    import im2colnet as ic

    rng, channels, size = np.random.default_rng(0), *((1, 28) if model == "lenet5" else (3, 32))
    net = ic.models.make(model, 10, channels, size).init(0, backend=backend())
    trainer = ic.Trainer(net, optimizer=ic.SGD(0.01, 0.9), precision=precision)
    images = backend().asarray(rng.integers(0, 256, (batch, channels, size, size), dtype="uint8"))
    labels = rng.integers(0, 10, batch)
    return lambda: trainer.step(images, labels)


def steps(report, batch=256, repeats=20):
    """Times of training steps: as a CUDA graph, and with each kernel started by the host."""
    found = {}
    for model in ("lenet5", "resnet20", "mobilenet"):
        for precision in ("float32", "tf32", "float16"):
            name = f"{model} {precision}"
            for how, graphs in (("graph", "1"), ("started", "0")):
                os.environ["IM2COLNET_CUDA_GRAPHS"] = graphs
                step, times = a_step(model, precision, batch), []
                for attempt in range(repeats + 5):
                    backend().synchronize()
                    began = time.perf_counter()
                    step()
                    backend().synchronize()
                    if attempt >= 5:
                        times.append((time.perf_counter() - began) * 1e3)
                found.setdefault(name, {})[how] = median(times)
            report.say(
                f"    {name:20}{found[name]['graph']:8.2f} ms a step of {batch} as a graph,"
                f" {found[name]['started']:8.2f} ms with each kernel started"
            )
    os.environ.pop("IM2COLNET_CUDA_GRAPHS")
    return found


def graphs(report):
    """Whether a step becomes a CUDA graph; if not, the error says why."""
    import im2colnet_cupy

    record, made = im2colnet_cupy.recorded, []
    os.environ["IM2COLNET_CUDA_GRAPHS"] = "1"
    im2colnet_cupy.recorded = lambda work: made.append(im2colnet_cupy.graphs.captured(work)) or made[-1]
    try:
        for model in ("lenet5", "resnet20", "mobilenet"):
            for precision in ("float32", "float16"):
                step = a_step(model, precision, 32)
                for _ in range(5):
                    step()
    finally:
        im2colnet_cupy.recorded = record
        os.environ.pop("IM2COLNET_CUDA_GRAPHS")
    assert len(made) == 6, made
    return {"made": len(made)}


def kernels(report, batch=256, repeats=4):
    """What the device does in a step, and how long, as PyTorch's profiler sees it, where PyTorch is installed."""
    try:
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        return {"left out": "PyTorch is not installed"}
    found = {}
    os.environ["IM2COLNET_CUDA_GRAPHS"] = "0"
    for model, precision in (("resnet20", "float32"), ("resnet20", "tf32"), ("mobilenet", "tf32"), ("lenet5", "tf32")):
        step = a_step(model, precision, batch)
        for _ in range(3):
            step()
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for _ in range(repeats):
                step()
            backend().synchronize()
        times = {e.key[:60]: (e.self_device_time_total / repeats, e.count / repeats) for e in seen.key_averages()}
        ordered = dict(sorted(times.items(), key=lambda item: -item[1][0]))
        total, number = (sum(row[k] for row in ordered.values()) for k in range(2))
        found[f"{model} {precision}"] = ordered
        report.say(f"    {model} {precision}: {total / 1e3:.2f} ms in {number:.0f} pieces of work")
        for key, (t, n) in [*ordered.items()][:9]:
            report.say(f"        {t:7.0f} µs in {n:5.1f}  {key}")
    os.environ.pop("IM2COLNET_CUDA_GRAPHS")
    return found


def launches(report):
    """What starting a piece of work costs the host, in microseconds."""
    import numpy as np

    its, found = backend(), {}
    a = its.asarray(np.ones((64, 64), "float32"))
    out = its.empty((64, 64), "float32")
    for name, call in {
        "kernel": lambda: its.activation_grad(a, a, "relu", out=out),
        "product": lambda: its.matmul(a, a, out=out),
        "ufunc": lambda: its.xp.add(a, a, out=out),
        "empty": lambda: its.empty((64,), "float32"),
    }.items():
        for _ in range(20):
            call()
        its.synchronize()
        began = time.perf_counter()
        for _ in range(500):
            call()
        found[name] = (time.perf_counter() - began) / 500 * 1e6
        its.synchronize()
    report.say("    " + ", ".join(f"{name} {t:.1f} µs" for name, t in found.items()))
    return found


def digits(report, models=("notebook", "resnet20"), epochs=4):
    """Training by the command line."""
    found = {}
    for model in models:
        for precision in ("float32", "float16"):
            status, text = report.command(
                [
                    sys.executable,
                    "-m",
                    "im2colnet",
                    "train",
                    "--backend",
                    "cupy",
                    "--model",
                    model,
                    "--epochs",
                    str(epochs),
                    "--precision",
                    precision,
                    "--out",
                    str(report.folder / f"{model}-{precision}"),
                    "--json",
                ],
                45,
            )
            assert status == 0, text[-500:]
            found[f"{model} {precision}"] = json.loads(text[text.index("{") :])["test"]["accuracy"]
    report.say("    right of the test images: " + ", ".join(f"{k} {v:.1%}" for k, v in found.items()))
    return found


def compare(report, graphs="0"):
    """PyTorch on the same GPU, where it is installed."""
    status, text = report.command(
        [
            sys.executable,
            "-m",
            "benchmarks.compare",
            "--backend",
            "cupy",
            "--nets",
            "lenet5",
            "resnet20",
            "--parts",
            "training",
            "inference",
            "--json",
            str(report.folder / ("compare-graphs.json" if graphs == "1" else "compare.json")),
        ],
        90,
        IM2COLNET_BENCH_QUICK="1",
        IM2COLNET_CUDA_GRAPHS=graphs,
    )
    for line in text.strip().splitlines()[-24:]:
        report.say(f"    {line}".rstrip())
    return {"status": status, "output": text[-5000:]}


CHECKED = """
import im2colnet as ic
from im2colnet.reports import doctor
from test_gpu import batch, small
backend = ic.get_backend("cupy")
print(max(error for _, error in doctor.errors(backend)))
for precision in (None, "float16"):
    print(ic.Trainer(small(backend), precision=precision).step(*batch()))
backend.synchronize()
"""


def sanitizer(report):
    """NVIDIA's checks of memory and of races, where CUDA's toolkit is installed."""
    found = {}
    for tool in ("memcheck", "racecheck"):
        found[tool], text = report.command(
            ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", CHECKED], 60
        )
        report.say(f"    {tool}: {'clean' if found[tool] == 0 else found[tool]}")
        assert found[tool] in (0, "not there", "no time"), text[-500:]
    return found


def smoke(report):
    """Start, be right, train: what a user wants to know first."""
    report.run("environment", environment, 5)
    report.run("errors", lambda r: errors(r, ("float32", "float16")), 5)
    report.run("training follows the CPU", follows, 5)
    report.run("digits", lambda r: digits(r, ("notebook",), 1), 15)


def everything(report, only):
    for name, section, least in (
        ("environment", environment, 5),
        ("tests", tests, 60),
        ("errors", errors, 15),
        ("training follows the CPU", follows, 10),
        ("graphs", graphs, 10),
        ("certificate", certificate, 60),
        ("training steps", steps, 40),
        ("convolutions", convolutions, 40),
        ("launches", launches, 5),
        ("kernels of a step", kernels, 20),
        ("digits", digits, 30),
        ("PyTorch beside graphs", lambda r: compare(r, "1"), 40),
        ("PyTorch beside it", compare, 40),
        ("compute-sanitizer", sanitizer, 30),
    ):
        if not only or name in only:
            report.run(name, section, least)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--can-start", action="store_true", help="say why not, and end with 1, if it cannot")
    parser.add_argument("--only", nargs="*", metavar="SECTION", help="leave all others out")
    parser.add_argument("--out", default="gpu-results")
    options = parser.parse_args(arguments)
    if options.can_start:
        try:
            backend()
        except Exception as error:  # whatever it is, no traceback is the answer
            print(error if type(error).__module__.startswith("im2colnet") else f"{type(error).__name__}: {error}")
            return 1
        return 0
    report = Report(options.out, SECONDS["smoke" if options.smoke else "all"])
    smoke(report) if options.smoke else everything(report, options.only)
    report.say(f"FAILED: {', '.join(report.failed)}" if report.failed else "All that has to hold holds.")
    (report.folder / "summary.txt").write_text("\n".join([*report.lines, ""]))
    return int(bool(report.failed))


if __name__ == "__main__":
    sys.exit(main())

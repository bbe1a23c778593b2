"""Run ONNX's own cases, and write what passes: ``python docs/conformance.py`` writes ``docs/conformance.md``.

The cases come with the package ``onnx``: those of single operators (node), and networks and operators that PyTorch has
exported (pytorch-converted, pytorch-operator). Each has a model, its inputs, and the outputs that it must give.
"""

import re
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import im2colnet as ic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/conformance.md"
#: the largest difference that passes, in parts of the largest output
TOLERANCE = 1e-5
#: the same for what a case computes in 16 bits, or has rounded
LOW_TOLERANCE = 5e-3

CORE = """
Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool MaxUnpool Col2Im BatchNormalization
LayerNormalization GroupNormalization InstanceNormalization RMSNormalization LRN Gemm Flatten Dropout Pad Clip Relu Celu
Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Selu Sigmoid Softplus Softsign Swish Tanh ThresholdedRelu Softmax
LogSoftmax NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss Momentum Adam Adagrad
""".split()
AROUND = """
Abs Add Ceil Concat DepthToSpace Div Erf Exp Expand Gather Hardmax Identity Log MatMul Max Mean
MeanVarianceNormalization Min Mul Neg Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape Resize Sin Cos Slice SpaceToDepth Split Sqrt Squeeze Sub Sum
Transpose Unsqueeze Upsample
""".split()
#: operators that the networks of files have besides
BETWEEN = {"Cast", "Constant", "Shape"}
#: operators that are no part of a network: the library's losses and optimizers do their work
TRAINING = {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", "Momentum", "Adam", "Adagrad"}
#: cases whose outputs the library defines otherwise, and how
DIFFERS = {
    "test_batchnorm_example_training_mode": "the running variance is divided by n - 1, as in PyTorch",
    "test_batchnorm_epsilon_training_mode": "the running variance is divided by n - 1, as in PyTorch",
    "test_training_dropout": "the library draws other random numbers",
    "test_training_dropout_default": "the library draws other random numbers",
}
#: cases whose outputs are rounded to four digits
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}
KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")


@dataclass(frozen=True)
class Case:
    """A model, a batch of inputs, and the outputs that belong to it."""

    kind: str
    name: str
    operator: str
    model: onnx.ModelProto
    inputs: tuple
    outputs: tuple


@dataclass(frozen=True)
class Result:
    """What came of a case: "pass", "differs" or "missing", and why."""

    kind: str
    name: str
    operator: str
    state: str
    reason: str = ""


# ---------------------------------------------------------------------- the cases


def cases(kinds=KINDS):
    """Yield the cases of these kinds whose operators are of convolutional networks, by operator and name."""
    found = []
    for kind in kinds:
        found += [case for case in (_of_nodes() if kind == "node" else _of_files(kind)) if case is not None]
    return sorted(found, key=lambda case: (KINDS.index(case.kind), case.operator, case.name))


def _of_nodes():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    for case in collected:
        first = case.model.graph.node[0].op_type if case.model.graph.node else ""
        if first in {*CORE, *AROUND} and "_expanded" not in case.name and len(case.model.graph.node) == 1:
            inputs, outputs = case.data_sets[0]
            yield Case("node", case.name, first, case.model, tuple(inputs), tuple(outputs))


def _of_files(kind):
    from onnx.backend.test.loader import load_model_tests

    for case in load_model_tests(kind=kind):
        if case.model_dir is None:
            continue
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        operators = [node.op_type for node in model.graph.node]
        main = next((op for op in operators if op in CORE), operators[0] if operators else "")
        if main not in {*CORE, *AROUND} or not {*operators} <= {*CORE, *AROUND, *BETWEEN}:
            continue
        data = folder / "test_data_set_0"
        inputs, outputs = (
            tuple(_array(path) for path in sorted(data.glob(f"{what}_*.pb"), key=lambda p: int(p.stem.split("_")[1])))
            for what in ("input", "output")
        )
        yield Case(kind, case.name, main, model, inputs, outputs)


def _array(path):
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


# ---------------------------------------------------------------------- running them


def run(case):
    """Run a case as a network; return its :class:`Result`."""

    def result(state, reason=""):
        return Result(case.kind, case.name, case.operator, state, reason)

    if case.operator in TRAINING:
        return result("missing", "it is not a network: see the losses and optimizers of the library")
    first = next(iter(case.inputs), None)
    if not isinstance(first, np.ndarray) or first.ndim == 0:
        return result("missing", "it has no input array with a batch")
    if not np.issubdtype(first.dtype, np.floating) and first.dtype.name != "bfloat16":
        return result("missing", "its numbers are integers, and a network computes with floating-point numbers")
    reasons = []
    for adapt in (_others_constant, _axis_added, _joined):
        adapted = adapt(case)
        if adapted is None:
            continue
        model, x = adapted
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                net = ic.onnx.load(model, input_shape=x.shape[1:])
                found = net.predict(np.ascontiguousarray(x, "float32"))
        except ic.Im2colnetError as error:
            reasons.append(_short(error))
            continue
        found = found if isinstance(found, tuple) else (found,)
        low = case.name in ROUNDED or any(array.dtype.itemsize == 2 for array in (*case.inputs, *case.outputs))
        tolerance = LOW_TOLERANCE if low else TOLERANCE
        pairs = zip(found, case.outputs, strict=False)
        if len(found) == len(case.outputs) and all(_agree(*pair, tolerance) for pair in pairs):
            return result("pass")
        return result("differs", DIFFERS[case.name]) if case.name in DIFFERS else result("wrong", "another output")
    if case.name in DIFFERS:
        return result("differs", DIFFERS[case.name])
    return result("missing", reasons[0] if reasons else "it has no input with a batch")


def _agree(found, expected, tolerance=TOLERANCE):
    found, expected = np.asarray(found, "float64").reshape(-1), np.asarray(expected, "float64").reshape(-1)
    if found.shape != expected.shape:
        return False
    finite = np.isfinite(expected)
    if not np.isfinite(found[finite]).all():
        return False
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True):
        return False
    largest = max(1.0, np.abs(expected[finite]).max(initial=0))
    return bool(np.abs(found[finite] - expected[finite]).max(initial=0) <= tolerance * largest)


def _model(case, keep, constants, nodes=(), inputs=None):
    """Return the case's model with other inputs: ``keep`` of its own, ``constants`` as initializers."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    given = [i for i in graph.input if i.name in keep] if inputs is None else inputs
    del graph.input[:]
    graph.input.extend(given)
    graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())
    body = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(body)
    return model


def _names(case):
    known = {tensor.name for tensor in case.model.graph.initializer}
    names = [i.name for i in case.model.graph.input if i.name not in known]
    return names[: len(case.inputs)]


def _others_constant(case):
    """The first input is the batch, the others are constants: weights, shapes, and arrays of numbers."""
    first, *others = _names(case)
    if case.inputs[0].ndim < 2:
        return None
    constants = dict(zip(others, case.inputs[1:], strict=True))
    return _model(case, {first}, constants), case.inputs[0]


def _axis_added(case):
    """A vector is a batch of samples with one number."""
    if case.inputs[0].ndim != 1 or len(_names(case)) > 3:
        return None
    first, *others = _names(case)
    size = len(case.inputs[0])
    if any(np.ndim(array) and np.shape(array) != (1,) for array in case.inputs[1:]):
        return None
    constants = dict(zip(others, case.inputs[1:], strict=True))
    value = helper.make_tensor_value_info(first, TensorProto.FLOAT, ["N", 1])
    return _model(case, {first}, constants, inputs=[value]), case.inputs[0].reshape(size, 1)


def _joined(case):
    """Several inputs with the same batch are parts of one: (N, all numbers of a sample)."""
    names, arrays = _names(case), case.inputs
    if len(arrays) < 2 or any(a.ndim < 1 or len(a) != len(arrays[0]) or a.dtype != arrays[0].dtype for a in arrays):
        return None
    if arrays[0].ndim == 1 and case.model.graph.node[0].attribute:  # an axis would be another one
        return None
    flat = [np.ascontiguousarray(a).reshape(len(a), -1) for a in arrays]
    stops = np.cumsum([a.shape[1] for a in flat])
    nodes, constants, opset = [], {}, case.model.opset_import[0].version
    for name, array, stop, part in zip(names, arrays, stops, flat, strict=True):
        one = f"{name}_part"
        numbers = {"starts": [int(stop) - part.shape[1]], "ends": [int(stop)], "axes": [1]}
        if opset >= 10:
            constants |= {f"{one}_{key}": np.array(value, "int64") for key, value in numbers.items()}
            nodes.append(helper.make_node("Slice", ["joined", *(f"{one}_{key}" for key in numbers)], [one]))
        else:
            nodes.append(helper.make_node("Slice", ["joined"], [one], **numbers))
        constants[f"{one}_shape"] = np.array([0, *(array.shape[1:] or [1])], "int64")
        nodes.append(helper.make_node("Reshape", [one, f"{one}_shape"], [name]))
    value = helper.make_tensor_value_info("joined", TensorProto.FLOAT, ["N", int(stops[-1])])
    return _model(case, set(), constants, nodes, [value]), np.concatenate(flat, 1)


def _short(error):
    """Return the reason of an error in one line, without the names of nodes."""
    text = " ".join(str(error).split())
    if "has an operator that im2colnet lacks" in text:
        return "the operator is not supported"
    text = re.sub(r"^.*?: ", "", text, count=1) if "node" in text.split(":")[0] else text
    return text[:200]


# ---------------------------------------------------------------------- the page


def results(kinds=KINDS):
    """Run all cases of these kinds."""
    return [run(case) for case in cases(kinds)]


def text(found):
    """Return the page."""
    lines = [
        "# ONNX's own test cases",
        "",
        "This page is written by [`docs/conformance.py`](conformance.py), which runs the test cases of the package",
        f"`onnx` {onnx.__version__}: each has a model, inputs, and the expected outputs. A case passes if",
        "`ic.onnx.load(model)` makes a network whose outputs differ from the expected ones by at most 10⁻⁵ of the largest",
        "output. The first input is the batch of images, and the other inputs are constants; inputs that have the same batch",
        "are joined to one. The operators are those of convolutional networks, in one and two dimensions. A test fails if a",
        "case no longer passes.",
        "",
    ]
    for kind in KINDS:
        mine = [result for result in found if result.kind == kind]
        groups = [("", mine)]
        if kind == "node":
            groups = [
                (": operators of convolutional networks", [r for r in mine if r.operator in CORE]),
                (": other operators", [r for r in mine if r.operator not in CORE]),
            ]
        for title, some in groups:
            if some:
                lines += _section(f"{kind}{title}", some)
    return "\n".join(lines)


def _section(title, found):
    counts, by_operator = Counter(result.state for result in found), defaultdict(list)
    for result in found:
        by_operator[result.operator].append(result)
    lines = [
        f"## {title}",
        "",
        f"{len(found)} cases: {counts['pass']} pass, {counts['differs']} differ by definition,"
        f" {counts['missing']} are not supported.",
        "",
        ":::{table}",
        ":class: dense",  # in small print all columns fit
        "",
        "| operator | cases | pass | differ | not supported | reason |",
        "|---|---|---|---|---|---|",
    ]
    for operator, mine in by_operator.items():
        states = Counter(result.state for result in mine)
        why = Counter(result.reason for result in mine if result.reason)
        reasons = "; ".join(f"{reason} ({n})" if n > 1 else reason for reason, n in why.most_common())
        numbers = (str(states[state] or "") for state in ("pass", "differs", "missing"))
        lines.append(f"| {operator} | {len(mine)} | {' | '.join(numbers)} | {reasons.replace('|', chr(92) + '|')} |")
    passed = ", ".join(f"`{result.name.removeprefix('test_')}`" for result in found if result.state == "pass")
    others = [f"- `{r.name.removeprefix('test_')}`: {r.reason}" for r in found if r.state != "pass"]
    lines += [":::", "", f"<details><summary>Each case of {title}</summary>", "", f"These pass: {passed}.", ""]
    return [*lines, *(["These do not pass:", "", *others, ""] if others else []), "</details>", ""]


def passing(page):
    """Return the names of the cases that pass by a page, by kind."""
    found = {}
    for section in page.split("\n## ")[1:]:
        kind = section.split("\n")[0].split(":")[0]
        line = next((line for line in section.split("\n") if line.startswith("These pass: ")), "")
        found.setdefault(kind, set()).update(f"test_{name}" for name in re.findall(r"`(\w+)`", line))
    return found


if __name__ == "__main__":
    page = text(results())
    PAGE.write_text(page, encoding="utf-8")
    print("\n".join(line for line in page.split("\n") if " pass, " in line))

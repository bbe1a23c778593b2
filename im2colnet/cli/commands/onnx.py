"""``im2colnet onnx``: look at an ONNX file, list the operators that are known, or write a network as an ONNX file."""

from __future__ import annotations

import argparse
import os
import re
import textwrap
from typing import Any

from im2colnet import onnx
from im2colnet.cli.arguments import MAX_INTEGER, Commands, UsageError, add_command, add_machine, file_ending, positive
from im2colnet.cli.report import Report
from im2colnet.cli.run_folder import checkpoint_of
from im2colnet.onnx.fold import ELEMENTWISE, OTHERS, REDUCTIONS
from im2colnet.text import amount, count, printable, shape_text, shortened, size_text, table
from im2colnet.training.trainer import Trainer

ORDER = 55
#: arguments that say what to do with a file
OPTIONS = {"file", "input_shape", "batch_size", "max_bytes", "out", "opset", "backend", "threads"}


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "onnx",
        run,
        "look at an ONNX file: its operators, the unsupported operators, the network's cost; or write an ONNX file",
        """
        im2colnet onnx resnet18.onnx
        im2colnet onnx detector.onnx --input-shape 3,480,640 --batch-size 8
        im2colnet onnx --operators
        im2colnet onnx runs/digits-resnet20-1 --out resnet20.onnx
        """,
        "[FILE]",
        more="\n\nthe exit code is 1 if the file needs anything that is missing here: the report lists all of it",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="the ONNX file; with --out a checkpoint or a run folder"
    )
    parser.add_argument("--operators", action="store_true", help="list the supported operators, and their limits")
    parser.add_argument(
        "--input-shape",
        type=sample_shape,
        metavar="C,H,W",
        help="the shape of an image or other sample, with the channels first, if the file does not give it",
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="the batch size to count for (default: 1)")
    parser.add_argument(
        "--max-bytes",
        type=positive,
        metavar="BYTES",
        help="the largest size in bytes of the file, of its tensors, and of each array of the network (default: 2 GiB)",
    )
    parser.add_argument(
        "--out", type=file_ending(".onnx"), metavar="FILE", help="write the network of a checkpoint as this ONNX file"
    )
    parser.add_argument(
        "--opset", type=positive, metavar="N", help="the version of ONNX's operators that --out writes (default: 22)"
    )
    add_machine(parser)


def sample_shape(value: str) -> tuple[int, ...]:
    """Read the shape of a sample: features; channels and length; or channels, height and width."""
    sizes = value.split(",")
    if len(sizes) > 3 or not all(re.fullmatch(r"\s*[0-9]{1,10}\s*", n) and 0 < int(n) <= MAX_INTEGER for n in sizes):
        raise argparse.ArgumentTypeError(f"must be sizes such as 3,224,224, got {value!r}")
    return tuple(map(int, sizes))


def run(args: argparse.Namespace) -> Report:
    """Look at a file, list the operators, or write a file."""
    given = {name for name, value in vars(args).items() if name in OPTIONS and value is not None}
    if args.operators:
        if given:
            raise UsageError("--operators can only be combined with --json")
        return Report(_operators(), operators_text)
    if not args.file:
        raise UsageError("give an ONNX file, or --operators for the list of the supported operators")
    if args.out:
        if given & {"batch_size", "max_bytes"}:
            raise UsageError("--batch-size and --max-bytes are for looking at a file: leave them out with --out")
        return Report(_write(args), written_text)
    if args.opset:
        raise UsageError("--opset is for writing a file: give --out too")
    if os.path.isdir(args.file) or args.file.endswith(".safetensors"):
        raise UsageError("to write a checkpoint as an ONNX file, give its name too: --out network.onnx")
    limit = {"max_bytes": args.max_bytes} if args.max_bytes else {}
    facts = onnx.inspect(args.file, args.input_shape, batch_size=args.batch_size or 1, **limit)
    error = "\n".join(facts["missing"])
    if "input_shape=(" in error:
        error += "; on the command line by --input-shape, such as --input-shape 3,224,224"
    return Report(facts, describe, error=error)


# A file is written ---------------------------------------------------------------------------------------------------
def _write(args: argparse.Namespace) -> dict[str, Any]:
    checkpoint = checkpoint_of(args.file)
    net = Trainer.load(checkpoint).net
    more = {"opset": args.opset} if args.opset else {}
    onnx.save(net, args.out, args.input_shape, **more)
    return {
        "onnx": args.out,
        "checkpoint": checkpoint,
        "input_shape": list(net.check_shape(args.input_shape)),
        "parameters": net.graph.size,
        "bytes": os.path.getsize(args.out),
    }


def written_text(facts: dict[str, Any], width: int | None) -> str:
    """Return what was written."""
    return (
        f"{facts['onnx']}: the network of {facts['checkpoint']}, {count(facts['parameters'], 'parameter')},"
        f" {amount(facts['bytes'], 1024)}B, for batches of {size_text(facts['input_shape'])}"
    )


# The operators that are known ----------------------------------------------------------------------------------------
def _operators() -> dict[str, Any]:
    rows = [
        {"operator": row.operator, "opset": row.opsets[0], "layer": row.layer, "limits": row.limits}
        for row in onnx.supported()
    ]
    return {"operators": rows, "of_constants": sorted({"If", *ELEMENTWISE, *REDUCTIONS, *OTHERS})}


def operators_text(facts: dict[str, Any], width: int | None) -> str:
    """Return the supported operators as a table."""
    lines = [f"{'operator':22}{'from opset':>11}  becomes"]
    for row in facts["operators"]:
        what = f"{row['layer']} ({row['limits']})" if row["limits"] else row["layer"]
        line = f"{row['operator']:22}{row['opset']:11}  {what}"
        lines += textwrap.wrap(line, width, subsequent_indent=" " * 35, break_on_hyphens=False) if width else [line]
    lines.insert(1, "─" * max(map(len, lines)))
    more = "Computed when the file is read, if their inputs are constants or shapes: "
    return "\n".join([*lines, "", _filled(more + ", ".join(facts["of_constants"]), width)])


# What is in a file ---------------------------------------------------------------------------------------------------
def describe(facts: dict[str, Any], width: int | None) -> str:
    """Return the contents of a file in words, and its operators that are missing here."""
    by = f" by {facts['producer']}" if facts["producer"] else ""
    head = f"{facts['model']}: opset {facts['opset']}{by}, {amount(facts['bytes'], 1024)}B of constants"
    parts = [printable(head), *_ports("input", facts["inputs"]), *_ports("output", facts["outputs"])]
    cells = [("operator", "nodes", "becomes")]
    cells += [(shortened(row["operator"], 60), f"{row['nodes']:,}", _becomes(row)) for row in facts["operators"]]
    parts += ["", table(cells, (1,), width=width)]
    if "parameters" in facts:
        memory = facts["memory"]
        parts += [
            "",
            f"{count(facts['layers'], 'layer')}, {count(facts['parameters'], 'parameter')},"
            f" {amount(facts['flops'], 1000)}FLOP for a sample of {shape_text(facts['input_shape'])}",
            f"memory for a batch of {memory['batch_size']:,}: {amount(memory['inference'], 1024)}B in inference,"
            f" {amount(memory['training'], 1024)}B in training",
        ]
    parts += [""] * bool(facts["notes"]) + [_filled(f"note: {note}", width) for note in facts["notes"]]
    return "\n".join(parts)


def _ports(kind: str, rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each input or output."""
    lines = []
    for row in rows[:10]:
        dims = ["?" if n is None else printable(shortened(str(n), 20)) for n in row["shape"] or ()]
        shape = f"  ({', '.join(dims)})" if row["shape"] else ""
        lines.append(f"{kind:6}  {printable(shortened(row['name'], 40))}{shape}  {row.get('type', '')}".rstrip())
    return lines + [f"and {len(rows) - 10:,} more"] * (len(rows) > 10)


def _becomes(row: dict[str, Any]) -> str:
    """Return what an operator becomes, in words."""
    if row["missing"]:
        return "missing"
    words = row["layer"] or "computed when the file is read"
    return f"{words}; {row['refused']:,} of them cannot be read" if row["refused"] else words


def _filled(text: str, width: int | None) -> str:
    """Return a text in lines for a terminal."""
    lines = printable(text)
    return textwrap.fill(lines, width, subsequent_indent="  ", break_on_hyphens=False) if width else lines

"""The report of a training: one HTML page with the results, the network, and how to repeat the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from im2colnet.datasets.dataset import Dataset
from im2colnet.errors import install
from im2colnet.reports.evaluation import class_rows, evaluation, mistake_pictures, mistake_text
from im2colnet.reports.memory import PURPOSES, plan
from im2colnet.reports.profile import profile
from im2colnet.show import html
from im2colnet.show.display import VALIDATION, form, quantities
from im2colnet.text import amount, class_names, count, duration, shape_text, size_text
from im2colnet.training.checkpoint import describe
from im2colnet.training.trainer import Trainer

MOST_CLASSES = 60  #: classes up to which the page has the whole confusion matrix
MOST_PAIRS = 30  #: classes that are often mistaken for each other, in place of a larger matrix


def report(
    trainer: Trainer,
    held_out: Dataset | None,
    outputs: Any,
    batch_size: int,
    history: Sequence[Mapping[str, float]],
    about: Mapping[str, Any],
    steps: int,
) -> dict[str, Any]:
    """Return the facts of a training.

    Parameters
    ----------
    trainer : Trainer
        The trainer. It is not changed.
    held_out : Dataset, optional
        The data on which the network is evaluated.
    outputs : array, optional
        The network's outputs for these data.
    batch_size : int
        The batch size for the times of the layers and the memory plan.
    history : History
        The records of all epochs, also of epochs after the checkpoint.
    about : dict
        Further facts about the run, which the checkpoint does not contain.
    steps : int
        The number of training steps that are timed.

    Returns
    -------
    dict
        ``about``; ``history``, the records of the epochs; ``evaluation``, see
        :func:`im2colnet.reports.evaluation.evaluation`, None without data; ``network``, with the time and the memory of
        each of its ``layers``; ``memory``, see :func:`im2colnet.reports.memory.plan`; ``training``, its settings.
    """
    net = trainer.net
    shape = net.check_shape(None)
    measured = None
    if held_out is not None:
        measured = {"data": held_out.name, "images": len(held_out), **evaluation(trainer.loss, held_out, outputs)}
    network = net.summary_facts(shape, batch_size)
    timed = profile(net, shape, batch_size, trainer.optimizer, steps, trainer.loss)
    for layer, times in zip(network["layers"], timed["layers"], strict=True):
        layer |= {name: times[name]["seconds"] for name in ("forward", "backward")}
        layer["algorithm"] = times["algorithm"]
    return {
        "about": dict(about),
        "history": list(history),
        "evaluation": measured,
        "network": network | {"seconds": timed["seconds"]},
        "memory": plan(net, shape, batch_size, trainer.optimizer),
        "training": {
            "epochs": trainer.epoch,
            "steps": trainer.steps,
            "batch_size": batch_size,
            "optimizer": describe(trainer.optimizer),
            "loss": describe(trainer.loss),
            "seed": trainer.seed,
            "precision": net.precision,
            "backend": net.backend.name,
            "classes": list(held_out.classes) if held_out is not None else [],
        },
    }


# ---------------------------------------------------------------------- the page


def report_page(title: str, facts: Mapping[str, Any], trainer: Trainer, held_out: Dataset | None) -> str:
    """Return the page for the result of :func:`report`."""
    parts = [*_head(facts), *_curves(facts["history"])]
    if held_out is not None:
        parts += _results(facts, held_out, trainer)
    parts += [*_layers(facts), *_how(facts, trainer)]
    return html.page(title, parts)


def _head(facts: Mapping[str, Any]) -> list[str]:
    measured, history, about = facts["evaluation"], facts["history"], facts["about"]
    values: dict[str, object] = {}
    if measured:
        names = [name for name, value in measured.items() if isinstance(value, float)]
        values = {f"test {name.replace('_', ' ')}": f"{measured[name]:{form(name)}}" for name in names}
    values["epochs"] = facts["training"]["epochs"]
    if history:
        values["training time"] = duration(sum(record["seconds"] for record in history))
    values["parameters"] = f"{facts['network']['parameters']:,}"
    words = f"A report of im2colnet on {about['model']}, trained on {about['data']}." if about.get("model") else ""
    notes = [html.paragraph(note, "note") for note in about["notes"]]
    return [html.paragraph(words or "A report of im2colnet.", "soft"), html.cards(values), *notes]


def _curves(history: Sequence[Mapping[str, float]]) -> list[str]:
    if not history:
        return [html.heading("Training"), html.paragraph("There is no finished epoch.")]
    try:
        from im2colnet.show.plots import curves_svg

        drawn = html.drawings(curves_svg(history))
    except ImportError:
        drawn = html.paragraph(f"Curves are drawn here if Matplotlib is installed: {install('viz')}", "soft")
    keys = [
        key
        for name in quantities(history)
        for key in (name, VALIDATION + name)
        if any(key in record for record in history)
    ]
    rows: list[list[str]] = [["epoch", *(key.replace("_", " ") for key in keys), "learning rate", "time"]]
    for record in history:
        cells = [f"{record[key]:{form(key)}}" if key in record else "" for key in keys]
        rows.append([str(record["epoch"]), *cells, f"{record['lr']:.3g}", duration(record["seconds"])])
    return [html.heading("Training"), drawn, html.folded("All epochs", html.table(rows, range(len(rows[0]))))]


def _results(facts: Mapping[str, Any], held_out: Dataset, trainer: Trainer) -> list[str]:
    measured = facts["evaluation"]
    if not measured["classes"]:
        return []
    matrix = measured["confusion_matrix"]
    names = class_names(held_out.classes, len(matrix))
    parts = [
        html.heading("Classes"),
        html.paragraph(f"{count(measured['images'], 'image')} of {measured['data']} that were not trained on.", "soft"),
        html.table(class_rows(measured, 1), range(1, 6), last=True),
        html.heading("Confusion matrix"),
        _matrix(matrix, names) if len(names) <= MOST_CLASSES else _pairs(matrix, names),
        html.heading("The worst mistakes"),
    ]
    mistakes = measured["mistakes"]
    if not mistakes:
        return [*parts, html.paragraph("There are no mistakes.")]
    texts = [mistake_text(mistake) for mistake in mistakes]
    if pictures := mistake_pictures(mistakes, held_out, trainer.net):
        return [*parts, html.gallery(pictures, texts)]
    return [*parts, html.table([["image", "prediction", "true class"], *(words.split("\n") for words in texts)])]


def _matrix(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    words = html.paragraph("A row for each true class, a column for each predicted class.", "soft")
    return words + html.matrix(matrix, names)


def _pairs(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return a table of the classes that are most often mistaken for each other."""
    wrong = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
    most = sorted(wrong, key=lambda pair: -pair[0])[:MOST_PAIRS]
    rows = [["class", "predicted as", "images"], *([names[i], names[j], f"{n:,}"] for n, i, j in most)]
    words = html.paragraph("The classes that are most often mistaken for each other.", "soft")
    return words + html.table(rows, (2,))


def _layers(facts: Mapping[str, Any]) -> list[str]:
    network, memory, batch = facts["network"], facts["memory"], facts["training"]["batch_size"]
    rows: list[list[str]] = [
        ["layer", "", "output", "forward", "backward", "memory", "parameters", "FLOPs", "algorithm"]
    ]
    for layer in network["layers"]:
        times = (f"{1e3 * layer[name]:.2f} ms" if layer[name] else "" for name in ("forward", "backward"))
        rows.append(
            [
                layer["name"],
                layer["layer"],
                shape_text(layer["output_shape"]),
                *times,
                amount(layer["bytes"], 1024) + "B",
                f"{layer['parameters']:,}",
                amount(layer["flops"], 1000),
                layer["algorithm"],
            ]
        )
    times = (f"{1e3 * sum(layer[name] for layer in network['layers']):.2f} ms" for name in ("forward", "backward"))
    sums = amount(network["bytes"], 1024) + "B", f"{network['parameters']:,}", amount(network["flops"], 1000)
    rows.append(["total", "", "", *times, *sums, ""])
    kinds = memory["training"], memory["inference"]
    needed: list[list[str]] = [["memory", "training", "inference"]]
    for key in (*(key for key in memory["training"] if key in PURPOSES), "total"):
        needed.append([key, *(amount(kind[key], 1024) + "B" if key in kind else "-" for kind in kinds)])
    step = f"{1e3 * network['seconds']:.1f} ms"
    return [
        html.heading("Layers"),
        html.paragraph(
            f"Shapes of the outputs and their memory, times and FLOPs are those of a batch of {batch}. On one core of"
            f" the machine that made this report, a training step takes {step}.",
            "soft",
        ),
        html.table(rows, range(3, 8), last=True, kind="layers"),
        html.heading("Memory"),
        html.table(needed, (1, 2), last=True),
    ]


def _normalization(given: tuple[Sequence[float], Sequence[float]] | None) -> str | None:
    """Return in words which mean is subtracted from each channel of the images, and the divisor."""
    if given is None:
        return None
    means, deviations = (", ".join(f"{number:.4g}" for number in numbers) for numbers in given)
    return f"minus {means}, divided by {deviations}"


def _how(facts: Mapping[str, Any], trainer: Trainer) -> list[str]:
    about, settings = facts["about"], facts["training"]
    images = trainer.net.inputs
    values = {
        "data": about.get("data"),
        "checksum of the training data": about.get("checksum"),
        "images": images and f"{size_text(images.shape)}, {images}",
        "network": about.get("model"),
        "optimizer": repr(trainer.optimizer),
        "loss": repr(trainer.loss),
        "augmentation": ", ".join(map(repr, trainer.augment)) or None,
        "normalization": _normalization(trainer.net.normalization),
        "batch size": settings["batch_size"],
        "epochs, steps": f"{settings['epochs']:,}, {settings['steps']:,}",
        "seed": settings["seed"],
        "backend": f"{settings['backend']}, {settings['precision']}",
        "checkpoint": about.get("checkpoint"),
        **{f"version of {name}" if name != "system" else name: text for name, text in about["versions"].items()},
    }
    parts = [
        html.heading("What was run"),
        html.pairs({name: value for name, value in values.items() if value is not None}),
    ]
    if about["commands"]:
        parts += [
            html.heading("How to repeat it"),
            html.paragraph("With the same data, versions and seed, these commands give the same network, bit for bit."),
            html.code(about["commands"]),
        ]
    return parts

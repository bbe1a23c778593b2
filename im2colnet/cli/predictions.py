"""The predictions that ``im2colnet predict`` reports for images, and the file formats."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from typing import IO, Any

from im2colnet.cli.networks import output_shape
from im2colnet.errors import ShapeError
from im2colnet.host import np
from im2colnet.losses import Loss
from im2colnet.network import Network
from im2colnet.text import csv_text, no_formula

TOP = 3  #: classes of an image that are reported, the most probable ones


# ---------------------------------------------------------------------- what a network's output means


class Meaning(ABC):
    """The meaning of a network's output; the classes below are the kinds of meanings."""

    columns: list[str]  #: of a CSV file, after the file and the index
    titles: tuple[str, ...]  #: of the table, after the image

    def numbers(self, outputs: np.ndarray) -> np.ndarray:
        """Return the array for ``.npy`` files, (N, ...)."""
        return outputs.astype(np.float32)

    @abstractmethod
    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        """Return the prediction for each image, as a dict."""

    @abstractmethod
    def cells(self, row: dict[str, Any], found: np.ndarray) -> list[Any]:
        """Return an image's cells of a CSV file: 9 digits represent a float32 exactly."""

    def whole(self, row: dict[str, Any], found: np.ndarray) -> dict[str, Any]:
        """Return the entry of a JSON file for an image."""
        return row

    @abstractmethod
    def texts(self, row: dict[str, Any]) -> list[str]:
        """Return an image's cells of the table."""


class Scores(Meaning):
    """The output of a classifier: the probability of each class."""

    titles = ("class", "probability", "then")

    def __init__(self, loss: Loss, names: tuple[str, ...]) -> None:
        self.loss, self.names = loss, names
        self.columns = ["label", "class", "probability", *(f"probability_{name}" for name in names)]

    def numbers(self, outputs: np.ndarray) -> np.ndarray:
        return self.loss.probabilities(outputs).astype(np.float32)

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        best = np.argsort(-numbers, axis=1, kind="stable")[:, :TOP]
        rows = []
        for labels, found in zip(best.tolist(), numbers, strict=True):
            top = [{"class": self.names[i], "label": i, "probability": float(found[i])} for i in labels]
            rows.append({**top[0], "top": top})
        return rows

    def cells(self, row: dict[str, Any], found: np.ndarray) -> list[Any]:
        return [
            row["label"],
            no_formula(row["class"]),
            f"{row['probability']:.9g}",
            *(f"{p:.9g}" for p in found.tolist()),
        ]

    def whole(self, row: dict[str, Any], found: np.ndarray) -> dict[str, Any]:
        return row | {"probabilities": found.tolist()}

    def texts(self, row: dict[str, Any]) -> list[str]:
        others = ", ".join(f"{guess['class']} {guess['probability']:.1%}" for guess in row["top"][1:])
        return [row["class"], f"{row['probability']:.1%}", others]


class Numbers(Meaning):
    """The output of a network that gives a vector of numbers, such as a regression."""

    titles = ("output",)

    def __init__(self, size: int) -> None:
        self.columns = [f"output_{i}" for i in range(size)]

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        return [{"output": found} for found in numbers.tolist()]

    def cells(self, row: dict[str, Any], found: np.ndarray) -> list[Any]:
        return [f"{number:.9g}" for number in found.tolist()]

    def texts(self, row: dict[str, Any]) -> list[str]:
        shown = [f"{number:.4g}" for number in row["output"][:8]]
        return [", ".join(shown) + ", ..." * (len(row["output"]) > len(shown))]


class Regions(Meaning):
    """The output of a segmentation: the class of each pixel, and the fraction of the image for each class."""

    titles = ("classes of the pixels",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.columns = [f"share_{name}" for name in names]

    def numbers(self, outputs: np.ndarray) -> np.ndarray:
        labels: np.ndarray = outputs.argmax(axis=1)
        return labels.astype(np.uint8 if outputs.shape[1] <= 256 else np.uint16)

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        counts = [np.bincount(found.reshape(-1), minlength=len(self.names)) / found.size for found in numbers]
        return [{"shares": dict(zip(self.names, shares.tolist(), strict=True))} for shares in counts]

    def cells(self, row: dict[str, Any], found: np.ndarray) -> list[Any]:
        return [f"{share:.9g}" for share in row["shares"].values()]

    def texts(self, row: dict[str, Any]) -> list[str]:
        largest = sorted(row["shares"].items(), key=lambda share: -share[1])[:5]
        return [", ".join(f"{name} {share:.1%}" for name, share in largest if share)]


class Maps(Meaning):
    """The output of a network that gives images: their smallest number, mean and largest number."""

    titles = ("smallest output", "mean", "largest")

    def __init__(self) -> None:
        self.columns = ["smallest", "mean", "largest"]

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        measured = ((float(f.min()), float(f.mean(dtype=np.float64)), float(f.max())) for f in numbers)
        return [dict(zip(self.columns, values, strict=True)) for values in measured]

    def cells(self, row: dict[str, Any], found: np.ndarray) -> list[Any]:
        return [f"{row[name]:.9g}" for name in self.columns]

    def texts(self, row: dict[str, Any]) -> list[str]:
        return [f"{row[name]:.4g}" for name in self.columns]


def meaning(net: Network, loss: Loss, names: tuple[str, ...]) -> Meaning:
    """Return the meaning of a network's output, which depends on its loss."""
    shape = output_shape(net)
    try:
        loss.probabilities(np.zeros(shape, np.float32))
    except ShapeError:
        return Numbers(shape[1]) if len(shape) == 2 else Maps()
    return Scores(loss, names) if len(shape) == 2 else Regions(names)


# ---------------------------------------------------------------------- files


class Writer(ABC):
    """Writes a file of predictions, batch by batch."""

    def __init__(self, file: IO[bytes], means: Meaning) -> None:
        self.file, self.means = file, means

    @abstractmethod
    def add(self, rows: list[dict[str, Any]], numbers: np.ndarray) -> None:
        """Write the images of a batch."""

    def end(self, facts: dict[str, Any]) -> None:  # noqa: B027 - lines need nothing after the last one
        """Write the end of the file, after the last image."""


class CSV(Writer):
    """A line for each image, below a header: file, index, and the columns for the output.

    A name that a spreadsheet would run as a formula begins with an apostrophe.
    """

    def __init__(self, file: IO[bytes], means: Meaning) -> None:
        super().__init__(file, means)
        self._write([["file", "index", *map(no_formula, means.columns)]])

    def add(self, rows: list[dict[str, Any]], numbers: np.ndarray) -> None:
        lines = []
        for row, found in zip(rows, numbers, strict=True):
            lines.append([no_formula(row["file"]), row["index"], *self.means.cells(row, found)])
        self._write(lines)

    def _write(self, lines: list[list[Any]]) -> None:
        self.file.write(csv_text(lines).encode(errors="surrogateescape"))


class JSONL(Writer):
    """A JSON object for each image, a line each."""

    def add(self, rows: list[dict[str, Any]], numbers: np.ndarray) -> None:
        for row, found in zip(rows, numbers, strict=True):
            self.file.write((json.dumps(self.means.whole(row, found)) + "\n").encode())


class JSON(Writer):
    """One JSON object with everything, which is in memory until it is written."""

    def __init__(self, file: IO[bytes], means: Meaning) -> None:
        super().__init__(file, means)
        self.rows: list[dict[str, Any]] = []

    def add(self, rows: list[dict[str, Any]], numbers: np.ndarray) -> None:
        self.rows += [self.means.whole(row, found) for row, found in zip(rows, numbers, strict=True)]

    def end(self, facts: dict[str, Any]) -> None:
        self.file.write((json.dumps(facts | {"predictions": self.rows}, indent=2) + "\n").encode())


class NPY(Writer):
    """The array (images, ...) of all numbers."""

    def __init__(self, file: IO[bytes], means: Meaning) -> None:
        self.file = file if file.seekable() else io.BytesIO()
        self.target, self.count, self.start = file, 0, file.tell() if file.seekable() else 0

    def add(self, rows: list[dict[str, Any]], numbers: np.ndarray) -> None:
        if not self.count:
            self.like = numbers[:0]
            self._header()
        self.count += len(numbers)
        self.file.write(np.ascontiguousarray(numbers).tobytes())

    def _header(self) -> None:
        """Write the header; NumPy leaves room in it for the array to grow along its first axis."""
        header = np.lib.format.header_data_from_array_1_0(self.like)
        header["shape"] = (self.count, *self.like.shape[1:])
        np.lib.format.write_array_header_1_0(self.file, header)

    def end(self, facts: dict[str, Any]) -> None:
        self.file.seek(self.start)
        self._header()
        if isinstance(self.file, io.BytesIO):
            self.target.write(self.file.getvalue())
        else:
            self.file.seek(0, io.SEEK_END)


class NPZ(Writer):
    """Arrays by name, which are in memory until they are written."""

    def __init__(self, file: IO[bytes], means: Meaning) -> None:
        super().__init__(file, means)
        self.rows: list[dict[str, Any]] = []
        self.numbers: list[np.ndarray] = []

    def add(self, rows: list[dict[str, Any]], numbers: np.ndarray) -> None:
        self.rows += rows
        self.numbers.append(numbers)

    def end(self, facts: dict[str, Any]) -> None:
        numbers = np.concatenate(self.numbers)
        arrays: dict[str, Any] = {"probabilities": numbers} if isinstance(self.means, Scores) else {"outputs": numbers}
        if facts["classes"]:
            arrays["classes"] = np.array(facts["classes"])
        if isinstance(self.means, Scores):
            arrays["labels"] = np.array([row["label"] for row in self.rows])
        content = io.BytesIO()  # a zip archive wants to seek
        np.savez(
            content,
            **arrays,
            files=np.array([row["file"] for row in self.rows]),
            indices=np.array([row["index"] for row in self.rows]),
        )
        self.file.write(content.getvalue())


#: the formats of a file of predictions, by the end of its name
FORMATS: dict[str, type[Writer]] = {".csv": CSV, ".jsonl": JSONL, ".json": JSON, ".npy": NPY, ".npz": NPZ}


def writer_for(name: str, file: IO[bytes], means: Meaning) -> Writer:
    """Return the writer of a file of this name, which ends with one of :data:`FORMATS`, as ``file_ending`` checks."""
    return next(kind for ending, kind in FORMATS.items() if name.lower().endswith(ending))(file, means)

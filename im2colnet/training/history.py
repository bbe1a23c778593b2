"""The history of a training."""

from __future__ import annotations

import os
from html import escape
from typing import TYPE_CHECKING, Any

from im2colnet.show.display import cells
from im2colnet.text import count, duration, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History(list[dict[str, float]]):
    """The result of :meth:`Trainer.fit`: one dict for each epoch; ``history["loss"]`` is the list of the losses.

    The keys are ``epoch`` (from 1); ``loss`` and the metrics of the loss, such as ``accuracy`` (means over the epoch,
    while the parameters change); with validation ``validation_loss``, ``validation_accuracy``; ``lr`` (the learning
    rate of the last step), ``seconds``, ``images_per_second``; and the numbers that callbacks have added.

    ``print(history)`` prints it as a table, and :meth:`plot` draws it.

    Parameters
    ----------
    iterable : iterable of dict, optional
        The records of the epochs.

    Examples
    --------
    >>> records = {"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.5}
    >>> history = ic.History(records)
    >>> history["loss"]
    [0.9, 0.5]
    >>> print(history)
    epoch    loss
    ─────────────
        1  0.9000
        2  0.5000
    """

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return History(super().__getitem__(key))
        if not isinstance(key, str):
            return super().__getitem__(key)
        values = [record[key] for record in self if key in record]
        if self and not values:
            raise KeyError(f"{key!r}; there are: {', '.join(self[0])}")
        return values

    def __repr__(self) -> str:
        return f"<History of {self._summary()}>"

    def __str__(self) -> str:
        rows = self._rows()
        titles = _titles(rows)
        return table([titles, *([row.get(title, "") for title in titles] for row in rows)], range(len(titles)))

    def _repr_html_(self) -> str:
        from im2colnet.show.notebook import table

        return f"<details><summary>History of {escape(self._summary())}</summary>{table(self._rows())}</details>"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Plot the loss and the other measurements over the epochs, with Matplotlib (the extra ``viz``).

        Parameters
        ----------
        path : str or path, optional
            The PNG file to write the picture to. By default no file is written.

        Returns
        -------
        matplotlib.figure.Figure
            The picture, which a notebook shows.

        Raises
        ------
        Im2colnetError
            If Matplotlib is not installed.
        ShapeError
            If the history is empty.
        """
        from im2colnet.errors import Im2colnetError, install

        try:
            from im2colnet.show.plots import draw_curves, save

            figure = draw_curves(self)
        except ImportError as error:
            raise Im2colnetError(f"to draw a history, install Matplotlib: {install('viz')}") from error
        if path is not None:
            save(figure, path)
        return figure

    def _summary(self) -> str:
        measured = ", ".join(f"{title} {text}" for title, text in cells(self[-1]).items()) if self else ""
        return f"{count(len(self), 'epoch')}{': ' * bool(measured)}{measured}"

    def _rows(self) -> list[dict[str, str]]:
        """Return a row of texts by title for each epoch."""
        return [
            {
                "epoch": f"{record.get('epoch', number)}",
                **cells(record),
                **({"lr": f"{record['lr']:.3g}"} if "lr" in record else {}),
                **({"time": duration(record["seconds"])} if "seconds" in record else {}),
            }
            for number, record in enumerate(self, 1)
        ]


def _titles(rows: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(title for row in rows for title in row)) or ["epoch"]

"""The history of a training."""

from __future__ import annotations

from typing import Any


class History(list[dict[str, float]]):
    """The result of :meth:`Trainer.fit`: one dict for each epoch; ``history["loss"]`` is the list of the losses.

    The keys are ``epoch`` (from 1); ``loss`` and the metrics of the loss, such as ``accuracy`` (means over the epoch,
    while the parameters change); with validation ``validation_loss``, ``validation_accuracy``; ``lr`` (the learning
    rate of the last step), ``seconds``, ``images_per_second``.
    """

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        values = [record[key] for record in self if key in record]
        if self and not values:
            raise KeyError(f"{key!r}; there are: {', '.join(self[0])}")
        return values

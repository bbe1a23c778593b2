"""The command ``im2colnet`` with trainings that end after two epochs: ``python tests/short_trainings.py train``.

The commands of pages are run so: that they work can be told without the minutes that they need to learn something.
"""

import sys
from contextlib import contextmanager

import im2colnet as ic

EPOCHS, STEPS = 2, 300


class Short(ic.Callback):
    """Stops a training after two epochs, or after 300 steps where an epoch is longer."""

    def start(self, trainer):
        self.trainer, self.epochs, self.steps = trainer, 0, 0

    def step(self, progress):
        self.steps += 1
        if self.steps == STEPS and not self.epochs:
            self.trainer.stop("a test has seen enough steps")

    def epoch(self, record):
        self.epochs += 1
        if self.epochs == EPOCHS:
            self.trainer.stop("a test has seen enough epochs")


@contextmanager
def short():
    """Within the block, trainings are short."""
    fit = ic.Trainer.fit

    def shorter(self, *arguments, callbacks=(), **options):
        return fit(self, *arguments, callbacks=(*callbacks, Short()), **options)

    ic.Trainer.fit = shorter
    try:
        yield
    finally:
        ic.Trainer.fit = fit


if __name__ == "__main__":
    from im2colnet import cli

    with short():
        sys.exit(cli.main())

"""The commands, a module for each: a new module here is a new command.

Each has ``ORDER`` (its place in the help: lower numbers come first), ``register``, which adds its parser, and ``run``,
which does the work and returns a :class:`~im2colnet.cli.report.Report`.
"""

"""The benchmarks: an asv suite, and the comparisons that also run without asv.

``micro_``, ``layer_`` and ``step_`` are times, which move with whatever else the machine does; ``ratios`` compare two
things in one process, turn by turn, and hardly do. See docs/benchmarks.md.
"""

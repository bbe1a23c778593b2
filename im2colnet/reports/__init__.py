"""Reports: the cost of a network, its time and memory, its results, and whether this machine computes correctly."""

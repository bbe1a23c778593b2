"""Independent oracles: naive loops in float64, the teaching notebook's algorithm, and PyTorch's committed values."""

"""Independent oracles beside the naive loops of ``im2colnet.testing``: the teaching notebook, PyTorch's values."""

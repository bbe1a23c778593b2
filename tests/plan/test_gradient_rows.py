"""A worker that adds up its shards' gradients as it goes holds few of them, and gives the fixed tree's sum."""

import numpy as np
import pytest
from helpers import assert_same_bits, unequal_parts, whole_tree

from im2colnet.parallel import partition, tree_sum
from im2colnet.plan import folds, gradient_rows


@pytest.mark.parametrize("count", range(1, 41))
def test_folding_gradients_gives_the_tree_s_sum(count):
    """Each of 1 to 5 workers adds up its shards as it goes, holding few at a time; then all join."""
    parts = unequal_parts(count)
    for workers in range(1, 6):
        ranges = [partition(count, rank, workers) for rank in range(workers)]
        assert [s for mine in ranges for s in mine] == list(range(count))
        assert max(map(len, ranges)) - min(map(len, ranges)) <= 1
        row_of, live, count_of_rows = gradient_rows(ranges)
        assert count_of_rows <= sum(2 * len(mine).bit_length() for mine in ranges)
        rows = np.full((count_of_rows, parts.shape[1]), np.nan, "float32")
        for mine in ranges:
            for s in mine:
                rows[row_of[s]] = parts[s]  # nothing that is still needed may be there
                here = s
                for into in folds(s, mine.start):
                    assert into in mine
                    rows[row_of[into]] += rows[row_of[here]]
                    here = into
        tree_sum([rows[row_of[s]] if s in live else None for s in range(count)])
        assert_same_bits(rows[row_of[0]], whole_tree(parts))

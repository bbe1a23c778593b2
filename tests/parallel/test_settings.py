"""How many cores may be used."""

import pytest

import im2colnet as ic

pytestmark = pytest.mark.usefixtures("one_thread")


def test_number_of_threads():
    with ic.num_threads(2):
        assert ic.get_num_threads() == 2
    assert ic.get_num_threads() == 1
    ic.set_num_threads(3)
    assert ic.get_num_threads() == 3
    for bad in (0, -1, 1.5, "2", True, None):
        with pytest.raises(ic.ShapeError, match="positive integer"):
            ic.set_num_threads(bad)
    assert ic.get_num_threads() == 3

"""States of every kind: tensors of other modules are taken, and what is not numbers is refused by name."""

from fractions import Fraction

import numpy as np
import pytest
from helpers import assert_same_bits

import im2colnet as ic


def small_net():
    return ic.Sequential([ic.Conv2d(1, 2, 3), ic.BatchNorm2d(2), ic.Flatten(), ic.Linear(8, 3)])


def state(seed=5):
    return small_net().init(seed).state_dict()


class Tensor:
    """What PyTorch's tensors do: ``numpy`` fails for one that needs a gradient, is sparse, half, or elsewhere."""

    def __init__(self, array, dtype="torch.float32", plain=True, floating=True):
        self.array, self.dtype, self.plain, self.floating = array, dtype, plain, floating

    def _with(self, **changes):
        return type(self)(**(vars(self) | changes))

    def detach(self):
        return self._with()

    def to_dense(self):
        return self._with()

    def cpu(self):
        return self._with(plain=True)

    def float(self):
        return self._with(array=self.array.astype("f4"), dtype="torch.float32")

    def is_floating_point(self):
        return self.floating

    def numpy(self):
        if not self.plain or self.dtype == "torch.bfloat16":
            raise TypeError(f"can't convert {self.dtype}")
        return self.array

    def __array__(self, *args, **kwargs):
        raise RuntimeError("can't call numpy() on a tensor that requires grad")


class OnDevice:
    """What CuPy's arrays do."""

    __cuda_array_interface__ = property(lambda self: {})

    def __init__(self, array):
        self.array = array

    def get(self):
        return self.array

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion")


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda a: a.tolist(),
        lambda a: a.astype(">f8"),
        lambda a: a.astype(object),
        lambda a: np.ma.masked_array(a),
        Tensor,
        lambda a: Tensor(a, plain=False),
        lambda a: Tensor(a, "torch.bfloat16"),
        lambda a: Tensor(a.astype("f8"), "torch.float64"),
        OnDevice,
    ],
)
def test_arrays_of_other_kinds(convert):
    net = small_net()
    net.load_state_dict({name: convert(value) for name, value in state().items()})
    assert_same_bits(net.state_dict(), state())


def test_float64_stays_exact():
    net, values = small_net().init(0, "float64"), small_net().init(5, "float64").state_dict()
    net.load_state_dict({name: Tensor(value, "torch.float64") for name, value in values.items()})
    assert_same_bits(net.state_dict(), values)


def test_numbers_of_every_kind():
    net = small_net().init(0)
    for bias in (
        [True, False, True],
        [1, 2, 3],
        [Fraction(1, 2), 2, 3.5],
        [float("nan"), float("inf"), -0.0],
        np.array([1, 2, 3], "u8"),
        np.array([0.5, 1, 2], "f2"),
        np.float64([1, 2, 3]),
    ):
        net.load_state_dict(state() | {"3.bias": bias})
        np.testing.assert_array_equal(net.state_dict()["3.bias"], np.array([float(b) for b in bias], "f4"))


@pytest.mark.parametrize(
    ("bias", "text"),
    [
        (np.array([1, 2, 3j]), r"3\.bias holds complex128, expected real numbers"),
        ([1j, 2, 3], r"3\.bias holds complex128"),
        (["1.5", "2", "3"], r"3\.bias holds <U3, expected real numbers"),
        (np.array([b"1", b"2", b"3"]), r"3\.bias holds \|S1"),
        (np.array(["1.5", 2, 3], object), r"3\.bias holds object"),
        (np.array([None, 2, 3]), r"3\.bias holds object"),
        ([object()] * 3, r"3\.bias holds object"),
        (np.array([1, 2, 3], "m8[s]"), r"3\.bias holds timedelta64"),
        (np.zeros(3, "V4"), r"3\.bias holds \|V4"),
        (np.zeros(3, [("x", "f4")]), r"3\.bias holds "),
        ([1, 2, [3]], r"3\.bias is no array"),
        (np.ma.masked_array([1.0, 2, 3], [0, 1, 0]), r"3\.bias has masked entries"),
        ([1e300, 2, 3], r"3\.bias holds numbers too large for the network's float32"),
        ([10**400, 2, 3], r"3\.bias holds numbers too large"),
        (Tensor(np.zeros(3, "c8"), "torch.complex64", floating=False), r"3\.bias holds complex64"),
        (Tensor(np.zeros(3, "f4"), "torch.float16").__array__, r"3\.bias holds object"),
        (None, r"3\.bias holds object"),
        ("abc", r"3\.bias holds <U3"),
        (np.zeros((3, 1)), r"3\.bias has shape \(3, 1\)"),
        (7.0, r"3\.bias has shape \(\)"),
    ],
)
@pytest.mark.parametrize("initialized", [True, False])
def test_what_is_refused_by_name_and_changes_nothing(bias, text, initialized):
    net = small_net()
    if initialized:
        before = net.init(0).state_dict()
    with pytest.raises(ic.CheckpointError, match=text):
        net.load_state_dict(state() | {"3.bias": bias})
    assert net.initialized == initialized
    if initialized:
        assert_same_bits(net.state_dict(), before)


def test_a_tensor_that_fails_is_named():
    class Broken(Tensor):
        def detach(self):
            raise NotImplementedError("no values on the device meta")

    with pytest.raises(ic.CheckpointError, match=r"3\.bias is no array: NotImplementedError: no values"):
        small_net().load_state_dict(state() | {"3.bias": Broken(np.zeros(3))})


def test_a_module_in_place_of_its_state():
    with pytest.raises(ic.CheckpointError, match=r"a dict of arrays by name, got a Sequential: give its state_dict"):
        small_net().load_state_dict(small_net().init(0))
    for other in (None, [1, 2], "path.safetensors", np.zeros(3), list(state().items())):
        with pytest.raises(ic.CheckpointError, match=f"by name, got a {type(other).__name__}$"):
            small_net().load_state_dict(other)
    with pytest.raises(ic.CheckpointError, match=r"3 \(2,\) is not in this network"):
        small_net().load_state_dict(state() | {3: np.zeros(2)})


def test_a_state_that_cannot_be_loaded_changes_nothing():
    net = ic.models.notebook().init(0)
    before, state = net.state_dict(), ic.models.notebook().init(1).state_dict()
    state["4.bias"] = np.array(["a", "b"])
    with pytest.raises(ic.CheckpointError, match=r"4\.bias holds <U1, expected real numbers"):
        net.load_state_dict(state)
    assert_same_bits(net.state_dict(), before)

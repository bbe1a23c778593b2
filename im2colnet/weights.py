"""Weights in files: a state dict as safetensors, which PyTorch reads and writes too.

The format is described at https://github.com/huggingface/safetensors: a header in JSON, then the numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from numbers import Real
from typing import Any

from im2colnet.errors import CheckpointError, OutOfMemoryError
from im2colnet.files import check_regular, replace_file

#: key of a checkpoint's description in the file's metadata
DESCRIPTION = "im2colnet"
#: the types of numbers that a network can load
TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
#: the first bytes of files of PyTorch's ``torch.save``: an archive, or from old versions a pickle
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def safetensors(module: str = "safetensors") -> Any:
    """Return the package safetensors, or a module of it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise CheckpointError("checkpoints and files of weights need safetensors: pip install safetensors") from error


def save_weights(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state dict to a safetensors file, completely or not at all; an existing file is overwritten.

    PyTorch reads it: ``module.load_state_dict(safetensors.torch.load_file(path))``.

    Parameters
    ----------
    state : dict of str to array
        The state dict, such as ``net.state_dict()``: anything that :meth:`Network.load_state_dict` takes.
    path : str or path
        The file.

    Raises
    ------
    CheckpointError
        If the file cannot be written, or an entry is not an array of real numbers.

    Examples
    --------
    >>> net = ic.Sequential([ic.Linear(2, 1)]).init(seed=0)
    >>> ic.save_weights(net.state_dict(), "weights.safetensors")
    >>> [*ic.load_weights("weights.safetensors")]
    ['0.bias', '0.weight']
    """
    check_is_dict(state)
    arrays = {str(name): _storable(host_array(name, array)) for name, array in state.items()}
    replace_file(path, safetensors("safetensors.numpy").save(arrays))


def check_is_dict(state: Any) -> None:
    """Raise a CheckpointError if a state is not a dict."""
    if not isinstance(state, Mapping):
        hint = ": give its state_dict()" if hasattr(state, "state_dict") else ""
        raise CheckpointError(f"a state is a dict of arrays by name, got a {type(state).__name__}{hint}")


def _storable(array: Any) -> Any:
    """Return an array in C order, of a type that the format supports."""
    kind = array.dtype.kind
    wider = "float32" if kind == "V" else "float64" if kind == "O" or (kind == "f" and array.itemsize > 8) else None
    return array.astype(wider or array.dtype, order="C", copy=False)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a state dict from a safetensors file, for ``net.load_state_dict``.

    PyTorch can write such a file: ``safetensors.torch.save_file(module.state_dict(), path)``.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict of str to array
        The NumPy arrays by name. NumPy has no bfloat16: such tensors become float32.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or of another kind, such as a pickle. Pickles are refused because reading one
        runs code from the file.

    Examples
    --------
    >>> halves = {"weight": np.ones((2, 2), "float16")}
    >>> ic.save_weights(halves, "half.safetensors")
    >>> ic.load_weights("half.safetensors")["weight"].dtype
    dtype('float16')
    """
    check_regular(path)
    name, package = os.fspath(path), safetensors()
    try:
        with package.safe_open(name, framework="numpy") as file:
            if DESCRIPTION in (file.metadata() or {}):
                raise CheckpointError(
                    f"{name} is a checkpoint: its weights are ic.Trainer.load({name!r}).net.state_dict()"
                )
            types = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 - not a dict
            for key, kind in types.items():
                if kind not in TYPES:
                    raise CheckpointError(f"{name} cannot be loaded: {key} is of type {kind}, expected real numbers")
            found = {key: None if kind == "BF16" else file.get_tensor(key) for key, kind in types.items()}
        return found | _bfloat16(name, [key for key, kind in types.items() if kind == "BF16"])
    except MemoryError as error:
        raise OutOfMemoryError(f"there is not enough memory for the tensors of {name}") from error
    except CheckpointError:
        raise
    except (OSError, ValueError, package.SafetensorError) as error:
        raise CheckpointError(f"cannot read {name}: {reason(name, error, 'safetensors file')}") from error


def _bfloat16(name: str, keys: list[str]) -> dict[str, Any]:
    """Read tensors of bfloat16, the upper halves of float32 numbers, from a file that has been checked."""
    import json

    from im2colnet.host import np

    found = {}
    with open(name, "rb") as file:
        size = int.from_bytes(file.read(8), "little") if keys else 0
        header = json.loads(file.read(size)) if keys else {}
        for key in keys:
            start, stop = header[key]["data_offsets"]
            file.seek(8 + size + start)
            halves = np.frombuffer(file.read(stop - start), "<u2").astype("<u4")
            found[key] = (halves << 16).view("<f4").reshape(header[key]["shape"]).astype("float32", copy=False)
    return found


def reason(name: str, error: Exception, kind: str) -> str:
    """Return the reason why a file cannot be read as a file of this kind."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if _is_pickle(name):
        converted = f"{os.path.splitext(name)[0]}.safetensors"
        return (
            f"it is damaged or no {kind}: it begins like a file of torch.save, a pickle, and reading a pickle runs code"
            " from the file. If you trust the file, convert it where PyTorch is installed:"
            f" safetensors.torch.save_file(torch.load({name!r}, weights_only=True), {converted!r})"
        )
    return f"it is damaged or no {kind} ({error})"


def _is_pickle(name: str) -> bool:
    try:
        with open(name, "rb") as file:
            return file.read(4).startswith(PICKLES)
    except OSError:
        return False


def host_array(name: Any, value: Any) -> Any:
    """Return an entry of a state as a NumPy array of real numbers, from an array of any module.

    Raises
    ------
    CheckpointError
        If it is not an array of real numbers, or has masked entries.
    """
    from im2colnet.host import np

    try:
        if hasattr(value, "detach"):  # a tensor of PyTorch
            value = value.detach().to_dense().cpu()
            exact = str(value.dtype) in ("torch.float64", "torch.float32") or not value.is_floating_point()
            value = (value if exact else value.float()).numpy()  # NumPy has no bfloat16, and float holds it
        elif hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):  # of CuPy
            value = value.get()
        masked = np.ma.is_masked(value)
        array = np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # of another package
        raise CheckpointError(f"{name} is no array: {type(error).__name__}: {error}") from error
    if masked:
        raise CheckpointError(f"{name} has masked entries, which have no value: fill them first")
    kind = array.dtype.kind
    numbers = kind in "biuf" or (kind == "V" and array.dtype.type is not np.void)  # V: bfloat16 of ml_dtypes
    if not numbers and not (kind == "O" and all(isinstance(x, Real) for x in array.flat)):
        raise CheckpointError(f"{name} holds {array.dtype}, expected real numbers")
    return array

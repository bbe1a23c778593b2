"""The estimators for scikit-learn: its own checks, and what people do with estimators."""

import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine, make_friedman1
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import im2colnet as ic
from im2colnet.sklearn import CNNClassifier, CNNRegressor

#: one worker, so that the time of the tests does not depend on what else the machine does; the results are the same
pytestmark = pytest.mark.usefixtures("one_thread")
X, DIGITS = load_digits(return_X_y=True)
SMALL = [ic.Conv2d(1, 4, 3), ic.ReLU(), ic.Flatten(), ic.Linear(144, 10)]
ESTIMATORS = [CNNClassifier, CNNRegressor]


#: batches are drawn, so an image of weight 2 is not in the same steps as an image that is given twice;
#: test_weights_are_those_of_repeated_images compares them where a batch is all images
NOT_EXACT = {
    "check_sample_weight_equivalence_on_dense_data": "batches are drawn",
    "check_sample_weight_equivalence_on_sparse_data": "batches are drawn",
}


def small(**options):
    """A classifier of digits that trains fast."""
    given = {"model": SMALL, "image_shape": (8, 8), "epochs": 2, "optimizer": ic.Adam(1e-2), "random_state": 0}
    return CNNClassifier(**given | options)


def few_layers(classes, in_channels, input_size):
    height, width = input_size
    return [ic.Flatten(), ic.Linear(in_channels * height * width, classes)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scikit_learns_own_checks(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some checks warn, whatever the estimator does
        found = check_estimator(estimator(), on_skip=None, on_fail=None, expected_failed_checks=NOT_EXACT)
    failed = {each["check_name"]: str(each["exception"]) for each in found if each["status"] == "failed"}
    assert not failed
    assert sum(each["status"] == "passed" for each in found) > 45


def test_it_learns_images_and_rows():
    train, test, digits, expected = train_test_split(X, DIGITS, random_state=1)
    assert CNNClassifier(image_shape=(8, 8), epochs=3, random_state=0).fit(train, digits).score(test, expected) > 0.97
    train, test, wines, expected = train_test_split(*load_wine(return_X_y=True), random_state=0)
    assert CNNClassifier(epochs=40, random_state=0).fit(train, wines).score(test, expected) > 0.93


def test_it_regresses_what_is_not_linear():
    x, y = make_friedman1(400, random_state=0)
    train, test, numbers, expected = train_test_split(x, 1e4 * y - 3e5, random_state=0)
    score = CNNRegressor(epochs=30, random_state=0).fit(train, numbers).score(test, expected)
    assert score > 0.9 > LinearRegression().fit(train, numbers).score(test, expected)


def test_several_outputs_and_one():
    y = np.stack([X[:, 20] + X[:, 30], X[:, 40]], 1)
    both = CNNRegressor(image_shape=(8, 8), epochs=1, random_state=0).fit(X[:200], y[:200])
    assert both.predict(X[:7]).shape == (7, 2)
    assert CNNRegressor(epochs=1).fit(X[:50], y[:50, 0]).predict(X[:7]).shape == (7,)


# Images and labels -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("labels", [np.array(["zero", "one", "two", "café", "n4", "5", "6", "7", "8", "Nine"])[DIGITS]])
@pytest.mark.parametrize("kind", [list, np.asarray])
def test_labels_are_strings(labels, kind):
    fitted = small(epochs=6).fit(X, kind(labels))
    assert [*fitted.classes_] == sorted({*labels.tolist()})
    assert np.mean(fitted.predict(X) == labels) > 0.9
    assert fitted.net_.inputs.classes == tuple(fitted.classes_)


@pytest.mark.parametrize("labels", [DIGITS > 4, DIGITS * 10 - 50, np.where(DIGITS > 4, 1.0, -1.0)])
def test_labels_are_other_things(labels):
    fitted = CNNClassifier(few_layers, epochs=3, random_state=0).fit(X, labels)
    assert fitted.predict(X[:3]).dtype == labels.dtype
    assert fitted.score(X, labels) > 0.8


def test_rows_and_images_of_the_same_numbers_are_the_same():
    images, rows = X.reshape(-1, 1, 8, 8), X
    expected = small(epochs=1).fit(rows, DIGITS).predict_proba(rows[:9])
    for shape, given in [
        (None, images),
        ((8, 8), images),
        ((1, 8, 8), rows),
        ([8, 8], rows),
        ((8, 8), rows.reshape(-1, 8, 8)),
    ]:
        found = small(epochs=1, image_shape=shape).fit(given, DIGITS)
        assert found.image_shape_ == (1, 8, 8)
        assert (found.predict_proba(given[:9]) == expected).all()


def test_a_row_is_one_image():
    fitted = CNNClassifier(epochs=1).fit(X[:60], DIGITS[:60])
    assert fitted.image_shape_ == (1, 1, 64)
    assert fitted.n_features_in_ == 64


def test_images_are_standardised_each_channel_by_itself():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 3, 6, 6), dtype=np.uint8)
    images[:, 2] = 7  # all numbers of a channel are equal
    fitted = CNNClassifier(few_layers, epochs=1, random_state=0).fit(images, images[:, 0, 0, 0] > 127)
    mean, std = fitted.net_.normalization
    assert mean == pytest.approx(images.mean((0, 2, 3)) / 255)
    assert std == pytest.approx([*images[:, :2].std((0, 2, 3)) / 255, 1])
    scores = fitted.net_.predict(images)
    shares = np.exp(scores.astype(float)) / np.exp(scores.astype(float)).sum(1, keepdims=True)
    assert fitted.predict_proba(images) == pytest.approx(shares, abs=1e-6)


def test_without_standardising_uint8_is_scaled():
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 6, 6), dtype=np.uint8)
    labels = images[:, 0, 0, 0] > 127
    as_uint8 = CNNClassifier(few_layers, epochs=1, normalize=False, random_state=0).fit(images, labels)
    scaled = CNNClassifier(few_layers, epochs=1, normalize=False, random_state=0).fit(images / 255, labels)
    assert as_uint8.predict_proba(images) == pytest.approx(scaled.predict_proba(images / 255), abs=1e-6)
    assert as_uint8.predict_proba(images * 1.0) == pytest.approx(as_uint8.predict_proba(images), abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 6, 6), (36,)])
@pytest.mark.parametrize("types", [("uint8", "int64"), ("float64", "uint8"), ("int16", "float32")])
def test_the_type_of_the_numbers_does_not_matter(shape, types):
    images = np.random.default_rng(0).integers(0, 256, (40, *shape))
    fitted = CNNClassifier(few_layers, epochs=1, random_state=0).fit(images.astype(types[0]), [0, 1] * 20)
    one, other = (fitted.predict_proba(images.astype(kind)) for kind in types)
    assert one == pytest.approx(other, abs=1e-6)


def test_the_scale_of_features_and_targets_does_not_matter():
    factors = 10.0 ** np.arange(-4, 6)
    x, y = make_friedman1(60, random_state=0)
    one = CNNRegressor(epochs=2, random_state=0).fit(x, y).predict(x)
    other = CNNRegressor(epochs=2, random_state=0).fit(x * factors + factors, y * 1e6).predict(x * factors + factors)
    assert other / 1e6 == pytest.approx(one, abs=1e-3)


@pytest.mark.parametrize("factor", [1e-300, 1e-60, 1e290])
def test_numbers_may_be_tiny_or_huge(factor):
    x, y = X[:200] * factor, X[:200, 20] * factor
    fitted = CNNRegressor(few_layers, epochs=20, optimizer=ic.Adam(1e-2), random_state=0).fit(x, y)
    assert np.corrcoef(fitted.predict(x) / factor, y / factor)[0, 1] > 0.9
    with pytest.raises(ic.NonFiniteError, match="too large for float32"):
        CNNClassifier(few_layers).fit(np.full((4, 1, 6, 6), 1e290), [0, 1, 0, 1])


# Models ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "model", ["auto", "lenet5", ic.models.lenet5, few_layers, lambda **shape: ic.Sequential(few_layers(**shape))]
)
def test_models(model):
    images = np.random.default_rng(0).random((12, 2, 13, 16))
    fitted = CNNClassifier(model, epochs=1, random_state=0).fit(images, [0, 1, 2] * 4)
    assert fitted.predict_proba(images).shape == (12, 3)


def test_a_network_is_where_training_begins():
    net = ic.Sequential(SMALL).init(seed=3)
    before = net.state_dict()
    fitted = small(model=net, epochs=1, optimizer=ic.SGD(0.0)).fit(X, DIGITS)
    assert all((fitted.net_.state_dict()[name] == before[name]).all() for name in before)
    small(model=net, epochs=1).fit(X, DIGITS)
    assert all((net.state_dict()[name] == before[name]).all() for name in before)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (3, 1, 500), (2, 5, 1), (1, 2, 3), (3, 33, 47), (4, 9, 100)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_auto_takes_images_of_any_size(estimator, shape):
    images = np.random.default_rng(0).random((6, *shape))
    assert np.isfinite(estimator(epochs=1).fit(images, [0, 1, 2, 0, 1, 2]).predict(images)).all()


# What goes on ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["auto", [*SMALL, ic.Dropout(0.1)]])
def test_the_seed_decides_everything(model):
    one, same, other = (
        small(model=model, epochs=1, random_state=seed).fit(X[:200], DIGITS[:200]).predict_proba(X[:50])
        for seed in (1, np.random.RandomState(1), 2)
    )
    assert (one == same).all()
    assert not (one == other).any()


def test_a_prediction_does_not_depend_on_the_others():
    fitted = small().fit(X, DIGITS)
    together = fitted.predict_proba(X[:70])
    for size in (1, 3, 31, 33):
        parts = [fitted.predict_proba(X[i : i + size]) for i in range(0, 70, size)]
        assert (np.concatenate(parts)[:70] == together).all()


def test_augmentation():
    rng = np.random.default_rng(0)
    images, labels = rng.random((64, 1, 6, 6)), rng.integers(0, 2, 64)
    plain, flipped = (
        CNNClassifier(few_layers, epochs=1, augment=augment, random_state=0).fit(images, labels).predict_proba(images)
        for augment in (None, [ic.transforms.RandomHorizontalFlip()])
    )
    assert not np.allclose(plain, flipped)
    CNNClassifier(few_layers, augment=[ic.transforms.MixUp(0.2)]).partial_fit(images, labels)


def test_class_weights_count_a_sample_as_often():
    """With batches of the whole data, a weight of 3 is what three copies of the samples are."""
    x, y = X[DIGITS < 2][:80], DIGITS[DIGITS < 2][:80]
    more = np.concatenate([np.arange(80), *[np.flatnonzero(y == 1)] * 2])
    given = {"epochs": 5, "normalize": False, "optimizer": ic.SGD(0.01), "batch_size": 1000, "random_state": 0}
    weighted = CNNClassifier(few_layers, class_weight={1: 3}, **given).fit(x / 16, y)
    repeated = CNNClassifier(few_layers, **given).fit(x[more] / 16, y[more])
    assert weighted.predict_proba(x / 16) == pytest.approx(repeated.predict_proba(x / 16), abs=1e-5)
    balanced = CNNClassifier(few_layers, class_weight="balanced", **given).fit(x[more] / 16, y[more])
    assert balanced.predict_proba(x / 16) != pytest.approx(repeated.predict_proba(x / 16), abs=1e-5)


def test_warm_start_goes_on():
    fitted = small(warm_start=True, epochs=1)
    losses = [fitted.fit(X, DIGITS).history_["loss"][-1] for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    assert small(epochs=1).fit(X, DIGITS).fit(X, DIGITS).history_["loss"][-1] == losses[0]
    with pytest.raises(ic.ShapeError, match="class 11"):
        fitted.fit(X[:20], DIGITS[:20] + 11)


def test_partial_fit_takes_the_data_in_parts():
    fitted = small()
    for epoch in range(4):
        for start in range(0, 1797, 600):
            part = slice(start, start + 600)
            fitted.partial_fit(X[part], DIGITS[part], classes=range(10) if not epoch + start else None)
    assert fitted.score(X, DIGITS) > 0.9
    assert fitted.n_iter_ == 12
    assert small(epochs=3).fit(X[:50], DIGITS[:50]).partial_fit(X[:50], DIGITS[:50]).n_iter_ == 4
    with pytest.raises(ic.ShapeError, match="class 12"):
        fitted.partial_fit(X[:3], [1, 2, 12])
    copied = pickle.loads(pickle.dumps(fitted))
    for each in (fitted, copied):
        each.partial_fit(X[:100], DIGITS[:100])
    assert (fitted.predict_proba(X) == copied.predict_proba(X)).all()
    regressor = CNNRegressor(epochs=1).partial_fit(X[:50], X[:50, 20])
    before = regressor.predict(X[:50])
    assert not np.allclose(regressor.partial_fit(X[:50], X[:50, 20]).predict(X[:50]), before)


def test_partial_fit_after_a_failure_trains_the_new_network():
    failed, fresh = (
        CNNClassifier(few_layers, normalize=False, optimizer=ic.SGD(0.1), random_state=0) for _ in range(2)
    )
    with pytest.raises(ic.NonFiniteError):
        failed.partial_fit(np.full_like(X, 1e38), DIGITS)
    for each in (failed, fresh):
        each.partial_fit(X / 16, DIGITS)
    assert (failed.predict_proba(X) == fresh.predict_proba(X)).all()


# Among scikit-learn's tools ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_grid_search_of_two_jobs(backend):
    given = {"cnn__optimizer": [ic.Adam(1e-2), ic.SGD(0.0)], "cnn__batch_size": [16, 64]}
    pipeline = make_pipeline(MinMaxScaler(), small())
    pipeline.steps[-1] = ("cnn", pipeline.steps[-1][1])
    with joblib.parallel_backend(backend):
        search = GridSearchCV(pipeline, given, cv=2, n_jobs=2).fit(X[:400], DIGITS[:400])
    assert search.best_params_["cnn__optimizer"] == ic.Adam(1e-2)
    alone = GridSearchCV(pipeline, given, cv=2).fit(X[:400], DIGITS[:400])
    assert (search.cv_results_["mean_test_score"] == alone.cv_results_["mean_test_score"]).all()


def test_a_process_of_joblib_uses_its_share_of_the_cores():
    names = joblib.Parallel(n_jobs=2)(joblib.delayed(workers_of_a_training)() for _ in range(2))
    assert names == ["1 worker"] * 2


def workers_of_a_training():
    seen = []

    class Watched(ic.ReLU):
        stateless = True

        def prepare_forward(self, x, ctx):
            seen.append(ic.get_num_threads())
            return super().prepare_forward(x, ctx)

    small(model=[SMALL[0], Watched(), *SMALL[2:]], epochs=1).fit(X[:64], DIGITS[:64])
    return "1 worker" if {*seen} == {1} else f"{seen} workers"


def test_cross_validation():
    assert cross_val_score(small(epochs=5), X[:600], DIGITS[:600], cv=2).min() > 0.8


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_copies(estimator, tmp_path):
    fitted = estimator(few_layers, epochs=1, random_state=0).fit(X[:90], DIGITS[:90])
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    kept = io.BytesIO(pickle.dumps(fitted))
    for copied in (pickle.load(kept), joblib.load(tmp_path / "fitted.joblib")):
        assert (copied.predict(X) == fitted.predict(X)).all()
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params()
    assert not hasattr(cloned, "net_")
    assert (cloned.fit(X[:90], DIGITS[:90]).predict(X) == fitted.predict(X)).all()
    assert fitted.set_params(epochs=3).epochs == 3


def test_verbose_shows_the_progress(capsys):
    small(epochs=1).fit(X[:64], DIGITS[:64])
    assert not capsys.readouterr().err
    small(epochs=1, verbose=1).fit(X[:64], DIGITS[:64])
    assert "accuracy" in capsys.readouterr().err


# Mistakes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "x", "message"),
    [
        ({"image_shape": (9, 9)}, X, r"\(1, 9, 9\) has 81 numbers, but X has the shape \(1797, 64\)"),
        ({"image_shape": 8}, X, r"image_shape must be \(H, W\) or \(C, H, W\), got 8"),
        ({"image_shape": (8,)}, X, "image_shape must be"),
        ({"image_shape": (0, 8)}, X, "image_shape"),
        ({"image_shape": None}, X.reshape(-1, 8, 8), r"give image_shape=\(H, W\)"),
        ({"model": "resnet2"}, X, "there is no model 'resnet2'"),
        ({"model": [ic.Flatten(), ic.Linear(64, 9)]}, X, r"must give 10 numbers .* it gives \(9,\)"),
        ({"model": 5}, X, "model must be .* got 5"),
        ({"model": lambda **shape: None}, X, "model must be .* which returned None"),
        ({"normalize": "x"}, X, "normalize"),
        ({"epochs": 0}, X, "epochs"),
        ({"epochs": "many"}, X, "epochs"),
        ({"batch_size": 0}, X, "batch_size"),
    ],
)
def test_wrong_arguments(options, x, message):
    with pytest.raises(ic.ShapeError, match=message):
        small(**options).fit(x, DIGITS)


def test_images_of_another_size():
    fitted = CNNClassifier(few_layers, epochs=1).fit(np.zeros((4, 1, 6, 6)), [0, 1, 0, 1])
    with pytest.raises(ic.ShapeError, match=r"\(1, 6, 6\) has 36 numbers, but X has the shape \(2, 1, 7, 6\)"):
        fitted.predict(np.zeros((2, 1, 7, 6)))


# ------------------------------------------------------------------ weights of samples


def repeated(counts, *arrays):
    """Each entry of the arrays as often as the counts say."""
    return [np.repeat(array, counts, axis=0) for array in arrays]


def one_batch(estimator, **options):
    """An estimator whose batch is all images, so that only the loss knows of weights."""
    return estimator(
        [ic.Flatten(), ic.Linear(64, 16), ic.Tanh(), ic.Linear(16, options.pop("outputs"))],
        image_shape=(8, 8),
        epochs=60,
        batch_size=1000,
        optimizer=ic.SGD(0.05),
        normalize=False,
        random_state=0,
        **options,
    )


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 1.0, 2: 0.5}])
def test_weights_are_those_of_repeated_images(class_weight):
    images, labels = X[:60] / 16, DIGITS[:60] % 3
    counts = np.random.default_rng(0).integers(0, 4, 60)
    if class_weight == "balanced":  # balanced by the number of images, repeated ones too
        counts = np.where(labels == 0, 1, np.where(labels == 1, 2, 3))
        class_weight = {0: 1.0, 1: 2.0, 2: 1.5}
    weighed = one_batch(CNNClassifier, outputs=3, class_weight=class_weight).fit(images, labels, 0.25 * counts)
    expected = one_batch(CNNClassifier, outputs=3, class_weight=class_weight).fit(*repeated(counts, images, labels))
    np.testing.assert_allclose(weighed.predict_proba(images), expected.predict_proba(images), rtol=1e-4, atol=1e-6)
    plain = one_batch(CNNClassifier, outputs=3, class_weight=class_weight).fit(images, labels)
    assert abs(plain.predict_proba(images) - expected.predict_proba(images)).max() > 1e-2
    assert weighed.net_.inputs.classes == ("0", "1", "2")


@pytest.mark.parametrize("outputs", [1, 2])
def test_weights_of_a_regression(outputs):
    images, numbers = X[:60] / 16, 50 + 9 * X[:60, 20 : 20 + outputs]
    counts = np.random.default_rng(1).integers(0, 4, 60)
    weighed = one_batch(CNNRegressor, outputs=outputs).fit(images, numbers, sample_weight=counts)
    expected = one_batch(CNNRegressor, outputs=outputs).fit(*repeated(counts, images, numbers))
    np.testing.assert_allclose(weighed.y_mean_, expected.y_mean_, rtol=1e-12)
    np.testing.assert_allclose(weighed.y_scale_, expected.y_scale_, rtol=1e-12)
    np.testing.assert_allclose(weighed.predict(images), expected.predict(images), rtol=1e-4)


def test_columns_are_standardised_with_the_weights():
    rows, numbers = X[:40, 20:23], X[:40, 30]
    counts = np.random.default_rng(2).integers(0, 3, 40)
    weighed = CNNRegressor(epochs=1, random_state=0).fit(rows, numbers, counts)
    expected = CNNRegressor(epochs=1, random_state=0).fit(*repeated(counts, rows, numbers))
    np.testing.assert_allclose(weighed.mean_, expected.mean_, rtol=1e-12)
    np.testing.assert_allclose(weighed.scale_, expected.scale_, rtol=1e-12)


def test_classes_are_balanced_by_the_first_part():
    images, labels = X[:120] / 16, DIGITS[:120] % 3
    labels[:30] = 0
    some = labels[60:] < 2  # a later part may lack a class
    counts = np.bincount(labels[:60], minlength=3)

    def in_parts(class_weight):
        estimator = small(model=[ic.Flatten(), ic.Linear(64, 3)], class_weight=class_weight)
        estimator.partial_fit(images[:60], labels[:60]).partial_fit(images[60:][some], labels[60:][some])
        return estimator.predict_proba(images)

    np.testing.assert_allclose(in_parts("balanced"), in_parts(dict(enumerate(20 / counts))), rtol=1e-5)
    assert abs(in_parts("balanced") - in_parts(None)).max() > 1e-2


def test_equal_weights_change_nothing():
    one = small().fit(X[:100], DIGITS[:100])
    other = small().fit(X[:100], DIGITS[:100], sample_weight=np.full(100, 7.0))
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_weights_in_a_pipeline_in_parts_and_in_a_pickle():
    weights = 1.0 + (DIGITS[:200] == 8)
    pipeline = make_pipeline(MinMaxScaler(), small()).fit(X[:200], DIGITS[:200], cnnclassifier__sample_weight=weights)
    assert pipeline.score(X[:200], DIGITS[:200], sample_weight=weights) > 0.5
    parts = small().partial_fit(X[:200], DIGITS[:200], np.arange(10), weights)
    parts = pickle.loads(pickle.dumps(parts)).partial_fit(X[200:400], DIGITS[200:400])
    assert parts.partial_fit(X[:200], DIGITS[:200], sample_weight=weights).n_iter_ == 3


@pytest.mark.parametrize("weights", [[-1.0] + [1.0] * 19, [0.0] * 20, [1.0] * 19, [np.nan] + [1.0] * 19])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match=r"sample.?weight|Sample weights|NaN"):
        small().fit(X[:20], DIGITS[:20], weights)

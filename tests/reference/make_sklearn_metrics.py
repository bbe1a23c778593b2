"""Write ``sklearn_metrics.json``: what scikit-learn finds for drawn classes, answers and numbers.

``python tests/reference/make_sklearn_metrics.py`` needs scikit-learn; the tests that read the file do not.
"""

import json
import warnings
from pathlib import Path

import numpy as np
from sklearn import metrics

AVERAGES = ("macro", "weighted", "micro", None)
SCORES = {
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
    "f1_score": metrics.f1_score,
    "iou": metrics.jaccard_score,
}


def averages(true, guessed, classes):
    """Every score with every average; a class that occurs neither in truth nor in predictions is in no mean."""
    return {
        name: {
            str(average): np.asarray(
                score(true, guessed, average=average, zero_division=0, labels=None if average else list(range(classes)))
            ).tolist()
            for average in AVERAGES
        }
        for name, score in SCORES.items()
    }


def main():
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    cases = []
    for classes, n, some in ((2, 30, 2), (5, 80, 5), (6, 40, 4), (4, 1, 4)):  # of 6 classes two never occur
        scores = np.round(rng.standard_normal((n, classes)), 3)
        scores[:, some:] -= 100
        true = rng.integers(0, some, n)
        true[: n // 3] = scores[: n // 3].argmax(axis=1)
        guessed = scores.argmax(axis=1)
        k = min(3, classes)
        cases.append(
            {
                "scores": scores.tolist(),
                "true": true.tolist(),
                "accuracy": metrics.accuracy_score(true, guessed),
                "k": k,
                "top_k": metrics.top_k_accuracy_score(true, scores, k=k, labels=range(classes)) if classes > 2 else 1.0,
                "confusion": metrics.confusion_matrix(true, guessed, labels=range(classes)).tolist(),
                "average": averages(true, guessed, classes),
            }
        )
    logits = np.round(rng.standard_normal((50, 3)), 3)
    logits[:, 2] = -1  # an answer that is never yes
    answers = rng.integers(0, 2, (50, 3))
    several = {"scores": logits.tolist(), "true": answers.tolist(), "average": averages(answers, logits > 0, 3)}
    numbers = []
    for shape in ((30,), (30, 3)):
        wanted = np.round(rng.standard_normal(shape), 3)
        found = np.round(wanted + rng.standard_normal(shape) / 2, 3)
        if len(shape) > 1:
            wanted[:, 1] = 2.0  # which no R² is defined for
        numbers.append(
            {
                "outputs": found.tolist(),
                "targets": wanted.tolist(),
                "mean_absolute_error": metrics.mean_absolute_error(wanted, found),
                "root_mean_squared_error": metrics.root_mean_squared_error(wanted, found),
                "r2_score": metrics.r2_score(wanted, found),
            }
        )
    content = {"classes": cases, "answers": several, "numbers": numbers}
    (Path(__file__).parent / "sklearn_metrics.json").write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()

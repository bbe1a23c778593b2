"""Fail if a mean accuracy is too low: ``python .ci/accuracy.py LEAST FILE...``, files of ``im2colnet train --json``."""

import json
import sys
from pathlib import Path

least, *files = sys.argv[1:]
found = [json.loads(Path(file).read_text())["test"]["accuracy"] for file in files]
mean = sum(found) / len(found)
print(f"test accuracy {mean:.4f}, the mean of {len(found)}; at least {least} is demanded")
sys.exit(not mean >= float(least))

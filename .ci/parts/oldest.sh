# Tests with the oldest Python and the oldest packages that pyproject.toml allows.
. .ci/common.sh

section "The oldest Python and packages"
python=python$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' pyproject.toml)
command -v "$python" >/dev/null || install_debian "$python" ||
  { echo "WARNING: without $python the oldest packages are not tried"; exit 0; }
mapfile -t packages < <(python3 .ci/lower_bounds.py)
make_environment "$work/oldest" "$python"
"$work/oldest/bin/python" -m pip install --quiet -e . "${packages[@]}"
"$work/oldest/bin/python" --version
"$work/oldest/bin/python" -m pip list
"$work/oldest/bin/python" -m pytest -n auto "${fast_tests[@]}"

# What the parts of .ci/run share. They are started by it, in the root of the checkout, with the folder $work for
# whatever they make.
set -euo pipefail

dev=$work/dev     # the environment of a developer: editable install, tools
user=$work/user   # the environment of a user: the wheel and nothing else
away=$work/away   # a folder without the checkout
mkdir -p "$away"

# Another Python and other packages are tried with the tests that say most about them; all tests would take too long.
fast_tests=(
  tests
  --hypothesis-profile few
  -k "not cupy and not stand-in"               # the CUDA backend without a GPU
  --ignore tests/backend
  --ignore tests/cli/test_doctor_command.py    # it trains ResNet-20 for some 20 seconds
  --deselect tests/cli/test_train_command.py::test_the_default_learns_the_digits
  --ignore tests/dashboard
  --ignore tests/estimators
  --ignore tests/gpu
  --ignore tests/layers/test_layer_cases.py    # of layers, tests/reference has PyTorch's values
  --ignore tests/models
  --ignore tests/network/test_input_gradient.py
  --deselect tests/network/test_random_networks.py::test_random_networks
  --ignore tests/onnx_files/test_conformance.py
  --ignore tests/onnx_files/test_fold.py       # the evaluator of onnx that they compare with has faults in old versions
  --ignore tests/onnx_files/test_light_graphs.py
  --ignore tests/onnx_files/test_operators.py
  --ignore tests/onnx_files/test_out_and_in.py
  --ignore tests/onnx_files/test_write_layers.py
  --ignore tests/onnx_files/test_write_networks.py
  --ignore tests/parallel/test_forks.py
  --ignore tests/plan/test_memory.py
  --ignore tests/reports/test_explain.py
  --ignore tests/site
  --ignore tests/structure
  --ignore tests/testing/test_check_backend.py
  --ignore tests/training/test_averages.py
  --ignore tests/training/test_checkpoint.py
  --ignore tests/training/test_checkpoint_content.py
  --ignore tests/training/test_freezing.py
  --ignore tests/training/test_interruption.py
  --ignore tests/visualize
  --ignore-glob 'tests/*/test_ranks_*.py'      # stand-ins for MPI
)

section() { printf '\n=== %s (at %s s)\n' "$*" "$SECONDS"; }

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# Install packages of Debian, or say why not.
install_debian() {
  local as=()
  command -v apt-get >/dev/null || { echo "there is no apt-get here to install $* with"; return 1; }
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { echo "only root can install $*"; return 1; }
    as=(sudo -n)
  fi
  { "${as[@]}" timeout 300 apt-get -q update && "${as[@]}" env DEBIAN_FRONTEND=noninteractive \
    timeout 300 apt-get -qy install --no-install-recommends "$@"; } >"$work/apt.log" 2>&1 ||
    { tail -n 5 "$work/apt.log"; echo "apt-get could not install $*"; return 1; }
}

# Install what is missing of some programs, each given as PROGRAM:PACKAGE of Debian.
need_programs() {
  local need
  for need in "$@"; do
    command -v "${need%:*}" >/dev/null || install_debian "${need#*:}" || fail "${need%:*} is missing"
  done
}

# Make a new environment, by another Python than python3 if it is named.
make_environment() {
  local python=${2:-python3}
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install_debian "$python-venv" || fail "$python cannot make environments"
  "$python" -m venv --clear "$1"
}

# Do something once, whichever part asks for it first; the others wait until it is done.
once() {
  (
    flock 9
    [ ! -e "$work/$1.done" ] || exit 0
    "$1"
    touch "$work/$1.done"
  ) 9>"$work/$1.lock"
}

# Make a developer's environment.
need_dev() { once make_dev; }
make_dev() {
  [ -d "$dev" ] || make_environment "$dev"
  "$dev/bin/python" -m pip install --quiet -e "$root[dev]"
}

# Make the wheel, and set $wheel to where it is.
need_wheel() {
  need_dev
  once make_wheel
  wheel=$(echo "$work"/wheel/*.whl)
}
make_wheel() {
  "$dev/bin/python" -m build --wheel --outdir "$work/wheel" "$root" >"$work/wheel.log" 2>&1 ||
    { cat "$work/wheel.log"; fail "no wheel"; }
}

# Make an environment that holds the wheel and what it needs.
need_user() {
  need_wheel
  once make_user
}
make_user() {
  make_environment "$user"
  "$user/bin/python" -m pip install --quiet "$wheel"
}

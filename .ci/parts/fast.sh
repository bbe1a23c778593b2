# The Numba backend: the wheel with the extra `fast` in an environment of its own, on this processor and an older one.
. .ci/common.sh
need_wheel

section "The wheel with Numba in an empty environment"
fast=$work/fast
make_environment "$fast"
"$fast/bin/python" -m pip install --quiet "$wheel[fast]"
"$fast/bin/python" -m pip list
cd "$away"
export IM2COLNET_CACHE=$work/kernels
"$fast/bin/im2colnet" train --epochs 1 --model notebook | tee default.log
grep -q "numba is installed and not used: IM2COLNET_BACKEND=numba" default.log || fail "train does not name the faster backend"

section "The first start compiles, the second does not"
export IM2COLNET_BACKEND=numba
TIMEFORMAT=%U
for start in first second; do
  seconds=$({ time "$fast/bin/im2colnet" train --json --epochs 2 >"$start.json" 2>"$start.log"; } 2>&1) || { cat "$start.log"; fail "the $start training"; }
  echo "$start start: $seconds s of processor time"
  declare "$start=$seconds"
done
python3 "$root/.ci/accuracy.py" 0.8 first.json second.json
python3 -c "import sys; sys.exit(not $second < $first - 1)" || fail "the second start compiles again"
"$fast/bin/im2colnet" doctor

# The tests of the part optional certify it for this processor.
section "It is certified, for a processor with vectors of 8 numbers where there are such"
if [ "$(uname -m)" = x86_64 ]; then
  # the features that belong to the name: by default Numba adds those of this processor
  export NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=
fi
"$fast/bin/im2colnet" check-backend numba | tee certificate.log
[ "$(uname -m)" != x86_64 ] || grep -q "^vectors *8 " certificate.log || fail "the kernels are not those of the older processor"

section "The tests of its kernels, with vectors of 8 numbers where there are such"
need_dev
cd "$root"
"$dev/bin/python" -m pytest -n 2 --hypothesis-profile few tests/numba_backend

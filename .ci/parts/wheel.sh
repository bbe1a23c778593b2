# The wheel: what it contains, and what it does in an environment that holds nothing else, away from the checkout.
. .ci/common.sh

section "The wheel, and one from the source distribution"
need_wheel
"$dev/bin/python" -m build --outdir "$work/sdist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "no sdist"; }
"$dev/bin/python" .ci/check_wheel.py "$wheel" "$work"/sdist/*.whl
"$dev/bin/python" -m twine check --strict "$work"/sdist/*

section "The wheel in an empty environment, away from the checkout"
need_user
"$user/bin/python" -m pip list
cd "$away"
# the mean of three seeds: that of one moves by a percent with the rounding of another processor or NumPy
for seed in 0 1 2; do "$user/bin/im2colnet" train --json --seed $seed >"train-$seed.json"; done
python3 "$root/.ci/accuracy.py" 0.985 train-?.json
"$user/bin/im2colnet" backends
"$user/bin/im2colnet" doctor
status=0
IM2COLNET_BACKEND=cupy "$user/bin/im2colnet" doctor >cupy.log 2>&1 || status=$?
cat cupy.log
[ "$status" -eq 1 ] && grep -q "pip install 'cupy-cuda12x\[ctk\]'" cupy.log || fail "without CuPy it is not told what to install"
status=0
IM2COLNET_BACKEND=nonsense "$user/bin/im2colnet" train >nonsense.log 2>&1 || status=$?
cat nonsense.log
[ "$status" -eq 1 ] || fail "an unknown backend ends with status $status, not 1"
grep -q "nonsense.*numpy" nonsense.log || fail "the error does not name the unknown backend and those there are"
! grep -q Traceback nonsense.log || fail "an unknown backend gives a traceback"

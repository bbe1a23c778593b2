# CuPy as it is published, on a machine without a GPU.
. .ci/common.sh
need_user

section "CuPy as it is published, on a machine without a GPU"
# of what the extra cuda13 brings CuPy and cuBLAS alone, 0.5 of 1.3 GB: the others are found in the same way
gpu=$work/gpu
make_environment "$gpu"
"$gpu/bin/python" -m pip install --quiet --no-cache-dir "$wheel" 'cupy-cuda13x>=14' nvidia-cublas
cd "$away"
status=0
IM2COLNET_BACKEND=cupy "$gpu/bin/im2colnet" doctor >cupy.log 2>&1 || status=$?
cat cupy.log
if [ "$status" -eq 0 ]; then
  echo "there is a GPU here"
else
  grep -q "no NVIDIA GPU can be used here" cupy.log || fail "without a GPU the CuPy backend says something else"
  ! grep -q Traceback cupy.log || fail "the CuPy backend ends in a traceback"
fi
"$gpu/bin/python" -c 'from im2colnet_cupy.cuda import cublas; print("cuBLAS is found:", cublas().__name__)'
"$gpu/bin/python" -m pip uninstall --quiet --yes nvidia-cublas
"$gpu/bin/python" -c 'from im2colnet_cupy.cuda import cublas; cublas()' >cublas.log 2>&1 && fail "what finds cuBLAS where it is missing?"
tail -n 1 cublas.log
grep -q "BackendError: .*cuBLAS is not found" cublas.log || fail "without cuBLAS it is not told what is missing"
rm -rf "$gpu"

section "The command for GPUs, without one"
status=0
PYTHON=$user/bin/python bash "$root/tests/gpu/on_a_gpu.sh" >gpu.log 2>&1 || status=$?
cat gpu.log
[ "$status" -eq 1 ] && grep -q "Nothing was measured" gpu.log || fail "without a GPU the command for GPUs ends otherwise"
! grep -q Traceback gpu.log || fail "without a GPU the command for GPUs ends in a traceback"

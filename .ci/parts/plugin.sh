# A third party's backend, built and installed for real.
. .ci/common.sh
need_user

section "A third party's backend, built and installed for real"
"$dev/bin/python" -m build --wheel --outdir "$work/plugin" "$root/tests/plugin" >"$work/build.log" 2>&1 ||
  { cat "$work/build.log"; fail "no wheel of the plug-in"; }
"$user/bin/python" -m pip install --quiet --no-index "$work"/plugin/*.whl
cd "$away"
"$user/bin/im2colnet" backends | tee backends.log
grep -q "demo.*im2colnet-demo.*yes" backends.log || fail "the plug-in is not listed"
IM2COLNET_BACKEND=demo "$user/bin/im2colnet" train --json --epochs 2 >demo.json
python3 "$root/.ci/accuracy.py" 0.8 demo.json
IM2COLNET_BACKEND=demo "$user/bin/python" "$root/.ci/plugin_step.py"

section "It is certified, by the command and by pytest"
"$user/bin/im2colnet" check-backend demo --plant
need_wheel
make_environment "$work/pytest"
"$work/pytest/bin/python" -m pip install --quiet pytest "$wheel" "$work"/plugin/*.whl
"$work/pytest/bin/python" -m pytest --im2colnet-backend demo

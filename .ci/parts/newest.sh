# Tests with the newest Python that can be had, and the newest packages.
. .ci/common.sh

newest=3.14    # of Python, and of those that Debian's testing has

section "The newest Python and packages"
if command -v "python$newest" >/dev/null; then
  make_environment "$work/newest" "python$newest"
  "$work/newest/bin/python" -m pip install --quiet -e '.[test]'
  "$work/newest/bin/python" -m pip list
  "$work/newest/bin/python" -m pytest -n auto "${fast_tests[@]}"
  exit
fi

# otherwise Debian's testing has it, in a folder of its own, which only root can enter
debian=$work/debian
{ [ "$(id -u)" -eq 0 ] && unshare --mount true && { command -v debootstrap >/dev/null || install_debian debootstrap; }; } ||
  { echo "WARNING: there is no python$newest, and no root who could enter Debian's: the newest Python is not tried"; exit 0; }
site=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | awk '$2 !~ /-/ && $3 == "main" { print $1; exit }')
timeout 300 debootstrap --variant=minbase --include=python3-venv,ca-certificates,git testing "$debian" "$site" >"$work/debian.log" 2>&1 ||
  { tail -n 5 "$work/debian.log"; echo "WARNING: Debian's testing cannot be had here: the newest Python is not tried"; exit 0; }
cp /etc/resolv.conf "$debian/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$debian/etc/ssl/certs/ca-certificates.crt"
git clone --quiet . "$debian/im2colnet"
# what is mounted lasts as long as the tests
unshare --mount bash -euo pipefail -s "$debian" "${fast_tests[@]}" <<'ROOT'
debian=$1
shift
mount --bind /proc "$debian/proc"
mount --bind /dev "$debian/dev"
chroot "$debian" bash -euo pipefail -c 'cd /im2colnet
python3 --version
python3 -m venv /environment
/environment/bin/python -m pip install --quiet -e ".[test]"
/environment/bin/python -m pip list
/environment/bin/python -m pytest -n auto "$@"' pytest "$@"
ROOT

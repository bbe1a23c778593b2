#!/usr/bin/env bash
# Everything that only a GPU can tell, in one command and one folder of results:
#
#     bash tests/gpu/on_a_gpu.sh [--smoke] [FOLDER]
#
# --smoke takes a minute at most and tells whether the backend starts, is right and trains; without it the tests, the
# timings and the comparisons follow, 8 minutes at most. It needs no network and no installation: Python with NumPy and
# CuPy, in a checkout. FOLDER is by default gpu-results-DATE. The exit code is 0 if everything holds, else 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=470 smoke=''
if [ "${1:-}" = --smoke ]; then
  smoke=--smoke seconds=60
  shift
fi
case "${1:-}" in
  -*) echo "usage: bash tests/gpu/on_a_gpu.sh [--smoke] [FOLDER]" >&2; exit 2 ;;
esac
folder=${1:-gpu-results-$(date +%Y%m%d-%H%M%S)}
unset IM2COLNET_PRECISION IM2COLNET_BACKEND
export PYTHONPATH=.:backends:tests:tests/gpu PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "there is no $python: set PYTHON to one that has NumPy and CuPy" >&2; exit 1; }

# what is a reason not to begin is said before anything is written
if ! why=$("$python" tests/gpu/on_a_gpu.py --can-start 2>&1); then
  echo "$why" >&2
  echo "Nothing was measured: this command needs a machine with an NVIDIA GPU." >&2
  exit 1
fi
mkdir -p "$folder"
status=0
# shellcheck disable=SC2086 # no argument at all where it is empty
timeout --kill-after=5 "$seconds" "$python" tests/gpu/on_a_gpu.py $smoke --out "$folder" || status=$?
if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
  echo "FAILED: it was stopped after $seconds seconds" | tee -a "$folder/summary.txt"
fi
echo "The results are in $folder: summary.txt, results.json, log.txt"
[ "$status" -eq 0 ] || exit 1

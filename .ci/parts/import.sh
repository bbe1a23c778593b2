# What `import im2colnet` costs beside `import numpy`.
. .ci/common.sh
need_user

section "What the import costs"
cd "$away"
"$user/bin/python" "$root/.ci/import_cost.py"

# Linters, layout, types, the fragments of the changelog, and nothing of this machine in the files.
. .ci/common.sh
need_dev

section "Linters and types, as before a commit"
PATH=$dev/bin:$PATH PRE_COMMIT_HOME=$work/pre-commit pre-commit run --all-files --show-diff-on-failure --color never

section "The changelog can be made of its fragments"
"$dev/bin/towncrier" build --draft

section "Nothing of this machine is in the files"
"$dev/bin/python" .ci/places.py

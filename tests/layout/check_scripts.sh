#!/bin/bash
# Parses every shell script of the repository and checks that it can be executed as it is checked out.
# Usage: check_scripts.sh ROOT
set -uo pipefail
cd "$1" || exit 2
failed=0
while IFS= read -r -d '' file; do
    IFS= read -r first <"$file" || continue
    [[ $first == '#!'* ]] || continue
    [[ -x $file ]] || { echo "$file begins with #! but is not executable"; failed=1; }
    [[ $first != *bash* ]] || bash -n "$file" || failed=1
done < <(find .ci script tests -type f -not -path '*/__pycache__/*' -print0)
exit $failed

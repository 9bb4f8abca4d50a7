#!/bin/bash
# Parses every shell script of the repository and checks that it can be executed as it is checked out, and that those that
# people type explain themselves: a script that took --help for the name of something would set out to do it.
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
for script in script/*; do
    [[ -f $script ]] || continue
    grep -qx '\. script/lib/usage\.sh' "$script" || { echo "$script does not source script/lib/usage.sh"; failed=1; continue; }
    "$script" --help | grep -q . || { echo "$script --help explains nothing"; failed=1; }
done
exit $failed

#!/bin/bash
# The example of a store from outside serves a real job, whose output is right, and what is wrong about such a store is refused.
# Usage: check_own_store.sh FARSWAP OBJECT         root: it pages a program
set -euo pipefail
farswap=$1 object=$2
scratch=$(mktemp -d /var/tmp/farswap-own-store.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# refused WORDS OPTION...: farswap ends with an error that has these words, and leaves nothing.
refused() {
    local words=$1 status=0
    shift
    "$farswap" run --ram 40M "$@" -- true 2>said || status=$?
    ((status != 0)) && grep -q -e "$words" said || { echo "status $status for $*, wanted: $words; it said:"; cat said; exit 1; }
    [[ ! -e pages ]] || { echo "$* left its file"; exit 1; }
}
refused 'for example ?size=8G' --swap "plugin:$object?path=$scratch/pages"
refused 'begins with /' --swap 'plugin:relative.so?size=1G'
refused 'cannot load it' --swap "plugin:$scratch/nothing.so?size=1G"
refused 'it is no store' --swap 'plugin:/lib/x86_64-linux-gnu/libm.so.6?size=1G'
refused 'name a file' --swap "plugin:$object?size=64M"
refused 'does not know colour=' --swap "plugin:$object?size=64M&path=$scratch/pages&colour=red"
touch taken
refused 'File exists' --swap "plugin:$object?size=64M&path=$scratch/taken"

# 60 MB that do not compress, under 40 MiB.
head -c 45000000 /dev/urandom | base64 -w 999 >lines
sort -S 200M lines >plain
"$farswap" run --ram 40M --swap "plugin:$object?size=200M&path=$scratch/pages" --stats stats -- sort -S 200M lines >sorted
cmp plain sorted
[[ ! -e pages ]] || { echo "the store's file is left"; exit 1; }
grep -q '"own store ' stats || { echo "the statistics name another store:"; cat stats; exit 1; }
written=$(grep -o '"written_bytes": *[0-9]*' stats | grep -o '[0-9]*$' | sort -n | tail -n 1)
((written > 1000000)) || { echo "only ${written:-no} bytes went to the store"; exit 1; }

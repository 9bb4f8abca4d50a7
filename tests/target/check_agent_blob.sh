#!/bin/sh
# Checks the agent's object file: its code is copied into programs as it is, so it may refer to nothing outside its own
# section and must fit where the injector puts it. Usage: check_agent_blob.sh OBJECT
set -eu
object=$1
section=farswap_agent
bytes_max=16384 # kCodeBytes of src/target/inject.cpp

bad() {
    echo "$object: $*" >&2
    exit 1
}

if readelf -rW "$object" | grep -q "'\.rela\?$section'"; then
    readelf -rW "$object"
    bad "the agent's section has relocations: nobody resolves them in the program"
fi

undefined=$(nm -u "$object")
[ -z "$undefined" ] || bad "the agent refers to symbols outside:" $undefined

# Name and size of each section that is loaded (flag A).
readelf -SW "$object" | sed -n 's/^ *\[ *[0-9]*\] //p' | awk '$7 ~ /A/ { print $1, $5 }' | {
    found=
    while read -r name size; do
        size=$((0x$size))
        case $name in
        $section)
            found=$size
            [ "$size" -gt 0 ] && [ "$size" -le $bytes_max ] || bad "the agent has $size bytes, 1 to $bytes_max fit"
            ;;
        .note.*) ;; # of the linker's, never read at run time
        *) [ "$size" -eq 0 ] || bad "$size bytes in $name would stay behind" ;;
        esac
    done
    [ -n "$found" ] || bad "there is no section $section"
    echo "$found bytes"
}

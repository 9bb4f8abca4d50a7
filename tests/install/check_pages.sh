#!/bin/bash
# Every command has a manual page with all its options, which mandoc and groff find no fault with and man-db can index.
# Usage: check_pages.sh FOLDER FARSWAP FARSWAPD         FOLDER holds man1/farswap.1 and so on
set -euo pipefail
folder=$1 farswap=$2 farswapd=$3
failed=0

wrong() {
    echo "$*"
    failed=1
}

# has_all PAGE PROGRAM [COMMAND]: every name of an option in the help is in the page, too.
has_all() {
    local page=$1 text name
    [[ -s $page ]] || { wrong "there is no $page"; return; }
    text=$(MANWIDTH=200 MAN_KEEP_FORMATTING='' man -l "$page" 2>/dev/null | col -b | tr '‐−' '--')
    for name in $("${@:2}" --help | grep -oP '(?<=^  )-[-a-z]+(,-[-a-z]+)*' | tr ',' '\n'); do
        grep -q -E -e "^ +(-[a-z], )?$name( |$)|^ +$name," <<<"$text" || wrong "$page has no option $name"
    done
}

pages=0
while read -r command; do
    has_all "$folder/man1/farswap-$command.1" "$farswap" "$command"
    grep -q "farswap-$command" <(man -l "$folder/man1/farswap.1" 2>/dev/null) || wrong "farswap(1) does not name farswap-$command(1)"
    ((++pages))
done < <("$farswap" --help | sed -n 's/.* farswap \([a-z]*\) .*   .*/\1/p')
((pages >= 9)) || wrong "farswap --help lists $pages commands only"
has_all "$folder/man8/farswapd.8" "$farswapd"

for page in "$folder"/man?/*; do
    # Long lines of the source are not what the check is for.
    said=$(mandoc -T lint -W style "$page" | grep -v 'input text line longer than 80 bytes' || true)
    [[ -z $said ]] || wrong "$said"
    said=$(groff -ww -man -T utf8 "$page" 2>&1 >/dev/null)
    [[ -z $said ]] || wrong "$page: $said"
    lexgrog "$page" >/dev/null || wrong "man-db finds no name and purpose in $page"
done
exit $failed

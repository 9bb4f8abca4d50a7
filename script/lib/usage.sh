# To be sourced by a script, in the project's folder: -h or --help as the first argument shows what stands at its top, and ends it.
if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "script/${0##*/}"
    exit 0
fi

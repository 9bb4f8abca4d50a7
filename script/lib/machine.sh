#!/bin/bash
# Prints the head of a recorded result: what was measured, at which commit, on which machine. Usage: machine.sh TITLE
set -euo pipefail
commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- . ':!docs' || commit+=" with local changes" # the result itself is being written to docs
cpu=$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
memory_mib=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
cat <<END
# $1

- Commit: $commit, $(date -u +%Y-%m-%d)
- Machine: $(nproc) x $cpu, $memory_mib MiB RAM
- System: Linux $(uname -r), $(. /etc/os-release && echo "$PRETTY_NAME"), $(g++ --version | head -n 1)

END

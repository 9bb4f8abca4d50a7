#!/bin/sh
# The first process of the virtual machine: runs each line of /tests under farswap and reports on the console. A line is
# NAME|COMMAND, quoted for a shell; /farswap-options holds the options of `farswap run`, its $NET an address to take first. Reports:
#   VM: start NAME       VM: at NAME SECONDS FIGURES (each half minute)
#   VM: result NAME STATUS DIGEST SECONDS      VM: said NAME LINE      VM: stats NAME JSON
#   VM: oom KILLS MESSAGES      VM: done
export PATH=/bin:/usr/bin LC_ALL=C OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 HOME=/
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o size=16m tmp /tmp
# What is printed must not be torn by the kernel's own messages.
echo 1 >/proc/sys/kernel/printk
. /farswap-options
if [ -n "$NET" ]; then
    ip link set lo up
    ip addr add "$NET" dev eth0
    ip link set eth0 up
fi

# What the disk has moved and what memory is free: whoever watches sees a job advance, or hang.
progress_of() {
    seconds=0
    while sleep 30; do
        seconds=$((seconds + 30))
        read -r _ _ in _ _ _ out _ </sys/block/vda/stat
        echo "VM: at $1 $seconds s, disk read $((in >> 11)) MiB, written $((out >> 11)) MiB," \
            "$(grep MemAvailable /proc/meminfo)"
    done
}

echo "VM: ready $(uname -r) $(grep MemTotal /proc/meminfo) swaps $(grep -c / /proc/swaps)"
while IFS='|' read -r name command; do
    echo "VM: start $name"
    progress_of "$name" &
    progress=$!
    start=$(date +%s)
    eval "set -- $command"
    # $OPTIONS is a list of words.
    digest=$({
        farswap run $OPTIONS --stats /tmp/stats -- "$@" </dev/null 2>/tmp/said
        echo $? >/tmp/status
    } | sha256sum)
    kill $progress
    echo "VM: result $name $(cat /tmp/status) ${digest%% *} $(($(date +%s) - start))"
    while read -r line; do echo "VM: said $name $line"; done </tmp/said
    echo "VM: stats $name $(tr '\n' ' ' </tmp/stats)"
done </tests
kills=$(grep '^oom_kill ' /proc/vmstat)
echo "VM: oom ${kills#* } $(dmesg | grep -c -i -E 'out of memory|oom-kill|invoked oom')"
echo "VM: done"
poweroff -f

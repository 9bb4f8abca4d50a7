#!/bin/sh
# The first process of the virtual machine: runs each line of /tests under farswap and reports on the console. A line is
# NAME|COMMAND; /farswap-options holds the options of `farswap run`, its $NET an address to take first. Reports:
#   VM: result NAME STATUS DIGEST SECONDS      VM: said NAME LINE      VM: oom COUNT      VM: done
export PATH=/bin:/usr/bin LC_ALL=C OPENBLAS_NUM_THREADS=2 PYTHONDONTWRITEBYTECODE=1 HOME=/
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
echo "VM: ready $(uname -r) $(grep MemTotal /proc/meminfo) swaps $(grep -c / /proc/swaps)"
while IFS='|' read -r name command; do
    start=$(date +%s)
    # $OPTIONS and $command are lists of words.
    digest=$({
        farswap run $OPTIONS -- $command </dev/null 2>/tmp/said
        echo $? >/tmp/status
    } | sha256sum)
    echo "VM: result $name $(cat /tmp/status) ${digest%% *} $(($(date +%s) - start))"
    while read -r line; do echo "VM: said $name $line"; done </tmp/said
done </tests
echo "VM: oom $(dmesg | grep -c -i -E 'out of memory|oom-kill|invoked oom')"
echo "VM: done"
poweroff -f

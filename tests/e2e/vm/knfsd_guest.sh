#!/bin/sh
# The first process of a virtual machine that is an NFS server: exports /export of its second disk, NFSv3 and v4, by the
# kernel's own server. Reports on the console: "VM: ready KERNEL" once it serves, "VM: failed WHAT" if something does not work.
#   "VM: written" once a client has written more than the name of a store's owner.
export PATH=/bin:/usr/bin:/sbin:/usr/sbin LC_ALL=C
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /run/rpcbind
# What is printed must not be torn by the kernel's own messages.
echo 1 >/proc/sys/kernel/printk

step() {
    "$@" >/run/said 2>&1 || echo "VM: failed $*: $(tr '\n' ' ' </run/said)"
}
step ip link set lo up
step ip addr add 10.0.2.15/24 dev eth0
step ip link set eth0 up
# The journal is replayed here: what had not been flushed when the machine was killed is gone.
step mount -t ext4 /dev/vdb /export
step mount -t nfsd nfsd /proc/fs/nfsd
step rpcbind
step exportfs -a
step rpc.mountd --port 20048
step rpc.nfsd --grace-time 10 --lease-time 10 8
grep -q 2049 /proc/fs/nfsd/portlist || echo "VM: failed: nfsd does not listen"
echo "VM: ready $(uname -r) $(cat /proc/fs/nfsd/versions)"

# The counts of procedures, the eighth of NFSv3 (RFC 1813), and of operations of v4, number 38 (RFC 8881).
count_of() {
    counts=$(grep "^$1 " /proc/net/rpc/nfsd) number=$2
    # The line's name and its length come first.
    set -- $counts
    shift $((number + 2))
    echo "${1:-0}"
}
until [ $(($(count_of proc3 7) + $(count_of proc4ops 38))) -gt 8 ]; do sleep 0.1; done
echo "VM: written"
while :; do sleep 3600; done

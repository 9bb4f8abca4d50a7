"""Cases of bad_input.py on NFS servers whose disk has a quota. The limit is that of a btrfs quota group, as nfs-ganesha passes on
what the file system says (EDQUOT: NFS3ERR_DQUOT, NFS4ERR_DQUOT). On ext4 and XFS, where a quota is a user's, it takes a kernel
with CONFIG_QFMT_V2 or CONFIG_XFS_QUOTA.
"""
import shutil
import subprocess

from durability import by_version
from fault_lab import REFUSED, Skip, case
from faults import Background, store_file, verify, wait_until
from harness import MIB


class Limited:
    """A mounted btrfs of the case's own, with a limit on all that is in it, and an NFS server that exports it."""

    def __init__(self, lab):
        if missing := [name for name in ("mkfs.btrfs", "btrfs") if shutil.which(name) is None]:
            raise Skip(f"not installed: {', '.join(missing)}")
        self.point = lab.directory / "limited"
        self.point.mkdir()
        image = lab.directory / "limited.img"
        with open(image, "wb") as file:
            file.truncate(1024 * MIB)
        # One copy of all, so that what the limit counts is what files hold.
        subprocess.run(["mkfs.btrfs", "-q", "-m", "single", "-d", "single", image], check=True, capture_output=True)
        if subprocess.run(["mount", "-o", "loop", image, self.point], capture_output=True).returncode != 0:
            raise Skip("no btrfs, or no loop mounts, here")
        lab.cleanup.callback(subprocess.run, ["umount", "-l", self.point], check=False)
        self.btrfs("quota", "enable", self.point)
        self.server = lab.server(str(self.point))

    @staticmethod
    def btrfs(*words):
        return subprocess.run(["btrfs", *map(str, words)], check=True, capture_output=True, text=True).stdout

    def limit(self, mib):
        self.btrfs("qgroup", "limit", f"{mib}M", "0/5", self.point)

    def used_mib(self):
        """What counts, as of the file system's last transaction."""
        self.btrfs("filesystem", "sync", self.point)
        rows = [line.split() for line in self.btrfs("qgroup", "show", "--raw", self.point).splitlines()]
        return next(int(row[1]) for row in rows if row and row[0] == "0/5") // MIB


def refused_by_the_quota(lab, run, limited):
    lab.expect("WRONG BYTE" not in run.error, f"the program read wrong bytes: {run.last_error()}")
    lab.expect_refusal(run, REFUSED, "quota", str(limited.point), left_in=[limited.point])


def small_from_the_start(lab, version):
    limited = Limited(lab)
    limited.limit(80)
    run = lab.job(by_version(limited.server, version), *verify(lab, "--seconds", "10"), flags=["--quiet"], limit_s=120)
    refused_by_the_quota(lab, run, limited)


def used_up_meanwhile(lab, version):
    """The administrator sets a limit below what is in use, while the program has pages there."""
    limited = Limited(lab)
    job = Background(lab, by_version(limited.server, version), *verify(lab, "--seconds", "100"),
                     flags=["--quiet", "--pool", "16M"], limit_s=200)
    if lab.expect(store_file(limited.point) is not None, "nothing was written to the store"):
        limited.limit(max(limited.used_mib() // 2, 16))
        wait_until(lambda: not job.thread.is_alive(), 120)
    refused_by_the_quota(lab, job.end(), limited)


@case
def quota_that_is_too_small(lab):
    small_from_the_start(lab, 3)


@case
def quota_that_is_too_small_by_nfsv4(lab):
    small_from_the_start(lab, 4)


@case
def quota_that_is_used_up_meanwhile(lab):
    used_up_meanwhile(lab, 3)


@case
def quota_that_is_used_up_meanwhile_by_nfsv4(lab):
    used_up_meanwhile(lab, 4)


@case
def quota_that_a_size_keeps_to(lab):
    """A store that is told to stay well below the limit never meets it."""
    limited = Limited(lab)
    limited.limit(900)
    run = lab.job(f"{limited.server.url}&size=400M", *verify(lab, "--seconds", "4"), flags=["--quiet"], limit_s=200)
    lab.expect(run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect_nothing_left(run, limited.point)

"""Cases of bad_input.py about memory that the pager takes while it works: none, where pages wait for it (decision 0026).
They run farswap_trapped, which is farswap with a malloc that ends it there.
"""
import dataclasses
import os

import harness
from fault_lab import case
from nbd import Nbdkit, image

VERIFY = ["--size", "96M", "--operations", "200"]  # prints a digest of its memory


def trapped(lab):
    program = lab.tools.farswap.parent / "farswap_trapped"
    lab.tools = dataclasses.replace(lab.tools, farswap=program)


def expect_none(lab, url, *program, flags=(), ram="40M", **options):
    run = lab.job(url, *program, ram=ram, flags=["-q", *flags], limit_s=200, **options)
    told = " ".join(map(str, (url, *flags)))
    lab.expect(run.status == 0, f"{told}: exit status {run.status}: {run.error[:3000]}")
    lab.expect("in the pager's loop" not in run.error, f"{told}: {run.error[:3000]}")
    return run


@case
def nothing_is_allocated(lab):
    """On the ways of faults and of pages that leave: over each kind of store, sealed, compressed and not, with the tier and
    without, by io_uring and by epoll; the output is that of a plain run."""
    trapped(lab)
    verify = [lab.tools.workloads / "verify", *VERIFY]
    plain = harness.run([str(word) for word in verify], lab.output(), limit_s=100)
    nbd = Nbdkit(lab, "file", f"file={image(lab)}")
    ways = [(lab.file_url(), []),
            (lab.file_url(), ["--cache-tier", "off", "--compress", "off"]),
            (lab.file_url(), ["--seal", "off", "--compress", "zstd"]),
            (lab.server().url, []),
            (lab.file_url(), ["--cache-tier", "off", "--chaos", "20000"]),
            (nbd.url, [])]
    for url, flags in ways:
        run = expect_none(lab, url, *verify, flags=flags)
        lab.expect(run.digest() == plain.digest(), f"{url} {flags}: output differs from the plain run's")
    # What of it does not compress stays inside.
    small = [lab.tools.workloads / "growheap"]
    expect_none(lab, "none", *small, ram="64M")
    expect_none(lab, lab.file_url(), *verify, environment=dict(os.environ, FARSWAP_IO_ENGINE="epoll"))


@case
def events_allocate_only_where_they_may(lab):
    """Forks, threads that come and go, mappings that change under the pager's hands, and chaos."""
    trapped(lab)
    url = lab.file_url()
    workloads = lab.tools.workloads
    expect_none(lab, url, workloads / "fork_tree", "--filler", "40M", "--rounds", "1")
    expect_none(lab, url, workloads / "threads", "--rounds", "1", flags=["--chaos", "20000"], ram="100M")
    expect_none(lab, url, workloads / "mmap_race", "--rounds", "1", flags=["--chaos", "20000"], ram="100M")


@case
def an_allocation_is_trapped(lab):
    """One that is put into the way of a fault, of a page that leaves, or of a seal ends the job, and says by whom it was made."""
    trapped(lab)
    verify = [lab.tools.workloads / "verify", *VERIFY]
    for where, by in (("fault", "Pager"), ("evict", "copy_into"), ("seal", "Sealer")):
        run = lab.job(lab.file_url(), *verify, ram="40M", flags=["-q"], limit_s=60,
                      environment=dict(os.environ, FARSWAP_ALLOCATIONS=where))
        lab.expect(run.status not in (0, 124) and not run.timed_out, f"{where}: exit status {run.status}")
        lab.expect("farswap: an allocation of 1 bytes in the pager's loop, by" in run.error and by in run.error,
                   f"{where}: {run.error[:2000]}")

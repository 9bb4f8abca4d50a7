"""Cases of bad_input.py about the way to the kernel: io_uring refused, as many container profiles do, and asked for by name."""
import errno
import os

import harness
import seccomp
from fault_lab import REFUSED, case

IO_URING = (425, 426, 427)  # io_uring_setup, _enter, _register
ENTER = IO_URING[1:2]


def refuse_io_uring(error=errno.EPERM, calls=IO_URING):
    return lambda: seccomp.forbid([(number, error) for number in calls])


def with_engine(name):
    return dict(os.environ, FARSWAP_IO_ENGINE=name)


def expect_equal_output(lab, url, directory, *program, **options):
    """The program gives the bytes of a plain run, with pages outside and by epoll."""
    plain = harness.run([str(word) for word in program], lab.output(), limit_s=120)
    stats_path = lab.directory / "stats.json"
    run = lab.job(url, *program, ram="40M", flags=["--stats", stats_path], limit_s=300, **options)
    lab.expect(plain.status == 0 and run.status == 0, f"exit status {run.status}: {run.last_error()}")
    lab.expect(run.digest() == plain.digest(), f"{url}: output differs from the plain run's")
    stats = harness.read_stats(stats_path)
    pages = stats.get("pages", {})
    lab.expect(stats.get("io_engine") == "epoll", f"engine {stats.get('io_engine')}")
    lab.expect(pages.get("written", 0) > 4096 and pages.get("in", 0) > 1024, f"few pages moved: {pages}")
    lab.expect_nothing_left(run, directory)


@case
def io_uring_is_refused(lab):
    """Over a file and over NFS the output is equal, with several processes, too; `check` names the engine."""
    for error, calls in ((errno.EPERM, IO_URING), (errno.ENOSYS, IO_URING), (errno.EPERM, ENTER)):
        checked = lab.farswap("check", lab.file_url(), preexec=refuse_io_uring(error, calls))
        text = checked.output.read_text()
        lab.expect(checked.status == 0, f"check ends with {checked.status}: {text}")
        lab.expect(f"io_uring is refused here ({os.strerror(error)}): epoll serves" in text, f"check does not name epoll: {text}")
    program = [lab.tools.workloads / "verify", "--size", "96M", "--operations", "800"]  # prints a digest of its memory
    for calls in (IO_URING, ENTER):
        expect_equal_output(lab, lab.file_url(), lab.store, *program, preexec=refuse_io_uring(calls=calls))
    server = lab.server()
    expect_equal_output(lab, server.url, server.store_directory(), *program, preexec=refuse_io_uring())
    run = lab.job(lab.file_url(), lab.tools.workloads / "fork_tree", "--filler", "32M", "--rounds", "1", ram="40M",
                  limit_s=120, preexec=refuse_io_uring())
    lab.expect(run.status == 0 and "pages    out" in run.error, f"fork_tree: {run.status}: {run.error}")
    lab.expect_nothing_left(run)


@case
def engine_is_asked_for(lab):
    """By name: the one that is not there is refused, and so is a name of none."""
    run = lab.job(lab.file_url(), "true", environment=with_engine("epoll"), flags=["-v"])
    lab.expect(run.status == 0, f"exit status {run.status}: {run.error}")
    lab.expect_refusal(lab.job(lab.file_url(), "true", environment=with_engine("kqueue")), REFUSED,
                       "FARSWAP_IO_ENGINE=kqueue", "io_uring or epoll")
    lab.expect_refusal(lab.job(lab.file_url(), "true", environment=with_engine("io_uring"), preexec=refuse_io_uring()),
                       REFUSED, "io_uring", "seccomp", "unset FARSWAP_IO_ENGINE")
    checked = lab.farswap("check", environment=with_engine("epoll"))
    lab.expect("epoll, as FARSWAP_IO_ENGINE asks for" in checked.output.read_text(), checked.output.read_text())

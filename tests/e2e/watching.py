"""Cases of bad_input.py in which a running job is looked at, and its cap changed, from outside: by farswap top
and set, and by those who scrape metrics.
"""
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import harness
from attaching import Program, Attached, status_of, verify, wait_until
from fault_lab import REFUSED, USAGE, case

MIB = harness.MIB


def jobs(lab):
    return json.loads(lab.farswap("top", "--json", "--interval", "0.2").output.read_text())


def job_of(lab, pid):
    return next((job for job in jobs(lab) if pid in job["processes"]["pids"]), None)


def expect_line(lab, run, status, *words):
    """A refusal while another job has the store."""
    good = run.status == status and run.error.count("\n") == 1 and all(word in run.error for word in words)
    lab.expect(good, f"exit status {run.status} instead of {status}: {run.error!r}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def scrape(address, request=b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(address)
        client.sendall(request)
        answer = b""
        while more := client.recv(65536):
            answer += more
    return answer.decode()


@case
def top_and_set(lab):
    """What is outside follows the cap, up and down, and the program's bytes stay right."""
    program = verify(lab, "--size", "200M", "--threads", "2")
    program.wait_for_memory(200)
    pager = Attached(lab, program.pid, ram="96M")
    pager.wait_until_paged(program.pid, 96)
    table = lab.farswap("top", "--once", "--interval", "0.2")
    lab.expect(table.status == 0 and re.search(rf"^ *{program.pid} root +verify .* 96M .* ok$", table.output.read_text(), re.M),
               f"no line of the job: {table.output.read_text()!r}")
    job = job_of(lab, program.pid)
    lab.expect(job and job["memory"]["cap_bytes"] == 96 * MIB and job["memory"]["far_bytes"] > 50 * MIB, f"it says {job}")
    expect_line(lab, lab.farswap("set", program.pid, "--ram", "12M"), REFUSED, "12 MiB", "least that works is")
    run = lab.farswap("set", program.pid, "--ram", "64M", "--json")
    change = json.loads(run.output.read_text() or "{}")
    lab.expect(run.status == 0 and change.get("cap_bytes") == 64 * MIB and change.get("cap_before_bytes") == 96 * MIB,
               f"set: {run.status} {run.error} {change}")
    pager.wait_until_paged(program.pid, 64)
    run = lab.farswap("set", program.pid, "--ram", "300M")
    lab.expect(run.status == 0 and "cap 300 MiB instead of 64 MiB" in run.output.read_text(), f"set: {run.error}")
    wait_until(lambda: program.process.poll() is not None or status_of(program.pid, "RssAnon") > 120 << 10, "more in RAM")
    program.expect_success()
    pager.expect_end()


@case
def top_on_a_terminal(lab):
    """It draws, answers keys, and gives the terminal back also when a signal ends it."""
    for ending in ("q", signal.SIGTERM):
        master, slave = pty.openpty()
        before = os.get_terminal_size(slave), subprocess.run(["stty", "-g"], stdin=slave, capture_output=True).stdout
        process = subprocess.Popen([lab.tools.farswap, "top"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                   env=dict(os.environ, TERM="xterm", LANG="C.UTF-8"))
        shown, deadline, asked = b"", time.monotonic() + 30, False
        while time.monotonic() < deadline and process.poll() is None:
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 65536)
            if b"q quit" in shown and not asked:
                asked = True
                os.write(master, b"q") if ending == "q" else process.send_signal(ending)
        status = process.wait(10)
        while select.select([master], [], [], 0.1)[0]:
            shown += os.read(master, 65536)
        after = os.get_terminal_size(slave), subprocess.run(["stty", "-g"], stdin=slave, capture_output=True).stdout
        lab.expect(status == (0 if ending == "q" else -ending), f"ended with {status} on {ending}: {shown[-200:]}")
        lab.expect(b"\x1b[?1049h" in shown and shown.rstrip().endswith(b"\x1b[?1l\x1b>") or b"\x1b[?1049l" in shown,
                   f"the screen is not left: {shown[-200:]}")
        lab.expect(before == after, f"the terminal's settings differ: {before} {after}")
        os.close(master)
        os.close(slave)


@case
def metrics_while_it_runs(lab):
    port, path = free_port(), str(lab.directory / "metrics")
    for flag, address in ((f"127.0.0.1:{port}", ("127.0.0.1", port)), (f"unix:{path}", path)):
        program = Program(lab, lab.tools.farswap, "run", "--quiet", "--ram", "64M", "--swap", lab.file_url(), "--metrics", flag,
                          "--", lab.tools.workloads / "verify", "--size", "150M", "--seconds", "4")
        wait_until(lambda: program.process.poll() is not None or answers(address), "an answer")
        answer = scrape(address)
        lab.expect(answer.startswith("HTTP/1.1 200 OK\r\n") and "\nfarswap_ram_cap_bytes 67108864\n" in answer, answer[:300])
        lab.expect(scrape(address, b"GET /else HTTP/1.1\r\n\r\n").startswith("HTTP/1.1 404"), "no 404")
        expect_line(lab, lab.job(lab.file_url(), "true", flags=["--metrics", flag]), REFUSED, "metrics", "listens there")
        program.expect_success()
    lab.expect(not os.path.exists(path), "the socket is left")
    left = harness.listing(lab.store)
    lab.expect(not left, f"left in the store: {left}")


def answers(address):
    try:
        return "farswap_faults_total" in scrape(address)
    except OSError:
        return False


@case
def nothing_to_look_at(lab):
    lab.expect_refusal(lab.farswap("set", 1, "--ram", "64M"), REFUSED, "process 1 is not managed")
    lab.expect_refusal(lab.farswap("set", 2 ** 22 + 1, "--ram", "64M"), REFUSED, "no process")
    lab.expect_refusal(lab.farswap("set", "1", "--ram", "banana"), USAGE, "ram")
    lab.expect_refusal(lab.farswap("set", "1"), USAGE, "cap")
    lab.expect_refusal(lab.farswap("top", "--interval", "0"), USAGE, "interval")
    for address in ("0.0.0.0:9000", "192.0.2.1:9000", "127.0.0.1:0", "banana", "unix:"):
        lab.expect_refusal(lab.job(lab.file_url(), "true", flags=["--metrics", address]), USAGE, "metrics")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        lab.expect_refusal(lab.job(lab.file_url(), "true", flags=["--metrics", f"127.0.0.1:{port}"]), REFUSED, "listens there")
    plain = lab.directory / "plain"
    plain.write_text("mine")
    lab.expect_refusal(lab.job(lab.file_url(), "true", flags=["--metrics", f"unix:{plain}"]), REFUSED, "no socket")
    lab.expect(plain.read_text() == "mine", "a file was replaced")

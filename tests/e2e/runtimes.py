"""Programs with a memory management of their own, one row each: garbage collectors with threads, allocators of other C
libraries, static binaries, a database server and a build with their many processes. They are compiled when they are
first run.
"""
import subprocess

from programs import PYTHON, REAL, Input, Program, register_kind


def compiled(source, *compiler):
    """A kind of Input: the program that `compiler SOURCE -o PROGRAM` makes."""
    def path(directory):
        program = directory / f"compiled-{source.replace('.', '-')}"
        if not program.exists():
            subprocess.run([*compiler, "-o", program, REAL / source], check=True, cwd=directory,
                           env={"PATH": "/usr/bin:/bin", "HOME": str(directory)})
        return program
    return path


register_kind("go", compiled("churn.go", "go", "build"))
register_kind("musl", compiled("churn.c", "musl-gcc", "-static", "-O2", "-pthread"))
register_kind("glibc-static", compiled("churn.c", "gcc", "-static", "-O2", "-pthread"))
register_kind("rust", compiled("churn.rs", "rustc", "-O"))


def runtimes(directory):
    def java(name, *flags):
        return Program(f"java-{name}", ["java", "-Xmx420m", *flags, "-cp", Input("java"), "Churn", "500000"], kind="runtime",
                       limit_s=600)
    return [
        Program("go", [Input("go"), "1600000"], kind="runtime", limit_s=600),
        Program("musl", [Input("musl"), "1500000"], kind="runtime", limit_s=600),
        Program("glibc-static", [Input("glibc-static"), "1500000"], kind="runtime", limit_s=600),
        Program("rust", [Input("rust"), "1200000"], kind="runtime", limit_s=600),
        java("g1", "-XX:+UseG1GC"), java("serial", "-XX:+UseSerialGC"), java("parallel", "-XX:+UseParallelGC"),
        Program("node-workers", ["node", str(REAL / "churn_workers.js"), "900000"], kind="runtime", limit_s=600),
        Program("parallel-build", [PYTHON, str(REAL / "parallel_build.py"), str(directory), "4"], kind="runtime", limit_s=1800),
        Program("postgres", [PYTHON, str(REAL / "postgres_bench.py"), "2000"], kind="runtime", limit_s=900,
                caps=(50,)),  # a quarter is 30 MiB: 16 of them are shared memory, and a dozen processes share the rest
    ]

"""The programs of the end-to-end suite, one row each: how to start it, what it needs, how it is judged."""
import dataclasses
import pathlib
import subprocess

import inputs
from harness import MIB, PYTHON

REAL = pathlib.Path(__file__).resolve().parent / "real"
FILLER = "96M"  # what a scenario dirties to push pages out: several times the cap that follows from it


MADE = {}  # by kind: what makes it, from a directory to its path


def register_kind(kind, make):
    MADE[kind] = make


@dataclasses.dataclass
class Input:
    """A word of a command line that stands for a generated file; made when the program is first run."""
    kind: str
    size: int = 0

    def path(self, directory):
        if self.kind in MADE:
            return MADE[self.kind](directory)
        return make_input(directory, self.kind, self.size)


@dataclasses.dataclass
class Program:
    name: str
    argv: list
    kind: str = "real"            # or "scenario", "runtime"
    compare: bool = True          # output must be that of the plain run
    environment: dict = dataclasses.field(default_factory=dict)
    output: pathlib.Path = None   # a file that the program writes, compared besides its standard output
    limit_s: int = 300
    quick: bool = False           # in the excerpt that CTest runs
    on_request: bool = False      # only when it is named: takes very long
    caps: tuple = (50, 25)        # percent of the need

    def command(self, directory):
        return [str(word.path(directory)) if isinstance(word, Input) else word for word in self.argv]


def scenario(tools, name, *arguments, **options):
    return Program(name, [str(tools.workloads / name), *arguments], kind="scenario", **options)


def scenarios(tools, directory, filler=FILLER):
    common = ["--filler", filler, "--rounds", "2", "--dir", str(directory)]
    quick = {"odirect", "uring_fixed", "futex", "robust", "threads", "signals", "mmap_race", "exec_chain", "exec_late", "guard",
             "orphans", "newuser", "tsync", "regrow", "wipe_and_end"}
    names = ["odirect", "uring_plain", "uring_fixed", "pinned", "readwrite", "futex", "robust", "altstack", "threads", "mmap_race",
             "fork_tree", "exec_chain", "exec_late", "mapfixed", "wipeonfork", "wipe_and_end", "guard", "mprotect", "mlock",
             "overcommit_big", "growheap", "signals", "big_stack", "pipe", "main_ends", "fork_change", "fork_rewrite", "orphans",
             "stopped_sibling", "newuser", "tsync", "regrow", "undumpable", "dontunmap"]
    larger = {"exec_late": ["--filler", "192M"]}  # programs begin to fill memory a few ms before they are paged
    return [scenario(tools, name, *common, *larger.get(name, []), quick=name in quick, limit_s=180) for name in names]


def verifiers(tools):
    def verify(name, *arguments, **options):
        row = scenario(tools, "verify", "--size", "400M", *arguments, **options)
        return dataclasses.replace(row, name=f"verify-{name}")
    return [
        verify("mixed", "--operations", "40000", caps=(50, 25, 10)),
        verify("half-mixed", "--operations", "8000", quick=True),
        verify("random", "--operations", "100000", "--pattern", "random"),
        verify("sequential", "--operations", "10000", "--pattern", "sequential"),
        verify("ten-minutes", "--seconds", "600", compare=False, caps=(10,), limit_s=1500, on_request=True),
    ]


def make_input(directory, kind, size):
    path = directory / f"{kind}-{size}{'.cpp' if kind == 'cpp' else ''}"
    if not path.exists():
        partial = path.with_suffix(".partial")
        inputs.KINDS[kind](size, partial)
        partial.rename(path)
    return path


def sqlite_script(rows):
    """Every value follows from the row's number; the index makes the accesses random."""
    return f"""
PRAGMA cache_size=-2000000;
CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, v TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
INSERT INTO t SELECT i, (i * 2654435761) % 4294967296, printf('%0200d', i * 7919) FROM n;
CREATE INDEX t_k ON t(k);
UPDATE t SET v = v || 'x' WHERE id % 50 = 0;
SELECT count(*), sum(length(v)), sum(k) FROM t;
SELECT sum(id) FROM (SELECT id FROM t ORDER BY k LIMIT 20000);
DELETE FROM t WHERE id % 10 = 3;
PRAGMA integrity_check;
SELECT count(*), sum(id) FROM t;
"""


def compiled_java(directory):
    classes = directory / "classes"
    if not (classes / "Churn.class").exists():
        subprocess.run(["javac", "-d", classes, REAL / "Churn.java"], check=True)
    return classes


register_kind("java", compiled_java)


def real_programs(directory, quick=False):
    """Each needs some hundred MiB, those of the excerpt half of that when it is run. Made so that a quarter of it is hard but
    does not take hours."""
    assembler = directory / "heavy.s"
    numeric = [PYTHON, str(REAL / "numeric.py")]
    blas = {"OPENBLAS_NUM_THREADS": "2"}
    return [
        Program("sort", ["sort", "--parallel=2", "-S", "1G", "-T", str(directory), Input("lines", (150 if quick else 300) * MIB)],
                environment={"LC_ALL": "C"}, quick=True),
        Program("numpy-sort", [*numeric, "sort", "20000000" if quick else "40000000"], environment=blas, quick=True),
        Program("numpy-product", [*numeric, "product", "4000"], environment=blas),
        Program("sqlite", ["sqlite3", ":memory:", sqlite_script(900_000)], limit_s=600),
        Program("xz", ["xz", "-9", "-T2", "--block-size=6MiB", "-c", Input("log", 12 * MIB)], limit_s=1200),
        Program("g++", ["g++", "-std=c++20", "-O1", "-frandom-seed=1", "-S", "-o", str(assembler), Input("cpp", 10)],
                output=assembler, limit_s=600),
        Program("java", ["java", "-Xmx420m", "-XX:TieredStopAtLevel=1", "-cp", Input("java"), "Churn",
                         "800000"], limit_s=600),
        Program("node", ["node", "--max-old-space-size=1024", str(REAL / "churn.js"), "600000"], limit_s=600),
        Program("perl", ["perl", str(REAL / "churn.pl"), "80000"], limit_s=600,
                environment={"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}),
        Program("redis", [PYTHON, str(REAL / "redis_snapshot.py"), str(directory), "60000"], limit_s=600),
        Program("stress-ng", ["stress-ng", "--vm", "2", "--vm-bytes", "300M", "--verify", "--vm-ops", "400",
                              "--vm-method", "all", "--temp-path", str(directory), "--quiet"], compare=False,
                limit_s=600),
    ]

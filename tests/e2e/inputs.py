"""Makes the inputs of the real programs: the same bytes for the same arguments, on any machine. Run as a program:
inputs.py KIND SIZE FILE. Knows nothing of farswap.
"""
import pathlib
import random
import sys


def lines(size, path, width=1000):
    """Lines of `width` bytes with random keys, for sort: shorter ones would only mean more faults a MiB."""
    generator = random.Random(1)
    digits = width - 18  # beside the key, a blank and the line's end
    with open(path, "wb") as file:
        written = 0
        while written < size:
            block = b"".join(b"%016x %0*x\n" % (generator.getrandbits(64), digits, generator.getrandbits(digits * 4 - 28))
                             for _ in range(max(1, 2_000_000 // width)))
            file.write(block)
            written += len(block)


def log_text(size, path):
    """A log of 300 kinds of reports of 100 lines, each with the time before it; for xz. Where text repeats, its encoder
    jumps; in text that does not, it walks a tree all over its memory for each byte, and a quarter of it takes hours."""
    generator = random.Random(2)
    words = ["fault", "reclaim", "run", "slot", "store", "verifier", "commit", "frame", "pool", "stage", "evict"]
    reports = ["".join(f"  host{generator.randrange(40):02d} {generator.choice(words)} "
                       f"{generator.choice(words)}={generator.randrange(100000)} id={generator.getrandbits(32):08x}\n"
                       for _ in range(100)) for _ in range(300)]
    with open(path, "w", encoding="ascii") as file:
        written, second = 0, 0
        while written < size:
            second += generator.randrange(30)
            text = f"{second:010d}\n{generator.choice(reports)}"
            file.write(text)
            written += len(text)


def cpp_source(size, path):
    """A translation unit that instantiates many standard containers; `size` is the number of types."""
    parts = ["#include <algorithm>\n#include <functional>\n#include <map>\n#include <optional>\n#include <regex>\n"
             "#include <set>\n#include <string>\n#include <tuple>\n#include <unordered_map>\n#include <variant>\n"
             "#include <vector>\n"]
    for i in range(size):
        parts.append(f"""
struct T{i} {{ int a; std::string b; std::vector<double> c;
    friend bool operator<(const T{i}& x, const T{i}& y) {{ return std::tie(x.a, x.b) < std::tie(y.a, y.b); }} }};
int f{i}(int n) {{
    std::map<T{i}, std::vector<std::optional<T{i}>>> m;
    std::unordered_map<std::string, std::variant<int, T{i}, std::set<T{i}>>> u;
    std::vector<std::tuple<T{i}, std::function<int(const T{i}&)>>> v;
    for (int i = 0; i < n; i++) {{
        T{i} t{{i, std::to_string(i), {{1.0 * i}}}};
        m[t].push_back(t); u[t.b] = t; v.emplace_back(t, [n](const T{i}& x) {{ return x.a + n; }});
    }}
    std::stable_sort(v.begin(), v.end(), [](auto& x, auto& y) {{ return std::get<0>(y) < std::get<0>(x); }});
    int sum = 0;
    for (auto& [t, g] : v) sum += g(t);
    return sum + int(m.size()) + int(u.size());
}}
""")
    calls = " + ".join(f"f{i}(n)" for i in range(size))
    parts.append(f"int main(int n, char**) {{ return {calls}; }}\n")
    pathlib.Path(path).write_text("".join(parts), encoding="ascii")


KINDS = {"lines": lines, "log": log_text, "cpp": cpp_source}

if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    KINDS[sys.argv[1]](int(sys.argv[2]), sys.argv[3])

#!/usr/bin/env python3
"""Shows that check_source.py finds what it is there to find: one small tree a rule."""
import pathlib
import tempfile
import unittest

import check_source


class CheckSourceTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def layers(self):
        return "\n".join(check_source.check_layers(self.root))

    def style(self):
        return "\n".join(check_source.check_style(self.root))

    def test_includes_downward_are_allowed(self):
        self.write("src/pager/a.h", '#include "target/b.h"\n#include "farswap/store.h"\n#include "a.h"\n')
        self.assertEqual(self.layers(), "")

    def test_include_upward_is_found(self):
        self.write("src/page/a.cpp", '// a\n#include "swap/b.h"\n')
        self.assertIn('src/page/a.cpp:2: "swap/b.h" is above page', self.layers())

    def test_target_may_not_know_swap_or_store(self):
        self.write("src/target/a.h", '#include "swap/b.h"\n#include "store/c.h"\n')
        self.assertIn("target may know nothing of swap", self.layers())
        self.assertIn("target may know nothing of store", self.layers())

    def test_the_helper_may_know_only_how_it_is_talked_to(self):
        self.write("src/daemon/a.h", '#include "cli/b.h"\n#include "target/inject.h"\n#include "target/uapi.h"\n')
        self.assertIn("src/daemon/a.h:1: daemon may know of cli only", self.layers())
        self.assertIn("src/daemon/a.h:2: daemon may know of target only", self.layers())
        self.assertNotIn("a.h:3", self.layers())

    def test_foreign_system_interface_is_found(self):
        self.write("src/pager/a.cpp", "#include <sys/ptrace.h>\n#include <libnbd.h>\n")
        self.assertIn("<sys/ptrace.h> belongs to cli and keeper and target", self.layers())
        self.assertIn("<libnbd.h> belongs to store", self.layers())

    def test_public_header_that_needs_a_private_one_is_found(self):
        self.write("include/farswap/a.h", '#include "base/fd.h"\n')
        self.assertIn('"base/fd.h" is not public', self.layers())

    def test_folder_that_is_no_layer_is_found(self):
        self.write("src/util/a.h", "// a\n")
        self.assertIn("not in a layer's folder", self.layers())

    def test_long_file_is_found(self):
        self.write("src/page/a.cpp", "//\n" * (check_source.LINES_MAX + 1))
        self.assertIn("601 lines", self.style())

    def test_header_without_first_comment_is_found(self):
        self.write("src/page/a.h", "#pragma once\n")
        self.assertIn("begins with a comment", self.style())

    def test_unfinished_work_is_found(self):
        self.write("src/page/a.cpp", "// TO" "DO later\n")
        self.assertIn("src/page/a.cpp:1: unfinished", self.style())

    def test_dead_link_and_missing_test_are_found(self):
        self.write("README.md", "[there](docs/kernel-facts.md), [nowhere](docs/none.md), [web](https://kernel.org)")
        self.write("docs/kernel-facts.md", "`Pool.IsTested`, `Pool.IsNot`; scenarios `known`, `unknown`;\n"
                   "Checks `seen`, `unseen`")
        self.write("docs/pinning.md", "`Pool.IsNeither`; C tests `there`, `absent`")
        self.write("tests/a.cpp", "TEST_F(Pool, IsTested) {}")
        self.write("tests/workloads/known.cpp", "")
        self.write("tests/e2e/a.py", "def seen(far):\n")
        self.write("tests/page/a.c", "static void there(void) {\n")
        self.assertEqual(
            list(check_source.check_documents(self.root)),
            ["README.md: the link to docs/none.md leads nowhere",
             "docs/kernel-facts.md: there is no test Pool.IsNot",
             "docs/kernel-facts.md: there is no scenario unknown",
             "docs/kernel-facts.md: there is no check unseen",
             "docs/pinning.md: there is no test Pool.IsNeither",
             "docs/pinning.md: there is no C test absent"])


if __name__ == "__main__":
    unittest.main()

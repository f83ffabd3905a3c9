#!/usr/bin/env python3
"""test_tools.py: a tool that has done nothing must not say that all is well.

Each tool of tools/ that runs other programs and sums up what they said is given programs that are
not there, say nothing, or fail at once, and must fail; and one that does its work, and must pass.
Prints what differs; exit status 1 then.
"""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
failures = []
sys.dont_write_bytecode = True # beside the tools


def check(condition, what, output=""):
    if not condition:
        failures.append(what)
        print(f"FAILED: {what}\n{output}")


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(*command, **env):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env=dict(os.environ, **env), timeout=60)
    return done.returncode, done.stdout


def load(name):
    """A tool as a module."""
    loader = importlib.machinery.SourceFileLoader(name, str(TOOLS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


# ---- sweep-faults ----

# A program of tests: one test, that makes two calls of malloc and is told that the first one fails.
PROGRAM = r"""#!/usr/bin/env python3
import os, struct, sys
if sys.argv[1:] == ["--list"]:
    %(list)s
    print("a_test")
    sys.exit(0)
def serve(fault, test, out):
    # In a child of its own; see tests/support/harness.h.
    os.dup2(os.open(out, os.O_WRONLY | os.O_TRUNC), 2)
    if fault == "count":
        %(count)s
        with open(os.environ["WEFT_FAULT_TRACE"], "wb") as f:
            f.write(struct.pack("QQQ", 2, 7, 8))
        sys.exit(0)
    %(run)s
    sys.stderr.write("fault: %%s hit call 1, from 0x1\n" %% fault)
    sys.exit(0)
%(serve)s
for line in iter(sys.stdin.readline, ""):
    child = os.fork()
    if child == 0:
        serve(*line.split())
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def sweep(folder, *arguments, **parts):
    script(folder / "tests/api/test_api_fake",
           PROGRAM % dict({"list": "", "count": "", "run": "", "serve": ""}, **parts))
    (folder / "CMakeCache.txt").write_text("")
    return run(TOOLS / "sweep-faults", folder, *arguments)


def test_sweep_faults(folder):
    rc, out = sweep(folder)
    check(rc == 0 and "absorbed" in out, "a sweep that absorbs its faults passes", out)
    rc, out = sweep(folder, run="os.abort()")
    check(rc != 0, "a sweep with a crash fails", out)
    hang = 'sys.stderr.write("fault: %s hit call 1, from 0x1\\nthe test hangs; ' \
           '%s\\n" %% (fault, "%s")); os.abort()'
    no_stack = "log: task 1 is cancelled: no memory for its stack (1 so far)"
    rc, out = sweep(folder, "--calls", "alloc", run=hang % ("%s", "%s", no_stack))
    check(rc == 0 and "known" in out, "a test that waits for a task without a stack passes", out)
    rc, out = sweep(folder, "--calls", "alloc", run=hang % ("%s", "%s", "no more"))
    check(rc != 0 and "hang" in out, "a sweep with a hang fails", out)
    rc, out = sweep(folder, count="sys.exit(1)")
    check(rc != 0, "a sweep of a test that fails by itself fails", out)
    rc, out = sweep(folder, list="sys.exit(1)")
    check(rc != 0, "a sweep of a program that names no tests fails", out)
    rc, out = sweep(folder, serve="sys.exit(0)")
    check(rc != 0, "a sweep of a program that runs no tests fails", out)
    rc, out = sweep(folder, "fake:no_such_test")
    check(rc != 0, "a sweep of a test that is not there fails", out)
    rc, out = sweep(folder, "--seconds", "0.000001")
    check(rc != 0, "a sweep without time for anything fails", out)
    rc, out = sweep(folder, "--calls", "recv")
    check(rc != 0, "a sweep that makes no such call fails", out)
    rc, out = sweep(folder, "fake:a_test", "--replay", "alloc:1:ENOMEM",
                    run="sys.exit(0)")
    check(rc != 0, "a replay that does not reach its fault fails", out)

    pinned = folder / "pinned"
    pinned.write_text("api.fake:a_test alloc ENOMEM # once a bug\n")
    rc, out = sweep(folder, "--pinned", pinned)
    check(rc == 0, "pinned faults that are absorbed pass", out)
    pinned.write_text("api.gone:a_test alloc ENOMEM\n")
    rc, out = sweep(folder, "--pinned", pinned)
    check(rc != 0, "pinned faults of programs that are all not built fail", out)
    pinned.write_text("api.fake:a_test alloc ENOMEM\n")
    rc, out = sweep(folder, "--pinned", pinned, run="sys.exit(0)")
    check(rc != 0, "pinned faults that are never reached fail", out)
    # Says that a check has failed, and not which one: the tool trips over it.
    rc, out = sweep(folder, "--pinned", pinned, run="sys.exit(77)")
    check(rc != 0, "an answer that is not understood fails", out)


# ---- models ----

PASSED = 'echo \'model "x": 12 schedules, bounds 2 and 1, 0.01 s\'\n'


def test_models(folder):
    program = folder / "tests/model/test_model_fake"
    script(program, "#!/bin/sh\n" + PASSED)
    rc, out = run(TOOLS / "models", folder)
    check(rc == 0, "a model that passes passes", out)
    script(program, "#!/bin/sh\nexit 1\n")
    rc, out = run(TOOLS / "models", folder)
    check(rc != 0, "a model that fails fails", out)
    script(program, "#!/bin/sh\nexit 0\n")
    rc, out = run(TOOLS / "models", folder)
    check(rc != 0, "a program that tells of no model fails", out)
    script(folder / "tests/model/test_model_pruning", "#!/bin/sh\nexit 0\n")
    rc, out = run(TOOLS / "models", folder, "--tests", "pruning")
    check(rc == 0, "but for those that try the explorer", out)
    page = TOOLS.parent / "docs/design/model_programs.md"
    before = page.read_text()
    script(program, "#!/bin/sh\n" + PASSED)
    rc, out = run(TOOLS / "models", folder, "--update", "--tests", "fake")
    check(rc != 0 and page.read_text() == before, "the page is not written from some of the programs", out)
    if page.read_text() != before:
        page.write_text(before)


# ---- fuzz ----


def test_fuzz(folder):
    target = folder / "tests/fuzz/fuzz_fake_libfuzzer"
    script(target, "#!/bin/sh\necho stat::number_of_executed_units: 100\n")
    rc, out = run(TOOLS / "fuzz", folder, "1")
    check(rc == 0 and "100 runs" in out, "a target that ran passes", out)
    script(target, "#!/bin/sh\nexit 0\n")
    rc, out = run(TOOLS / "fuzz", folder, "1")
    check(rc != 0, "a target that ran nothing fails", out)
    rc, out = run(TOOLS / "fuzz", folder, "1", "gone")
    check(rc != 0, "a target that is not there fails", out)


# ---- matrix ----


def matrix(folder, build_status, ctest_status, count):
    """With a compiler and a ctest that say so. Packages are there."""
    bin_dir = folder / "bin"
    script(bin_dir / "dpkg-query", "#!/bin/sh\necho install ok installed\n")
    script(bin_dir / "cmake", f'#!/bin/sh\n[ "$1" != --build ] || exit {build_status}\n'
                              'while [ "$1" != -B ]; do shift; done\nmkdir -p "$2"\n')
    script(bin_dir / "ctest", '#!/bin/sh\n[ "$1" != -N ] || { echo "  Test #1: api.fake"; exit 0; }\n'
                              f'echo "100% tests passed, 0 tests failed out of {count}"\nexit {ctest_status}\n')
    return run(TOOLS / "matrix", folder / "cells", "^ucontext$", PATH=f"{bin_dir}:{os.environ['PATH']}")


def test_matrix(folder):
    rc, out = matrix(folder, 0, 0, 3)
    check(rc == 0 and "3 passed, 0 failed" in out, "a cell that builds and passes passes", out)
    rc, out = matrix(folder, 2, 0, 3)
    check(rc != 0, "a cell that does not build fails, though programs of before pass", out)
    rc, out = matrix(folder, 0, 8, 3)
    check(rc != 0, "a cell whose tests fail fails", out)
    rc, out = matrix(folder, 0, 0, 0)
    check(rc != 0, "a cell that ran no test fails", out)


# ---- coverage ----


def test_coverage():
    tool = load("coverage")
    elsewhere = {"files": [{"filename": "/elsewhere/src/base/list.c", "segments": []}], "functions": []}
    try:
        problems = tool.check(tool.table_of(tool.read_sources(elsewhere)))
    except SystemExit as end:
        problems = [end.code]
    check(problems, "coverage of another checkout's files is not all there is")
    rows = [(name, lines, branches) for name, (lines, branches) in tool.recorded().items()]
    check(not tool.check(rows), "coverage as it is recorded passes", str(tool.check(rows)))
    check(tool.check([row for row in rows if row[0] != "src/net"]),
          "a directory that is recorded and was not measured fails")


# ---- check-instructions ----


def test_instructions():
    tool = load("check-instructions")
    old = {"row": (1000.0, 20.07)}
    check(not tool.compare({"row": (1040.0, 20.10)}, old), "a row that hardly grows passes")
    check(tool.compare({"row": (1060.0, 20.07)}, old), "a row that grows by more than 5 % fails")
    check(tool.compare({"row": (1000.0, 21.07)}, old), "a row with one locked operation more of twenty fails")
    check(tool.compare({"row": (1000.0, 20.07), "new": (1.0, 0.0)}, old), "a row that is not recorded fails")
    check(tool.compare({}, old), "counting no row fails")


# ---- checks of the tree ----


def test_empty_tree(folder):
    (folder / "docs").mkdir()
    (folder / "docs/behaviours.md").write_text("# Behaviours\n")
    for name in ("check-behaviours", "check-layers", "check-tested-names"):
        rc, out = run(TOOLS / name, folder)
        check(rc != 0, f"{name} of a tree with nothing in it fails", out)


def main():
    for test in (test_sweep_faults, test_models, test_fuzz, test_matrix, test_empty_tree):
        with tempfile.TemporaryDirectory() as folder:
            test(Path(folder))
    test_coverage()
    test_instructions()
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

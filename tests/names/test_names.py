#!/usr/bin/env python3
"""test_names.py [--no-chains] LIBRARY PROGRAM...: which functions a dump and the report of a panic
name.

PROGRAM is tests/names/named.c, linked in several ways, LIBRARY tests/names/library.c. A program
whose name has "stripped" in it has no symbols. --no-chains: the build may have no call chains, and
a program that prints none is right. Exit status 1 when something differs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

failures = []


def check(condition, what, output):
    if not condition:
        failures.append(what)
        print("FAILED: %s\n----\n%s\n----" % (what, output))


def run(program, folder, library_path):
    environment = dict(os.environ, LD_LIBRARY_PATH=library_path)
    result = subprocess.run([program], cwd=folder, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=60, text=True, errors="replace")
    check(result.returncode == 0, "%s ends with 0" % program, result.stdout)
    return result.stdout


def names(text):
    """The frames, as pairs of name (or None), and object and offset."""
    frames = []
    for line in re.findall(r"#\d+ (\S.*)", text):
        match = re.match(r"(?:(\S+)\+0x[0-9a-f]+ \()?([^ +]+)\+(0x[0-9a-f]+)\)?$", line)
        if match:
            frames.append((match.group(1), match.group(2), match.group(3)))
    return frames


def addr2line(path, offset):
    """The function before a return address."""
    result = subprocess.run(["addr2line", "-fe", path, hex(int(offset, 16) - 1)],
                            stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout.splitlines()[0]


def check_program(program, library, output):
    base, is_stripped = os.path.basename(program), "stripped" in program
    for inner, outer in [("wait_in_static", "waits"), ("panic_in_static", "panics")]:
        chain = names(output)
        shown = [name for name, where, _ in chain if where != base or not is_stripped]
        wanted = ["hidden_call", "named_call"]
        if not is_stripped:
            wanted = [inner] + wanted + [outer]
        check(any(shown[i:i + len(wanted)] == wanted for i in range(len(shown))),
              "%s: %s" % (base, wanted), output)
    if is_stripped:
        check(all(name is None or name.startswith("_") for name, where, _ in chain if where == base),
              "%s: none of its own has a name" % base, output)
        return
    if shutil.which("addr2line") is None:
        return
    paths = {base: program, os.path.basename(library): library}
    # Not those of weft, where it would name what is inlined there.
    own = ["wait_in_static", "panic_in_static", "hidden_call", "named_call", "waits", "panics", "run"]
    for name, where, offset in chain:
        if name in own and where in paths:
            check(addr2line(paths[where], offset) == name, "%s: addr2line knows %s+%s by its name"
                  % (base, where, offset), output)


def main(*arguments):
    may_lack_chains = arguments[0] == "--no-chains"
    library, *programs = arguments[1:] if may_lack_chains else arguments
    folder = os.path.dirname(library)
    with tempfile.TemporaryDirectory() as other:
        for program in programs:
            output = run(program, other, folder)
            if may_lack_chains and "    #" not in output:
                print("no call chains here")
                return 0
            check_program(program, library, output)

        # Started by a name that leads nowhere from where it goes.
        program = programs[0]
        result = subprocess.run(["no such name"], executable=program, cwd=other,
                                env=dict(os.environ, LD_LIBRARY_PATH=folder), timeout=60,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        check("wait_in_static+0x" in result.stdout, "by the program, not by its name", result.stdout)
    print("%d failures" % len(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

#!/usr/bin/env python3
"""test_gdb.py PROGRAM SCRIPT: the gdb commands on a live process and on a core file of it.

PROGRAM is tests/gdb/parked.c, linked to either library, SCRIPT tools/weft-gdb.py. Prints what
differs; exit status 1 then.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile

failures = []


def check(condition, what, output):
    if not condition:
        failures.append(what)
        print("FAILED: %s\n---- gdb said\n%s\n----" % (what, output))


def gdb(arguments, commands):
    line = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "set confirm off",
            "-ex", "set pagination off"]
    for command in commands:
        line += ["-ex", command]
    result = subprocess.run(line + arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=120, text=True, errors="replace")
    return result.stdout


def entry(output, pattern):
    """The line of a task that matches, and its chain: the names of the functions, innermost first,
    and "(N)" for those left out."""
    lines = output.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("task ") and re.search(pattern, line):
            chain = []
            for below in lines[i + 1:]:
                match = re.match(r"    (?:#\d+ +0x[0-9a-f]+ in (\S+)|\((\d+) frames? of weft)", below)
                if not match:
                    break
                chain.append(match.group(1) or "(%s)" % match.group(2))
            return line, chain
    return None, []


def follows(chain, names):
    """The names stand in the chain one after the other."""
    return any(chain[i:i + len(names)] == names for i in range(len(chain)))


def check_tasks(output, where, runs):
    for pattern in [r'"the first" \(fiber\) waits on \S+.*, spawned at .*parked\.c:\d+ in run$',
                    r'"sleeper" \(fiber, background\) waits on sleep',
                    r"\(future\) waits on a future of the test"]:
        check(entry(output, pattern)[0] is not None, "%s: weft tasks shows %s" % (where, pattern), output)
    if runs:
        check(entry(output, r"runs on worker \d+, thread \d+")[0] is not None,
              "%s: weft tasks shows who runs" % where, output)
    count = re.search(r"^(\d+) tasks$", output, re.M)
    check(count is not None and int(count.group(1)) >= 6, "%s: tasks are counted" % where, output)


def check_chains(output, where, innermost):
    line, chain = entry(output, r'"the first"')
    check(follows(chain, ["third", "second", "first"]), "%s: the chain of the first" % where, output)
    check("weft__wait_for" in chain[:chain.index("third") if "third" in chain else 0],
          "%s: the wait stands above" % where, output)
    line, chain = entry(output, r'"sleeper"')
    check("sleeper" in chain, "%s: the chain of the sleeper" % where, output)
    line, chain = entry(output, r'"runnable" \(fiber\) is runnable')
    check("waker_upper" in chain, "%s: the chain of one that waits for its turn" % where, output)
    line, chain = entry(output, r"runs on worker")
    # musl's functions have no unwind tables: gdb loses its way in the one that the core was dumped in.
    if where == "live" or not re.search("ld-musl|__restore_sigs", output):
        check(follows(chain, [innermost, "run"]), "%s: the chain of who runs" % where, output)


def is_folded(chain, names):
    """The names, where "()" is any count of frames, are the chain."""
    return [re.sub(r"^\(\d+\)$", "()", name) for name in chain] == names


def check_folded(output, where, running):
    check(is_folded(entry(output, r'"the first"')[1],
                    ["()", "weft_notify_wait", "third", "second", "first", "()"]),
          "%s: the frames of the program and the call it waits in" % where, output)
    check(is_folded(entry(output, r'"initialiser"')[1],
                    ["()", "weft_notify_wait", "weft__of_mine", "weft_of_mine", "()",
                     "weft_once_get_or_init", "initialiser", "()"]),
          "%s: frames between the program's are folded, its own called weft_ are not" % where, output)
    # Also where it has ended in a call of another function.
    check(is_folded(entry(output, r'"sleeper"')[1], ["()", "weft_sleep", "sleeper", "()"]),
          "%s: the call stands there by the name that the program knows" % where, output)
    if "ld-musl" not in output:
        chain = entry(output, r"runs on worker")[1]
        check(is_folded(chain[-3:], [running, "run", "()"]), "%s: one that runs" % where, output)
    check(output.count("shows them") == 1, "%s: how to see them all is said once" % where, output)


def core_pattern():
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as file:
        return file.read().strip()


def make_core(program, folder):
    """The kernel's core of the program, which aborts. (gdb's own generate-core-file stops at the
    guards of stacks, which cannot be read.) None: the kernel writes cores elsewhere."""
    if "/" in core_pattern() or "|" in core_pattern():
        return None
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    subprocess.run([program, "3"], cwd=folder, env=dict(os.environ, PARKED_ABORTS="1"),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)
    cores = [name for name in os.listdir(folder) if name.startswith("core")]
    check(len(cores) == 1, "the program leaves a core", " ".join(os.listdir(folder)))
    return os.path.join(folder, cores[0]) if cores else None


def main(program, script):
    with tempfile.TemporaryDirectory() as folder:
        live = gdb(["--args", program, "3"],
                   ["break stop_here", "run", "source " + script, "weft tasks",
                    "echo ==== all\\n", "weft bt -v all",
                    "echo ==== folded\\n", "weft bt all",
                    "echo ==== one\\n", "python FIRST = min(t.id for t in all_tasks() if t.name() == 'the first')",
                    "python gdb.execute('weft bt %d' % FIRST)",
                    "echo ==== chosen\\n", "python gdb.execute('weft task %d' % FIRST)",
                    "bt", "echo ==== filtered\\n", "weft fold on", "bt", "frame function third",
                    "echo ==== unfiltered\\n", "bt -no-filters", "weft fold off", "bt", "weft fold x",
                    "weft task", "echo ==== back\\n", "bt 2",
                    "echo ==== wrong\\n", "weft bt 99999999", "weft bt x", "weft bt /v", "weft bt 1 2",
                    # Memory that makes no sense: the site of one, the context of another, the list.
                    "python SLEEPER = next(t for t in all_tasks() if t.name() == 'sleeper')",
                    "python OTHER = next(t for t in all_tasks() if t.id == FIRST)",
                    "python gdb.execute('set var ((struct weft__task *)%d)->site = (void *)8'"
                    " % int(OTHER.value.address))",
                    "python gdb.execute('set var ((struct weft__stack *)%d)->sp = (void *)8'"
                    " % int(SLEEPER.value['stack']))",
                    "set var weft__runtimes->next = weft__runtimes",
                    "echo ==== broken\\n", "weft tasks", "weft bt all", "echo ==== end\\n"])
        parts = re.split(r"^==== (\w+)\n", live, flags=re.M)
        part = dict(zip(parts[1::2], parts[2::2]))
        check_tasks(parts[0], "live", True)
        check_chains(part.get("all", ""), "live", "stop_here")
        check_folded(part.get("folded", ""), "live", "stop_here")
        one = part.get("one", "")
        check(follows(entry(one, r'"the first"')[1], ["third", "second", "first"]), "weft bt ID", live)
        check(len(re.findall(r"^task ", one, re.M)) == 1, "weft bt ID shows one task", one)
        chosen = part.get("chosen", "")
        check(re.search(r"in third \(depth=(?:depth@entry=)?101\).*in second \(depth=(?:depth@entry=)?100\)", chosen, re.S) is not None,
              "bt of a chosen task shows arguments", chosen)
        filtered = part.get("filtered", "")
        levels = dict((name, int(level)) for level, name in re.findall(
            r"^#(\d+) +(?:0x[0-9a-f]+ in )?(\w+)", filtered.split("\n#0", 1)[-1], re.M))
        check(re.search(r"weft_notify_wait (\(now \w+\) )?\[and", filtered) is not None and
              "weft__wait_for" not in filtered and "fiber_main" not in filtered,
              "weft fold on: bt leaves out frames inside weft", filtered)
        check(levels.get("third", -1) == levels.get("weft_notify_wait", -1) + 1 and
              "#%d " % levels.get("third", -1) in one, "frames keep their numbers", filtered + one)
        unfiltered = part.get("unfiltered", "")
        check(len(re.findall(r" weft__wait_for ", unfiltered)) == 2 and
              len(re.findall(r" fiber_main ", unfiltered)) == 2, "weft fold off", unfiltered)
        check("weft fold on, or" in unfiltered, "weft fold x is refused", unfiltered)
        check("third" not in part.get("back", "third"), "bt is the thread's again", live)
        wrong = part.get("wrong", "")
        check("no task 99999999 lives" in wrong and "is no id of a task" in wrong and
              wrong.count("or weft bt [-v] all") == 2,
              "wrong ids are named", wrong)

        broken = part.get("broken", "")
        check("task %s is broken" % re.search(r"^task (\d+)", one, re.M).group(1) in broken,
              "a task that is broken is named", live)
        check(entry(broken, r"\(future\) waits on a future of the test")[0] is not None,
              "and the others are listed", live)
        check(re.search(r'"sleeper".*\n    \(no call chain: ', broken) is not None,
              "a chain that is broken is said to be", live)
        chains = broken.split("comes back to", 1)[-1]
        check(follows(entry(chains, r"runs on worker")[1], ["stop_here", "run"]),
              "and the others are shown", live)
        check("the list of runtimes is broken" in broken, "a list that has no end is ended", live)
        check("end" in part, "every command returns", live)

        core = make_core(program, folder)
        if core is None:
            print("not on a core: the kernel hands cores to %s" % core_pattern())
            return 1 if failures else 0
        post = gdb([program, core], ["source " + script, "weft tasks", "echo ==== all\\n", "weft bt -v all",
                                     "echo ==== folded\\n", "weft bt all"])
        parts = re.split(r"==== \w+\n", post)
        check_tasks(parts[0], "core", True)
        check_chains(parts[1], "core", "__GI_abort")
        check_folded(parts[-1], "core", "__GI_abort")
    print("%d failures" % len(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

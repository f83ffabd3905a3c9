# ctest: timeout=240 not-under=address,thread,memcheck (it measures what the process holds)
"""Half a minute of random work of every kind, and each promise of the soak broken once.

`make soak SECONDS=n` runs the same program for as long as one likes; see docs/design/soak.md.
"""

import os
import subprocess
import sys

PROGRAM = os.environ["WEFT_SOAK"]
SECONDS = 30
BROKEN_SECONDS = 2
BROKEN = {
    "memory": "bytes of heap",
    "descriptors": "descriptors: ",
    "mappings": "mappings: ",
    "threads": "threads: ",
    "latency": "a runnable task waited for",
    "values": "values: ",
}


def soak(*args):
    run = subprocess.run([PROGRAM, *map(str, args)], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, check=False)
    return run.returncode, run.stdout


def main():
    seed = os.environ.get("WEFT_TEST_SEED", "0")  # 0: one of its own, which it prints
    rc, said = soak(SECONDS, seed)
    print(said)
    failed = rc != 0
    for name, complaint in BROKEN.items():
        rc, said = soak(BROKEN_SECONDS, seed, name)
        if rc != 1 or complaint not in said:
            print(f"broken on purpose, and not noticed: {name}; it exited with {rc}:\n{said}")
            failed = True
    sys.exit(failed)


main()

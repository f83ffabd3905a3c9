"""Runs of rows: one, the test that they are fair, and all of them in turn."""
import os
import subprocess
import sys
from collections import defaultdict

from .peers import run_text
from .rows import WHOLE, expected_ops, name_for

NO_ROW = 3  # exit status of a peer that has no such row
TIMEOUT_S = 120


def parse_line(text, program_row, peer, threads, n):
    """The line of a row as a dictionary. ValueError when it is not the line that was asked for."""
    lines = text.strip().splitlines()
    if len(lines) != 1:
        raise ValueError(f'{len(lines)} lines instead of one')
    words = lines[0].split()
    if words[:4] != [program_row, peer, threads, str(n)]:
        raise ValueError('the line is of something else: ' + lines[0])
    sample = {key: float(word) for key, word in zip(('median', 'min', 'max'), words[4:7])}
    for word in words[7:]:
        key, _, value = word.partition('=')
        sample[key] = float(value.rstrip('%'))
    for key in ('median', 'min', 'max', 'ops'):
        if key not in sample:
            raise ValueError('no ' + key)
    return sample


def run_row(program, program_row, threads, n, reps, extra_env=None):
    env = dict(os.environ, REPS=str(reps), **(extra_env or {}))
    try:
        result = run_text([program, program_row, threads, str(n)], env=env, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return 124, '', f'no end after {TIMEOUT_S} s'
    return result.returncode, result.stdout, result.stderr.strip()


# ---- fairness ----

def check_fair(r, peer, threads, run):
    """What is unfair about a peer's row, as text; None if nothing. run(row, threads, n, env) is run_row of the peer."""
    program_row, _ = name_for(peer, r.name, threads)
    if program_row is None:
        status, _, _ = run(r.name, threads, r.fair_n, {})
        return None if status == NO_ROW else f'said to be absent, but ended with {status} instead of {NO_ROW}'
    status, out, err = run(program_row, threads, r.fair_n, {})
    if status != 0:
        return f'ended with {status}: {err}'
    try:
        sample = parse_line(out, program_row, peer, threads, r.fair_n)
    except ValueError as e:
        return str(e)
    if sample['ops'] != expected_ops(r, r.fair_n):
        return f'{sample["ops"]:.0f} operations instead of {expected_ops(r, r.fair_n)}'
    if not 0 <= sample['min'] <= sample['median'] <= sample['max']:
        return 'minimum, median and maximum are out of order'
    status, _, _ = run(program_row, threads, r.fair_n, {'BENCH_WRONG': '1'})
    if status != 1:
        return f'does not check its result: a wrong one ended with {status} instead of 1'
    return None


def test_fairness(rows, programs, threads_list):
    failed = []
    counts = defaultdict(int)
    for r in rows:
        for peer, program in programs.items():
            for threads in threads_list:
                why = check_fair(r, peer, threads,
                                 lambda name, t, n, env, p=program: run_row(p, name, t, n, 1, env))
                has = name_for(peer, r.name, threads)[0] is not None
                counts[peer] += has
                if why:
                    failed.append(f'{peer} {r.name} with {threads} threads: {why}')
    for line in failed:
        print('unfair:', line)
    print('fairness:', ', '.join(f'{peer} {count} rows' for peer, count in counts.items()),
          f'- {len(failed)} failed', flush=True)
    return not failed


# ---- in turn ----

def progress(text):
    """One line that is written over; nothing where it would be a log."""
    if sys.stderr.isatty():
        print(f'\r{text:78}\r', end='', file=sys.stderr, flush=True)


def measure_rows(rows, programs, threads_list, rounds, reps, divisor):
    samples = []
    for i in range(rounds):
        for k, r in enumerate(rows):
            n = r.n if r.name in WHOLE else max(r.n // divisor, r.fair_n)
            progress(f'round {i + 1} of {rounds}, row {k + 1} of {len(rows)}: {r.name}')
            for threads in threads_list:
                for peer, program in programs.items():
                    program_row, is_near = name_for(peer, r.name, threads)
                    if program_row is None:
                        continue
                    status, out, err = run_row(program, program_row, threads, n, reps)
                    if status != 0:
                        sys.exit(f'bench-peers: {peer} {program_row} with {threads} threads: {status}: {err}')
                    sample = parse_line(out, program_row, peer, threads, n)
                    if sample['ops'] != expected_ops(r, n):
                        sys.exit(f'bench-peers: {peer} {program_row}: {sample["ops"]:.0f} operations for {n}')
                    samples.append(dict(sample, row=r.name, peer=peer, threads=threads, n=n, round=i,
                                        **({'near': program_row} if is_near else {})))
    progress('')
    return samples

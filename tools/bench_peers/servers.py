"""Runs of echo servers: one under load, the test that they echo, and all of them in turn."""
import os
import signal
import socket
import subprocess

from .measure import NO_ROW, TIMEOUT_S, progress
from .peers import HAVE_CT, TITLES
from .rows import CELLS


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def core_plan(threads, cores):
    """Cores of the server, cores of the load."""
    if threads in ('1', 'ct'):
        return {cores[0]}, {cores[-1]}
    return set(cores[:-1]) if len(cores) > 2 else set(cores), {cores[-1]}


class ServerAbsent(Exception):
    """The program says that this machine has not what it needs."""


class ServerFailed(Exception):
    pass


def run_server(program, threads, load, cell, seconds, warm_up, cores):
    """One server, one load on it: the line of the load as a dictionary."""
    server_cores, load_cores = core_plan(threads, cores)
    port = str(free_port())
    server = subprocess.Popen([program, 'tcp_echo', threads, port], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, preexec_fn=lambda: os.sched_setaffinity(0, server_cores))
    try:
        result = subprocess.run([load, port, str(cell[0]), str(cell[1]), str(seconds), str(warm_up), str(server.pid)],
                                capture_output=True, text=True, timeout=TIMEOUT_S,
                                preexec_fn=lambda: os.sched_setaffinity(0, load_cores))
        is_alive = server.poll() is None
    except subprocess.TimeoutExpired as e:
        raise ServerFailed(f'{os.path.basename(program)} {threads}: no end after {TIMEOUT_S} s') from e
    finally:
        server.send_signal(signal.SIGKILL)
        _, err = server.communicate()
    if not is_alive and server.returncode == NO_ROW:
        raise ServerAbsent(err.strip())
    if result.returncode != 0 or not is_alive:
        raise ServerFailed(f'{os.path.basename(program)} {threads}, {cell[0]} connections, {cell[1]} bytes: '
                           f'{result.stderr.strip()} {err.strip()}'
                           + ('' if is_alive else f'; the server ended with {server.returncode}'))
    return {key: float(value) for key, value in (word.split('=') for word in result.stdout.split())}


def server_variants(servers, threads):
    """(label, peer, threads) of what is measured: with one worker the single-threaded runtimes, too."""
    variants = []
    for peer in servers:
        if threads == '1' and peer in HAVE_CT:
            variants.append((peer + '-ct', peer, 'ct'))
        if peer != 'epoll':
            variants.append((peer, peer, threads))
    return variants


def test_servers(servers, load, threads_list, cores):
    """Every byte comes back, over few and over many connections. Drops servers that this machine has no kernel for."""
    is_fair = True
    for peer, program in list(servers.items()):
        for threads in ['ct'] * (peer in HAVE_CT) + threads_list:
            try:
                for cell in ((3, 1), (50, 64), (20, 70000)):
                    run_server(program, threads, load, cell, 0.1, 0.02, cores)
            except ServerAbsent as e:
                print(f'without {TITLES[peer]}: {e}')
                servers.pop(peer)
                break
            except ServerFailed as e:
                print('unfair:', e)
                is_fair = False
    print('fairness of the servers:', ', '.join(servers), '- ' + ('passed' if is_fair else 'failed'), flush=True)
    return is_fair


def measure_servers(servers, load, threads_list, rounds, seconds, warm_up, cores):
    """Floor, A, floor, B, floor: what stands before and after each. Each sample holds all three."""
    samples = []
    for i in range(rounds):
        for threads in threads_list:
            for cell in CELLS:
                before = run_server(servers['epoll'], threads, load, cell, seconds, warm_up, cores)
                for label, peer, how in server_variants(servers, threads):
                    progress(f'round {i + 1} of {rounds}: {threads} workers, {cell[0]} connections, '
                             f'{cell[1]} bytes: {label}')
                    run = run_server(servers[peer], how, load, cell, seconds, warm_up, cores)
                    after = run_server(servers['epoll'], threads, load, cell, seconds, warm_up, cores)
                    samples.append({'server': label, 'threads': threads, 'connections': cell[0], 'bytes': cell[1],
                                    'round': i, 'run': run, 'before': before, 'after': after})
                    before = after
    progress('')
    return samples

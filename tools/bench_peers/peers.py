"""The peers: which packages of Debian they need, and how they are built."""
import glob
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
SOURCES = os.path.join(ROOT, 'bench', 'peers')
CRATES = '/usr/share/cargo/registry'


def run_text(command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, **kwargs)


def version_of(command, pattern=r'(\d[\w.+~-]*)'):
    try:
        found = re.search(pattern, run_text(command).stdout)
    except OSError:
        return None
    return found.group(1) if found else None


def package_version(package):
    return version_of(['dpkg-query', '-W', '-f', '${Version}', package]) or 'unknown'


def compile_c(build, source, program, libraries=(), compiler='cc', standard='gnu17'):
    out = os.path.join(build, program)
    depends = [os.path.join(SOURCES, source), os.path.join(SOURCES, 'peer.h'), __file__]
    if os.path.exists(out) and all(os.path.getmtime(out) > os.path.getmtime(path) for path in depends):
        return []
    # As weft's release build; NDEBUG is for the assertions in Boost's headers.
    return [[compiler, '-O3', '-DNDEBUG', '-std=' + standard, '-D_GNU_SOURCE', '-Wall', '-Wextra', '-pthread',
             os.path.join(SOURCES, source), *('-l' + library for library in libraries), '-o', out]]


def build_tokio(build):
    """In a copy: cargo writes beside the sources. Offline, from the crates that Debian installs."""
    target = os.path.join(build, 'tokio')
    os.makedirs(os.path.join(target, '.cargo'), exist_ok=True)
    with open(os.path.join(target, '.cargo', 'config.toml'), 'w') as f:
        f.write('[source.crates-io]\nreplace-with = "debian"\n\n[source.debian]\n'
                f'directory = "{CRATES}"\n')
    if os.path.exists(os.path.join(target, 'Cargo.lock')):
        os.remove(os.path.join(target, 'Cargo.lock'))  # perhaps in the format of a newer cargo
    shutil.copy(os.path.join(SOURCES, 'tokio', 'Cargo.toml'), target)
    shutil.copytree(os.path.join(SOURCES, 'tokio', 'src'), os.path.join(target, 'src'), dirs_exist_ok=True)
    return [['cargo', 'build', '--release', '--offline', '--quiet', '--target-dir', os.path.join(target, 'target')]]


def build_go(build):
    return [['go', 'build', '-o', os.path.join(build, 'gobench'), '.']]


Peer = namedtuple('Peer', 'name title packages is_there build program versions')

PEERS = [
    Peer('tokio', 'Tokio', ['librust-tokio-dev', 'cargo', 'rustc'],
         lambda: glob.glob(CRATES + '/tokio-1.*') and shutil.which('cargo'), build_tokio,
         'tokio/target/release/tokio-bench',
         lambda: {'tokio': os.path.basename(sorted(glob.glob(CRATES + '/tokio-1.*'))[-1])[len('tokio-'):],
                  'rustc': version_of(['rustc', '--version'])}),
    Peer('go', 'Go', ['golang-go'], lambda: shutil.which('go'), build_go, 'gobench',
         lambda: {'go': version_of(['go', 'version'], r'go(\d[\w.]*)')}),
    Peer('boost', 'Boost.Fiber', ['g++', 'libboost-fiber-dev'],
         lambda: os.path.exists('/usr/include/boost/fiber/all.hpp') and shutil.which('g++'),
         lambda build: compile_c(build, 'boost_fiber.cpp', 'boost-fiber', ['boost_fiber', 'boost_context'],
                                 'g++', 'c++17'),
         'boost-fiber', lambda: {'boost-fiber': package_version('libboost-fiber-dev')}),
    Peer('libuv', 'libuv', ['libuv1-dev'], lambda: os.path.exists('/usr/include/uv.h'),
         lambda build: compile_c(build, 'libuv.c', 'libuv', ['uv']), 'libuv',
         lambda: {'libuv': package_version('libuv1-dev')}),
    Peer('uring', 'io_uring by hand', ['liburing-dev'], lambda: os.path.exists('/usr/include/liburing.h'),
         lambda build: compile_c(build, 'echo_uring.c', 'echo-uring', ['uring']), 'echo-uring',
         lambda: {'liburing': package_version('liburing-dev')}),
]
SERVER_ONLY = ('uring', 'epoll')
NO_SERVER = ('boost',)
HAVE_CT = ('weft', 'tokio')  # have a single-threaded runtime besides
TITLES = dict({p.name: p.title for p in PEERS}, weft='weft', epoll='epoll by hand')


def install(peers):
    """As root on Debian and its kin; otherwise says what is missing. Returns the peers that are there."""
    missing = [p for p in peers if not p.is_there()]
    packages = sorted({package for p in missing for package in p.packages
                       if not shutil.which(package)})
    if missing and os.geteuid() == 0 and shutil.which('apt-get'):
        print('installing', *packages, flush=True)
        env = dict(os.environ, DEBIAN_FRONTEND='noninteractive')
        for command in (['apt-get', 'update', '-q'],
                        ['apt-get', 'install', '-q', '-y', '--no-install-recommends', *packages]):
            subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    for p in peers:
        if not p.is_there():
            print(f'without {p.title}; as root: apt-get install {" ".join(p.packages)}')
    return [p for p in peers if p.is_there()]


def build_all(peers, build):
    os.makedirs(build, exist_ok=True)
    commands = [(command, ROOT) for source, program in (('echo_epoll.c', 'echo-epoll'), ('echo_load.c', 'echo-load'))
                for command in compile_c(build, source, program)]
    for p in peers:
        # cargo looks for its configuration from where it runs.
        directory = {'go': os.path.join(SOURCES, 'go'), 'tokio': os.path.join(build, 'tokio')}.get(p.name, ROOT)
        commands += [(command, directory) for command in p.build(build)]
    env = dict(os.environ, GOFLAGS='-mod=mod -trimpath', GOPROXY='off', GOCACHE=os.path.join(build, 'go-cache'))
    print('building', *(p.title for p in peers), flush=True)
    for command, directory in commands:
        if subprocess.run(command, cwd=directory, env=env, check=False).returncode != 0:
            sys.exit('bench-peers: failed: ' + ' '.join(command))

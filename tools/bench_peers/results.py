"""What came out, in files."""
import json
import os
import platform
import re

from .chart import chart
from .peers import ROOT, run_text
from .table import markdown


def available_gib():
    with open('/proc/meminfo', encoding='ascii') as f:
        for line in f:
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) >> 20
    return 0


def load_average():
    return os.getloadavg()[0]


def machine():
    cpu = platform.machine()
    with open('/proc/cpuinfo') as f:
        found = re.search(r'^model name\s*: (.*)$', f.read(), re.M)
    if found:
        cpu = found.group(1)
    return {'cpu': cpu, 'arch': platform.machine(), 'cores': len(os.sched_getaffinity(0)), 'kernel': platform.release()}


def weft_version():
    """What was measured: the results that are being written do not make it another version."""
    commit = run_text(['git', '-C', ROOT, 'describe', '--always', '--abbrev=9']).stdout.strip()
    changed = run_text(['git', '-C', ROOT, 'status', '--porcelain', '-uno', '--', '.', ':!bench/results']).stdout.strip()
    return (commit or 'unknown') + ('-dirty' if changed else '')


def write_results(directory, part, section):
    """Keeps the other part of what was measured before."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f'{section["machine"]["arch"]}-{section["machine"]["cores"]}.json')
    results = {}
    if os.path.exists(path):
        with open(path) as f:
            results = json.load(f)
    results[part] = section
    with open(path, 'w') as f:
        # A sample a line, so that git shows what changed.
        heads = {name: {k: v for k, v in s.items() if k != 'samples'} for name, s in results.items()}
        f.write('{\n')
        for i, (name, s) in enumerate(results.items()):
            head = json.dumps(heads[name])[:-1]
            f.write(f'{json.dumps(name)}: {head}, "samples": [\n')
            f.write(',\n'.join(json.dumps(sample) for sample in s['samples']))
            f.write(']}' + (',' if i + 1 < len(results) else '') + '\n')
        f.write('}\n')
    with open(os.path.join(directory, 'table.md'), 'w') as f:
        f.write(markdown(results))
    if 'rows' in results:
        with open(os.path.join(directory, 'chart.svg'), 'w') as f:
            f.write(chart(results['rows']))
    return path

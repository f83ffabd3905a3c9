"""Shows that what is unfair is found, and that results are written right."""
import json
import os
import re
import tempfile
import xml.etree.ElementTree

from .chart import BAR, TOP, chart, power_name
from .measure import NO_ROW, check_fair
from .results import write_results
from .rows import ABSENT, NEAR, NEAR_WHAT, ROWS, expected_ops, row
from .servers import core_plan
from .table import figures, markdown, markdown_tcp, ratio


def fake_sample(name, peer, threads, median, **more):
    return dict({'row': name, 'peer': peer, 'threads': threads, 'n': 100, 'round': 0, 'median': median, 'min': median,
                 'max': median, 'ops': 100, 'cpu_ns': median}, **more)


def fake_section(samples):
    return {'date': '2026-01-01', 'machine': {'cpu': 'a <cpu>', 'arch': 'x', 'cores': 2, 'kernel': '6'},
            'versions': {'weft': 'abc'}, 'rounds': 1, 'load_before': 0.0, 'load_after': 0.5, 'samples': samples}


def self_test_fairness(expect):
    r = row('select2', 100, 101, '', unit=2)
    good = 'select2 tokio 1 101 3.0 2.0 4.0 ops=100 cpu_ns=3.0\n'

    def verdict(status=0, out=good, wrong_status=1, peer='tokio', the_row=r):
        def run(_name, _threads, _n, env):
            return (wrong_status, '', '') if env else (status, out, 'why')
        return check_fair(the_row, peer, '1', run)

    expect(verdict() is None, 'a fair row passes')
    expect('ended with 1: why' in (verdict(status=1) or ''), 'a failure is found')
    expect('101 operations' in (verdict(out=good.replace('ops=100', 'ops=101')) or ''), 'more operations are found')
    expect('99 operations' in (verdict(out=good.replace('ops=100', 'ops=99')) or ''), 'fewer operations are found')
    expect('no ops' in (verdict(out=good.replace('ops=100', '')) or ''), 'a line without ops is found')
    expect('something else' in (verdict(out=good.replace('select2', 'mutex')) or ''), 'another row is found')
    expect('something else' in (verdict(out=good.replace(' 101 ', ' 50 ')) or ''), 'another n is found')
    expect('lines' in (verdict(out=good + good) or ''), 'two lines are found')
    expect('lines' in (verdict(out='') or ''), 'no line is found')
    expect('out of order' in (verdict(out=good.replace('3.0 2.0', '3.0 3.5')) or ''), 'a wrong minimum is found')
    expect('does not check' in (verdict(wrong_status=0) or ''), 'a row without a check is found')
    expect('does not check' in (verdict(wrong_status=-11) or ''), 'a crash is no check')
    expect(verdict(status=NO_ROW, peer='boost') is None, 'an absent row passes')
    expect('said to be absent' in (verdict(peer='boost') or ''), 'a row that is not absent is found')
    near = row('timeout_yield', 100, 101, '')
    expect(verdict(out='timer_yield go 1 101 3 2 4 ops=101\n', peer='go', the_row=near) is None, 'a near row passes')
    expect(verdict(out='timeout_yield go 1 101 3 2 4 ops=101\n', peer='go', the_row=near) is not None,
           'a near thing under the name of the row is found')
    million = row('timers_million', 100, 101, '')
    expect(verdict(out='timers go 1 101 3 2 4 ops=101\n', peer='go', the_row=million) is None,
           'a row that programs know by another name passes')
    batch = row('spawn_many', 1, 1, '', up_to=10000)
    expect([expected_ops(batch, n) for n in (7, 10000, 12345, 20000)] == [7, 10000, 10000, 20000], 'batches')
    expect(expected_ops(row('x', 1, 1, '', unit=64), 345) == 320, 'multiples')
    for r in ROWS:
        expect(expected_ops(r, r.fair_n) > 0, r.name + ': the test does something')
        expect((r.unit == 1 and not r.up_to) or expected_ops(r, r.fair_n) != r.fair_n, r.name + ': rounding shows')
    for name, by_peer in NEAR.items():
        for peer, near_name in by_peer.items():
            expect(name in ABSENT[peer] and near_name in NEAR_WHAT, f'{near_name} is near to what is absent')


def self_test_tables(expect):
    samples = [fake_sample('spawn_join_seq', 'weft', '1', v) for v in (90, 100, 120)]
    samples += [fake_sample('spawn_join_seq', 'tokio', '1', 200), fake_sample('spawn_join_seq', 'go', '1', 400),
                fake_sample('yield_many', 'weft', '1', 30), fake_sample('yield_many', 'tokio', '1', 15),
                fake_sample('yield_many', 'libuv', '1', 5, near='idle_callback'),
                fake_sample('join_set', 'weft', '2', 0.0), fake_sample('idle_mem', 'weft', '1', 70,
                                                                     rss_bytes_per_task=4291.0)]
    table = figures(samples)
    f = table['spawn_join_seq', '1']
    expect(f['weft'].wall == 100 and abs(f['weft'].spread - 15) < 1e-9, 'median and half the spread')
    expect(ratio(f) == 0.5, 'the ratio is to the best peer')
    expect(ratio(table['yield_many', '1']) == 2, 'near things are in no ratio')
    expect(ratio(table['join_set', '2']) is None, 'no ratio without a peer')
    text = markdown({'rows': fake_section(samples)})
    expect('100 / 100 ±15 %' in text and '| 0.50 |' in text, 'the table has figures and ratio')
    expect('**2.00**' in text and '~5.0' in text and '`idle_callback`' in text, 'what is behind and near is marked')
    expect('| 200 / 200 |' in text, 'no spread of one process')
    expect('4,291' in text, 'the table has memory')
    widths = {len(re.findall(r'(?<!\\)\|', line)) for line in text.splitlines() if line.startswith('| spawn_join')}
    heads = {len(re.findall(r'\|', line)) for line in text.splitlines() if line.startswith('| row')}
    expect(widths == heads, 'as many cells as heads')

    svg = chart(fake_section(samples))
    tree = xml.etree.ElementTree.fromstring(svg)
    bars = [(e.get('class'), float(e.get('width')), float(e.get('y')))
            for e in tree.iter('{http://www.w3.org/2000/svg}rect') if e.get('height') == str(BAR - 1)]
    first = [b for b in bars if b[2] < TOP + 3 * BAR]
    expect([b[0] for b in first] == ['weft', 'tokio', 'go'], 'the chart has a bar for each peer, in order')
    expect(abs((first[2][1] - first[1][1]) - (first[1][1] - first[0][1])) < 0.2, 'the scale is logarithmic')
    expect('libuv' not in {b[0] for b in bars}, 'the chart leaves near things out')
    expect([power_name(p) for p in (-1, 0, 2, 3, 7, 9)] == ['0.1 ns', '1 ns', '100 ns', '1 us', '10 ms', '1 s'],
           'names of powers')
    expect('prefers-color-scheme: dark' in svg, 'the chart has dark colours')

    run = {'cpu_us': 4.4, 'rps': 900.0, 'p50_us': 1.0, 'p99_us': 30.0, 'p999_us': 3.0, 'fewest': 5.0, 'most': 9.0,
           'load': 0.5}
    floor = dict(run, cpu_us=4.0, rps=1000.0, p99_us=10.0)
    tcp = [{'server': 'weft', 'threads': '1', 'connections': 64, 'bytes': 64, 'round': 0, 'run': run, 'before': floor,
            'after': dict(floor, rps=800.0)}]
    text = '\n'.join(markdown_tcp(fake_section(tcp)))
    expect('| 1.10 | 1.00 | 3.00 | 5 : 9 | 0.50 |' in text, 'ratios are to the mean of the floor before and after')

    with tempfile.TemporaryDirectory() as directory:
        path = write_results(directory, 'rows', fake_section(samples))
        write_results(directory, 'tcp', fake_section(tcp))
        with open(path) as file:
            results = json.load(file)
        expect(results['rows']['samples'] == samples and results['tcp']['samples'] == tcp, 'both parts are kept')
        with open(os.path.join(directory, 'table.md')) as file:
            text = file.read()
        expect('## Rows' in text and '## TCP' in text, 'the table has both parts')
    expect(core_plan('1', [0, 1]) == ({0}, {1}) and core_plan('2', [0, 1]) == ({0, 1}, {1})
           and core_plan('2', [0, 1, 2]) == ({0, 1}, {2}), 'cores of server and load')


def self_test():
    failed = []

    def expect(holds, what):
        if not holds:
            failed.append(what)
    self_test_fairness(expect)
    self_test_tables(expect)
    for what in failed:
        print('self test failed:', what)
    print('self test', 'failed' if failed else 'passed')
    return 1 if failed else 0

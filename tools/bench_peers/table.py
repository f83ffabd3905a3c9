"""What came out, as Markdown."""
import statistics
from collections import defaultdict, namedtuple

from .peers import PEERS, TITLES
from .rows import NEAR_WHAT, ROWS

Figure = namedtuple('Figure', 'wall cpu spread near')  # of one row on one peer; spread in per cent


def figures(samples):
    """{(row, threads): {peer: Figure}}; median over processes."""
    groups = defaultdict(list)
    for s in samples:
        groups[s['row'], s['threads'], s['peer']].append(s)
    table = defaultdict(dict)
    for (name, threads, peer), group in groups.items():
        medians = [s['median'] for s in group]
        wall = statistics.median(medians)
        cpu = [s['cpu_ns'] for s in group if 'cpu_ns' in s]
        spread = (max(medians) - min(medians)) / 2 / wall * 100 if wall and len(medians) > 1 else None
        table[name, threads][peer] = Figure(wall, statistics.median(cpu) if cpu else None, spread,
                                            group[0].get('near'))
    return table


def ratio(by_peer, field='wall'):
    """weft over the best peer that does the same; None without one."""
    own = getattr(by_peer['weft'], field) if 'weft' in by_peer else None
    others = [getattr(f, field) for peer, f in by_peer.items() if peer != 'weft' and f.near is None]
    others = [value for value in others if value]
    return own / min(others) if own is not None and others else None


def short(value):
    if value is None:
        return ''
    if value >= 1000:
        return f'{value:,.0f}'
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}'


def markdown_rows(section):
    table = figures(section['samples'])
    names = [r for r in ROWS if any(key[0] == r.name for key in table)]
    peers = ['weft'] + [p.name for p in PEERS if any(p.name in by_peer for by_peer in table.values())]
    threads_list = sorted({key[1] for key in table})
    lines = []
    for threads in threads_list:
        lines += [f'### {threads} worker{"s" if threads != "1" else ""}', '',
                  '| row | ' + ' | '.join(TITLES[p] for p in peers) + ' | weft / best, wall | CPU |',
                  '|---|' + '--:|' * (len(peers) + 2)]
        for r in names:
            by_peer = table.get((r.name, threads))
            if not by_peer:
                continue
            cells = []
            for p in peers:
                f = by_peer.get(p)
                if not f:
                    cells.append('')
                    continue
                mark = '~' if f.near else ''
                cpu = f' / {short(f.cpu)}' if f.cpu is not None else ''
                spread = f' ±{f.spread:.0f} %' if f.spread is not None else ''
                cells.append(f'{mark}{short(f.wall)}{cpu}{spread}')
            for field in ('wall', 'cpu'):
                value = ratio(by_peer, field)
                cells.append('' if value is None else f'**{value:.2f}**' if value >= 1.005 else f'{value:.2f}')
            lines.append(f'| {r.name}: {r.what} | ' + ' | '.join(cells) + ' |')
        lines.append('')
    near = sorted({s['near'] for s in section['samples'] if 'near' in s})
    lines.append('Nanoseconds for one operation: wall time / processor time of the process, and half the spread of '
                 'the medians. In bold: a peer is ahead.')
    if near:
        lines.append('~: near, not the same, and in no ratio: '
                     + '; '.join(f'`{name}`: {NEAR_WHAT[name]}' for name in near) + '.')
    lines += ['', *markdown_extras(section['samples'], peers)]
    return lines


EXTRAS = [('idle_mem', 'rss_bytes_per_task', 'memory of a waiting task, bytes'),
          ('idle_mem_polled', 'rss_bytes_per_task', 'the same without a stack'),
          ('lateness', 'p50_us', 'lateness, median, us'), ('lateness', 'p99_us', 'lateness, 99 %, us')]


def markdown_extras(samples, peers):
    lines = []
    for name, key, what in EXTRAS:
        for threads in sorted({s['threads'] for s in samples if s['row'] == name}):
            values = {p: [s[key] for s in samples if (s['row'], s['threads'], s['peer']) == (name, threads, p)
                          and key in s] for p in peers}
            if any(values.values()):
                lines.append(f'| {what}, {threads} | '
                             + ' | '.join(short(statistics.median(v)) if v else '' for v in values.values()) + ' |')
    if lines:
        lines = ['| | ' + ' | '.join(TITLES[p] for p in peers) + ' |', '|---|' + '--:|' * len(peers), *lines, '']
    return lines


def server_ratio(sample, key):
    floor = (sample['before'][key] + sample['after'][key]) / 2
    return sample['run'][key] / floor if floor else float('nan')


def markdown_tcp(section):
    groups = defaultdict(list)
    for s in section['samples']:
        groups[s['threads'], s['connections'], s['bytes'], s['server']].append(s)
    lines = []
    for threads in sorted({key[0] for key in groups}):
        lines += [f'### TCP echo, {threads} worker{"s" if threads != "1" else ""}', '',
                  '| connections x bytes | server | CPU us a request | requests / s | p50 us | p99 us | p99.9 us '
                  '| CPU / floor | requests / floor | p99 / floor | fewest : most of a connection | load |',
                  '|---|---|' + '--:|' * 10]
        for key, group in groups.items():
            if key[0] != threads:
                continue
            run = {k: statistics.median(s['run'][k] for s in group) for k in group[0]['run']}
            ratios = [statistics.median(server_ratio(s, k) for s in group) for k in ('cpu_us', 'rps', 'p99_us')]
            lines.append(f'| {key[1]:,} x {key[2]:,} | {key[3]} | {run["cpu_us"]:.2f} | {run["rps"]:,.0f} '
                         f'| {run["p50_us"]:.0f} | {run["p99_us"]:.0f} | {run["p999_us"]:.0f} '
                         f'| {ratios[0]:.2f} | {ratios[1]:.2f} | {ratios[2]:.2f} '
                         f'| {run["fewest"]:,.0f} : {run["most"]:,.0f} | {run["load"]:.2f} |')
        lines.append('')
    lines += ['Floor: the server over epoll by hand, measured right before and after; ratios are to the mean of the '
              'two, medians over rounds. -ct: the single-threaded runtime. Load: its share of its core; at 1 it is '
              'the limit.', '']
    return lines


def markdown_head(section):
    m = section['machine']
    versions = ', '.join(f'{name} {version}' for name, version in section['versions'].items())
    return [f'{section["date"]}; {m["cpu"]}, {m["cores"]} cores, Linux {m["kernel"]}; {versions}; rounds: '
            f'{section["rounds"]}; load before {section["load_before"]:.1f}, after {section["load_after"]:.1f}.', '']


def markdown(results):
    lines = ['<!-- Written by tools/bench-peers. -->', '']
    if 'rows' in results:
        lines += ['## Rows', '', *markdown_head(results['rows']), *markdown_rows(results['rows'])]
    if 'tcp' in results:
        lines += ['## TCP', '', *markdown_head(results['tcp']), *markdown_tcp(results['tcp'])]
    return '\n'.join(lines).rstrip() + '\n'

"""What came out, as a picture."""
import math
from xml.sax.saxutils import escape

from .peers import PEERS, TITLES
from .rows import ROWS
from .table import figures, short

COLOURS = {'weft': '#d9480f', 'tokio': '#1c7ed6', 'go': '#0ca678', 'boost': '#9c36b5', 'libuv': '#868e96'}
BAR, GAP, LEFT, WIDTH, PANEL_GAP, TOP = 9, 8, 150, 300, 70, 62


def power_name(power):
    unit = max(0, min(power // 3, 3))
    return f'{10.0 ** (power - 3 * unit):g} {("ns", "us", "ms", "s")[unit]}'


def chart(section):
    """Horizontal bars on a log scale, a panel for each number of workers; shorter is better. Without near things."""
    table = {key: {p: f for p, f in by_peer.items() if f.near is None and f.wall > 0}
             for key, by_peer in figures(section['samples']).items()}
    threads_list = sorted({key[1] for key in table})
    names = [r.name for r in ROWS if any(table.get((r.name, t)) for t in threads_list)]
    peers = ['weft'] + [p.name for p in PEERS if any(p.name in by_peer for by_peer in table.values())]
    walls = [f.wall for by_peer in table.values() for f in by_peer.values()]
    low, high = math.floor(math.log10(min(walls))), math.ceil(math.log10(max(walls)) + 1e-9)
    high = max(high, low + 1)
    scale = WIDTH / (high - low)

    def x_of(value):
        return (math.log10(value) - low) * scale

    tops, y = {}, TOP
    for name in names:
        count = max(len(table.get((name, t), {})) for t in threads_list)
        tops[name] = (y, count)
        y += count * BAR + GAP
    height = y + 26
    width = LEFT + len(threads_list) * (WIDTH + PANEL_GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           'role="img" font-family="sans-serif" font-size="9">',
           '<title>Nanoseconds for one operation, log scale; shorter is better</title>',
           # The grey is readable on both, for viewers that know no colour schemes.
           '<style>', 'text { fill: #768390 } .grid { stroke: #868e96; stroke-opacity: .5; stroke-width: .5 }',
           '.head { font-size: 12px; font-weight: bold } .own { font-weight: bold }',
           *(f'.{p} {{ fill: {COLOURS[p]} }}' for p in peers),
           '@media (prefers-color-scheme: light) { text { fill: #212529 } }',
           '@media (prefers-color-scheme: dark) { text { fill: #e9ecef } }', '</style>']
    x = LEFT
    for p in peers:
        out.append(f'<rect class="{p}" x="{x}" y="12" width="10" height="10"/>'
                   f'<text x="{x + 14}" y="21" font-size="11">{escape(TITLES[p])}</text>')
        x += 30 + 7 * len(TITLES[p])
    for name in names:
        top, count = tops[name]
        out.append(f'<text x="{LEFT - 8}" y="{top + count * BAR / 2 + 3:.1f}" font-size="11" text-anchor="end">'
                   f'{escape(name)}</text>')
    for i, threads in enumerate(threads_list):
        left = LEFT + i * (WIDTH + PANEL_GAP)
        out.append(f'<text class="head" x="{left}" y="40">{threads} worker{"s" if threads != "1" else ""}: '
                   'time of one operation, shorter is better</text>')
        for power in range(low, high + 1):
            at, label = left + (power - low) * scale, power_name(power)
            out.append(f'<line class="grid" x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{height - 24}"/>'
                       f'<text x="{at:.1f}" y="{TOP - 9}" text-anchor="middle">{label}</text>'
                       f'<text x="{at:.1f}" y="{height - 14}" text-anchor="middle">{label}</text>')
        for name in names:
            top = tops[name][0]
            for p in peers:
                f = table.get((name, threads), {}).get(p)
                if not f:
                    continue
                length = max(x_of(f.wall), 1)
                own = ' class="own"' if p == 'weft' else ''
                out.append(f'<rect class="{p}" x="{left}" y="{top}" width="{length:.1f}" height="{BAR - 1}"/>'
                           f'<text{own} x="{left + length + 3:.1f}" y="{top + BAR - 2}">{short(f.wall)}</text>')
                top += BAR
    out.append('</svg>')
    return '\n'.join(out) + '\n'

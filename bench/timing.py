"""What every measuring program shares: contestants in turns, a row of the table, and bars that are long enough. It knows no peer, so that none has to be loaded for another."""
import statistics
import time
import numpy as np
from emp_nb.data.bars import Bars


def turns(*contestants, repeats=9, least=.05):
    """Seconds a call of each contestant over `repeats` turns, after one warm-up each.

    A turn lasts `least` seconds or one call, whichever is longer: what takes milliseconds is called again and again, as a search calls it."""
    seconds = [[] for _ in contestants]
    for run in contestants: run()
    for _ in range(repeats):
        for run, spent in zip(contestants, seconds):
            start, calls = time.perf_counter(), 0
            while not calls or time.perf_counter() - start < least: run(); calls += 1
            spent.append((time.perf_counter() - start) / calls)
    return seconds


def line(what, ours, peer, name, target, met):
    "One row of the table: times in ms (fastest, median), ratio of medians, and whether the target is met."
    mine, theirs = (statistics.median(x) * 1e3 if x else float("nan") for x in (ours, peer))
    ratio = f"{theirs / mine:8,.0f}x" if peer else " " * 9
    other = f"{theirs:9,.1f}  {name}" if peer else ""
    print(f"{what:58} {min(ours) * 1e3:8.2f} {mine:8.2f} {ratio}  {target:10} {'met' if met(mine, theirs / mine) else 'MISSED':7} {other}", flush=True)


def long_bars(n=100_000):
    "A drawn market of `n` hourly bars: GARCH-free Student-t returns, seeded."
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(.002 * rng.standard_t(5, n)))
    open_ = np.r_[close[0], close[:-1]]
    spread = 1 + .001 * rng.random((2, n))
    return Bars("DRAWN", np.arange(n, dtype=np.int64) * 3600 * 10**9 + 9 * 10**17, open_, np.maximum(open_, close) * spread[0], np.minimum(open_, close) / spread[1], close, np.full(n, 1e5))

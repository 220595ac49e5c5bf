"""The senses and the test of a search against their peers, measured in one run and printed as ratios.

    make bench

Contestants take turns as in timing.py. One hundred thousand hourly bars are drawn (seeded Student-t returns) for their length; the statistics of a search run on drawn returns as well.
"""
import contextlib
import io
import subprocess
import sys
import time
import numpy as np
import wickra
from arch.bootstrap import SPA
from timing import line, long_bars, turns
from emp_nb.evolution.overfitting import spa
from emp_nb.jobs.perception import packaged_world, perceived
from emp_nb.sensory import anomaly, chaos, harmonics, how, what, when, why
from emp_nb.sensory.cortex import PerceptionStream

with contextlib.redirect_stdout(io.StringIO()):              # it greets on import
    from smartmoneyconcepts import smc

EIGHT = [getattr(wickra, name) for name in ("Abcd", "Bat", "Butterfly", "Crab", "Cypher", "Gartley", "Shark", "ThreeDrives")]
ALL = {"why": why, "how": how, "what": what, "when": when, "anomaly": anomaly, "chaos": chaos}


def smc_whole(frame):
    "Swings, gaps, breaks of structure, order blocks, liquidity and previous highs of smartmoneyconcepts."
    swings = smc.swing_highs_lows(frame, 5)
    return (swings, smc.fvg(frame), smc.bos_choch(frame, swings), smc.ob(frame, swings), smc.liquidity(frame, swings), smc.previous_high_low(frame))


def arch_spa(returns):
    test = SPA(np.zeros(returns.shape[1]), -returns.T, block_size=10, reps=500, bootstrap="stationary", seed=1)
    test.compute()


def live(bars, warm=2000, steps=1000):
    "Milliseconds of each of `steps` updates of all six senses and the cortex, bar by bar; the packaged world came before."
    feed, spent = PerceptionStream({name: sense.stream(bars.symbol) for name, sense in ALL.items()}), []
    feed.update(bars[:warm], **packaged_world())
    for t in range(warm, warm + steps):
        start = time.perf_counter()
        feed.update(bars[t:t + 1])
        spent.append(1e3 * (time.perf_counter() - start))
    return np.array(spent)


COLD = "from emp_nb.data.catalog import load; from emp_nb.jobs.perception import packaged_world, perceived; perceived(load('spx'), **packaged_world())"


def cold():
    "Seconds of a fresh process that reads the S&P 500 with all six senses and perceives it, kernels compiled before."
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", COLD], check=True)
    return time.perf_counter() - start


def main():
    bars, short, world = long_bars(), long_bars(5_000), packaged_world()
    frame = bars.to_frame().tz_localize(None)
    print("times in ms\n")
    print(f"{'what':58} {'fastest':>8} {'median':>8} {'ratio':>9}  {'target':10} {'':7} {'peer':>9}")
    ours, = turns(lambda: how.read(bars))
    start = time.perf_counter()
    smc_whole(frame)                                         # once: it takes minutes
    line("whole HOW, 100,000 bars", ours, [time.perf_counter() - start], "smartmoneyconcepts", "<= 20, 1000x", lambda ms, ratio: ms <= 20 and ratio >= 1000)
    ours, theirs, whole = turns(lambda: harmonics.find(bars), lambda: [p().batch(bars.open, bars.high, bars.low, bars.close) for p in EIGHT], lambda: what.read(bars))
    line("WHAT pivots and eleven harmonic families, 100,000 bars", ours, theirs, "wickra, eight patterns", "<= 10 ms", lambda ms, ratio: ms <= 10 and ratio >= .5)
    line("whole WHAT, 100,000 bars", whole, [], "", "(none)", lambda ms, ratio: True)
    timed = turns(lambda: when.read(bars), lambda: anomaly.read(bars), lambda: chaos.read(bars), lambda: perceived(bars, **world), lambda: perceived(short, **world))
    for name, spent, target, most in (("WHEN, 100,000 bars", timed[0], "<= 10 ms", 10), ("ANOMALY, 100,000 bars", timed[1], "(none)", np.inf), ("CHAOS, 100,000 bars", timed[2], "(none)", np.inf),
                                      ("six senses and cortex, 100,000 bars", timed[3], "<= 500 ms", 500), ("six senses and cortex, 5,000 bars", timed[4], "<= 50 ms", 50)):
        line(name, spent, [], "", target, lambda ms, ratio, most=most: ms <= most)
    spent = live(bars)
    print(f"{'live update of six senses and cortex, one bar':58} median {np.median(spent):.2f}, p99 {np.quantile(spent, .99):.2f}; target p99 <= 5 ms: {'met' if np.quantile(spent, .99) <= 5 else 'MISSED'}")
    cold()                                                   # compiles
    spent = [cold() for _ in range(3)]
    print(f"{'six senses and cortex of the S&P 500, cold process':58} median {np.median(spent):.2f} s; target < 5 s: {'met' if np.median(spent) < 5 else 'MISSED'}")
    tried = .01 * np.random.default_rng(0).standard_normal((500, 2500))
    ours, = turns(lambda: spa(tried, block_bars=10, rng=np.random.default_rng(0)))
    theirs, = turns(lambda: arch_spa(tried), repeats=1)
    line("SPA, 500 strategies x 2,500 bars x 500 histories", ours, theirs, "arch", ">= 40x", lambda ms, ratio: ratio >= 40)


if __name__ == "__main__": main()

"""EMP against its peers, measured in one run and printed as ratios.

    make bench

Contestants take turns, so that a busy machine slows both; the figure is the median of the turns, warm, with the fastest beside it. Prices are the real S&P 500
(5 031 days, 1999–2018) but for the 100 000-bar row, which needs a length that no packaged daily market has: there the returns are drawn (seeded) and say so.
"""
import statistics
import time
from dataclasses import dataclass
import kernel_numpy
import numpy as np
import pandas as pd
import talib
import vectorbt as vbt
from emp_nb.core import settings
from emp_nb.data.bars import Bars
from emp_nb.data.catalog import load
from emp_nb.data.scenarios import Scenario, stress
from emp_nb.evolution.evolve import Nsga2
from emp_nb.evolution.fitness import objectives
from emp_nb.evolution.genome import feature_scales, random, spec_for
from emp_nb.evolution.kernel import evaluate
from emp_nb.evolution.market import decidable_rows, market_from_perception, trailing_volatility
from emp_nb.measures import adx, atr
from emp_nb.risk.regime import regime_codes
from emp_nb.sensory import chaos, what, when
from emp_nb.sensory.cortex import perceive

COSTS = {"cost_bps": 1., "slippage_bps": 1.}
STRESSES = ("liquidity_crash", "volatility_shock", "regime_flip", "manipulation")


@dataclass
class Row:
    "One line of the table; seconds of EMP and of the peer, the peer empty where the target is a time."
    what: str
    ours: list
    peer: list
    name: str
    target: str
    met: object         # (our median in ms, ratio) -> bool


def turns(*contestants, repeats=9):
    "Seconds of each contestant over `repeats` turns, after one warm-up each; a slow one (over a second) gets three turns."
    seconds = [[] for _ in contestants]
    for run in contestants: run()
    for turn in range(repeats):
        for run, spent in zip(contestants, seconds):
            if turn >= 3 and spent[0] > 1: continue
            start = time.perf_counter()
            run()
            spent.append(time.perf_counter() - start)
    return seconds


def perceived(bars): return perceive({"what": what.read(bars), "when": when.read(bars), "chaos": chaos.read(bars)})


def market_of(bars):
    "The market as the pipeline builds it: three senses, the cortex, a regime for every row."
    return market_from_perception(bars, perceived(bars), regime_codes(bars), 252.)


def long_bars(n=100_000):
    "A drawn market of `n` hourly bars: GARCH-free Student-t returns, seeded."
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(.002 * rng.standard_t(5, n)))
    open_ = np.r_[close[0], close[:-1]]
    spread = 1 + .001 * rng.random((2, n))
    return Bars("DRAWN", np.arange(n, dtype=np.int64) * 3600 * 10**9 + 9 * 10**17, open_, np.maximum(open_, close) * spread[0], np.minimum(open_, close) / spread[1], close, np.full(n, 1e5))


def vectorbt_run(bars, market, genomes):
    """The strategies as vectorbt can run them: score matrix, signals, next-bar fills, stops and targets, five statistics.

    It has no holding limit and no statistics by fold or regime, so it does less than the kernel."""
    may = decidable_rows(market)
    weights = np.stack([genomes.values(n) for n in genomes.spec.feature_names])
    expressed = np.stack([genomes.values(f"regime_{code}") >= .5 for code in range(9)] + [np.ones(len(genomes), bool)])
    score = np.nan_to_num(market.features) @ weights + genomes.values("bias")
    allowed = may[:, None] & expressed[market.regime]
    longs = allowed & (score >= genomes.values("long_entry"))
    shorts = allowed & (score <= -genomes.values("short_entry")) & (genomes.values("short") >= .5)
    leave_long, leave_short = ~longs & ~(allowed & (score > genomes.values("exit"))), ~shorts & ~(allowed & (-score > genomes.values("exit")))
    later = [np.vstack([np.zeros((1, len(genomes)), bool), m[:-1]]) for m in (longs, leave_long, shorts, leave_short)]
    volatility = np.r_[np.nan, trailing_volatility(market)[:-1]][:, None]
    prices = {name: pd.Series(getattr(bars, name)) for name in ("open", "high", "low", "close")}
    run = vbt.Portfolio.from_signals(prices["close"], *later, price=prices["open"], open=prices["open"], high=prices["high"], low=prices["low"], fees=1e-4, slippage=1e-4,
                                     sl_stop=volatility * genomes.values("stop"), tp_stop=volatility * genomes.values("take"), size=genomes.values("size")[None, :], size_type="percent",
                                     upon_opposite_entry="close", freq="1D")
    return run.total_return(), run.sharpe_ratio(), run.max_drawdown()

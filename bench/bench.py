"""EMP against its peers, measured in one run and printed as ratios.

    make bench

Contestants take turns, so that a busy machine slows both; the figure is the median over the turns, warm, with the fastest beside it. Prices are the real S&P 500
(5 031 days, 1999–2018) but for the 100 000-bar row, which needs a length that no packaged daily market has: there the returns are drawn (seeded) and say so.
"""
import kernel_numpy
import numpy as np
import pandas as pd
import vectorbt as vbt
from timing import line, long_bars, turns
from emp_nb.data.catalog import load
from emp_nb.data.scenarios import SCENARIOS, Scenario, stress
from emp_nb.evolution.evolve import Nsga2
from emp_nb.evolution.fitness import objectives
from emp_nb.evolution.genome import feature_scales, random, spec_for
from emp_nb.evolution.kernel import evaluate
from emp_nb.evolution.market import after_change, decidable_rows, market_from_perception, trailing_volatility
from emp_nb.measures import adx, realised_volatility
from emp_nb.risk.regime import classify
from emp_nb.sensory import chaos, what, when
from emp_nb.sensory.cortex import perceive

COSTS = {"cost_bps": 1., "slippage_bps": 1.}


def perceived_each(bars): return {"what": what.read(bars), "when": when.read(bars), "chaos": chaos.read(bars)}


def perceived(bars): return perceive(perceived_each(bars))


def market_of(bars):
    "A market with every feature of the three senses, and the regime of its own realised volatility and ADX."
    regime = classify(100 * realised_volatility(bars.close, 21, 252.), adx(bars.high, bars.low, bars.close))
    return market_from_perception(bars, perceived(bars), regime.code, 252.)


def vectorbt_signals(market, genomes):
    "Entries and exits (T, P) as vectorbt wants them, one bar later so that it fills on the next open, and the volatility of each fill."
    may = decidable_rows(market)
    weights = np.stack([genomes.values(n) for n in genomes.spec.feature_names])
    expressed = np.stack([genomes.values(f"regime_{code}") >= .5 for code in range(9)] + [np.ones(len(genomes), bool)])
    score = np.nan_to_num(market.features) @ weights + genomes.values("bias")
    allowed = may[:, None] & expressed[market.regime]
    longs = allowed & (score >= genomes.values("long_entry"))
    shorts = allowed & (score <= -genomes.values("short_entry")) & (genomes.values("short") >= .5)
    leave_long, leave_short = ~longs & ~(allowed & (score > genomes.values("exit"))), ~shorts & ~(allowed & (-score > genomes.values("exit")))
    later = [np.vstack([np.zeros((1, len(genomes)), bool), m[:-1]]) for m in (longs, leave_long, shorts, leave_short)]
    return later, np.r_[np.nan, trailing_volatility(market)[:-1]][:, None]


def vectorbt_portfolio(bars, market, genomes):
    "The strategies in vectorbt: next-bar fills, stops and targets, the same costs; it has no holding limit."
    signals, volatility = vectorbt_signals(market, genomes)
    prices = {name: pd.Series(getattr(bars, name)) for name in ("open", "high", "low", "close")}
    return vbt.Portfolio.from_signals(prices["close"], *signals, price=prices["open"], open=prices["open"], high=prices["high"], low=prices["low"], fees=1e-4, slippage=1e-4,
                                      sl_stop=volatility * genomes.values("stop"), tp_stop=volatility * genomes.values("take"), size=genomes.values("size")[None, :],
                                      size_type="percent", upon_opposite_entry="close", freq="1D")


def vectorbt_run(bars, market, genomes):
    "A portfolio and three statistics, the least a search could use."
    run = vectorbt_portfolio(bars, market, genomes)
    return run.total_return(), run.sharpe_ratio(), run.max_drawdown()


def vectorbt_columns(bars, market, genomes, folds=5):
    "A portfolio and the columns of `metric_names`, from the statistics that vectorbt offers."
    run, regime = vectorbt_portfolio(bars, market, genomes), market.regime
    returns = run.returns()
    of = returns.vbt.returns(freq="1D")
    parts = [returns.iloc[k * len(returns) // folds:(k + 1) * len(returns) // folds].vbt.returns(freq="1D").sharpe_ratio() for k in range(folds)]
    held = run.gross_exposure()
    return (run.total_return(), of.sharpe_ratio(), returns.mean(), of.annualized_volatility(), of.max_drawdown(), of.value_at_risk(.01), of.cond_value_at_risk(.01),
            run.asset_flow().abs().sum(), run.trades.count(), held.mean(), run.net_exposure().mean(), run.orders.fees.sum(), returns[after_change(regime)].mean(),
            *parts, *(returns[regime == code].mean() for code in range(9)))


def generation(search, market, worlds=()):
    "One generation all in: ask (selection and variation), evaluate with folds, four objectives, tell."
    genomes = search.ask()
    search.tell(objectives(evaluate(market, genomes, worlds, **COSTS, folds=5), 5, bars_per_year=market.bars_per_year))


def select_and_vary(search, scores):
    "The part of a generation that is not evaluation."
    search.ask()
    search.tell(scores)


def warm_search(spec, market, seed=0):
    "A search of 500 after three generations, so that children come from parents."
    search = Nsga2(spec, 500, seed)
    for _ in range(3): generation(search, market)
    return search


def main():
    bars = load("spx")
    market = market_of(bars)
    worlds = tuple(market_of(stress(bars, Scenario(name, 3, 7))) for name in SCENARIOS)
    spec = spec_for(market.feature_names, scales=feature_scales(market.features))
    genomes = random(spec, 500, np.random.default_rng(0))
    drawn, base, full, plain = long_bars(), warm_search(spec, market), warm_search(spec, market), warm_search(spec, market)
    scores = np.random.default_rng(1).random((500, 4))
    print(f"{len(market):,} bars, {len(market.feature_names)} features, 500 genomes; times in ms\n")
    print(f"{'what':58} {'fastest':>8} {'median':>8} {'ratio':>9}  {'target':10} {'':7} {'peer':>9}")
    ours, batch, vector, short = turns(lambda: evaluate(market, genomes, **COSTS), lambda: kernel_numpy.evaluate(market, genomes, **COSTS),
                                       lambda: vectorbt_columns(bars, market, genomes), lambda: vectorbt_run(bars, market, genomes))
    line("kernel", ours, batch, "NumPy batch, same columns", ">= 50x", lambda ms, ratio: ratio >= 50)
    line("kernel", ours, vector, f"vectorbt {vbt.__version__}, same columns, no holding limit", ">= 200x", lambda ms, ratio: ratio >= 200)
    line("kernel, all columns", ours, short, f"vectorbt {vbt.__version__}, three columns", "(none)", lambda ms, ratio: True)
    one, all_in, pick, three = turns(lambda: generation(base, market), lambda: generation(full, market, worlds), lambda: select_and_vary(plain, scores), lambda: perceived_each(drawn), repeats=15)
    line("one generation, base market, selection and variation in", one, [], "", "<= 25 ms", lambda ms, ratio: ms <= 25)
    line("one generation, four stressed worlds, folds, objectives", all_in, [], "", "<= 120 ms", lambda ms, ratio: ms <= 120)
    line("selection and variation alone", pick, [], "", "<= 5 ms", lambda ms, ratio: ms <= 5)
    line("WHAT, WHEN and CHAOS over 100,000 drawn bars", three, [], "", "<= 150 ms", lambda ms, ratio: ms <= 150)
    print("\nDrawn bars are Student-t noise with a seed, used for their length; every other row runs on the S&P 500.")


if __name__ == "__main__": main()

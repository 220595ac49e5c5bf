"""How often the verdict is wrong: false edges on markets without one, found edges on markets with one.

    python bench/verdict.py --markets 200 --kinds null_iid null_garch_t --seed 1

Each market is synthetic (data.scenarios), gets four causal features and a regime, and is judged with judge's default search.
Printed for each kind: verdicts, the share of edges with its exact 95 % interval, how often each of the two tests passed, and the seconds.
"""
import argparse
import time
from functools import partial
import numpy as np
from scipy import stats
from emp_nb.data import scenarios
from emp_nb.evolution.genome import feature_scales, spec_for
from emp_nb.evolution.market import market_from_bars
from emp_nb.evolution.verdict import judge
from emp_nb.measures import ewm_volatility, ewma_1d_nb, simple_returns

KINDS = {"null_iid": scenarios.null_iid, "null_garch_t": scenarios.null_garch_t, "null_jump": scenarios.null_jump,
         "null_drift_0.3": partial(scenarios.null_drift, sharpe=.3), "null_drift_0.8": partial(scenarios.null_drift, sharpe=.8),
         "planted_trend": scenarios.planted_trend, "planted_reversion": scenarios.planted_reversion, "planted_regime": scenarios.planted_regime}


def market_of(bars):
    "The market of `bars` with trend, reversion, last return and volatility ratio as features; row t reads rows <= t."
    close, returns = bars.close, np.nan_to_num(simple_returns(bars.close))
    vol, slow_vol = ewm_volatility(returns, 32), ewm_volatility(returns, 250)
    unit = np.maximum(close * vol, 1e-12)
    trend = (ewma_1d_nb(close, 2 / 17) - ewma_1d_nb(close, 2 / 65)) / unit
    features = np.column_stack([np.tanh(trend / 4), np.tanh((close - ewma_1d_nb(close, 2 / 9)) / unit / 2), np.tanh(returns / np.maximum(vol, 1e-12) / 2),
                                np.log(np.maximum(vol, 1e-12) / np.maximum(slow_vol, 1e-12))])
    features[:64] = np.nan
    ratio, strength = vol / np.maximum(slow_vol, 1e-12), np.abs(trend)
    regime = 3 * ((ratio > .8).astype(int) + (ratio > 1.2)) + (strength > 1).astype(int) + (strength > 3)
    regime[:64] = -1
    return market_from_bars(bars, features, ("trend", "reversion", "last", "volatility"), regime=regime, bars_per_year=252.)


def verdicts(kind, markets, bars, seed, looks):
    "Verdicts on `markets` markets of one kind; market k depends on the seed, the kind and k alone."
    for k in range(markets):
        rng = np.random.default_rng([seed, list(KINDS).index(kind), k])
        market = market_of(KINDS[kind](rng, bars)[0])
        spec = spec_for(market.feature_names, scales=feature_scales(market.features[:int(.5 * bars)]))
        yield judge(market, spec, cost_bps=1., slippage_bps=1., seed=k, looks=looks, progress=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", type=int, default=50, help="markets of each kind")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="which markets")
    parser.add_argument("--bars", type=int, default=5000, help="length of each market")
    parser.add_argument("--seed", type=int, default=1, help="of the markets")
    parser.add_argument("--looks", type=int, default=0, help="earlier looks at the same data")
    args = parser.parse_args()
    print(f"{'kind':18} {'markets':>7} {'edge':>5} {'none':>5} {'short':>5} {'share':>7} {'95 % interval':>16} {'hold-out':>9} {'surrogate':>9} {'excess out':>10} {'s each':>7}")
    for kind in args.kinds:
        start = time.perf_counter()
        found = list(verdicts(kind, args.markets, args.bars, args.seed, args.looks))
        seconds = (time.perf_counter() - start) / args.markets
        count = {name: sum(v.kind == name for v in found) for name in ("edge", "no edge", "insufficient data")}
        low, high = stats.binomtest(count["edge"], args.markets).proportion_ci(.95)
        passed = np.mean([v.p_holdout <= v.alpha for v in found])
        second = [v.p_surrogate <= v.alpha for v in found if not np.isnan(v.p_surrogate)]
        print(f"{kind:18} {args.markets:7d} {count['edge']:5d} {count['no edge']:5d} {count['insufficient data']:5d} {count['edge'] / args.markets:7.1%} "
              f"{low:7.1%} … {high:6.1%} {passed:9.1%} {np.mean(second) if second else np.nan:9.1%} {np.nanmean([v.excess_out for v in found]):10.2f} {seconds:7.2f}", flush=True)


if __name__ == "__main__":
    main()

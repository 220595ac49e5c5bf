"""The strategy of emp_nb.evolution.kernel as a NumPy batch: vectorised over genomes, a Python loop over bars.

What a careful quant writes without a compiler, and the peer that the kernel is timed against. Float64; the same rules, the same columns;
tests/test_kernel.py holds it to the reference."""
import numpy as np
from emp_nb.evolution.market import after_change, decidable_rows, live_rows, trailing_volatility

ENTRY = ("bias", "long_entry", "short_entry", "exit", "stop", "take", "hold", "size")


def trade(market, genomes, rate):
    "P&L, position and turnover (T, P), and positions opened (P,)."
    gene = {name: genomes.values(name).astype(np.float64) for name in ENTRY}
    weights = np.stack([genomes.values(name) for name in genomes.spec.feature_names]).astype(np.float64)
    may, volatility, regime = decidable_rows(market), trailing_volatility(market), market.regime
    score = np.where(may[:, None], np.nan_to_num(market.features.astype(np.float64)) @ weights + gene["bias"], 0.)
    expressed = np.stack([genomes.values(f"regime_{code}") >= .5 for code in range(9)] + [np.ones(len(genomes), bool)])
    short = np.where(genomes.values("short") >= .5, -gene["short_entry"], -np.inf)
    T, P = score.shape
    pnl, position, turnover = np.zeros((T, P)), np.zeros((T, P)), np.zeros((T, P))
    direction, want, age, trades, stop, target = (np.zeros(P) for _ in range(6))
    price = 1.
    for t in range(live_rows(market).start - 1, T):
        o, h, l, c = price * (1 + market.ohlc[t].astype(np.float64)) if t else np.ones(4)
        ranges = np.isfinite(o)
        if not ranges: o = c
        moved = want != direction
        gained = np.where(moved, direction * (o / price - 1), 0.)
        turn = np.abs(want - direction)
        trades += moved & (want != 0)
        fill = np.where(moved, o, price)
        age = np.where(moved, 0, age) + 1
        if moved.any():
            stop = np.where(moved, o * (1 - want * gene["stop"] * volatility[t - 1]), stop)
            target = np.where(moved, o * (1 + want * gene["take"] * volatility[t - 1]), target)
        direction = want
        position[t], out, stopped = direction, np.full(P, c), np.zeros(P, bool)
        if ranges:
            long = direction > 0
            hit = np.where(long, l <= stop, h >= stop) & (direction != 0)
            gain = np.where(long, h >= target, l <= target) & (direction != 0)
            at_stop, at_target = np.where(long, np.minimum(o, stop), np.maximum(o, stop)), np.where(long, np.maximum(o, target), np.minimum(o, target))
            out, stopped = np.where(hit, at_stop, np.where(gain, at_target, c)), hit | gain
        gained = gained + direction * (out / fill - 1)
        turn = turn + np.where(stopped, np.abs(direction), 0)
        pnl[t], turnover[t] = gene["size"] * (gained - rate * turn), turn
        direction = np.where(stopped, 0, direction)
        if may[t]:
            keep = np.where(direction * score[t] > gene["exit"], direction, 0)
            want = np.where(score[t] >= gene["long_entry"], 1, np.where(score[t] <= short, -1, keep))
            want = np.where((want == direction) & (age >= gene["hold"]), 0, want) * expressed[regime[t]]
        else: want = np.zeros(P)
        price = c
    return pnl, position * gene["size"], turnover * gene["size"], trades


def steady(pnl, bars_per_year):
    "Annual Sharpe of each column; 0 when nothing moves."
    deviation = pnl.std(axis=0, ddof=1)
    return np.divide(pnl.mean(axis=0), deviation, out=np.zeros(pnl.shape[1]), where=deviation > 1e-15) * np.sqrt(bars_per_year)


def mean(pnl): return pnl.mean(axis=0) if len(pnl) else np.full(pnl.shape[1], np.nan)


def evaluate(market, genomes, *, cost_bps, slippage_bps, folds=5):
    "The (P, M) columns of emp_nb.evolution.kernel.metric_names."
    rate, live, year = (cost_bps + slippage_bps) * 1e-4, live_rows(market), market.bars_per_year
    pnl, position, turnover, trades = trade(market, genomes, rate)
    pnl, position, turnover, regime = pnl[live], position[live], turnover[live], market.regime[live]
    n = len(pnl)
    equity = np.vstack([np.ones(pnl.shape[1]), np.cumprod(np.maximum(1 + pnl, 0), axis=0)])
    rank, tail = max(int(np.ceil(n * .99 - 1e-9)), 1) - 1, n * (1 - .99)
    losses = np.maximum(np.partition(-pnl, rank, axis=0)[rank:], 0)
    edges = [k * n // folds for k in range(folds + 1)]
    paid = turnover.sum(axis=0)
    return np.column_stack([
        equity[-1] - 1, steady(pnl, year), pnl.mean(axis=0), pnl.std(axis=0, ddof=1), (1 - equity / np.maximum.accumulate(equity)).max(axis=0),
        losses[0], losses[0] + (losses - losses[0]).sum(axis=0) / tail, paid, trades, np.abs(position).mean(axis=0), position.mean(axis=0), rate * paid,
        mean(pnl[after_change(market.regime)[live]]), *(steady(pnl[a:b], year) for a, b in zip(edges, edges[1:])), *(mean(pnl[regime == code]) for code in range(9))])

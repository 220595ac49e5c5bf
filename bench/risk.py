"""The risk engine against its peers, measured in one run and printed as ratios.

    make bench

Contestants take turns as in timing.py. Five hundred assets are drawn (seeded, one common factor, Student-t), because no packaged panel has so many; HRP, drawdown, Sharpe, VaR and shrinkage run on real closes.
Where a peer can do the same, the answers are compared before they are timed.
"""
import warnings
from dataclasses import fields
import empyrical
import numpy as np
import pandas as pd
import quantstats
import riskfolio
from skfolio import RiskMeasure
from skfolio.cluster import HierarchicalClustering, LinkageMethod
from skfolio.optimization import HierarchicalRiskParity, RiskBudgeting
from sklearn.covariance import LedoitWolf
from timing import line, turns
from emp_nb.core import settings
from emp_nb.data.catalog import load
from emp_nb.measures import historical_var_es, max_drawdown, sharpe, simple_returns
from emp_nb.risk.allocation import erc, hrp
from emp_nb.risk.book import Book, Order
from emp_nb.risk.contributions import contributions
from emp_nb.risk.correlation import CorrelationStream, concentration
from emp_nb.risk.covariance import ledoit_wolf
from emp_nb.risk.exposures import instruments, worst_year
from emp_nb.risk.limits import Limits, check
from emp_nb.risk.measures import var_es
from emp_nb.risk.regime import RegimeStream
from emp_nb.risk.stress import most_plausible, scenario_losses

WINDOWS = (5, 20, 60)


def drawn(T, N, seed=0):
    "Returns (T, N): one common factor and Student-t noise."
    rng = np.random.default_rng(seed)
    return .01 * (rng.standard_t(5, (T, 1)) * rng.normal(1, .3, N) + rng.standard_t(5, (T, N)))


def agree(what, ours, theirs, tolerance):
    "Refuse to time two answers that differ."
    gap = np.abs(np.asarray(ours) - np.asarray(theirs)).max()
    if not gap <= tolerance: raise SystemExit(f"{what}: answers must agree to {tolerance:g} before they are timed, got {gap:.2g}")


class Feed:
    "A stream of 500 assets that is fed one row a call."
    def __init__(self, returns):
        self.stream, self.returns, self.row = CorrelationStream(returns.shape[1], WINDOWS), returns, 0
        for _ in range(max(WINDOWS)): self.tick()

    def tick(self):
        self.row = (self.row + 1) % len(self.returns)
        return self.stream.update(self.returns[self.row])


def riskfolio_parity(frame):
    "A riskfolio portfolio with its statistics estimated: only the optimisation is left to time."
    port = riskfolio.Portfolio(returns=frame)
    port.assets_stats(method_mu="hist", method_cov="hist")
    return lambda: port.rp_optimization(model="Classic", rm="MV").to_numpy().ravel()


def riskfolio_tree(frame):
    "Hierarchical risk parity in riskfolio, single linkage, optimal leaf order."
    port = riskfolio.HCPortfolio(returns=frame)
    return lambda: port.optimization(model="HRP", codependence="pearson", rm="MV", linkage="single", leaf_order=True).to_numpy().ravel()


def skfolio_tree():
    "Hierarchical risk parity in skfolio, single linkage."
    return HierarchicalRiskParity(hierarchical_clustering_estimator=HierarchicalClustering(linkage_method=LinkageMethod.SINGLE))


def riskfolio_component_var(weights, frame):
    "Component VaR at 99 % of each asset in riskfolio, by differences of the historical quantile."
    return riskfolio.Risk_Contribution(weights, frame, rm="VaR", alpha=.01)


def correlation_rows():
    "A tick of 500 assets, and what the cluster limit makes of it."
    returns = drawn(300, 500)
    feed, last = Feed(returns), pd.DataFrame(returns[:60])
    now = feed.stream.update(returns[0])
    for w in WINDOWS: agree(f"correlation over {w}", now[w], np.corrcoef(np.r_[returns[1:61], returns[:1]][-w:].T), 1e-9)
    mine, pandas, numpy = turns(feed.tick, lambda: [last.iloc[-w:].corr() for w in WINDOWS], lambda: [np.corrcoef(returns[-w:].T) for w in WINDOWS])
    line("5, 20 and 60-row correlations, 500 assets, one tick", mine, pandas, f"pandas {pd.__version__}", "<= 3 ms", lambda ms, ratio: ms <= 3)
    line("", mine, numpy, "NumPy corrcoef", "(none)", lambda ms, ratio: True)
    held, r60 = np.full(500, .002), now[60]
    limit, = turns(lambda: concentration(held, r60, warn=.08, hard=.10))
    line("groups and effective exposures, 500 assets", limit, [], "", "(none)", lambda ms, ratio: True)


def allocation_rows():
    "Equal risk on 50 drawn assets, the tree and the shrinkage on the real stocks."
    fifty = drawn(1000, 50)
    c, frame, budgeting = np.cov(fifty.T), pd.DataFrame(fifty), RiskBudgeting(risk_measure=RiskMeasure.VARIANCE)
    parity = riskfolio_parity(frame)
    agree("ERC and skfolio", erc(c), budgeting.fit(frame).weights_, 1e-4)
    agree("ERC and riskfolio", erc(c), parity(), 1e-4)
    mine, sk, rf = turns(lambda: erc(c), lambda: budgeting.fit(frame), parity)
    line("ERC, 50 assets", mine, sk, "skfolio", "<= 1 ms", lambda ms, ratio: ms <= 1)
    line("", mine, rf, "riskfolio, statistics not timed", "<= 1 ms", lambda ms, ratio: ms <= 1)
    stocks = load("stocks")
    real = simple_returns(stocks.close)[-1000:]
    frame, c, tree = pd.DataFrame(real, pd.to_datetime(stocks.time[-1000:]), list(stocks.symbols)), np.cov(real.T), skfolio_tree()
    theirs = riskfolio_tree(frame)
    agree("HRP and skfolio", hrp(c), tree.fit(frame).weights_, 1e-9)
    agree("HRP and riskfolio", hrp(c), theirs(), 1e-9)
    mine, sk, rf = turns(lambda: hrp(np.cov(real.T)), lambda: tree.fit(frame), theirs)
    line("HRP with its covariance, 20 stocks x 1,000 days", mine, sk, "skfolio", "(none)", lambda ms, ratio: True)
    line("", mine, rf, "riskfolio", "(none)", lambda ms, ratio: True)
    agree("Ledoit-Wolf", ledoit_wolf(real, "identity").covariance, LedoitWolf().fit(real).covariance_, 1e-14)
    mine, sk = turns(lambda: ledoit_wolf(real, "identity"), lambda: LedoitWolf().fit(real))
    line("Ledoit-Wolf, 20 stocks x 1,000 days", mine, sk, "scikit-learn", "(none)", lambda ms, ratio: True)


def stress_rows():
    "Ten thousand scenarios, and the most plausible day."
    scenarios, w, c = drawn(10_000, 500, 3), np.random.default_rng(4).normal(0, .01, 500), np.cov(drawn(2500, 500).T)
    agree("losses", scenario_losses(w, scenarios), -scenarios @ w, 1e-12)
    mine, numpy = turns(lambda: scenario_losses(w, scenarios), lambda: -(scenarios @ w))
    line("10,000 scenarios x 500 assets, linear", mine, numpy, "NumPy matmul, its own threads", "<= 10 ms", lambda ms, ratio: ms <= 10)
    mine, = turns(lambda: most_plausible(w, c, .05))
    line("most plausible loss, 500 assets", mine, [], "", "(none)", lambda ms, ratio: True)


def statistics_rows():
    "Drawdown, Sharpe and the 99 % tail of the S&P 500 over 33 years."
    bars = load("spx_close")
    r = simple_returns(bars.close)[1:]
    series = pd.Series(r, pd.to_datetime(bars.time[1:]))
    agree("drawdown", max_drawdown(r), -empyrical.max_drawdown(series), 1e-12)
    agree("drawdown", max_drawdown(r), -quantstats.stats.max_drawdown(series), 1e-12)
    agree("Sharpe", sharpe(r, 252), empyrical.sharpe_ratio(series), 1e-12)
    agree("Sharpe", sharpe(r, 252), quantstats.stats.sharpe(series), 1e-12)
    agree("VaR", historical_var_es(r, .99)[0], -empyrical.value_at_risk(series, .01), 5e-4)       # it interpolates between order statistics
    mine, emp, qs = turns(lambda: (max_drawdown(r), sharpe(r, 252), historical_var_es(r, .99)),
                          lambda: (empyrical.max_drawdown(series), empyrical.sharpe_ratio(series), empyrical.value_at_risk(series, .01), empyrical.conditional_value_at_risk(series, .01)),
                          lambda: (quantstats.stats.max_drawdown(series), quantstats.stats.sharpe(series), quantstats.stats.var(series, confidence=.99), quantstats.stats.cvar(series, confidence=.99)))
    line(f"drawdown, Sharpe, VaR and ES of {r.size:,} days", mine, emp, "empyrical-reloaded", "(none)", lambda ms, ratio: True)
    line("", mine, qs, f"quantstats {quantstats.__version__}, normal VaR", "(none)", lambda ms, ratio: True)


def contribution_rows():
    returns, held = drawn(500, 500), np.full(500, .002)
    frame = pd.DataFrame(returns)
    ours, theirs = turns(lambda: contributions(returns, held, .99), lambda: riskfolio_component_var(held[:, None], frame), repeats=3)
    line("component VaR and ES, 500 assets x 500 days", ours, theirs, "riskfolio", "<= 1 ms", lambda ms, ratio: ms <= 1)
    long = drawn(2500, 500)
    ours, = turns(lambda: contributions(long, held, .99))
    line("component VaR and ES, 500 assets x 2,500 days", ours, [], "", "<= 1 ms", lambda ms, ratio: ms <= 1)


class PreTrade:
    "Everything that is asked before one order of a book of 500 positions goes out, with 2 500 days loaded."
    def __init__(self):
        self.names, self.returns = [f"S{k}" for k in range(500)], drawn(2500, 500)
        nav = 1e8 * np.cumprod(1 + 1e-4 * np.random.default_rng(1).standard_normal(2500))
        self.book = Book(nav[-1], {s: (1 if k % 2 else -1) * 500. for k, s in enumerate(self.names)}, dict.fromkeys(self.names, 100.), nav_history=nav)
        self.limits = Limits(**settings().risk.model_dump(include={f.name for f in fields(Limits)}))
        self.weights, self.stressed = np.array([self.book.weights[s] for s in self.names]), self.returns[worst_year(self.returns)]
        self.facts = dict(sector={s: f"sector {k % 11}" for k, s in enumerate(self.names)}, asset_class={s: f"class {k % 3}" for k, s in enumerate(self.names)}, adv=dict.fromkeys(self.names, 1e5),
                          market=self.returns[-500:].mean(axis=1), tail_days=500, cluster_days=60, cluster_correlation=.6)
        self.correlations, self.regime, self.row = CorrelationStream(500, (60,)), RegimeStream(), 0
        for row in self.returns[-60:]: self.correlations.update(row)

    def order(self):
        self.row = (self.row + 1) % 2500
        self.regime.update(18., 22.)
        now = self.correlations.update(self.returns[self.row]).matrix[0]
        world = instruments(self.returns[-500:], self.names, correlation=now, stressed=self.stressed, **self.facts)
        var_es(world.tail.T @ self.weights, .99, "fhs")
        scenario_losses(self.weights, self.returns)
        return check(self.book, [Order("S1", "buy", 100., np.nan, self.row)], limits=self.limits, instruments=world, killed="")


def pretrade_rows():
    ours, = turns(PreTrade().order, repeats=40, least=0)
    line(f"pre-trade evaluation, 500 assets x 2,500 days; p95 {1e3 * np.quantile(ours, .95):.1f}", ours, [], "", "p95 <= 50", lambda ms, ratio: np.quantile(ours, .95) <= .05)


def main():
    warnings.simplefilter("ignore", FutureWarning)
    print("times in ms\n")
    print(f"{'what':58} {'fastest':>8} {'median':>8} {'ratio':>9}  {'target':10} {'':7} {'peer':>9}")
    correlation_rows()
    allocation_rows()
    stress_rows()
    statistics_rows()
    contribution_rows()
    pretrade_rows()


if __name__ == "__main__": main()

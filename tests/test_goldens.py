"""Figures that must not change by accident: fixed seeds and real data, compared at 1e-9.

    python tests/test_goldens.py --record      writes them anew; do so in a commit of its own and say why
"""
import json
import sys
from pathlib import Path
import numpy as np
import pytest
from emp_nb.data.catalog import load
from emp_nb.data.quality import assess
from emp_nb.data.scenarios import SCENARIOS, Scenario, null_garch_t, planted_regime, stress
from emp_nb.evolution.fitness import objectives
from emp_nb.evolution.genome import feature_scales, random, spec_for
from emp_nb.evolution.kernel import evaluate
from emp_nb.evolution.market import market_from_perception
from emp_nb.measures import adx, atr, ewm_volatility, simple_returns
from emp_nb.risk.measures import METHODS, forecast
from emp_nb.risk.regime import classify
from emp_nb.sensory import chaos, what, when
from emp_nb.sensory.cortex import perceive

FILE = Path(__file__).with_name("goldens.json")
FITTED = ("student", "garch", "gjr", "evt", "gjr-evt")        # by an optimiser, whose last digits belong to the machine; test_risk_measures holds them


def last(values): return [float(v) for v in np.ravel(values)]


def figures():
    "Every golden by name, as a list of floats."
    bars = load("spx")
    senses = {m.__name__.rsplit(".")[-1]: m.read(bars) for m in (what, when, chaos)}
    seen = perceive(senses)
    returns = simple_returns(bars.close)
    regime = classify(100 * 252 ** .5 * ewm_volatility(returns, 5), adx(bars.high, bars.low, bars.close))
    market = market_from_perception(bars, seen, regime.code, 252.)
    genomes = random(spec_for(market.feature_names, scales=feature_scales(market.features)), 6, np.random.default_rng(5))
    metrics = evaluate(market, genomes, cost_bps=1., slippage_bps=1., precision=np.float64)
    found = {f"sense {n}": last([[r.lean[t], r.alarm[t], r.confidence[t]] for t in (2500, -1)]) + [len(r.events)] for n, r in senses.items()}
    found |= {"cortex": last([[getattr(seen, n)[t] for n in ("lean", "alarm", "confidence", "agreement")] for t in (2500, -1)])}
    found |= {"regime": [float((regime.code == k).sum()) for k in range(-1, 9)], "kernel": last(np.nan_to_num(metrics)), "objectives": last(objectives(metrics, 5, bars_per_year=252.))}
    found |= {f"stress {n}": last(stress(bars, Scenario(n, 3, 7)).close[[1000, -1]]) for n in SCENARIOS}
    found |= {f"forecast {m}": last([x[-1] for x in forecast(returns, .99, m, 500)]) for m in METHODS if m not in FITTED}
    found |= {"drawn": last([f(np.random.default_rng(2), 500)[0].close[-1] for f in (null_garch_t, planted_regime)])}
    found |= {"quality": [assess(bars, int(bars.time[-1]))[1].score], "ranges": last([atr(bars.high, bars.low, bars.close)[-1], adx(bars.high, bars.low, bars.close)[-1]])}
    return found


@pytest.fixture(scope="module")
def now(): return figures()


@pytest.mark.jit
@pytest.mark.parametrize("name", json.loads(FILE.read_text()) if FILE.exists() else [])
def test_figure_is_as_recorded(now, name): np.testing.assert_allclose(now[name], json.loads(FILE.read_text())[name], rtol=1e-9, atol=1e-12)


@pytest.mark.jit
def test_every_figure_is_recorded(now): assert set(now) == set(json.loads(FILE.read_text()))


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]: sys.exit(__doc__)
    FILE.write_text(json.dumps(figures(), indent=0) + "\n")
    print(f"recorded {FILE.name}")

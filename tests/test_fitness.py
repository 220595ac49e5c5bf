"""The four objectives: what they depend on, where they lie, and what must not win."""
import numpy as np
import pytest
from emp_nb.core import read_settings
from emp_nb.evolution.fitness import OBJECTIVES, SCALES, WEIGHTS, FitnessScales, objectives, weighted
from emp_nb.evolution.genome import clip, random, spec_for
from emp_nb.evolution.kernel import evaluate, metric_names
from emp_nb.evolution.market import Market

FEES = dict(cost_bps=1., slippage_bps=1.)


def market(seed, T=700, drift=0.):
    rng = np.random.default_rng(seed)
    close = .01 * rng.normal(size=T) + drift
    gap = .3 * close
    ohlc = np.column_stack([gap, np.maximum(gap, close) + .003, np.minimum(gap, close) - .003, close])
    regime = np.arange(T) // 60 % 9
    return Market("M", np.arange(T) * 10**9, 252., rng.normal(size=(T, 2)), ("a", "b"), ohlc, regime, np.arange(T) > 0)


SPEC = spec_for(("a", "b"), max_hold=30)


@pytest.fixture(scope="module")
def scored():
    genomes = random(SPEC, 64, np.random.default_rng(0))
    metrics = evaluate(market(1), genomes, (market(2), market(3)), **FEES)
    return genomes, metrics, objectives(metrics, 5, bars_per_year=252)


def test_each_objective_depends_on_its_genome(scored):
    _, metrics, scores = scored
    trading = metrics[:, 0, metric_names(5).index("trades")] >= 5
    assert trading.sum() > 30
    for k, name in enumerate(OBJECTIVES): assert len(np.unique(scores[trading, k].round(6))) > .9 * trading.sum(), name


def test_objectives_lie_between_nought_and_one_and_are_finite(scored):
    scores = scored[2]
    assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1


def test_a_genome_scores_the_same_whoever_stands_beside_it(scored):
    _, metrics, scores = scored
    np.testing.assert_array_equal(objectives(metrics[7:8], 5, bars_per_year=252)[0], scores[7])


def test_a_genome_that_never_trades_scores_nought_and_is_dominated(scored):
    genomes, _, scores = scored
    lazy = genomes.params[:1].copy()
    lazy[0, [SPEC.column("a"), SPEC.column("b"), SPEC.column("bias")]] = 0
    idle = objectives(evaluate(market(1), clip(SPEC, lazy), **FEES), 5, bars_per_year=252)
    assert (idle == 0).all() and weighted(idle)[0] == 0 and (scores[scores.any(1)] > 0).all()


@pytest.mark.parametrize("name, step, hit", [("max_drawdown", .2, "survival"), ("es99", .02, "survival"), ("total_return", -.5, "profit"), ("fold_sharpe_0", -9., "profit"),
                                             ("transition_return", -.01, "adaptability"), ("regime_return_3", -.01, "adaptability")])
def test_a_worse_metric_never_raises_a_score(scored, name, step, hit):
    _, metrics, scores = scored
    worse = metrics.copy()
    worse[:, 0, metric_names(5).index(name)] += step
    change = objectives(worse, 5, bars_per_year=252) - scores
    assert (change <= 1e-15).all() and (change[:, OBJECTIVES.index(hit)] < 0).any()


def test_robustness_reads_the_stressed_worlds(scored):
    _, metrics, scores = scored
    worse = metrics.copy()
    worse[:, 2, metric_names(5).index("sharpe")] -= 5
    change = objectives(worse, 5, bars_per_year=252) - scores
    assert (change[:, 3] <= 0).all() and (change[:, 3] < 0).any() and (change[:, :3] == 0).all()


def test_metrics_that_are_not_finite_score_nought(scored):
    broken = scored[1].copy()
    broken[3, 0, metric_names(5).index("max_drawdown")] = np.nan
    assert (objectives(broken, 5, bars_per_year=252)[3] == 0).all()


def test_defaults_are_the_shipped_settings(root):
    shipped = read_settings(root / "settings.ini").fitness
    assert WEIGHTS == tuple(getattr(shipped, f"weight_{name}") for name in OBJECTIVES)
    assert SCALES == FitnessScales(shipped.drawdown_scale, shipped.es_scale, shipped.sharpe_scale)

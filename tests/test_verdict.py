"""The verdict: published values, nulls that stay nulls, edges that are found, and answers where there is no answer."""
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import numpy as np
import pytest
from emp_nb.data.scenarios import null_drift, null_garch_t, null_iid, null_jump, planted_reversion
from emp_nb.evolution.genome import Gene, Genomes, GenomeSpec, spec_for
from emp_nb.evolution.kernel import live_rows, replay
from emp_nb.evolution.market import Market, check_market, market_from_bars
from emp_nb.evolution.verdict import (Search, Verdict, _after_holdout, _after_surrogates, _trials, deflated_sharpe, effective_trials, excess_returns, judge, mean_p_value,
                                      minimum_track_length, surrogate)
from emp_nb.measures import ewma_1d_nb

FEES = dict(cost_bps=1., slippage_bps=1.)


def walk(seed, T, edge=0., drift=0., ranges=True):
    "A market whose returns lean by `edge` deviations a bar on the feature known before."
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=T)
    close = .01 * (rng.normal(size=T) + edge * np.r_[0., signal[:-1]] + drift / np.sqrt(252))
    gap = .3 * close + .001 * rng.normal(size=T)
    ohlc = np.column_stack([gap, np.maximum(gap, close) + .004 * rng.random(T), np.minimum(gap, close) - .004 * rng.random(T), close])
    if not ranges: ohlc[:, :3] = np.nan
    return Market("M", np.arange(T) * 10**9, 252., np.column_stack([signal, rng.normal(size=T)]), ("a", "b"), ohlc, np.arange(T) // 40 % 3 * 4, np.arange(T) > 0)


SPEC = spec_for(("a", "b"), max_hold=5)
TINY = dict(seed=1, search=Search(population=8, generations=2, folds=2), alpha=.5, surrogates=1, progress=False, **FEES)     # alpha .5: one surrogate can reach it


@pytest.fixture(scope="module")
def tiny():
    return judge(walk(1, 240, edge=1.5), SPEC, **TINY)


@pytest.mark.parametrize("trials, published", [(100, .9004), (46, .9505)])
def test_deflated_sharpe_equals_the_published_example(trials, published):
    assert deflated_sharpe(2.5 / 250**.5, 1250, skew=-3, kurtosis=10, trials=trials, trial_variance=.5 / 250) == pytest.approx(published, abs=1e-4)


def test_minimum_track_length_equals_the_published_example():
    day = 252**-.5
    assert minimum_track_length(2 * day, benchmark=day) / 252 == pytest.approx(2.73, abs=.005)
    assert minimum_track_length(0.) == np.inf


def test_a_genome_repeated_500_times_is_one_trial(tiny):
    found, inside = tiny.found, walk(1, 240, edge=1.5).rows(slice(1, 1 + tiny.bars_in))
    once = _trials(inside, found, tiny.winner, FEES, 1)
    params, scores = found.tried.params, found.tried_objectives
    again = replace(found, tried=Genomes(SPEC, np.r_[params, np.repeat(params[:1], 500, axis=0)]), tried_objectives=np.r_[scores, np.repeat(scores[:1], 500, axis=0)])
    assert _trials(inside, again, tiny.winner, FEES, 1) == once
    assert effective_trials(np.repeat(np.random.default_rng(0).normal(size=(1, 50)), 500, axis=0)) == 1


def test_holdout_p_value_has_its_size_under_clustered_fat_tails():
    rng, rows, n = np.random.default_rng(3), 1500, 600
    returns, variance = np.empty((rows, n)), np.full(rows, 1e-4)
    for t in range(n):
        returns[:, t] = np.sqrt(variance) * rng.standard_t(5, rows) * np.sqrt(.6)
        variance = 2e-6 + .08 * returns[:, t] ** 2 + .9 * variance
    assert .035 <= np.mean([mean_p_value(x) <= .05 for x in returns]) <= .065
    assert mean_p_value(np.zeros(20)) == 1


def test_holding_is_no_excess_however_the_market_drifts():
    market = walk(5, 400, drift=6.)
    params = np.array([[0, 0, .5, .05, 2, -1, *[1] * 9, 12, 24, 5, 1, 0]], float)       # bias above entry: always long
    long = Genomes(SPEC, params)
    pnl, live = replay(market, long, **FEES)[0], live_rows(market)
    excess = excess_returns(market, long, **FEES)[0]
    assert pnl[live].mean() > .001 and abs(excess.mean()) < .2 * pnl[live].mean()


def test_surrogates_keep_drift_volatility_and_valid_bars_and_lose_direction():
    market = walk(7, 3000, edge=.5, drift=3.)
    c = np.log1p(market.ohlc[:, 3].astype(float))
    twins = [surrogate(market, np.random.default_rng(k)) for k in range(60)]
    for twin in twins: check_market(twin)
    d = np.array([np.log1p(t.ohlc[:, 3].astype(float)) for t in twins])
    assert d.mean() == pytest.approx(c.mean(), abs=1e-4) and d.std(1).mean() == pytest.approx(c.std(), rel=.03)
    link = [np.corrcoef(market.features[:-1, 0], x[1:])[0, 1] for x in d]
    assert np.corrcoef(market.features[:-1, 0], c[1:])[0, 1] > .4 and abs(np.mean(link)) < .01 and np.std(link) < .03
    assert twins[0].regime is not None and (twins[0].features == market.features).all() and twins[0].digest != market.digest
    closes = walk(7, 300, ranges=False)
    check_market(surrogate(closes, np.random.default_rng(1)))
    assert surrogate(replace(closes, ohlc=np.full((300, 4), np.nan)), np.random.default_rng(1)).ohlc.shape == (300, 4)      # nothing known, nothing turned


def test_a_strong_edge_passes_both_tests(tiny):
    assert tiny.kind == "edge" and tiny.p_surrogate == .5 and tiny.p_holdout <= .5 and len(tiny.reasons) == 2
    assert tiny.excess_out > 0 and tiny.min_track_length < np.inf and tiny.trials >= 8 and 0 <= tiny.deflated_sharpe <= 1 and 0 < tiny.p_spa <= 1 and 0 <= tiny.pbo <= 1


def test_the_verdict_is_the_same_for_any_executor(tiny):
    with ThreadPoolExecutor(2) as pool: other = judge(walk(1, 240, edge=1.5), SPEC, **TINY, executor=pool)
    for name in ("kind", "p_holdout", "p_surrogate", "excess_in", "surrogate_excess", "deflated_sharpe", "p_spa", "pbo"): assert getattr(other, name) == getattr(tiny, name), name


def test_a_failed_holdout_ends_it_without_surrogates():
    verdict = judge(walk(1, 240), SPEC, **TINY | dict(alpha=.001, surrogates=1, holdout=.5, search=replace(TINY["search"], folds=2)))
    assert verdict.kind == "insufficient data"                                          # a thousandth asks for a longer hold-out
    verdict = judge(walk(2, 900), SPEC, **TINY | dict(alpha=.01))
    assert verdict.kind == "no edge" and np.isnan(verdict.p_surrogate) and "surrogates were not run" in verdict.reasons[1]


def test_earlier_looks_divide_alpha_and_are_named():
    verdict = judge(walk(2, 900), SPEC, **TINY | dict(alpha=.04, looks=3))
    assert verdict.alpha == .01 and verdict.looks == 3 and "after 3 earlier looks" in verdict.reasons[0]


def test_surrogates_that_do_as_well_deny_the_edge(tiny):
    none, some = _after_surrogates(tiny, np.array([-1.])), _after_surrogates(tiny, np.array([99.]))
    assert (none.kind, none.p_surrogate) == ("edge", .5) and (some.kind, some.p_surrogate) == ("no edge", 1.)


def test_a_handful_of_trades_is_insufficient(tiny):
    few = _after_holdout(tiny, 2.)
    assert few.kind == "insufficient data" and few.bars_needed > 240 and "2 trades" in few.reasons[1]


def test_a_search_in_which_nobody_trades_is_no_edge():
    mute = GenomeSpec(tuple(Gene(g.name, g.kind, -.001, .001, 0., 1.) if g.kind == "weight" or g.name == "bias" else g for g in SPEC.genes))
    verdict = judge(walk(1, 240), mute, **TINY)
    assert verdict.kind == "no edge" and verdict.trials == 0 and verdict.p_holdout == 1 and "no genome" in verdict.reasons[0]


def broken_markets():
    market = walk(4, 240)
    gap = market.valid & ((np.arange(240) < 20) | (np.arange(240) > 200))
    nan = np.where(np.arange(240)[:, None] == 120, np.nan, market.ohlc)
    return {"one bar": market.rows(slice(0, 1)), "short": market.rows(slice(0, 60)), "NaN": replace(market, ohlc=nan), "flat": replace(market, ohlc=np.zeros((240, 4))),
            "gap": replace(market, valid=gap), "never valid": replace(market, valid=np.zeros(240, bool)), "empty": market.rows(slice(0, 0))}


@pytest.mark.parametrize("name", list(broken_markets()))
def test_a_market_that_cannot_carry_a_verdict_gets_a_sentence_not_a_crash(name):
    verdict = judge(broken_markets()[name], SPEC, **TINY)
    assert verdict.kind == "insufficient data" and len(verdict.reasons) == 1 and np.isnan(verdict.p_holdout)
    if name in ("short", "gap"): assert verdict.bars_needed > len(broken_markets()[name])


def test_the_length_named_is_enough_and_one_tenth_less_is_not():
    needed = judge(walk(4, 60), SPEC, **TINY).bars_needed
    assert judge(walk(4, needed), SPEC, **TINY | dict(alpha=.5)).kind != "insufficient data"
    assert judge(walk(4, int(.9 * needed)), SPEC, **TINY).kind == "insufficient data"


class PressedTwice:
    "An executor during whose second task somebody presses Ctrl-C."
    calls = 0

    def map(self, task, items):
        self.calls += 1
        if self.calls == 2: signal.raise_signal(signal.SIGINT)
        return map(task, items)


def test_ctrl_c_gives_no_verdict():
    with pytest.raises(KeyboardInterrupt): judge(walk(1, 240), SPEC, **TINY, executor=PressedTwice())


@pytest.mark.parametrize("wrong", [dict(holdout=0.), dict(holdout=1.), dict(alpha=0.), dict(looks=-1), dict(surrogates=0)])
def test_arguments_outside_their_domain_are_refused(wrong):
    with pytest.raises(ValueError, match="judge needs"): judge(walk(1, 240), SPEC, **TINY | wrong)


def test_a_verdict_starts_out_knowing_nothing():
    blank = Verdict("insufficient data", (), .05, 0)
    assert np.isnan([blank.p_holdout, blank.p_surrogate, blank.excess_in]).all() and blank.bars_needed == 0


def sensed(bars):
    "Trend and reversion features; row t reads rows <= t."
    close = bars.close
    unit = .01 * close
    features = np.column_stack([(ewma_1d_nb(close, 2 / 17) - ewma_1d_nb(close, 2 / 65)) / unit / 4, (close - ewma_1d_nb(close, 2 / 9)) / unit / 2])
    features[:64] = np.nan
    regime = np.where(np.abs(features[:, 0]) > .5, 5, 4)
    return market_from_bars(bars, np.tanh(features), ("trend", "reversion"), regime=regime, bars_per_year=252.)


SMALL = dict(search=Search(population=60, generations=8), progress=False, **FEES)
SENSED = spec_for(("trend", "reversion"), max_hold=100)


@pytest.mark.jit
def test_false_edges_stay_within_the_binomial_bound():
    kinds = [null_iid, null_garch_t, null_jump, lambda rng, T: null_drift(rng, T, sharpe=.3), lambda rng, T: null_drift(rng, T, sharpe=.8)]
    kinds = [judge(sensed(kinds[k % 5](np.random.default_rng([9, k]), 2000)[0]), SENSED, seed=k, **SMALL).kind for k in range(30)]
    assert kinds.count("edge") <= 4 and kinds.count("insufficient data") == 0           # at 5 %: more than 4 of 30 has chance 1.6 %


@pytest.mark.jit
def test_a_planted_reversion_is_found():
    kinds = [judge(sensed(planted_reversion(np.random.default_rng([3, k]), 5000, sharpe=2.5)[0]), SENSED, seed=k, **SMALL).kind for k in range(3)]
    assert kinds.count("edge") >= 2

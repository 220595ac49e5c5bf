"""The fast kernel against the slow truth, its execution rules by hand, and what must not change a result."""
import os, pickle, subprocess, sys
from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from emp_nb.core import DataError
from emp_nb.data.bars import Bars
from emp_nb.evolution.genome import Genomes, clip, random, spec_for
from emp_nb.evolution.kernel import LANES, _replay_reference, evaluate, evaluate_reference, metric_names, replay
from emp_nb.evolution.rules import rules_for
from emp_nb.evolution.market import Market, live_rows, market_from_bars, trailing_volatility

sys.path.insert(0, str(ROOT / "bench"))
import kernel_numpy

FEES = dict(cost_bps=1., slippage_bps=1.)
NAMES = metric_names(5)


def bars_of(prices, start="2015-01-01 21:00"):
    "Bars from rows (open, high, low, close); NaN for ranges never seen."
    index = pd.date_range(start, periods=len(prices), tz="UTC")
    return Bars.from_frame(pd.DataFrame(np.asarray(prices, float), columns=["open", "high", "low", "close"], index=index), "TEST")


def market_like(seed, rows=300, features=5, close_only=False, holes=True):
    "A market with fat tails, opening gaps, regimes that come and go, and rows without features."
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.standard_t(4, rows) * .008))
    opening = np.r_[100., close[:-1]] * np.exp(rng.standard_t(3, rows) * .006)
    high, low = np.maximum(opening, close) * np.exp(abs(rng.normal(0, .005, rows))), np.minimum(opening, close) * np.exp(-abs(rng.normal(0, .005, rows)))
    prices = np.column_stack([opening, high, low, close])
    if close_only: prices[:, :3] = np.nan
    x = rng.normal(size=(rows, features))
    for t in range(1, rows): x[t] += .9 * x[t - 1]
    x /= x.std(axis=0)
    x[:20] = np.nan
    if holes: x[rng.integers(20, rows, rows // 40)] = np.nan
    regime = np.repeat(rng.integers(-1, 9, rows // 25 + 1), 25)[:rows]
    return market_from_bars(bars_of(prices), x, [f"sense.f{k}" for k in range(features)], regime=regime, bars_per_year=252)


def busy(market, count, seed=3):
    "Genomes that trade often: tight levels, short holding, most regimes expressed."
    spec = spec_for(market.feature_names, max_hold=40)
    params = random(spec, count, np.random.default_rng(seed)).params.copy()
    for name, factor in (("long_entry", .3), ("short_entry", .3), ("stop", .3), ("take", .2)): params[:, spec.column(name)] *= factor
    for code in range(9): params[:, spec.column(f"regime_{code}")] += .3
    params[:, spec.column("bias")] *= .3
    params[:, spec.column("short")] += .3
    return clip(spec, params)


def one(spec, **genes):
    "One genome: every regime expressed, no bias, and the genes given."
    base = {"bias": 0., "long_entry": 1., "short_entry": 1., "exit": .5, "stop": 3., "take": 24., "hold": 250., "size": 1., "short": 1.,
            **{f"regime_{code}": 1. for code in range(9)}, **{name: 1. for name in spec.feature_names}, **genes}
    return clip(spec, np.array([[base[name] for name in spec.names]]))


CALM = [(100., 101., 99., 100. + (-1) ** t) for t in range(7)]      # seven bars that give a volatility and touch nothing


def scripted(tail, signal, **more):
    "Seven calm bars without signal, then `tail` with its signal; close 7 is the first of the tail."
    return market_from_bars(bars_of([*CALM, *tail]), np.r_[np.zeros(7), signal][:, None], ("signal",), bars_per_year=252, **more)


SPEC = spec_for(("signal",))


# ── kernel = reference ──

@pytest.mark.parametrize("close_only", [False, True])
def test_float64_agrees_with_the_reference(close_only):
    market, other = market_like(1, close_only=close_only), market_like(2, rows=230, close_only=close_only)
    genomes = busy(market, 20)
    truth = evaluate_reference(market, genomes, (other,), **FEES)
    fast = evaluate(market, genomes, (other,), precision=np.float64, **FEES)
    assert fast.shape == (20, 2, len(NAMES))
    np.testing.assert_allclose(fast, truth, rtol=1e-11, atol=1e-12)
    assert truth[:, 0, NAMES.index("trades")].sum() > 200


@pytest.mark.parametrize("close_only", [False, True])
def test_float32_agrees_on_trades_and_sharpe(close_only):
    market = market_like(4, rows=400, close_only=close_only)
    genomes = busy(market, 30)
    truth, fast = evaluate_reference(market, genomes, **FEES)[:, 0], evaluate(market, genomes, **FEES)[:, 0]
    same = (truth[:, NAMES.index("trades")] == fast[:, NAMES.index("trades")]) & (abs(truth - fast)[:, NAMES.index("sharpe")] <= .002)
    assert same.mean() >= .995
    np.testing.assert_allclose(fast[same], truth[same], rtol=2e-3, atol=2e-5)


@pytest.mark.jit
def test_float32_agrees_on_a_long_market_and_a_whole_population():
    market = market_like(5, rows=5031, features=16)
    genomes = random(spec_for(market.feature_names), 1000, np.random.default_rng(6))
    exact, fast = evaluate(market, genomes, precision=np.float64, **FEES)[:, 0], evaluate(market, genomes, **FEES)[:, 0]
    same = (exact[:, NAMES.index("trades")] == fast[:, NAMES.index("trades")]) & (abs(exact - fast)[:, NAMES.index("sharpe")] <= .002)
    assert same.mean() >= .995
    np.testing.assert_allclose(fast[same], exact[same], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("close_only", [False, True])
def test_the_numpy_batch_agrees_with_the_reference(close_only):
    market = market_like(7, close_only=close_only)
    genomes = busy(market, 12)
    np.testing.assert_allclose(kernel_numpy.evaluate(market, genomes, **FEES), evaluate_reference(market, genomes, **FEES)[:, 0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("close_only", [False, True])
def test_replay_is_the_reference_bar_by_bar(close_only):
    market = market_like(8, close_only=close_only)
    genomes = busy(market, 9)
    pnl, position = replay(market, genomes, with_position=True, **FEES)
    assert pnl.shape == position.shape == (9, len(market))
    for i in range(9):
        truth = _replay_reference(market, genomes, i, 2e-4)
        np.testing.assert_allclose(pnl[i], truth[0], rtol=0, atol=1e-14)
        np.testing.assert_array_equal(position[i], truth[1])
    np.testing.assert_array_equal(replay(market, genomes, **FEES), pnl)


def test_columns_are_statistics_of_the_replay():
    market = market_like(9)
    genomes = busy(market, 6)
    assert replay(market, genomes, **FEES).any(axis=1).all()
    columns = dict(zip(NAMES, evaluate(market, genomes, precision=np.float64, **FEES)[:, 0].T))
    pnl, position = (x[:, live_rows(market)] for x in replay(market, genomes, with_position=True, **FEES))
    np.testing.assert_allclose(columns["total_return"], np.prod(1 + pnl, axis=1) - 1)
    np.testing.assert_allclose(columns["sharpe"], pnl.mean(axis=1) / pnl.std(axis=1, ddof=1) * 252 ** .5)
    np.testing.assert_allclose(columns["mean_position"], position.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(columns["cost"], columns["turnover"] * 2e-4)
    assert (columns["es99"] >= columns["var99"]).all()


# ── the rules by hand ──

def test_a_trade_computed_by_hand():
    tail = [(100, 101, 99, 100), (102, 103, 101, 103), (103, 106, 102, 105), (104, 105, 103, 104), (106, 108, 105, 107), (107, 109, 106, 108)]
    market = scripted(tail, [1, 1, 1, 0, 0, 0])
    pnl, position = replay(market, one(SPEC), cost_bps=10, slippage_bps=5, with_position=True)
    # bought at the open 102 after the close of bar 7; the signal ends with bar 10, so sold at the open 106 of bar 11
    expected = [103 / 102 - 1 - .0015, 105 / 103 - 1, 104 / 105 - 1, 106 / 104 - 1 - .0015, 0]
    np.testing.assert_allclose(pnl[0], [0] * 8 + expected, atol=2e-7)
    np.testing.assert_array_equal(position[0], [0] * 8 + [1, 1, 1, 0, 0])


def test_costs_lower_pnl_by_rate_times_turnover():
    market = scripted([(100, 101, 99, 100), (100, 101, 99, 100), (100, 101, 99, 101), (101, 102, 100, 101)], [1, 1, -1, -1])
    genome = one(SPEC, size=.5)
    free, paid = replay(market, genome, cost_bps=0, slippage_bps=0)[0], replay(market, genome, cost_bps=30, slippage_bps=20)[0]
    np.testing.assert_allclose(free - paid, [0] * 8 + [.005 * .5, 0, .005 * 1.0], atol=1e-15)      # in by half, then turned by one


def test_an_open_beyond_the_stop_fills_at_the_open():
    market = scripted([(100, 101, 99, 100), (100, 101, 99, 100), (80, 82, 79, 81), (81, 82, 80, 81)], [1, 1, 1, 0])
    np.testing.assert_allclose(replay(market, one(SPEC), cost_bps=0, slippage_bps=0)[0][8:], [0, 80 / 100 - 1, 0], atol=1e-7)


@pytest.mark.parametrize("side, bar", [(1, (100, 140, 80, 120)), (-1, (100, 140, 80, 90))])
def test_the_stop_counts_when_one_bar_touches_stop_and_target(side, bar):
    market = scripted([(100, 101, 99, 100), bar, (bar[3],) * 4], [side, 0, 0])
    loss = 3 * trailing_volatility(market)[7]
    np.testing.assert_allclose(replay(market, one(SPEC, take=5), cost_bps=0, slippage_bps=0)[0][8:], [-loss, 0], atol=1e-7)


@pytest.mark.parametrize("side, bar", [(1, (100, 140, 99.5, 120)), (-1, (100, 100.5, 60, 80))])
def test_a_target_pays_its_level(side, bar):
    market = scripted([(100, 101, 99, 100), bar, (bar[3],) * 4], [side, 0, 0])
    gain = 5 * trailing_volatility(market)[7]
    np.testing.assert_allclose(replay(market, one(SPEC, take=5), cost_bps=0, slippage_bps=0)[0][8:], [gain, 0], atol=1e-7)


def test_after_a_stop_the_next_entry_is_a_bar_later():
    market = scripted([(100, 101, 99, 100), (100, 101, 80, 100), (100, 101, 99, 101), (101, 102, 100, 101)], [1, 1, 1, 1])
    pnl, position = replay(market, one(SPEC), cost_bps=0, slippage_bps=0, with_position=True)
    assert pnl[0][8] < -.02 and position[0][9] == 1
    assert pnl[0][9] == pytest.approx(.01, abs=1e-7)                # bought anew at the open of bar 9


def test_the_holding_time_ends_a_position():
    market = scripted([(100, 101, 99, 100)] * 8, [1] * 8)
    position = replay(market, one(SPEC, hold=3, stop=12), cost_bps=0, slippage_bps=0, with_position=True)[1]
    np.testing.assert_array_equal(position[0][8:], [1, 1, 1, 0, 1, 1, 1])


def test_a_series_of_closes_fills_at_the_next_close_and_has_no_stop():
    nan = np.nan
    closes = [*(p[3] for p in CALM), 100, 102, 51, 52, 53]
    market = market_from_bars(bars_of([(nan, nan, nan, c) for c in closes]), np.r_[np.zeros(7), 1, 1, 1, 0, 0][:, None], ("signal",), bars_per_year=252)
    pnl = replay(market, one(SPEC), cost_bps=0, slippage_bps=0)[0]
    np.testing.assert_allclose(pnl[8:], [0, 51 / 102 - 1, 52 / 51 - 1, 53 / 52 - 1], atol=1e-7)


def test_a_row_without_features_closes_the_position():
    signal = [1, 1, np.nan, 1, 1, 1]
    market = scripted([(100, 101, 99, 100)] * 6, signal)
    position = replay(market, one(SPEC), cost_bps=0, slippage_bps=0, with_position=True)[1]
    np.testing.assert_array_equal(position[0][8:], [1, 1, 0, 1, 1])


def test_a_regime_that_is_not_expressed_is_not_traded_and_an_unknown_one_is():
    market = scripted([(100, 101, 99, 100)] * 6, [1] * 6, regime=[0] * 7 + [4, 4, 5, 5, -1, -1])
    position = replay(market, one(SPEC, regime_5=0), cost_bps=0, slippage_bps=0, with_position=True)[1]
    np.testing.assert_array_equal(position[0][8:], [1, 1, 0, 0, 1])


def test_a_genome_that_may_not_go_short_does_not():
    market = scripted([(100, 101, 99, 100)] * 3, [-1, -1, -1])
    assert not replay(market, one(SPEC, short=0), **FEES).any()
    assert replay(market, one(SPEC, short=1), **FEES).any()


def test_ruin_is_a_loss_of_everything_and_no_more():
    market = scripted([(100, 101, 99, 100), (100, 101, 99, 100), (350, 360, 340, 350), (350, 360, 90, 100)], [-1, -1, -1, -1])
    for result in (evaluate(market, one(SPEC), folds=1, **FEES)[0, 0], evaluate_reference(market, one(SPEC), folds=1, **FEES)[0, 0]):
        assert result[NAMES.index("total_return")] == -1 and result[NAMES.index("max_drawdown")] == 1


# ── what must not change a result ──

def test_the_result_is_bitwise_the_same_for_any_cut_of_the_population():
    market, other = market_like(10, rows=150), market_like(11, rows=120)
    genomes = busy(market, 2 * LANES + 3)
    whole = evaluate(market, genomes, (other,), threads=1, **FEES)
    np.testing.assert_array_equal(evaluate(market, genomes, (other,), threads=3, **FEES), whole)
    cuts = [slice(0, 1), slice(1, LANES + 8), slice(LANES + 8, LANES + 8), slice(LANES + 8, None)]
    np.testing.assert_array_equal(np.concatenate([evaluate(market, genomes[c], (other,), **FEES) for c in cuts]), whole)
    np.testing.assert_array_equal(evaluate(market, genomes[::-1], (other,), **FEES)[::-1], whole)
    np.testing.assert_array_equal(replay(market, genomes[5:6], **FEES)[0], replay(market, genomes[:8], **FEES)[5])


def test_the_future_changes_no_earlier_bar():
    market = market_like(12)
    genomes, cut = busy(market, 8), 180
    pnl, position = replay(market, genomes, with_position=True, **FEES)
    rng = np.random.default_rng(1)
    features, ohlc, regime = market.features.copy(), market.ohlc.copy(), market.regime.copy()
    features[cut:], regime[cut:] = rng.normal(size=features[cut:].shape), 8
    ohlc[cut:] = np.array([.1, .3, -.2, .2])
    later = replace(market, features=features, ohlc=ohlc, regime=regime, valid=np.r_[market.valid[:cut], np.ones(len(market) - cut, bool)])
    changed, moved = replay(later, genomes, with_position=True, **FEES)
    np.testing.assert_array_equal(changed[:, :cut], pnl[:, :cut])
    np.testing.assert_array_equal(moved[:, :cut + 1], position[:, :cut + 1])       # the orders of bar `cut` were decided before it
    assert (changed[:, cut:] != pnl[:, cut:]).any()


def test_fitness_depends_on_the_genome():
    market = market_like(13)
    genomes = busy(market, 20)
    result = evaluate(market, genomes, **FEES)[:, 0, NAMES.index("sharpe")]
    assert len(np.unique(result)) == 20
    params = genomes.params.copy()
    params[:, :5] *= -1                                             # every weight turned round
    assert (evaluate(market, Genomes(genomes.spec, params), **FEES)[:, 0, NAMES.index("sharpe")] != result).all()


def test_a_planted_signal_pays_and_its_opposite_does_not():
    rng = np.random.default_rng(14)
    signal = rng.normal(size=400)
    close = 100 * np.exp(np.cumsum(np.r_[0, 0, .01 * np.sign(signal[:-2])] + rng.normal(0, .003, 400)))
    market = market_from_bars(bars_of(np.column_stack([np.full((400, 3), np.nan), close])), signal[:, None], ("signal",), bars_per_year=252)
    good = one(SPEC, long_entry=.05, short_entry=.05, exit=.04)
    bad = one(SPEC, signal=-1, long_entry=.05, short_entry=.05, exit=.04)
    sharpe = [evaluate(market, g, **FEES)[0, 0, 1] for g in (good, bad)]
    assert sharpe[0] > 10 and sharpe[1] < -10


def test_a_market_survives_the_way_to_another_process():
    market = market_like(15, rows=120)
    genomes = busy(market, 3)
    there, those = pickle.loads(pickle.dumps((market, genomes)))
    assert isinstance(there, Market) and there.digest == market.digest
    np.testing.assert_array_equal(evaluate(there, those, **FEES), evaluate(market, genomes, **FEES))


SMALL = """
import sys, numpy as np
sys.path.insert(0, "tests")
from test_kernel import FEES, busy, market_like
from emp_nb.evolution.kernel import evaluate, evaluate_nb
market = market_like(16, rows=150)
np.save(sys.argv[1], evaluate(market, busy(market, 5), precision=np.dtype(sys.argv[2]), **FEES))
print(sum(evaluate_nb.stats.cache_misses.values()) if hasattr(evaluate_nb, "stats") else -1)
"""


def in_process(out, dtype, **environ):
    "Run SMALL in a fresh interpreter; the result and how many kernels it compiled."
    done = subprocess.run([sys.executable, "-c", SMALL, str(out), dtype], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(out), int(done.stdout)


@pytest.mark.jit
@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-12), ("f4", 1e-4)])
def test_the_kernel_is_the_same_with_the_compiler_off(tmp_path, dtype, tolerance):
    market = market_like(16, rows=150)
    plain, _ = in_process(tmp_path / "plain.npy", dtype, NUMBA_DISABLE_JIT="1")
    np.testing.assert_allclose(evaluate(market, busy(market, 5), precision=np.dtype(dtype), **FEES), plain, rtol=tolerance, atol=tolerance)


@pytest.mark.jit
def test_a_second_process_compiles_nothing(tmp_path):
    first, compiled = in_process(tmp_path / "a.npy", "f4", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    second, again = in_process(tmp_path / "b.npy", "f4", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert compiled == 1 and again == 0
    np.testing.assert_array_equal(first, second)


# ── the door ──

def test_the_door_refuses_in_sentences():
    market = market_like(17, rows=120)
    genomes = busy(market, 2)
    stranger = random(spec_for(("other",)), 2, np.random.default_rng(1))
    for door in (evaluate, evaluate_reference):
        with pytest.raises(DataError, match="make the spec from this market's feature_names"): door(market, stranger, **FEES)
        with pytest.raises(ValueError, match="must be finite and >= 0, got -1"): door(market, genomes, cost_bps=-1, slippage_bps=0)
        with pytest.raises(ValueError, match="folds must be >= 1"): door(market, genomes, folds=0, **FEES)
        with pytest.raises(DataError, match="100 folds need >= 200 live rows"): door(market, genomes, folds=100, **FEES)
        with pytest.raises(TypeError, match="cost_bps"): door(market, genomes, slippage_bps=1)
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"): evaluate(market, genomes, threads=0, **FEES)
    with pytest.raises(DataError, match="got 0 of 120"): evaluate(replace(market, valid=np.zeros(120, bool)), genomes, **FEES)
    with pytest.raises(DataError, match="close returns must be finite"): evaluate(replace(market, ohlc=np.full((120, 4), np.nan)), genomes, **FEES)


def test_a_tape_lives_as_long_as_its_market():
    from emp_nb.evolution import kernel
    market = market_like(18, rows=120)
    genomes = busy(market, 2)
    before = len(kernel._TAPES)
    first = evaluate(market, genomes, **FEES)
    assert len(kernel._TAPES) == before + 1
    np.testing.assert_array_equal(evaluate(market, genomes, **FEES), first)
    del market
    assert len(kernel._TAPES) == before


def test_rules_go_through_the_same_loop():
    market = market_like(90)
    rules = random(rules_for(market.feature_names, depth=2), 3, np.random.default_rng(3))
    np.testing.assert_allclose(evaluate(market, rules, **FEES, precision=np.float64, folds=2), evaluate_reference(market, rules, **FEES, folds=2), rtol=1e-10, atol=1e-12)

"""The shared arithmetic against independent libraries, with the JIT on and off."""
import inspect
import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.tsa.api import SimpleExpSmoothing
from emp_nb import measures
from emp_nb.data.catalog import load

SPX = load("spx")


def test_atr_and_adx_equal_talib_on_the_sp500():
    for window in (2, 14, 50):
        np.testing.assert_allclose(measures.atr(SPX.high, SPX.low, SPX.close, window), talib.ATR(SPX.high, SPX.low, SPX.close, window), rtol=1e-9)
        np.testing.assert_allclose(measures.adx(SPX.high, SPX.low, SPX.close, window), talib.ADX(SPX.high, SPX.low, SPX.close, window), rtol=1e-9)


def test_ewma_equals_statsmodels():
    x = measures.log_returns(SPX.close)[1:]
    fitted = SimpleExpSmoothing(x, initialization_method="known", initial_level=x[0]).fit(smoothing_level=.06, optimized=False)
    np.testing.assert_allclose(measures.ewma_1d_nb(x, .06)[:-1], fitted.fittedvalues[1:], atol=1e-12)


def test_sharpe_is_a_t_statistic():
    r = measures.simple_returns(SPX.close)[1:]
    assert measures.sharpe(r, r.size) == pytest.approx(stats.ttest_1samp(r, 0).statistic, rel=1e-12)


def test_drawdown_equals_the_obvious_loop():
    r = measures.simple_returns(SPX.close)[1:300]
    equity, top, worst = 1., 1., 0.
    for x in r:
        equity *= 1 + x
        top = max(top, equity)
        worst = max(worst, 1 - equity / top)
    assert measures.max_drawdown(r) == pytest.approx(worst, abs=1e-15)


returns = st.lists(st.floats(-.5, .5), min_size=1, max_size=200).map(np.array)


@settings(max_examples=200, deadline=None)
@given(returns, st.sampled_from([.5, .9, .95, .99]))
def test_var_is_an_observed_quantile_and_es_is_never_below(x, level):
    var, es = measures.historical_var_es(x, level)
    assert var == np.quantile(-x, level, method="inverted_cdf") and es >= var - 1e-15


@settings(max_examples=100, deadline=None)
@given(returns, st.integers(0, 2**32 - 1), st.sampled_from([.9, .95, .975]))
def test_es_is_subadditive_and_scales(x, seed, level):
    y = np.random.default_rng(seed).permutation(x)
    es = [measures.historical_var_es(z, level)[1] for z in (x, y, x + y, 3 * x)]
    assert es[2] <= es[0] + es[1] + 1e-12 and es[3] == pytest.approx(3 * es[0], abs=1e-12)


@pytest.mark.jit
def test_every_kernel_is_the_same_with_the_compiler_off():
    rows = (SPX.high[:400], SPX.low[:400], SPX.close[:400])
    np.testing.assert_array_equal(measures.ewma_1d_nb(rows[2], .1), measures.ewma_1d_nb.py_func(rows[2], .1))
    losses = np.sort(rows[2])
    np.testing.assert_allclose(measures.var_es_sorted_nb(losses, .95), measures.var_es_sorted_nb.py_func(losses, .95), rtol=1e-14)
    for scan, make, step in ((measures.atr_nb, measures.atr_state, measures.atr_step_nb), (measures.adx_nb, measures.adx_state, measures.adx_step_nb)):
        state = make.py_func(14)
        slow = np.array([step.py_func(state, *row) for row in zip(*rows)])
        np.testing.assert_allclose(scan(*rows, 14), slow, rtol=1e-12)


def test_public_functions_say_shape_errors_and_source():
    for name, f in inspect.getmembers(measures, inspect.isfunction):
        if f.__module__ == measures.__name__ and not name.startswith("_"):
            assert "Returns" in f.__doc__ and "Source" in f.__doc__ and "Raises" in f.__doc__, name

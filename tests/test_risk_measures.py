"""Measures of risk on the S&P 500 against two independent truths each (libraries, numerical integrals, published values), and their properties."""
import math
import time
import warnings
from functools import partial
import empyrical
import numpy as np
import pandas as pd
import pytest
import skfolio.measures as peer
from arch import arch_model
from arch.univariate import EWMAVariance, ZeroMean
from hypothesis import given, settings as examples, strategies as st
from numpy.polynomial.hermite_e import hermeval
from scipy import integrate, optimize, stats
from skfolio import Portfolio, RiskMeasure
from statsmodels.distributions.copula.api import StudentTCopula
from statsmodels.miscmodels.tmodel import TLinearModel
from statsmodels.stats.weightstats import DescrStatsW
from emp_nb.core import DataError, settings
from emp_nb.data.catalog import load
from emp_nb.measures import drawdown, historical_var_es, simple_returns
from emp_nb.risk.analytic import cornish_fisher_nb, cornish_fisher_valid_nb, gpd_fit_nb, gpd_quantile_nb, gpd_tail_nb, normal_tail, student_fit_nb, student_tail, var_es_weighted_nb
from emp_nb.risk.backtests import fz_loss
from emp_nb.risk.contributions import book_returns, by_group
from emp_nb.risk.copula import Copula, copula_log_likelihood, copula_scenarios, fit_copula
from emp_nb.risk.garch import fit_garch, garch_filter_nb, garch_nll_nb, refits
from emp_nb.risk.measures import (DEFAULT_METHOD, DEFAULT_WINDOW, METHODS, acerbi_szekely, book_var_es, choose, christoffersen, compare, contributions, drawdown_at_risk,
                                  drawdown_spells, factor_contributions, forecast, kupiec, next_bar, ulcer_index, var_es)

LEVELS = [.95, .975, .99]
FITTED = ("garch", "gjr", "evt", "gjr-evt")
few = partial(examples, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def spx(): return simple_returns(load("spx_close", end="2008-12-31").close)[1:]


@pytest.fixture(scope="module")
def stocks(): return load("stocks", end="2008-12-31")


@pytest.fixture(scope="module")
def moves(stocks): return np.ascontiguousarray(simple_returns(stocks.close)[1:])


# ---- each method against two truths ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("level", LEVELS)
def test_historical_is_skfolios_and_numpys_and_brackets_empyricals(spx, level):
    got = var_es(spx, level, "historical")
    assert (got.loss, got.es) == (pytest.approx(peer.value_at_risk(spx, level), rel=1e-12), pytest.approx(peer.cvar(spx, level), rel=1e-12))
    assert got.loss == np.quantile(-spx, level, method="inverted_cdf")
    between = -empyrical.value_at_risk(spx, 1 - level)          # interpolates: at most one order statistic away, on purpose not equal
    losses, k = np.sort(-spx), np.searchsorted(np.sort(-spx), got.loss)
    assert losses[k - 1] <= between <= losses[k + 1] and between != got.loss
    assert got.es == pytest.approx(-empyrical.conditional_value_at_risk(spx, 1 - level), rel=.02)      # averages whole observations only


@pytest.mark.parametrize("level", LEVELS)
def test_age_is_skfolios_and_statsmodels_weighted_quantile(spx, level):
    x, weights = spx[-500:], .98 ** np.arange(499., -1, -1)
    got = var_es(x, level, "age")
    assert got.loss == pytest.approx(peer.value_at_risk(x, level, sample_weight=weights), rel=1e-12)
    assert got.es == pytest.approx(peer.cvar(x, level, sample_weight=weights), rel=1e-9)
    assert got.loss == pytest.approx(float(DescrStatsW(-x, weights / weights.sum()).quantile([level], return_pandas=False)[0]), rel=1e-9)


@pytest.mark.parametrize("level", LEVELS)
def test_normal_is_scipys_quantile_and_an_integral(spx, level):
    got, law = var_es(spx, level, "normal"), stats.norm(-spx.mean(), spx.std(ddof=1))
    assert got.loss == pytest.approx(law.ppf(level), rel=1e-12)
    assert got.es == pytest.approx(law.expect(lambda v: v, lb=law.ppf(level), conditional=True), rel=1e-7)


def test_student_is_scipys_fit_and_statsmodels(spx):
    x = spx[-1000:]
    dof, centre, scale = stats.t.fit(x)
    got, law = var_es(x, .99, "student"), stats.t(dof, -centre, scale)
    assert got.loss == pytest.approx(law.ppf(.99), rel=1e-3) and got.es == pytest.approx(integrate.quad(lambda v: v * law.pdf(v), law.ppf(.99), np.inf)[0] / .01, rel=2e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        b, d, s = TLinearModel(x / x.std(), np.ones(x.size)).fit(start_params=np.r_[0., 3., .7], disp=0).params
    assert student_fit_nb(x) == (pytest.approx(b * x.std(), abs=1e-5), pytest.approx(s * x.std(), rel=1e-3), pytest.approx(d, rel=3e-3))


@pytest.mark.parametrize("level", LEVELS)
def test_cornish_fisher_is_its_hermite_series_and_the_integral_of_its_quantiles(spx, level):
    x = spx[2000:2500]
    skew, kurt = stats.skew(-x), stats.kurtosis(-x)
    def bent(u):
        z = stats.norm.ppf(u)
        return -x.mean() + x.std(ddof=1) * (z + hermeval(z, [0, 0, skew / 6]) + hermeval(z, [0, 0, 0, kurt / 24]) - skew ** 2 / 36 * hermeval(z, [0, 1, 0, 2]))
    got = var_es(x, level, "cornish-fisher")
    assert got.loss == pytest.approx(bent(level), rel=1e-12)
    assert got.es == pytest.approx(integrate.quad(bent, level, 1, epsabs=1e-12)[0] / (1 - level), rel=1e-6)


def test_the_cornish_fisher_domain_is_maillards():
    "Published: excess kurtosis from 0 to 8 without skewness, |skewness| up to 6 (sqrt 2 - 1) = 2.485 with any."
    assert [bool(cornish_fisher_valid_nb(0., k)) for k in (-1e-9, 0., 8., 8 + 1e-9)] == [False, True, True, False]
    widest = 6 * (math.sqrt(2) - 1)
    inside = [any(cornish_fisher_valid_nb(s, k) for k in np.linspace(0, 40, 20_001)) for s in (widest - 1e-3, widest + 1e-3, -widest + 1e-3, -widest - 1e-3)]
    assert inside == [True, False, True, False]


@few(max_examples=200)
@given(st.floats(-3, 3), st.floats(-1, 15))
def test_cornish_fisher_rises_inside_its_domain_and_falls_somewhere_outside(skew, kurt):
    z = np.linspace(-60, 60, 24_001)
    slope = 1 + z * skew / 3 + (z * z - 1) * kurt / 8 - (6 * z * z - 5) * skew ** 2 / 36
    if cornish_fisher_valid_nb(skew, kurt): assert slope.min() > -1e-9
    elif not (abs(kurt / 8 - skew ** 2 / 6) < 1e-3): assert slope.min() < 1e-4


@pytest.mark.parametrize("level", LEVELS)
def test_ewma_is_archs_riskmetrics_and_pandas(spx, level):
    got, scaled = var_es(spx, level, "ewma"), 100 * spx
    model = ZeroMean(scaled, volatility=EWMAVariance(.94))
    theirs = math.sqrt(model.fit(disp="off").forecast(horizon=1, reindex=False).variance.iloc[-1, 0]) / 100
    assert got.loss == pytest.approx(stats.norm.ppf(level) * theirs, rel=1e-6)       # the start has faded after 4 790 days
    sigma = math.sqrt(pd.Series(spx ** 2).ewm(alpha=.06, adjust=False).mean().iloc[-1])
    assert got.es == pytest.approx(stats.norm.pdf(stats.norm.ppf(level)) / (1 - level) * sigma, rel=1e-9)


@pytest.fixture(scope="module")
def archs(spx): return {name: arch_model(100 * spx, mean="Zero", vol="GARCH", p=1, o=int(name == "gjr"), q=1).fit(disp="off") for name in ("garch", "gjr")}


def plain_likelihood(p, x, start):
    "GJR log likelihood in a plain loop, negative; p = omega, alpha, gamma, beta."
    h, total = p[0] + (p[1] + p[2] / 2 + p[3]) * start, 0.
    for v in x.tolist():
        total += .5 * (math.log(2 * math.pi) + math.log(h) + v * v / h)
        h = p[0] + (p[1] + p[2] * (v < 0)) * v * v + p[3] * h
    return total


@pytest.mark.parametrize("name", ["garch", "gjr"])
def test_garch_is_archs_fit_and_no_neighbour_is_likelier(spx, archs, name):
    fit, theirs = fit_garch(spx, asymmetric=name == "gjr"), archs[name]
    params = theirs.params / np.r_[1e4, np.ones(len(theirs.params) - 1)]
    ours = [fit.omega, fit.alpha, *([fit.gamma] if name == "gjr" else []), fit.beta]
    np.testing.assert_allclose(ours, params, rtol=2e-3, atol=1e-5)
    assert fit.log_likelihood >= theirs.loglikelihood + spx.size * math.log(100) - 1e-4
    at = np.array([fit.omega, fit.alpha, fit.gamma, fit.beta])
    here = plain_likelihood(at, spx, fit.start)
    assert here == pytest.approx(-fit.log_likelihood, rel=1e-10)
    for k, step in ((0, 1e-8), (1, 3e-3), (2, 5e-3), (3, 3e-3)):
        if k == 2 and name == "garch": continue
        for sign in (-1, 1):
            if at[k] + sign * step >= 0: assert plain_likelihood(at + sign * step * np.eye(4)[k], spx, fit.start) > here


@pytest.mark.parametrize("name", ["garch", "gjr"])
def test_filtered_simulation_is_made_of_archs_residuals(spx, archs, name):
    theirs, got = archs[name], var_es(spx, .99, name)
    sigma = math.sqrt(theirs.forecast(horizon=1, reindex=False).variance.iloc[-1, 0]) / 100
    assert got.loss == pytest.approx(sigma * peer.value_at_risk(theirs.std_resid, .99), rel=2e-3) and got.es == pytest.approx(sigma * peer.cvar(theirs.std_resid, .99), rel=2e-3)
    sizes = np.sqrt(fit_garch(spx, asymmetric=name == "gjr").variance(spx))
    assert got.loss == pytest.approx(sizes[-1] * np.quantile(-spx / sizes[:-1], .99, method="inverted_cdf"), rel=1e-12)


@pytest.mark.parametrize("method, name", [("evt", "garch"), ("gjr-evt", "gjr")])
def test_evt_is_mcneil_and_freys_formula_on_scipys_fit_of_archs_residuals(spx, archs, method, name):
    losses, n = np.sort(-archs[name].std_resid), spx.size
    k = int(.1 * n)
    u = losses[n - k - 1]
    shape, _, scale = stats.genpareto.fit(losses[n - k:] - u, floc=0)
    law = stats.genpareto(shape, u, scale)
    sigma = math.sqrt(archs[name].forecast(horizon=1, reindex=False).variance.iloc[-1, 0]) / 100
    got, q = var_es(spx, .99, method), law.ppf(1 - .01 * n / k)
    assert got.loss == pytest.approx(sigma * q, rel=3e-3)
    assert got.es == pytest.approx(sigma * integrate.quad(lambda v: v * law.pdf(v), q, law.support()[1])[0] / (.01 * n / k), rel=5e-3)


@pytest.mark.parametrize("shape", [-.4, -.1, 0., .2, .5, .8])
def test_gpd_fit_is_at_least_as_likely_as_scipys(shape):
    excess = stats.genpareto.rvs(shape, scale=3., size=150, random_state=np.random.default_rng(int(100 * shape) + 50))
    ours, theirs = gpd_fit_nb(excess), stats.genpareto.fit(excess, floc=0)
    assert -.5 <= ours[0] <= .9
    if -.5 < theirs[0] < .9: assert stats.genpareto.logpdf(excess, ours[0], scale=ours[1]).sum() >= stats.genpareto.logpdf(excess, theirs[0], scale=theirs[2]).sum() - 1e-5
    assert math.isnan(gpd_fit_nb(np.zeros(30))[0])


def test_copula_density_is_statsmodels_and_scipys():
    rng, corr = np.random.default_rng(0), np.array([[1., .5, -.2], [.5, 1., .1], [-.2, .1, 1.]])
    rows = rng.standard_normal((400, 3)).argsort(axis=0).argsort(axis=0)
    u = (rows + 1) / 401
    for dof in (3., 8.):
        x = stats.t.ppf(u, dof)
        got = copula_log_likelihood(rows, corr, dof)
        assert got == pytest.approx(StudentTCopula(corr, dof, 3).logpdf(u).sum(), rel=1e-9)
        assert got == pytest.approx((stats.multivariate_t(np.zeros(3), corr, dof).logpdf(x) - stats.t.logpdf(x, dof).sum(axis=1)).sum(), rel=1e-9)


def test_copula_var_of_a_multivariate_t_book_is_the_t_quantile():
    rng, corr, w = np.random.default_rng(1), np.array([[1., .6], [.6, 1.]]), np.r_[.7, .3]
    x = .01 * stats.multivariate_t([0, 0], corr, 5, seed=rng).rvs(8000)
    fit = fit_copula(x)
    assert fit.correlation[0, 1] == pytest.approx(.6, abs=.02) and fit.dof == pytest.approx(5, abs=1.)
    got = book_var_es(x, w, .99, rng=rng, draws=100_000)
    truth, es = (.01 * math.sqrt(w @ corr @ w) * v for v in student_tail(.99, 5.))
    assert (got.loss, got.es) == (pytest.approx(truth, rel=.04), pytest.approx(es, rel=.08)) and (got.method, got.n_obs) == ("t-copula", 8000)


def test_drawdown_measures_are_skfolios_and_empyricals(spx):
    x = spx[np.argmax(spx > 0):]                                    # from a first gain on, so that the start is not a high
    level, falls = np.cumprod(1 + x), peer.get_drawdowns(x, compounded=True)
    np.testing.assert_allclose(drawdown(level), -falls, atol=1e-12)
    for b in (.8, .95, .99): assert drawdown_at_risk(level, b) == (pytest.approx(peer.drawdown_at_risk(falls, b), abs=1e-12), pytest.approx(peer.cdar(falls, b), abs=1e-12))
    assert ulcer_index(level) == pytest.approx(peer.ulcer_index(falls), rel=1e-12)
    assert drawdown_spells(level)["depth"].max() == pytest.approx(-empyrical.max_drawdown(x), rel=1e-12) == pytest.approx(peer.max_drawdown(falls), rel=1e-12)


def test_published_values_of_the_backtests():
    "Jorion, Value at Risk (3rd ed., chapter 6): J.P. Morgan 1998, 20 exceptions in 252 days at 95 %, 6 of them after another: LR 3.91 and 9.53."
    assert kupiec(np.arange(252) < 20, .95).statistic == pytest.approx(3.91, abs=.005)
    hits = np.r_[np.tile([0, 1], 13), 0, np.ones(7), np.zeros(219)]
    assert [int(np.sum((hits[:-1] == a) & (hits[1:] == b))) for a in (0, 1) for b in (0, 1)] == [218, 14, 14, 6]
    assert christoffersen(hits, .95)[0].statistic == pytest.approx(9.53, abs=.005)


def test_fz_loss_is_smallest_at_the_truth():
    "The expected loss over a t-distribution, by its quantiles, minimised from afar, ends at its VaR and ES."
    x, level = stats.t.ppf((np.arange(400_000) + .5) / 400_000, 5.), .975
    def expected(p): return fz_loss(x, np.full(x.size, p[0]), np.full(x.size, p[1]), level).mean() if 0 < p[0] < p[1] else 1e3
    found = optimize.minimize(expected, [1.5, 4.5], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9}).x
    assert found == pytest.approx(student_tail(level, 5.), rel=2e-3)


# ---- properties --------------------------------------------------------------------------------------------------------------------

SEEDS, SMALL = st.integers(0, 10_000), ("historical", "age", "normal", "student", "cornish-fisher", "ewma", "fhs")


def drawn(seed, n=260, width=None):
    rng = np.random.default_rng(seed)
    return .01 * rng.standard_t(rng.uniform(4, 30), n if width is None else (n, width)) + rng.normal(0, .001)


def answer(x, level, method):
    "VaR, or None where Cornish-Fisher is outside its domain."
    try: return var_es(x, level, method)
    except DataError as e:
        assert method == "cornish-fisher" and "domain" in str(e)
        return None


@pytest.mark.parametrize("method", METHODS)
@few(max_examples=12)
@given(SEEDS, st.floats(.02, 50))
def test_es_is_no_smaller_than_var_and_both_scale_and_rise_with_the_level(method, seed, factor):
    x = drawn(seed)
    one, many, low = answer(x, .99, method), answer(factor * x, .99, method), answer(x, .95, method)
    if one is None: return
    same = partial(pytest.approx, rel=1e-4 if method in FITTED else 1e-6)       # an optimiser stops where it stops
    assert one.es >= one.loss >= low.loss and one.es >= low.es >= low.loss
    assert (many.loss, many.es) == (same(factor * one.loss), same(factor * one.es))


@pytest.mark.parametrize("method", ["historical", "age", "normal", "student", "cornish-fisher"])
@few(max_examples=20)
@given(SEEDS, st.floats(-.05, .05))
def test_a_sure_gain_lowers_the_loss_by_itself(method, seed, sure):
    x = drawn(seed)
    one, richer = answer(x, .975, method), answer(x + sure, .975, method)
    if one is None or richer is None: return
    assert (richer.loss, richer.es) == (pytest.approx(one.loss - sure, abs=1e-5), pytest.approx(one.es - sure, abs=2e-5))


@few(max_examples=40)
@given(SEEDS, st.sampled_from(["historical", "age"]), st.floats(.9, .99))
def test_a_book_that_never_earns_less_is_never_riskier(seed, method, level):
    x = drawn(seed)
    better, worse = (var_es(v, level, method) for v in (x + np.abs(drawn(seed + 1)), x))
    assert better.loss <= worse.loss and better.es <= worse.es + 1e-15


@few(max_examples=60)
@given(SEEDS, st.floats(.6, .99), st.floats(-3, 3), st.floats(-3, 3))
def test_es_is_subadditive_and_bounded_by_its_parts(seed, level, a, b):
    x = drawn(seed, 300, 2)
    x, y = a * x[:, 0] + 1e-9 * x[:, 1], b * x[:, 1] + .3 * x[:, 0]
    for method in ("historical", "normal"):
        apart = sum(var_es(v, level, method).es for v in (x, y))
        assert var_es(x + y, level, method).es <= apart + 1e-12


@few(max_examples=60)
@given(SEEDS, st.sampled_from(["historical", "normal", "student"]), st.floats(.9, .99), st.integers(1, 12))
def test_euler_components_sum_to_the_measure_of_the_book(seed, method, level, width):
    rng, x = np.random.default_rng(seed), drawn(seed, 300, width)
    w = rng.normal(0, 1, width)
    c, alone = contributions(x, w, level, method), var_es(x @ w, level, method)
    size = np.abs(c.component_es).sum() + abs(c.es)
    assert c.component_var.sum() == pytest.approx(c.var, abs=1e-12 * size) and c.component_es.sum() == pytest.approx(c.es, abs=1e-12 * size)
    assert (c.var, c.es) == (pytest.approx(alone.loss, rel=1e-6), pytest.approx(alone.es, rel=1e-6)) and c.es >= c.var
    groups = by_group(c.component_es, rng.integers(0, 3, width))
    assert sum(groups.values()) == pytest.approx(c.es, abs=1e-12 * size)
    factors = factor_contributions(x, w, drawn(seed + 1, 300, 2), level, method)
    assert factors.component_es.sum() == pytest.approx(c.es, rel=1e-6, abs=1e-9) and factors.weights[-1] == 1. and factors.weights.size == 3


# ---- contributions -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["historical", "normal"])
def test_marginal_es_is_the_slope_by_differences_and_skfolios_contribution(moves, method):
    w = np.random.default_rng(3).dirichlet(np.ones(20))
    c = contributions(moves, w, .95, method)
    for i in (0, 7, 19):
        h = 1e-5 * np.eye(20)[i]
        for name, slope in (("es", c.marginal_es[i]), ("var", c.marginal_var[i])):
            up, down = (getattr(contributions(moves, w + s * h, .95, method), name) for s in (1, -1))
            assert slope == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-5)
    if method == "historical":
        book = Portfolio(moves, w, annualization_factor=1)
        np.testing.assert_allclose(c.component_es, book.contribution(RiskMeasure.CVAR, spacing=1e-6), rtol=1e-4, atol=1e-8)
    else:
        cov = np.cov(moves, rowvar=False)
        np.testing.assert_allclose(c.marginal_es, normal_tail(.95)[1] * cov @ w / math.sqrt(w @ cov @ w) - moves.mean(axis=0), rtol=1e-10)


@pytest.mark.jit
def test_component_var_of_500_assets_takes_less_than_a_millisecond():
    rng = np.random.default_rng(0)
    x, w, took = .01 * rng.standard_t(4, (2500, 500)), rng.dirichlet(np.ones(500)), []
    contributions(x, w, .99)
    for _ in range(100):
        start = time.perf_counter(); contributions(x, w, .99); took.append(time.perf_counter() - start)
    assert min(took) < 1e-3


@pytest.mark.jit
def test_thirty_three_years_of_gjr_forecasts_take_seconds():
    x = simple_returns(load("spx_close").close)
    forecast(x[:700], .99, "gjr-evt", 500)
    start = time.process_time()
    forecast(x, .99, "gjr-evt", 500)
    assert time.process_time() - start < 8


def test_bad_books_are_refused():
    x, w = drawn(0, 300, 3), np.ones(3)
    hole = x.copy(); hole[7, 1] = np.nan
    for bad, weights, why in ((hole, w, "first at row 7"), (hole, np.r_[1., 0., 1.], "first at row 7"), (np.full((300, 3), np.nan), w, "900 of 900"), (0 * x, w, "300 times 0"), (x, np.r_[1., np.nan, 1.], "weights must be finite"), (x[:, 0], w, "weights"), (x[:50], w, "got 50")):
        with pytest.raises(DataError, match=why): contributions(bad, weights, .99)
    with pytest.raises(DataError, match="singular"): factor_contributions(x, w, np.column_stack((x[:, 0], x[:, 0])), .95)
    with pytest.raises(DataError, match="singular"): factor_contributions(x, w, np.ones((300, 1)), .95)
    with pytest.raises(DataError, match="finite"): factor_contributions(x, w, hole, .95)
    with pytest.raises(DataError, match="one for|needs a group"): by_group(np.ones(3), ["a"])
    rng = np.random.default_rng(0)
    for bad, why in ((hole, "first at row 7"), (x[:, :1], ">= 2 assets"), (np.column_stack((x, np.zeros(300))), "column 3 is 0"), (np.column_stack((x, x[:, 0])), "columns 0 and 3"), (x[:60], "got 60")):
        with pytest.raises(DataError, match=why): book_var_es(bad, np.ones(bad.shape[1]), .95, rng=rng)
    with pytest.raises(DataError, match="same columns"): copula_scenarios(x, Copula(np.eye(2), 4., 10), 5, rng=rng)


# ---- forecasts ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", METHODS)
def test_a_forecast_is_never_rewritten(spx, method):
    x = spx[:700]
    whole = forecast(x, .95, method, 300)
    for cut in (300, 301, 311, 650):
        part = forecast(x[:cut], .95, method, 300)
        for a, b in zip(part, whole): np.testing.assert_array_equal(a, b[:cut])
    changed = x.copy(); changed[500:] = .03 * np.sin(np.arange(200.))
    for a, b in zip(forecast(changed, .95, method, 300), whole): np.testing.assert_array_equal(a[:500], b[:500])
    assert np.isnan(whole[0][:299]).all() and (np.isfinite(whole[0][299:]).all() or method == "cornish-fisher")


@pytest.mark.parametrize("method", FITTED)
def test_a_forecast_between_refits_is_the_frozen_filter_stepped(spx, method):
    x, asymmetric = spx[:600], method.startswith("gjr")
    var, es = forecast(x, .975, method, 300, refit=50)
    for row, stop in ((349, 399), (549, 599)):                      # fits fall on rows 249, 299, 349 ...
        fit = fit_garch(x[:row + 1], asymmetric=asymmetric)
        for t in (row, row + 20, stop - 1):
            sigma = np.sqrt(fit.variance(x[:t + 1]))
            z = np.sort(-(x[:t + 1] / sigma[:-1])[-300:])
            loss, tail = gpd_quantile_nb(*gpd_tail_nb(z), .975) if "evt" in method else historical_var_es(-z, .975)
            assert (var[t], es[t]) == (pytest.approx(sigma[-1] * loss, rel=1e-12), pytest.approx(sigma[-1] * tail, rel=1e-12))


def test_the_t_forecast_holds_its_fit_between_refits(spx):
    var, _ = forecast(spx[:600], .99, "student", 300, refit=50)
    assert np.unique(var[299:349]).size == 1 and var[349] == pytest.approx(var_es(spx[50:350], .99, "student").loss, rel=1e-12) != var[348]


def test_bad_returns_and_windows_are_refused(spx):
    for method in METHODS:
        for bad, why in ((np.full(500, np.nan), "500 of 500"), (np.r_[spx[:300], np.nan, spx[:300]], "first at row 300"), (np.zeros(500), "500 zeros"), (np.full(500, .01), "500 times 0.01"), (spx[:99], "got 99"), (np.zeros((300, 2)), "one series")):
            with pytest.raises(DataError, match=why): var_es(bad, .99, method)
        with pytest.raises(DataError, match="in a row, first at row 600"): forecast(np.r_[spx[:600], np.zeros(400), spx[:100]], .99, method, 300)
        for window in (-1, 0, 99):
            with pytest.raises(ValueError, match="needs >= 100 bars"): forecast(spx, .99, method, window)
    for method in FITTED:
        with pytest.raises(DataError, match="needs >= 250 returns, got 200"): var_es(spx[:200], .99, method)
    with pytest.raises(ValueError, match="worst tenth of a window"): forecast(spx, .99, "evt", 200)
    with pytest.raises(ValueError, match="beyond 90%"): var_es(spx, .9, "gjr-evt")
    with pytest.raises(ValueError, match="method must be one of"): var_es(spx, .99, "t-copula")
    with pytest.raises(DataError, match="domain"): var_es(np.r_[spx[:500], -.3], .99, "cornish-fisher")
    for bad in (np.zeros(300), np.r_[spx[:300], np.nan], spx[:249], np.zeros((300, 2))):
        with pytest.raises(DataError): fit_garch(bad)
    with pytest.raises(ValueError, match="refit"): list(refits(spx, 300, refit=0))


def test_cornish_fisher_does_not_answer_outside_its_domain(spx):
    var, es = forecast(spx, .99, "cornish-fisher", 500)
    for t in (800, 2500, len(spx) - 1):
        x = -spx[t - 499:t + 1]
        assert np.isfinite(var[t]) == np.isfinite(es[t]) == cornish_fisher_valid_nb(stats.skew(x), stats.kurtosis(x))
    assert 0 < np.isnan(var[499:]).mean() < .3


# ---- the choice --------------------------------------------------------------------------------------------------------------------

def test_compare_judges_the_bars_it_is_told_to_with_the_past_before_them(spx):
    judged = np.arange(spx.size) >= 3000
    for j in compare(spx, judged, [("fhs", 500), ("gjr", 250)], rng=np.random.default_rng(1)):
        var, es = forecast(spx, j.level, j.method, j.window)
        r, v, e = next_bar(spx[2999:], var[2999:], es[2999:])
        assert (j.days, j.hits, j.unknown) == (spx.size - 3000, int((r < -v).sum()), 0)
        assert (j.p_kupiec, j.p_independence, j.p_coverage) == (kupiec(r < -v, j.level).p_value, *(t.p_value for t in christoffersen(r < -v, j.level)))
        assert j.fz_loss == fz_loss(r, v, e, j.level).mean() and j.z2 == acerbi_szekely(r, v, e, j.level, rng=np.random.default_rng(0)).statistic


def test_a_model_that_refuses_days_cannot_pass_and_the_cheapest_that_passes_is_chosen(spx):
    judged = np.arange(spx.size) >= 2275
    bent = compare(spx, judged, [("cornish-fisher", 500)], rng=np.random.default_rng(1))
    assert all(j.unknown > 0 and not j.passes for j in bent)
    tried = compare(spx, judged, [("historical", 250), ("fhs", 500), ("gjr", 500)], rng=np.random.default_rng(1))
    assert [j.passes for j in tried] == [False, False, True, True, True, True] and choose(tried) == ("gjr", 500)
    with pytest.raises(DataError, match="no model passes, 1 were tried"): choose(tried[:2])


def test_the_default_is_a_method_that_the_settings_can_carry():
    x = simple_returns(load("spx_close").close)
    assert DEFAULT_METHOD in METHODS and settings().risk.var_window == DEFAULT_WINDOW
    got = var_es(x, .99, DEFAULT_METHOD)
    assert 0 < got.loss < got.es < .2 and got.method == DEFAULT_METHOD


def test_models_that_should_fail_at_99_percent_fail(spx):
    judged = np.arange(spx.size) >= 2275
    for j in compare(spx, judged, [("historical", 250), ("ewma", 250)], (.99,), rng=np.random.default_rng(1)): assert not j.passes and j.p_kupiec < .05


# ---- kernels with the compiler on and off ------------------------------------------------------------------------------------------

@pytest.mark.jit
def test_kernels_agree_with_their_python(spx):
    x = spx[:300]
    slope, plain = np.empty(4), np.empty(4)
    at, y = np.r_[1., .95, .1, .3], x / x.std()
    assert garch_nll_nb(at, y, 1., slope) == pytest.approx(garch_nll_nb.py_func(at, y, 1., plain), rel=1e-12)
    np.testing.assert_allclose(slope, plain, rtol=1e-9)
    for kernel, arguments in ((garch_filter_nb, (x, 1e-4, 1e-6, .02, .1, .9)), (student_fit_nb, (x,)), (gpd_tail_nb, (np.sort(-x),)), (gpd_quantile_nb, (.02, .1, .01, .1, .99)), (cornish_fisher_nb, (2.3, 2.7, .3, 2.)),
                              (var_es_weighted_nb, (np.sort(-x), np.full(300, 1 / 300), .99))):
        np.testing.assert_allclose(kernel(*arguments), kernel.py_func(*arguments), rtol=1e-9)
    table = x.reshape(100, 3)
    np.testing.assert_allclose(book_returns(table, np.r_[.2, -.5, 1.3]), table @ np.r_[.2, -.5, 1.3], atol=1e-16)

"""Correlation, covariance and allocation against pandas, scipy, scikit-learn, skfolio, arch and slow references; properties over random matrices."""
import warnings
import numpy as np
import pandas as pd
import pytest
from arch import arch_model
from hypothesis import given, settings as examples, strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import minimize
from scipy.spatial.distance import squareform
from emp_nb.core import DataError
from emp_nb.data.catalog import load
from emp_nb.measures import simple_returns
from emp_nb.risk.allocation import erc, hrp, kelly, risk_shares, volatility_target
from emp_nb.risk.correlation import (WHY, CorrelationStream, blocks, breaks, clusters, concentration, effective_exposure, market_residual, rolling)
from emp_nb.risk.covariance import dcc_filter, dcc_fit, dcc_nb, denoise, ewma_covariance, ledoit_wolf, nearest_correlation, to_correlation

seeds = st.integers(0, 10**6)


def heavy(seed, T=200, N=6):
    "Heavy-tailed returns (T, N) with a common part and one violent day."
    rng = np.random.default_rng(seed)
    x = .01 * (rng.standard_t(3, (T, 1)) * rng.normal(1, .5, N) + rng.standard_t(3, (T, N)))
    x[T // 3, 0] = .9
    return x


def matrix(seed, N=8, rows=30):
    "A correlation matrix (N, N) of random returns with two loose groups."
    rng = np.random.default_rng(seed)
    return np.corrcoef((rng.standard_normal((rows, 2)) @ rng.normal(0, 1.5, (2, N)) + rng.standard_normal((rows, N))).T)


@pytest.fixture(scope="module")
def stocks(): return load("stocks")


@pytest.fixture(scope="module")
def returns(stocks): return simple_returns(stocks.close)


# ---- rolling -----------------------------------------------------------------------------------------------------------------------

def test_rolling_equals_pandas_on_every_row():
    x = heavy(1)
    got, frame = rolling(x), pd.DataFrame(x)
    for w in (5, 20, 60):
        truth = frame.rolling(w).corr().to_numpy().reshape(len(x), 6, 6)
        np.testing.assert_allclose(got[w], truth, rtol=0, atol=1e-7)
        assert np.isnan(got[w][:w - 1]).all() and not np.isnan(got[w][w - 1:]).any()


def test_a_violent_day_leaves_no_dirt_behind():
    x = .0005 * np.random.default_rng(2).standard_normal((3000, 5))
    x[100:2900:50] *= 1000
    got = rolling(x)
    for t in range(60, 3000, 7):
        for w in (5, 20, 60): np.testing.assert_allclose(got[w][t], np.corrcoef(x[t + 1 - w:t + 1].T), rtol=0, atol=2e-9)
    np.testing.assert_allclose(got[60][-1], np.corrcoef(x[-60:].T), rtol=0, atol=1e-13)         # one longest window after the last burst every sum is fresh


def holed(seed):
    x = heavy(seed)
    rng = np.random.default_rng(seed)
    x[rng.random(x.shape) < .01] = np.nan
    start = int(rng.integers(20, 120))
    x[start:start + 40, 2] = .001
    return x


def slow_reason(x, t, w, n):
    if t + 1 < w: return 1
    part = x[t + 1 - w:t + 1, n]
    return 2 if np.isnan(part).any() else 3 if np.ptp(part) == 0 else 0


@pytest.mark.parametrize("seed", range(3))
def test_what_is_unknown_is_nan_with_its_reason(seed):
    x = holed(seed)
    got = rolling(x)
    for k, w in enumerate((5, 20, 60)):
        why = np.array([[slow_reason(x, t, w, n) for n in range(6)] for t in range(len(x))])
        np.testing.assert_array_equal(got.why[:, k], why)
        known = why == 0
        np.testing.assert_array_equal(np.isnan(got[w]), ~(known[:, :, None] & known[:, None, :]))
        for t in range(w - 1, len(x), 11):
            n = np.flatnonzero(known[t])
            if n.size > 1: np.testing.assert_allclose(got[w][t][np.ix_(n, n)], np.corrcoef(x[t + 1 - w:t + 1, n].T), rtol=0, atol=1e-11)
    assert {1, 2, 3} <= set(np.unique(got.why)) and len(WHY) == 4


@pytest.mark.parametrize("seed", range(3))
def test_stream_equals_batch_and_the_future_does_not_matter(seed):
    x = holed(seed)
    whole, feed = rolling(x, (7, 3, 40)), CorrelationStream(6, (7, 3, 40))
    for t, row in enumerate(x):
        one = feed.update(row)
        np.testing.assert_array_equal(one.matrix, whole.matrix[t])
        np.testing.assert_array_equal(one.why, whole.why[t])
    for cut in (1, 39, 100, 177):
        np.testing.assert_array_equal(rolling(np.r_[x[:cut], np.ones((9, 6))], (7, 3, 40)).matrix[:cut], whole.matrix[:cut])


def test_a_refused_row_leaves_the_stream_as_it_was():
    x, feed, twin = heavy(5), CorrelationStream(6), CorrelationStream(6)
    for t in range(70):
        with pytest.raises(DataError): feed.update(np.full(6, np.inf))
        np.testing.assert_array_equal(feed.update(x[t]).matrix, twin.update(x[t]).matrix)


@examples(max_examples=25, deadline=None)
@given(seeds, st.lists(st.floats(.1, 10), min_size=5, max_size=5))
def test_correlations_are_symmetric_have_a_unit_diagonal_and_ignore_scale(seed, scale):
    x = heavy(seed, 70, 5)
    got, scaled = rolling(x, (5, 60)), rolling(x * np.array(scale), (5, 60))
    for w in (5, 60):
        m = got.latest(w)
        np.testing.assert_array_equal(m, m.T)
        assert (np.diag(m) == 1).all() and np.abs(m).max() <= 1 and np.linalg.eigvalsh(m)[0] > -1e-9
        np.testing.assert_allclose(scaled.latest(w), m, rtol=0, atol=1e-9)


@pytest.mark.parametrize("bad, says", [(np.zeros((9, 1)), "2 assets"), (np.zeros(9), "(T, N)"), (np.full((9, 2), np.inf), "infinity"), (np.c_[np.ones(9), np.full(9, np.nan)], "has none"),
                                       (np.broadcast_to(0., (9, 9000)), "GB")])
def test_rolling_refuses_what_it_cannot_use(bad, says):
    with pytest.raises(DataError, match=says.replace("(", r"\(").replace(")", r"\)")): rolling(bad)


def test_a_window_without_variance_is_named_and_never_zero():
    x = heavy(3, 70)
    x[-20:, 4] = 0.
    got = rolling(x)
    assert np.isnan(got[20][-1][4]).all() and not np.isnan(got[60][-1]).any()
    with pytest.raises(DataError, match="first CCC .no variance in the window."): got.latest(20, ["A", "B", "C", "D", "CCC", "F"])
    for use in (clusters, market_residual, lambda m: effective_exposure(np.ones(6), m), lambda m: concentration(np.ones(6), m, warn=.08, hard=.1), lambda m: blocks(m, "abcdef")):
        with pytest.raises(DataError, match="unknown is not 0"): use(got[20][-1])


# ---- groups ------------------------------------------------------------------------------------------------------------------------

def slow_groups(r, cut):
    "Average linkage by brute force: join the two groups with the largest mean correlation while it reaches `cut`."
    groups = [[n] for n in range(len(r))]
    while len(groups) > 1:
        means = {(a, b): r[np.ix_(groups[a], groups[b])].mean() for a in range(len(groups)) for b in range(a)}
        (a, b), best = max(means.items(), key=lambda kv: kv[1])
        if best < cut: break
        groups[b] += groups.pop(a)
    return {frozenset(g) for g in groups}


@examples(max_examples=40, deadline=None)
@given(seeds, st.floats(-.5, .95))
def test_clusters_equal_scipy_and_brute_force(seed, cut):
    r = matrix(seed)
    labels = clusters(r, cut)
    ours = {frozenset(np.flatnonzero(labels == c).tolist()) for c in range(labels.max() + 1)}
    assert ours == slow_groups(r, cut)
    theirs = fcluster(linkage(squareform(1 - r, checks=False), "average"), 1 - cut, "distance")
    assert ours == {frozenset(np.flatnonzero(theirs == c).tolist()) for c in np.unique(theirs)}
    assert list(dict.fromkeys(labels.tolist())) == list(range(labels.max() + 1))       # numbered by first member


@examples(max_examples=40, deadline=None)
@given(seeds, st.floats(.1, 5))
def test_effective_exposure_equals_the_double_sum_and_scales(seed, k):
    r, w = matrix(seed), np.random.default_rng(seed).normal(0, .05, 8)
    total = sum(abs(w[i]) * abs(w[j]) * max(r[i, j], 0) for i in range(8) for j in range(8))
    e = effective_exposure(w, r)
    assert e == pytest.approx(total ** .5, rel=1e-12) and effective_exposure(-k * w, r) == pytest.approx(k * e, rel=1e-12)
    assert np.sqrt((w * w).sum()) - 1e-12 <= e <= np.abs(w).sum() + 1e-12


@examples(max_examples=40, deadline=None)
@given(seeds, st.floats(.01, .3), st.floats(-.2, .9))
def test_no_group_of_a_scaled_book_exceeds_the_limit(seed, size, cut):
    r, w = matrix(seed), np.random.default_rng(seed).normal(0, size, 8)
    left = market_residual(r)
    out = concentration(w, r, warn=.08, hard=.10, cut=cut)
    for c, m in enumerate(out.members):
        m = list(m)
        before = max(effective_exposure(w[m], part[np.ix_(m, m)]) for part in (r, left))
        after = max(effective_exposure(out.weights[m], part[np.ix_(m, m)]) for part in (r, left))
        assert out.exposure[c] == pytest.approx(before, rel=1e-12) and after <= .10 + 1e-12
        assert out.warned[c] == (before >= .08) and (out.scale[c] == 1) == (before <= .10)
        np.testing.assert_allclose(out.weights[m], w[m] * min(1, .10 / before), rtol=1e-12)


@pytest.mark.parametrize("rho, heaviest", [(.9, .05 * np.sqrt(20 + 380 * .9)), (.0, .05)])
def test_twenty_stocks_at_five_percent_are_scaled_when_they_are_one(rho, heaviest):
    out = concentration(np.full(20, .05), np.full((20, 20), rho) + (1 - rho) * np.eye(20), warn=.08, hard=.10)
    assert out.exposure.max() == pytest.approx(heaviest) and np.abs(out.weights).sum() == pytest.approx(min(1, .10 / heaviest))


def test_every_book_of_the_real_stocks_keeps_every_group_within_ten_percent(stocks, returns):
    r60 = rolling(returns, (60,))
    known = (r60.why[:, 0] == 0).all(axis=1)
    checked, scaled = 0, 0
    for t in np.flatnonzero(known):
        r = r60[60][t]
        out = concentration(np.full(20, .05), r, warn=.08, hard=.10)
        m = r.sum(axis=1) / np.sqrt(r.sum())                           # the residual again, by its formula
        left = (r - np.outer(m, m)) / np.sqrt(np.outer(1 - m * m, 1 - m * m))
        size = np.abs(out.weights)
        together = out.labels[:, None] == out.labels
        for part in (r, left): assert (size * (np.where(together, np.maximum(part, 0), 0) @ size)).sum() <= len(out.members) * .01 + 1e-12
        for c in np.flatnonzero(out.exposure > .10 - 1e-12):
            g = out.labels == c
            assert max(size[g] @ np.maximum(part[np.ix_(g, g)], 0) @ size[g] for part in (r, left)) <= .01 + 1e-12
        checked, scaled = checked + 1, scaled + (out.scale.min() < 1)
    spring = (pd.to_datetime(stocks.time) >= "2020-03-01") & (pd.to_datetime(stocks.time) < "2020-05-01")
    assert checked == 8243 and scaled > 4000 and known[spring].all() and spring.sum() > 40


def test_residual_equals_two_regressions():
    x = heavy(4, 60)
    market = x.mean(axis=1)
    design = np.c_[np.ones(60), market]
    left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    both = np.corrcoef(np.c_[x, market].T)
    np.testing.assert_allclose(market_residual(both[:-1, :-1], both[:-1, -1]), np.corrcoef(left.T), atol=1e-10)
    with pytest.raises(DataError, match="with_market"): market_residual(both, np.full(7, 2.))


def test_blocks_equal_loops():
    r, groups = matrix(9), list("aabbbccd")
    names, got = blocks(r, groups)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            pairs = [r[m, n] for m in range(8) for n in range(8) if m != n and groups[m] == a and groups[n] == b]
            assert np.isnan(got[i, j]) if not pairs else got[i, j] == pytest.approx(np.mean(pairs))


def test_breaks_compare_windows_that_share_no_day_and_learn_from_the_past_alone():
    x = heavy(6, 900, 5)
    got = breaks(rolling(x, (20, 60)), memory=300)
    pairs = np.triu_indices(5, 1)
    for t in (79, 80, 400, 899):
        z = np.arctanh(np.corrcoef(x[t - 19:t + 1].T)[pairs]) - np.arctanh(np.corrcoef(x[t - 79:t - 19].T)[pairs])
        assert got.statistic[t] == pytest.approx(z.mean(), abs=1e-9)
    assert np.isnan(got.statistic[:79]).all() and not np.isnan(got.statistic[79:]).any()
    for t in (400, 650, 899): assert got.threshold[t] == np.quantile(np.abs(got.statistic[max(t - 300, 79):t]), .99, method="inverted_cdf")
    assert np.isnan(got.threshold[:79 + 250]).all() and (got.alarm == (np.abs(got.statistic) > got.threshold)).all()
    part = breaks(rolling(x[:700], (20, 60)), memory=300)
    np.testing.assert_array_equal(part.threshold, got.threshold[:700])
    np.testing.assert_array_equal(part.alarm, got.alarm[:700])


# ---- covariance --------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("T, N", [(200, 6), (10, 30), (60, 20), (2, 3)])
def test_ledoit_wolf_equals_scikit_learn(T, N):
    from sklearn.covariance import LedoitWolf
    x = heavy(7, 300, N)[:T]
    truth, got = LedoitWolf().fit(x), ledoit_wolf(x, "identity")
    np.testing.assert_allclose(got.covariance, truth.covariance_, rtol=0, atol=1e-10 * truth.covariance_.max())
    assert got.intensity == pytest.approx(truth.shrinkage_, abs=1e-10)


def slow_constant_correlation(x):
    "Appendix B of Ledoit and Wolf (2003), one sum at a time."
    T, N = x.shape
    x = x - x.mean(0)
    s = x.T @ x / T
    r = sum(s[i, j] / np.sqrt(s[i, i] * s[j, j]) for i in range(N) for j in range(i + 1, N)) * 2 / N / (N - 1)
    f = np.array([[s[i, i] if i == j else r * np.sqrt(s[i, i] * s[j, j]) for j in range(N)] for i in range(N)])
    def pi(i, j): return np.mean([(x[t, i] * x[t, j] - s[i, j]) ** 2 for t in range(T)])
    def theta(k, i, j): return np.mean([(x[t, k] ** 2 - s[k, k]) * (x[t, i] * x[t, j] - s[i, j]) for t in range(T)])
    rho = sum(pi(i, i) for i in range(N)) + sum(r / 2 * (np.sqrt(s[j, j] / s[i, i]) * theta(i, i, j) + np.sqrt(s[i, i] / s[j, j]) * theta(j, i, j)) for i in range(N) for j in range(N) if i != j)
    kappa = (sum(pi(i, j) for i in range(N) for j in range(N)) - rho) / ((f - s) ** 2).sum()
    delta = max(0, min(1, kappa / T))
    return delta * f + (1 - delta) * s, delta


@pytest.mark.parametrize("T, N", [(40, 4), (8, 6)])
def test_constant_correlation_target_equals_the_paper(T, N):
    x = heavy(8, 60, N)[:T]
    truth, delta = slow_constant_correlation(x)
    got = ledoit_wolf(x)
    assert got.intensity == pytest.approx(delta, abs=1e-10)
    np.testing.assert_allclose(got.covariance, truth, rtol=1e-10, atol=1e-16)


def test_ewma_equals_pandas():
    x = heavy(9)
    products = pd.DataFrame(np.einsum("ti,tj->tij", x, x).reshape(len(x), -1))
    start = pd.DataFrame(products[:20].mean()).T
    truth = pd.concat([start, products]).ewm(alpha=.06, adjust=False).mean().iloc[-1].to_numpy().reshape(6, 6)
    np.testing.assert_allclose(ewma_covariance(x), truth, rtol=1e-11)


@examples(max_examples=25, deadline=None)
@given(seeds)
def test_denoised_matrix_is_a_correlation_and_keeps_the_large_eigenvectors(seed):
    r = matrix(seed, 12, 40)
    got = denoise(r, 40)
    values, vectors = np.linalg.eigh(r)
    edge = (1 + np.sqrt(12 / 40)) ** 2 * (1 - values[-1] / 12 if values[-1] > (1 + np.sqrt(12 / 40)) ** 2 else 1)
    assert got.kept == (values > edge).sum() and got.edge == pytest.approx(edge)
    flat = np.where(values > edge, values, values[values <= edge].mean())
    raw = (vectors * flat) @ vectors.T
    np.testing.assert_allclose(got.correlation, raw / np.sqrt(np.outer(np.diag(raw), np.diag(raw))), atol=1e-10)
    assert (np.diag(got.correlation) == 1).all() and np.linalg.eigvalsh(got.correlation)[0] > 0


@examples(max_examples=30, deadline=None)
@given(seeds)
def test_repaired_matrix_exists_and_is_nearer_than_clipping(seed):
    a = np.random.default_rng(seed).uniform(-1, 1, (5, 5))
    a = np.triu(a, 1) + np.triu(a, 1).T + np.eye(5)
    got = nearest_correlation(a)
    np.testing.assert_array_equal(got, got.T)
    assert (np.diag(got) == 1).all() and np.abs(got).max() <= 1 and np.linalg.eigvalsh(got)[0] > -1e-10
    values, vectors = np.linalg.eigh(a)
    clipped = to_correlation((vectors * np.maximum(values, 1e-12)) @ vectors.T)[0]
    assert np.linalg.norm(got - a) <= np.linalg.norm(clipped - a) + 1e-7
    np.testing.assert_allclose(nearest_correlation(got), got, atol=1e-7)


def test_repair_is_the_optimum_of_a_search_over_factors():
    a = np.array([[1., .9, -.8], [.9, 1., .7], [-.8, .7, 1.]])
    def distance(flat):
        rows = flat.reshape(3, 3) / np.linalg.norm(flat.reshape(3, 3), axis=1, keepdims=True)
        return np.linalg.norm(rows @ rows.T - a)
    best = min(minimize(distance, np.random.default_rng(s).standard_normal(9), method="BFGS").fun for s in range(4))
    assert np.linalg.norm(nearest_correlation(a) - a) == pytest.approx(best, abs=1e-5)


@pytest.fixture(scope="module")
def dcc(returns):
    x = returns[-1500:, [0, 4, 19]]
    return x, dcc_fit(x)


def slow_dcc(z, target, a, b):
    q, total, path = target.copy(), 0., []
    for row in z:
        r = q / np.sqrt(np.outer(np.diag(q), np.diag(q)))
        total -= .5 * (np.log(np.linalg.det(r)) + row @ np.linalg.inv(r) @ row - row @ row)
        q = (1 - a - b) * target + a * np.outer(row, row) + b * q
        path.append(q / np.sqrt(np.outer(np.diag(q), np.diag(q))))
    return total, np.array(path)


def standardised(x, model):
    return x / np.sqrt(np.column_stack([fit.variance(x[:, n])[:-1] for n, fit in enumerate(model.garch)]))


def test_dcc_likelihood_and_path_equal_the_definition(dcc):
    x, model = dcc
    z = standardised(x, model)
    total, path = slow_dcc(z, model.target, model.a, model.b)
    assert model.log_likelihood == pytest.approx(total, rel=1e-10)
    np.testing.assert_allclose(dcc_filter(x, model)[0], path, atol=1e-12)
    np.testing.assert_allclose(model.target, to_correlation(z.T @ z / len(z))[0], atol=1e-12)


def test_dcc_parameters_are_a_maximum(dcc):
    x, model = dcc
    z, none = standardised(x, model), np.empty((0, 3, 3))
    assert model.a > 0 and model.b > 0 and model.a + model.b < 1
    grid = [dcc_nb(z, model.target, a, b, none) for a in np.linspace(.001, .1, 12) for b in np.linspace(0, .995 - .1, 12)]
    near = [dcc_nb(z, model.target, model.a + da, model.b + db, none) for da in (-.002, 0, .002) for db in (-.004, 0, .004)]
    assert max(grid + near) <= model.log_likelihood + 1e-4


def test_dcc_volatility_equals_arch(dcc):
    x, model = dcc
    scale = x[:, 1].std()
    fit = arch_model(x[:, 1] / scale, mean="Zero", vol="GARCH", rescale=False).fit(disp="off")
    ours = model.garch[1]
    np.testing.assert_allclose([ours.omega, ours.alpha, ours.beta], fit.params.to_numpy() * [scale ** 2, 1, 1], rtol=1e-4)
    np.testing.assert_allclose(dcc_filter(x, model)[1][400:-1, 1], fit.conditional_volatility[401:] * scale, rtol=1e-4)         # two optimisers


# ---- allocation --------------------------------------------------------------------------------------------------------------------

def test_erc_equals_skfolio_and_a_general_solver(returns):
    from skfolio import RiskMeasure
    from skfolio.optimization import RiskBudgeting
    x = returns[-500:]
    c = np.cov(x.T)
    w = erc(c)
    np.testing.assert_allclose(w, RiskBudgeting(risk_measure=RiskMeasure.VARIANCE).fit(x).weights_, atol=2e-4)
    spinu = minimize(lambda y: .5 * y @ to_correlation(c)[0] @ y - np.log(y).sum() / 20, np.full(20, .3), jac=lambda y: to_correlation(c)[0] @ y - 1 / (20 * y), method="L-BFGS-B", bounds=[(1e-6, None)] * 20,
                     options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 2000}).x / to_correlation(c)[1]
    np.testing.assert_allclose(w, spinu / spinu.sum(), atol=1e-6)


@examples(max_examples=30, deadline=None)
@given(seeds, st.floats(1e-6, 1e6))
def test_erc_contributions_agree_and_ignore_scale(seed, k):
    rng = np.random.default_rng(seed)
    c = matrix(seed, 10, 60) * np.outer(*[rng.uniform(.001, .1, 10)] * 2)
    budget = rng.uniform(.1, 1, 10)
    w = erc(c)
    np.testing.assert_allclose(risk_shares(w, c), .1, atol=1e-8)
    np.testing.assert_allclose(risk_shares(erc(c, budget), c), budget / budget.sum(), atol=1e-8)
    np.testing.assert_allclose(erc(k * c), w, rtol=1e-8)
    assert w.min() > 0 and w.sum() == pytest.approx(1)


def test_hrp_equals_skfolio(returns):
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalRiskParity
    x = returns[-1000:]
    with warnings.catch_warnings():                                     # its argument is on the way to another name
        warnings.simplefilter("ignore", FutureWarning)
        truth = HierarchicalRiskParity(hierarchical_clustering_estimator=HierarchicalClustering(linkage_method=LinkageMethod.SINGLE)).fit(x).weights_
    np.testing.assert_allclose(hrp(np.cov(x.T)), truth, atol=1e-10)


@examples(max_examples=25, deadline=None)
@given(seeds, st.floats(.05, 1))
def test_kelly_maximises_growth_and_obeys_its_cap(seed, fraction):
    rng = np.random.default_rng(seed)
    c, mean = matrix(seed, 5, 40) * 1e-4, rng.normal(0, 3e-4, 5)
    full = kelly(mean, c, fraction=1., max_gross=1e9)
    def growth(w): return w @ mean - .5 * w @ c @ w
    assert all(growth(full) >= growth(full + rng.normal(0, .5, 5)) for _ in range(10))
    np.testing.assert_allclose(kelly(mean, c, fraction=fraction, max_gross=1e9), fraction * full, rtol=1e-9)
    capped = kelly(mean, c, fraction=1., max_gross=.5)
    assert np.abs(capped).sum() <= .5 + 1e-12 and (capped @ full) ** 2 == pytest.approx((capped @ capped) * (full @ full), rel=1e-9)


def test_volatility_target_meets_its_target_or_its_ceiling():
    c, w = matrix(3) * 1e-4, np.random.default_rng(3).normal(0, .1, 8)
    got = volatility_target(w, c, .10, 252, 100.)
    assert np.sqrt(252 * got @ c @ got) == pytest.approx(.10)
    np.testing.assert_allclose(volatility_target(w, c, .10, 252, .01), .01 * w)


SINGULAR = np.ones((3, 3))
HOLE = np.where(np.eye(3) > 0, 1., np.nan)


@pytest.mark.parametrize("call", [
    lambda: erc(SINGULAR), lambda: erc(HOLE), lambda: erc([[1.]]), lambda: erc(np.diag([1., 0.])), lambda: erc(np.eye(2), [1., 0.]), lambda: erc(np.eye(2), [.5, np.nan]),
    lambda: hrp([[1.]]), lambda: hrp(HOLE), lambda: hrp(np.diag([1., 0.])), lambda: kelly(np.zeros(3), SINGULAR, fraction=.5, max_gross=1.), lambda: kelly([np.nan, 0.], np.eye(2), fraction=.5, max_gross=1.),
    lambda: risk_shares([1., np.nan], np.eye(2)), lambda: risk_shares([0., 0.], np.eye(2)), lambda: volatility_target([1., -1.], np.ones((2, 2)), .1, 252, 2.),
    lambda: ledoit_wolf(np.c_[np.ones(9), np.arange(9.)]), lambda: ledoit_wolf(np.c_[np.full(9, np.nan), np.arange(9.)]), lambda: ledoit_wolf(np.ones((1, 2))),
    lambda: ewma_covariance(np.full((30, 2), np.nan)), lambda: dcc_fit(np.full((300, 2), .01)), lambda: denoise(HOLE, 10), lambda: nearest_correlation(HOLE), lambda: to_correlation(HOLE),
    lambda: clusters(np.ones((2, 3))), lambda: clusters([[1., .5], [.4, 1.]]), lambda: effective_exposure([1.], np.eye(2)), lambda: concentration([1., 1.], np.eye(2), np.eye(3), warn=.1, hard=.1)])
def test_bad_input_is_a_data_error_never_a_silent_number(call):
    with pytest.raises(DataError, match=r"; |, got"): call()

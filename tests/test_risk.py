"""Risk against independent truths: slow references, scipy, pandas, published tables; and properties over random books."""
import math, pickle
from dataclasses import fields, replace
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as examples, strategies as st
from scipy import integrate, stats
from emp_nb.core import DataError, LimitBreach, settings
from emp_nb.measures import historical_var_es
from emp_nb.risk.book import Book, Order, pending
from emp_nb.risk.brake import RELAPSE_DAYS, WAIT_DAYS, Brake, brake_news, brake_scan, brake_start, brake_step, brake_unlock, braked_path, window_depth
from emp_nb.risk.exposures import Exposures, exposures, instruments, nothing_known, worst_year
from emp_nb.risk.limits import LIMITS as NAMES, Limits, check, enforce
from emp_nb.risk.measures import METHODS, acerbi_szekely, christoffersen, forecast, kupiec, next_bar, traffic_light, var_es
from emp_nb.risk.regime import Regime, RegimeRules, RegimeStream, classify, proxy_thresholds
from emp_nb.risk.scaling import pro_rata
from emp_nb.risk.sizing import size
from emp_nb.risk.switching import MarkovModel, MarkovStream, fit_markov, markov_filter, markov_walk, run_lengths

INF = math.inf
RULES = Limits(max_position=.05, max_gross=1.5, max_net=1., max_beta=.8, max_sector=.25, max_asset_class=.6, warn_cluster=.08, max_cluster=.1, max_exit_days=3., participation=.1, max_es=.01,
               max_drawdown=.03, price_collar=.03, max_orders_per_s=10., kill_switch=True, drawdown_half=.01, drawdown_quarter=.02, drawdown_flat=.025)
# position, gross and drawdown alone: what needs no data but prices and NAVs
LIMITS = replace(RULES, max_net=INF, max_beta=INF, max_sector=INF, max_asset_class=INF, warn_cluster=INF, max_cluster=INF, max_exit_days=INF, max_es=INF, max_drawdown=INF, price_collar=INF,
                 max_orders_per_s=INF, kill_switch=False)
CALM = dict(vol_target=.10, multiplier=1.2, brake=1., drawdown=0., vix_fresh=True)


def order(symbol, side, qty): return Order(symbol, side, qty, math.nan, 0)
def mean_reverting(rng, size, level, speed=.03, step=.1): return level * np.exp(_ar(rng, size, 1 - speed, step))


def _ar(rng, size, keep, step):
    x = np.zeros(size)
    for t in range(1, size): x[t] = keep * x[t - 1] + step * rng.standard_normal()
    return x


# ---- regime ------------------------------------------------------------------------------------------------------------------------

def slow_regime(vix, adx, age, realised, proxy):
    "The table of RISK rules read aloud, with lists of past closes in place of counters: (vol, trend) at each close."
    vol, trend, closes, out, stale = -1, -1, [], [], 10**9
    for x, a, old, r in zip(vix, adx, age, realised):
        stale = max(old, stale + 1 if np.isnan(x) else 0)      # a gap after an old value makes it older still
        if stale == 0: closes.append((x, RegimeRules()))
        elif stale >= 3:
            if np.isnan(r) or proxy is None: vol, closes = -1, []
            else: closes.append((r, proxy))
        if closes and (stale == 0 or stale >= 3):
            value, rules = closes[-1]
            lasting = {name: len(closes) >= 3 and all(test(v, k) for v, k in closes[-3:]) for name, test in (
                ("low", lambda v, k: v < k.vix_low_enter), ("not low", lambda v, k: v > k.vix_low_leave), ("not high", lambda v, k: v < k.vix_high_leave))}
            if vol == -1: vol = 2 if value > rules.vix_high_enter else 0 if value < rules.vix_low_enter else 1
            elif value > rules.vix_high_enter: vol = 2
            elif vol != 0 and lasting["low"]: vol = 0
            elif vol == 2 and lasting["not high"] or vol == 0 and lasting["not low"]: vol = 1
        if np.isnan(a): trend = -1
        elif a > 25: trend = 2
        elif a < 20: trend = 0
        elif not (trend == 2 and a >= 22 or trend == 0 and a <= 23): trend = 1
        out.append((vol, trend))
    return np.array(out)


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(42)
    vix, adx = mean_reverting(rng, 1500, 19.), np.clip(22 + _ar(rng, 1500, .97, 1.2), 0, 100)
    adx[:27] = np.nan
    realised = vix / 125 * np.exp(.1 * rng.standard_normal(1500))
    realised[:21] = np.nan
    proxy = proxy_thresholds(vix, realised, name="test proxy")
    holes = vix.copy()
    for start in rng.integers(0, 1490, 60): holes[start:start + rng.integers(1, 7)] = np.nan
    age = np.where(rng.random(1500) < .05, rng.integers(1, 6, 1500), 0)
    return holes, adx, age, realised, proxy


def test_regime_equals_the_rules_read_aloud(market):
    vix, adx, age, realised, proxy = market
    for p in (proxy, None):
        got, truth = classify(vix, adx, vix_age=age, realised=realised, proxy=p), slow_regime(vix, adx, age, realised, p)
        np.testing.assert_array_equal(got.vol_state, truth[:, 0])
        np.testing.assert_array_equal(got.trend_state, truth[:, 1])
        known = (truth >= 0).all(axis=1)
        np.testing.assert_array_equal(got.code, np.where(known, 3 * truth[:, 0] + truth[:, 1], -1))
    assert set(np.unique(classify(vix, adx, vix_age=age, realised=realised, proxy=proxy).code)) >= {0, 1, 2, 3, 4, 5, 6, 7, 8}


def test_regime_stream_equals_batch(market):
    vix, adx, age, realised, proxy = market
    batch, stream = classify(vix, adx, vix_age=age, realised=realised, proxy=proxy), RegimeStream(proxy=proxy)
    rows = [stream.update(v, a, vix_age=o, realised=r) for v, a, o, r in zip(vix, adx, age, realised)]
    for f in fields(Regime): np.testing.assert_array_equal(np.concatenate([getattr(r, f.name) for r in rows]), getattr(batch, f.name))


def test_regime_ignores_the_future(market):
    vix, adx, age, realised, proxy = market
    whole = classify(vix, adx, vix_age=age, realised=realised, proxy=proxy)
    for cut in (1, 20, 400, 1100):
        part = classify(vix[:cut], adx[:cut], vix_age=age[:cut], realised=realised[:cut], proxy=proxy)
        for f in fields(Regime): np.testing.assert_array_equal(getattr(part, f.name), getattr(whole, f.name)[:cut])


def test_regime_raises_only_on_a_fresh_vix_and_names_its_proxy(market):
    vix, adx, age, realised, proxy = market
    r = classify(vix, adx, vix_age=age, realised=realised, proxy=proxy)
    assert (r.multiplier[~r.fresh & (r.vol_state >= 0)] <= 1).all() and (r.multiplier == 1.2).any()
    on_proxy = np.char.startswith(r.why, "test proxy in place of VIX")
    assert on_proxy.any() and not (on_proxy & r.fresh).any()
    np.testing.assert_array_equal(np.isnan(r.multiplier), r.vol_state < 0)
    np.testing.assert_array_equal(np.isnan(r.tilt), r.trend_state < 0)
    changes = np.flatnonzero(np.diff(r.code)) + 1
    assert (r.since[changes] == 1).all() and (np.diff(r.since)[np.diff(r.code) == 0] == 1).all()


def test_regime_of_a_series_without_ranges_still_has_a_multiplier():
    r = classify(np.array([12., 20., 40.]), np.full(3, np.nan))
    assert r.code.tolist() == [-1, -1, -1] and r.multiplier.tolist() == [1.2, 1.2, .6]


def test_proxy_thresholds_cut_as_many_days_as_the_vix(market):
    vix, _, _, realised, proxy = market
    both = np.isfinite(vix) & np.isfinite(realised)
    fresh = proxy_thresholds(vix, realised, name="p")
    for key in ("vix_low_enter", "vix_low_leave", "vix_high_leave", "vix_high_enter"):
        below = np.mean(vix[both] <= getattr(RegimeRules(), key))
        assert getattr(fresh, key) == np.quantile(realised[both], below, method="inverted_cdf")
    assert proxy.source == "test proxy" and proxy.adx_trend_enter == 25.


# ---- measures ----------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def returns():
    rng = np.random.default_rng(7)
    vol = mean_reverting(rng, 900, .01, .05, .15)
    return vol * rng.standard_t(4, 900) / math.sqrt(2)


@pytest.mark.parametrize("level", [.95, .975, .99])
def test_historical_equals_numpys_inverted_cdf_and_the_integral_of_the_tail(returns, level):
    got = var_es(returns, level, "historical")
    assert got.loss == np.quantile(-returns, level, method="inverted_cdf")
    grid = level + (np.arange(200_000) + .5) / 200_000 * (1 - level)
    assert got.es == pytest.approx(np.quantile(-returns, grid, method="inverted_cdf").mean(), abs=2e-6)
    assert (got.n_obs, got.level, got.method) == (900, level, "historical")


@pytest.mark.parametrize("level", [.95, .99])
def test_ewma_equals_pandas_and_the_normal_integral(returns, level):
    start = np.r_[np.mean(returns[:20] ** 2), returns ** 2]
    sigma = math.sqrt(pd.Series(start).ewm(alpha=.06, adjust=False).mean().iloc[-1])
    got = var_es(returns, level, "ewma")
    assert got.loss == pytest.approx(stats.norm.isf(1 - level) * sigma, rel=1e-12)
    tail = integrate.quad(lambda x: x * stats.norm.pdf(x), stats.norm.isf(1 - level), 40)[0] / (1 - level)
    assert got.es == pytest.approx(tail * sigma, rel=1e-8)


def test_fhs_equals_a_plain_loop(returns):
    variance, z = np.mean(returns[:20] ** 2), []
    for r in returns:
        z.append(r / math.sqrt(variance))
        variance = .94 * variance + .06 * r * r
    loss, es = historical_var_es(np.array(z), .99)
    got = var_es(returns, .99, "fhs")
    assert (got.loss, got.es) == (pytest.approx(loss * math.sqrt(variance), rel=1e-10), pytest.approx(es * math.sqrt(variance), rel=1e-10))


@pytest.mark.parametrize("method", METHODS[:3])
def test_forecast_ignores_the_future_and_ends_at_var_es(returns, method):
    var, es = forecast(returns, .95, method, 300)
    for cut in (300, 301, 650):
        part = forecast(returns[:cut], .95, method, 300)
        np.testing.assert_array_equal(part[0], var[:cut])
        np.testing.assert_array_equal(part[1], es[:cut])
    assert np.isnan(var[:299]).all() and np.isfinite(var[299:]).all() and (es[299:] >= var[299:]).all()
    if method != "fhs": assert var[-1] == pytest.approx(var_es(returns if method == "ewma" else returns[-300:], .95, method).loss, rel=1e-12)


def test_a_tail_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"VaR at 99% needs >= 100 returns, got 5"): var_es(np.full(5, .01), .99, "historical")
    with pytest.raises(DataError, match="finite.*first at row 3"): var_es(np.r_[np.zeros(3), np.nan, np.zeros(200)], .99, "historical")
    with pytest.raises(DataError, match="one series"): var_es(np.zeros((200, 2)), .99, "historical")
    with pytest.raises(DataError, match="200 zeros"): var_es(np.zeros(200), .99, "fhs")
    with pytest.raises(ValueError, match="write 99 % as 0.99"): var_es(np.zeros(200), 99, "historical")


def test_kupiec_equals_the_binomial_likelihood_ratio():
    for n, x, level in ((250, 0, .99), (250, 5, .99), (500, 40, .95), (30, 30, .9)):
        got = kupiec(np.arange(n) < x, level)
        ratio = 2 * (stats.binom.logpmf(x, n, x / n) - stats.binom.logpmf(x, n, 1 - level))
        assert got.statistic == pytest.approx(ratio, abs=1e-9) and got.p_value == pytest.approx(stats.chi2.sf(ratio, 1), abs=1e-12)


def test_christoffersen_equals_the_g_test_of_the_transition_table():
    rng = np.random.default_rng(1)
    for persistence in (0., .3, .7):
        hits = np.zeros(800, bool)
        for t in range(1, 800): hits[t] = rng.random() < (persistence if hits[t - 1] else .06)
        table = np.array([[np.sum((hits[:-1] == a) & (hits[1:] == b)) for b in (0, 1)] for a in (0, 1)])
        truth = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
        independence, coverage = christoffersen(hits, .95)
        assert (independence.statistic, independence.p_value) == (pytest.approx(truth.statistic, abs=1e-9), pytest.approx(truth.pvalue, abs=1e-9))
        assert coverage.statistic == pytest.approx(truth.statistic + kupiec(hits, .95).statistic, abs=1e-9)
    assert christoffersen(np.zeros(10, bool), .95)[0].p_value == 1.


def test_traffic_light_has_basels_zones():
    assert [traffic_light(np.arange(250) < x) for x in (0, 4, 5, 9, 10, 30)] == ["green", "green", "yellow", "yellow", "red", "red"]


def test_z2_keeps_its_size_and_finds_an_es_that_is_too_small():
    rng, n, level = np.random.default_rng(3), 250, .975
    var, es = np.full(n, stats.norm.ppf(level)), np.full(n, stats.norm.pdf(stats.norm.ppf(level)) / (1 - level))
    low = [acerbi_szekely(rng.standard_normal(n), var, es, level, rng=rng, draws=400, dof=200.).p_value for _ in range(200)]
    assert .015 <= np.mean(np.array(low) <= .05) <= .10
    high = [acerbi_szekely(1.6 * rng.standard_normal(n), var, es, level, rng=rng, draws=400).p_value for _ in range(40)]
    assert np.mean(np.array(high) <= .05) > .9


def test_next_bar_pairs_a_forecast_with_the_return_after_it(returns):
    var, es = forecast(returns, .95, "historical", 300)
    r, v, e = next_bar(returns, var, es)
    assert r.size == 600 and r[0] == returns[300] and v[0] == var[299] and e[-1] == es[-2]


# ---- sizing ------------------------------------------------------------------------------------------------------------------------

SHARE = st.floats(0, 1)
STATE = st.fixed_dictionaries(dict(vol_target=st.floats(.01, .5), multiplier=st.floats(0, 1.2), brake=st.sampled_from([0., .25, .5, 1.]), drawdown=st.floats(0, .05), vix_fresh=st.booleans()))


@examples(max_examples=150, deadline=None, derandomize=True)
@given(SHARE, st.floats(.005, 3), st.floats(1, 5), STATE, st.dictionaries(st.sampled_from("abc"), SHARE))
def test_size_is_bounded_monotone_and_its_factors_multiply(base, volatility, more, state, others):
    small, large = size(base, volatility * more, others=others, **state), size(base, volatility, others=others, **state)
    assert 0 <= small.size <= large.size <= 1.2 and large.size <= 1.2 * base
    assert large.factor == pytest.approx(min(1.2, large.target * large.regime * large.brake * math.prod(large.others.values())))
    if large.regime > 1: assert large.target <= 1 and state["brake"] == 1 and state["drawdown"] < .01 and state["vix_fresh"]
    factors = (large.target, large.regime, large.brake, *large.others.values())
    assert len(large.reasons) >= sum(f < 1 for f in factors)


def test_a_raise_needs_everybody():
    assert size(1., .10, **CALM).size == 1.2
    for dissent, word in (({"brake": .5}, "brake"), ({"drawdown": .01}, "drawdown"), ({"vix_fresh": False}, "VIX")):
        refused = size(1., .10, **CALM | dissent)
        assert refused.regime == 1. and "refused" in refused.reasons[0] and word in refused.reasons[0]


@pytest.mark.parametrize("bad", [{"vol_target": 0.}, {"multiplier": math.nan}, {"multiplier": 1.3}, {"brake": 2.}, {"drawdown": -.1}, {"others": {"x": math.nan}}])
def test_size_refuses_what_is_not_known(bad):
    with pytest.raises(DataError, match="must be"): size(1., .1, **CALM | bad)


def test_size_never_answers_zero_to_an_unknown_volatility():
    for volatility in (math.nan, 0., -1., math.inf):
        with pytest.raises(DataError, match="volatility must be finite and > 0"): size(1., volatility, **CALM)


# ---- brake -------------------------------------------------------------------------------------------------------------------------

def slow_brake(navs):
    "The brake read aloud over lists: (factor, unreset drawdown, locked) after each day."
    def stairs(d): return 0. if d >= .025 else .25 if d >= .02 else .5 if d >= .01 else 1.
    out, since, flat_since, locked, factor, flats = [], 0, None, False, 1., []
    for t in range(len(navs)):
        unreset = 1 - navs[t] / max(navs[max(0, t - 249):t + 1])
        if factor == 0.:
            if not locked and t - flat_since >= WAIT_DAYS: since, factor = t, .25
        else:
            own = 1 - navs[t] / max(navs[max(since, t - 249):t + 1])
            factor = min(stairs(own), max(.25, stairs(unreset)))
            if factor == 0.:
                locked = bool(flats) and t - flats[-1] <= RELAPSE_DAYS
                flat_since = t
                flats.append(t)
        out.append((factor, unreset, locked))
    return np.array(out, float)


@pytest.mark.parametrize("seed", range(6))
def test_brake_equals_its_rules_read_aloud(seed):
    navs = 1e6 * np.cumprod(1 + .0025 * np.random.default_rng(seed).standard_normal(700))
    truth = slow_brake(navs)
    last, factors = brake_scan(brake_start(), navs, LIMITS)
    np.testing.assert_array_equal(factors, truth[:, 0])
    assert (last.drawdown, last.locked) == (pytest.approx(truth[-1, 1], abs=1e-12), bool(truth[-1, 2]))
    half, _ = brake_scan(brake_start(), navs[:350], LIMITS)
    np.testing.assert_array_equal(brake_scan(half, navs[350:], LIMITS)[1], factors[350:])
    assert brake_step(half, navs[350], LIMITS).factor == factors[350]


def test_a_flat_account_comes_back_after_ten_days_at_a_quarter():
    factors = brake_scan(brake_start(), np.r_[100., np.full(30, 97.)], LIMITS)[1]
    assert factors.tolist() == [1.] + 10 * [0.] + 20 * [.25]
    later, factors = brake_scan(brake_start(), np.r_[100., np.full(300, 97.)], LIMITS)
    assert factors[-1] == 1. and later.drawdown == 0. and later.flat_days == 0      # the old high is more than 250 days away


def test_a_step_changes_nothing_but_its_answer():
    before = brake_start()
    kept = before.state.copy()
    brake_step(before, 5., LIMITS)
    np.testing.assert_array_equal(before.state, kept)
    assert isinstance(pickle.loads(pickle.dumps(before)), Brake)


# ---- book and limits ---------------------------------------------------------------------------------------------------------------

SYMBOLS = [f"S{k}" for k in range(5)]
PRICES = {s: 10. * (k + 1) for k, s in enumerate(SYMBOLS)}
ORDERS = st.lists(st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(["buy", "sell"]), st.floats(1, 60_000), st.booleans(), st.booleans()), min_size=1, max_size=12)


def inside(book, limits, brake=1.):
    "Worst position and gross, whatever fills, are inside."
    worst = [max(-low, high) for low, high in pending(book).values()]
    assert max(worst, default=0.) <= limits.max_position + 1e-9 and sum(worst) <= limits.max_gross * brake + 1e-9
    assert max(map(abs, book.weights.values()), default=0.) <= limits.max_position + 1e-9 and book.gross <= limits.max_gross * brake + 1e-9


@examples(max_examples=200, deadline=None, derandomize=True)
@given(ORDERS, st.floats(.02, .6), st.floats(.05, 1.5), st.sampled_from([(0., 1.), (.015, .5), (.022, .25), (.03, 0.)]))
def test_no_sequence_of_allowed_orders_breaches_a_limit(stream, max_position, max_gross, fall):
    limits = replace(LIMITS, max_position=max_position, max_gross=max_gross)
    book = Book(1e6 * (1 - fall[0]), {}, PRICES, nav_history=[1e6])
    for symbol, side, qty, fills, cancels in stream:
        asked = order(symbol, side, qty)
        decision = check(book, [asked], limits=limits)
        assert 0 <= decision.size[0] <= qty and decision.allowed == (decision.size[0] == qty) and decision.brake == fall[1]
        sent, after = decision.size[0], {s: max(-low, high) for s, (low, high) in pending(book, [asked]).items()}
        np.testing.assert_allclose([c.value for c in decision.checks[:2]], [after[symbol], sum(after.values())], atol=1e-12)
        if sent < qty: assert not check(book, [order(symbol, side, min(sent + 1, qty))], limits=limits).allowed     # and no more than that
        if sent > 0:
            assert check(book, [order(symbol, side, sent)], limits=limits).allowed           # what "would pass" does pass
            book = replace(book, open_orders=(*book.open_orders, order(symbol, side, sent)))
        inside(book, limits, fall[1])
        if cancels and book.open_orders: book = replace(book, open_orders=book.open_orders[1:])
        if fills and book.open_orders:
            done = book.open_orders[-1]
            held = book.positions | {done.symbol: book.positions.get(done.symbol, 0.) + done.direction * done.qty}
            book = replace(book, positions=held, open_orders=book.open_orders[:-1])
        inside(book, limits, fall[1])


@examples(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(-40_000, 40_000), min_size=5, max_size=5), ORDERS, st.sampled_from([0., .015, .03]))
def test_a_book_outside_its_limits_is_never_led_further_out(held, stream, fall):
    book = Book(1e6 * (1 - fall), dict(zip(SYMBOLS, held)), PRICES, nav_history=[1e6])
    for symbol, side, qty, _, _ in stream:
        if not check(book, [order(symbol, side, qty)], limits=LIMITS).allowed: continue
        after = replace(book, open_orders=(*book.open_orders, order(symbol, side, qty)))
        (l0, h0), (l1, h1) = pending(book)[symbol], pending(after)[symbol]
        assert max(-l1, h1) <= max(-l0, h0, LIMITS.max_position) + 1e-9
        gross0, gross1 = (sum(max(-low, high) for low, high in pending(b).values()) for b in (book, after))
        assert gross1 <= max(gross0, LIMITS.max_gross * check(book, limits=LIMITS).brake) + 1e-9
        book = after


@given(st.lists(st.floats(-40_000, 40_000), min_size=5, max_size=5), st.sampled_from([0., .015, .03]))
@examples(max_examples=60, deadline=None, derandomize=True)
def test_every_position_can_always_be_closed(held, fall):
    book = Book(1e6 * (1 - fall), dict(zip(SYMBOLS, held)), PRICES, nav_history=[1e6])
    closing = [order(s, "sell" if q > 0 else "buy", abs(q)) for s, q in book.positions.items() if q]
    assert enforce(book, closing, limits=LIMITS).size == tuple(o.qty for o in closing) if closing else True


def test_a_batch_equals_its_orders_one_by_one():
    rng = np.random.default_rng(2)
    orders = [order(rng.choice(SYMBOLS), rng.choice(["buy", "sell"]), float(rng.uniform(100, 5000))) for _ in range(40)]
    book = Book(1e6, {"S0": 2000.}, PRICES)
    batch, single = check(book, orders, limits=replace(LIMITS, max_gross=.12)), []
    for o in orders:
        single.append(check(book, [o], limits=replace(LIMITS, max_gross=.12)).size[0])
        if single[-1] > 0: book = replace(book, open_orders=(*book.open_orders, replace(o, qty=single[-1])))
    np.testing.assert_allclose(batch.size, single, rtol=1e-9, atol=1e-6)
    assert not batch.allowed and min(batch.size) < 1 < max(batch.size)


def test_a_decision_holds_every_limit_and_every_reason():
    book = Book(1e6, {"S0": 4000.}, PRICES)
    decision = check(book, [order("S0", "buy", 3000.), order("S1", "sell", 100.)], limits=LIMITS)
    assert [(c.limit, c.order, c.symbol) for c in decision.checks] == [(name, k, s) for k, s in ((0, "S0"), (1, "S1")) for name in ("position", "gross", "drawdown")]
    first = decision.checks[0]
    assert (first.verdict, first.threshold) == ("breach", .05) and first.value == pytest.approx(.07) and first.size == pytest.approx(1000.)
    assert decision.size == (pytest.approx(1000.), 100.) and not decision.allowed
    assert len(decision.reasons) == 1 and "7.00%" in decision.reasons[0] and "5.00%" in decision.reasons[0] and "1000 would pass" in decision.reasons[0]
    assert pickle.loads(pickle.dumps(decision)) == decision
    assert check(book, limits=LIMITS).reasons == ("all 3 checks pass",)


def test_gross_counts_the_brake_and_names_it():
    many = {f"L{k}": 450. for k in range(20)}
    book = Book(985_000., many, dict.fromkeys(many, 100.) | PRICES, nav_history=[1e6])
    decision = check(book, [order("S0", "buy", 4000.)], limits=LIMITS)
    assert decision.brake == .5 and "brake x0.5" in decision.reasons[0] and decision.size == (0.,)
    assert check(book, limits=LIMITS).allowed is False
    assert "only orders that reduce it pass" in check(book, limits=LIMITS).reasons[0]


def test_flat_refuses_openings_allows_closings_and_says_which_day():
    book = Book(1e6, {"S0": 4000.}, PRICES)
    flat = brake_scan(brake_start(), [100., 97., 97., 97., 97.], LIMITS)[0]
    locked = brake_scan(brake_start(), np.r_[100., np.full(20, 97.), np.full(5, 94.)], LIMITS)[0]
    assert "day 3 of 10" in " ".join(check(book, [order("S1", "buy", 1.)], limits=LIMITS, brake=flat).reasons)
    assert locked.locked and "a person" in " ".join(check(book, [order("S1", "buy", 1.)], limits=LIMITS, brake=locked).reasons)
    assert "flat from now" in " ".join(check(replace(book, nav=9.7e5, nav_history=[1e6], high_water=math.nan), limits=LIMITS).reasons)
    for brake in (flat, locked): assert check(book, [order("S0", "sell", 4000.)], limits=LIMITS, brake=brake).allowed
    with pytest.raises(LimitBreach, match="4000 would pass"): enforce(book, [order("S0", "sell", 4500.)], limits=LIMITS, brake=flat)


def test_a_crash_since_the_last_close_counts_at_once_and_a_gain_does_not():
    brake = brake_scan(brake_start(), [1e6, 9.85e5], LIMITS)[0]
    assert [check(Book(nav, {}, {}), limits=LIMITS, brake=brake).brake for nav in (9.7e5, 9.79e5, 9.85e5, 1.1e6)] == [0., .25, .5, .5]


def test_a_what_if_leaves_no_trace():
    book = Book(1e6, {"S0": 100.}, PRICES, (order("S1", "buy", 50.),), np.full(10, 1e6))
    before = pickle.dumps(book)
    asked = [order("S0", "sell", 500.), order("S2", "buy", 9e9)]
    assert check(book, asked, limits=LIMITS) == check(book, asked, limits=LIMITS) and pickle.dumps(book) == before


@pytest.mark.parametrize("bad, words", [
    (dict(nav=0.), "nav must be finite and > 0, got 0.0"), (dict(nav=math.nan), "got nan"), (dict(positions={"X": 1.}), "X has none"),
    (dict(positions={"S0": math.inf}), "quantities of positions must be finite"), (dict(prices={"S0": math.nan}, positions={"S0": 1.}), "prices must be finite"),
    (dict(nav_history=[1e6, -1.]), "nav_history must be > 0"), (dict(nav_history=np.ones((2, 2))), "one series"), (dict(high_water=5.), "high_water must be >= every NAV")])
def test_a_book_that_cannot_be_valued_is_refused(bad, words):
    with pytest.raises(DataError, match=words): Book(**{"nav": 1e6, "positions": {}, "prices": PRICES} | bad)


def test_bad_orders_limits_and_navs_are_refused():
    book = Book(1e6, {}, PRICES)
    with pytest.raises(DataError, match="X has none"): check(book, [order("X", "buy", 1.)], limits=LIMITS)
    with pytest.raises(DataError, match="must be Order records"): check(book, ["buy"], limits=LIMITS)
    with pytest.raises(DataError, match="quantity"): order("S0", "buy", math.nan)
    with pytest.raises(DataError, match="one series"): brake_scan(brake_start(), np.ones((2, 2)), LIMITS)
    with pytest.raises(DataError, match="navs must be"): brake_step(brake_start(), math.nan, LIMITS)
    with pytest.raises(ValueError, match="warn_cluster <= max_cluster"): replace(RULES, max_cluster=.05)
    with pytest.raises(ValueError, match="max_beta must be > 0"): replace(RULES, max_beta=-1.)
    for change, words in (({"max_position": 0.}, "max_position"), ({"max_gross": math.inf}, "max_gross"), ({"drawdown_flat": .02}, "drawdown_half <")):
        with pytest.raises(ValueError, match=words): replace(LIMITS, **change)


def test_the_rules_in_code_are_the_rules_in_settings():
    risk = settings().risk
    for f in fields(RegimeRules):
        if hasattr(risk, f.name): assert getattr(risk, f.name) == f.default, f.name
    assert Limits(**{f.name: getattr(risk, f.name) for f in fields(Limits)}) == RULES


# ---- probabilities beside the rules ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def stretches():
    rng = np.random.default_rng(6)
    return np.concatenate([s * rng.standard_normal(n) for s, n in ((.006, 250), (.02, 120), (.008, 200), (.03, 60))])


def slow_runs(x, hazard, scale, recent):
    "Adams and MacKay's Algorithm 1 over a growing list, with scipy's Student t."
    p, belief, out = [1.], [(0., .1, 1., scale * scale)], []
    for v in x:
        like = [stats.t.pdf(v, 2 * a, m, math.sqrt(b * (k + 1) / (a * k))) for m, k, a, b in belief]
        grown = [(1 - hazard) * q * l for q, l in zip(p, like)]
        total = sum(q * l for q, l in zip(p, like))
        p = [hazard] + [g / total for g in grown]
        belief = [(0., .1, 1., scale * scale)] + [((k * m + v) / (k + 1), k + 1, a + .5, b + k * (v - m) ** 2 / (2 * (k + 1))) for m, k, a, b in belief]
        out.append((sum(p[:recent + 1]), sum(r * q for r, q in enumerate(p))))
    return np.array(out).T


def test_run_lengths_equal_the_algorithm_read_aloud(stretches):
    got, truth = run_lengths(stretches[:300], hazard=.01, scale=.01, recent=10, max_run=400), slow_runs(stretches[:300], .01, .01, 10)
    np.testing.assert_allclose(got, truth, rtol=1e-8, atol=1e-10)
    short = run_lengths(stretches, hazard=.004, scale=.01, max_run=60)
    assert max(short[1]) <= 60 and np.isfinite(short).all()
    holes = np.where(np.arange(stretches.size) % 7 == 3, np.nan, stretches)
    kept = ~np.isnan(holes)
    np.testing.assert_array_equal(run_lengths(holes, hazard=.01, scale=.01)[0][kept], run_lengths(stretches[kept], hazard=.01, scale=.01)[0])


def test_filtered_probabilities_equal_statsmodels_and_ignore_the_future(stretches):
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression
    model = fit_markov(stretches)
    seen = markov_filter(stretches, model)
    theirs = MarkovRegression(100 * stretches, 2, trend="c", switching_variance=True).filter(np.r_[model.transition[0, 0], model.transition[1, 0], 100 * model.mean, (100 * model.sigma) ** 2])
    np.testing.assert_allclose(seen, np.asarray(theirs.filtered_marginal_probabilities), rtol=0, atol=1e-8)
    assert model.log_likelihood == pytest.approx(theirs.llf + stretches.size * math.log(100), abs=1e-6)
    for cut in (1, 100, 400): np.testing.assert_array_equal(markov_filter(stretches[:cut], model), seen[:cut])
    stream = MarkovStream(model)
    np.testing.assert_array_equal([stream.update(x) for x in stretches], seen)
    walked = markov_walk(np.r_[np.nan, stretches], first_bars=300, refit_bars=100)
    assert np.isnan(walked[:301]).all() and np.isfinite(walked[301:]).all()
    np.testing.assert_array_equal(markov_walk(np.r_[np.nan, stretches[:450]], first_bars=300, refit_bars=100), walked[:451])
    np.testing.assert_array_equal(walked[401:501], markov_filter(stretches[:500], fit_markov(stretches[:400]))[400:])


def test_switching_models_refuse_what_they_cannot_fit():
    toy = MarkovModel(np.zeros(2), np.r_[.01, .03], np.full((2, 2), .5), np.r_[.5, .5], math.nan, 0)
    for call, words in ((lambda: markov_filter([math.inf], toy), "finite"), (lambda: markov_filter([], toy), "at least one"), (lambda: fit_markov(np.zeros(300)), "that move"), (lambda: fit_markov(np.ones(10)), ">= 250"),
                        (lambda: fit_markov(np.full(300, math.nan)), "finite"), (lambda: run_lengths(np.ones((2, 2)), hazard=.01, scale=.01), "one series")):
        with pytest.raises(DataError, match=words): call()
    for call in (lambda: fit_markov(np.ones(300), 1), lambda: markov_walk(np.ones(900), first_bars=5, refit_bars=1), lambda: run_lengths(np.ones(9), hazard=1., scale=.01)):
        with pytest.raises(ValueError, match="need"): call()
    assert markov_filter([-.9], toy)[0, 1] == pytest.approx(1.) and markov_filter([math.nan], toy)[0].tolist() == [.5, .5]


# ---- every limit -------------------------------------------------------------------------------------------------------------------

NS = 10**9


@pytest.fixture(scope="module")
def world():
    "Five symbols: two that move together, a third half with them, one against, one alone; 600 days, the first year the worst."
    rng = np.random.default_rng(11)
    market = .01 * rng.standard_t(5, 600) * np.where(np.arange(600) < 250, 2., 1.)
    own = .008 * rng.standard_normal((600, 5))
    returns = market[:, None] * np.array([1.2, 1.1, .8, -.6, .1]) + own * np.array([.4, .4, 1., 1., 1.5])
    return instruments(returns, SYMBOLS, market=market, tail_days=500, cluster_days=60, cluster_correlation=.6, sector=dict(zip(SYMBOLS, "aabbc")), asset_class=dict(zip(SYMBOLS, "xxxyy")),
                       adv={s: 1e6 / p for s, p in PRICES.items()})


def all_of(world, **change): return dict(limits=replace(RULES, **change), instruments=world, killed="")
def held(**weights): return Book(1e6, {s: w * 1e6 / PRICES[s] for s, w in weights.items()}, PRICES)
def row(decision, name, k=0): return next(c for c in decision.checks if c.limit == name and c.order == k)


def test_values_of_all_limits_are_those_of_the_definitions(world):
    book = held(S0=.03, S3=-.02)
    decision = check(book, [Order("S1", "buy", .04 * 1e6 / PRICES["S1"], PRICES["S1"] * 1.01, 5)], **all_of(world))
    assert [c.limit for c in decision.checks] == list(NAMES) and decision.off == ()
    w = np.array([.03, .04, 0, -.02, 0])
    r, left = np.corrcoef(world.tail[:2, -60:]), world.residual[:2, :2]
    effective = max(math.sqrt(np.abs(w[:2]) @ np.maximum(m, 0) @ np.abs(w[:2])) for m in (r, left))
    truth = {"position": .04, "gross": .09, "net": .05, "beta": w @ world.beta, "sector": .07, "asset class": .07, "cluster": effective, "liquidity": .04 / .1,
             "es": historical_var_es(w @ world.tail, .99)[1], "stress": historical_var_es(w @ world.stressed, .99)[1], "collar": .01, "rate": 1., "kill": 0., "drawdown": 0.}
    for name, value in truth.items(): assert row(decision, name).value == pytest.approx(value, abs=1e-12), name
    assert world.cluster[0] == world.cluster[1] != world.cluster[3] and decision.allowed


# limit, a book near it, an order beyond it; what passes is checked to be the largest that does
EDGES = [("position", {}, {}, "S0", "buy", .09), ("gross", {"max_gross": .06}, {"S0": .03, "S3": -.02}, "S4", "buy", .04), ("net", {"max_net": .04}, {"S0": .03}, "S4", "buy", .04),
         ("net", {"max_net": .04}, {"S0": -.03}, "S4", "sell", .04), ("beta", {"max_beta": .05}, {"S0": .03}, "S2", "buy", .05), ("beta", {"max_beta": .05}, {"S0": .03}, "S3", "sell", .05),
         ("sector", {"max_sector": .04}, {"S0": -.03}, "S1", "buy", .03), ("asset class", {"max_asset_class": .06}, {"S0": .03, "S1": .02}, "S2", "buy", .03),
         ("cluster", {"max_cluster": .08, "warn_cluster": .08}, {"S0": .05}, "S1", "buy", .05), ("liquidity", {"max_exit_days": .3}, {"S4": .01}, "S4", "buy", .04),
         ("es", {"max_es": .0026}, {"S0": .03}, "S1", "buy", .05), ("es", {"max_es": .0033}, {"S0": .04}, "S3", "sell", .05), ("stress", {"max_drawdown": .006}, {"S0": .03}, "S1", "buy", .05)]


@pytest.mark.parametrize("limit, change, book, symbol, side, weight", EDGES)
def test_what_would_pass_passes_and_no_more(world, limit, change, book, symbol, side, weight):
    def asked(qty): return check(held(**book), [order(symbol, side, qty)], **all_of(world, **change))
    unit = 1e6 / PRICES[symbol]
    decision = asked(weight * unit)
    breach = [c for c in decision.checks if c.verdict == "breach"]
    assert [c.limit for c in breach] == [limit] and 0 < decision.size[0] == breach[0].size < weight * unit
    assert f"{decision.size[0]:g} would pass" in " ".join(decision.reasons)
    assert asked(decision.size[0]).allowed and not asked(decision.size[0] + 1e-5 * unit).allowed


def test_a_group_warns_before_it_refuses(world):
    decision = check(held(S0=.05), [order("S1", "buy", .04 * 1e6 / PRICES["S1"])], **all_of(world))
    assert decision.allowed and row(decision, "cluster").verdict == "warn" and "warning" in decision.reasons[0]
    book = check(held(S0=.05, S1=.04), **all_of(world))
    assert book.allowed and row(book, "cluster", -1).verdict == "warn" and row(book, "cluster", -1).symbol == "S0"


def test_a_fact_that_nobody_has_refuses_and_says_what_to_pass(world):
    blind = replace(world, sector=np.array([0, 0, 1, -1, 2]), beta=np.where(np.arange(5) == 4, np.nan, world.beta))
    decision = check(held(S0=.02), [order("S3", "buy", 100.), order("S1", "buy", 100.)], **all_of(blind))
    assert decision.size == (0., 100.) and [c.limit for c in decision.checks if c.verdict == "unknown"] == ["sector"] and "pass its sector" in " ".join(decision.reasons)
    everything = check(held(S4=.02), [order("S1", "buy", 100.), order("S4", "sell", 100.), order("S4", "sell", 5000.)], **all_of(blind))      # what is held blinds everybody
    assert everything.size == (0., 100., pytest.approx(300.)) and row(everything, "beta", 1).verdict == "reduces"
    assert row(check(held(S4=.02), **all_of(blind)), "beta", -1).verdict == "unknown" and not check(held(S4=.02), **all_of(blind)).allowed
    nothing = check(held(S0=.02), [order("S1", "buy", 1.), order("S0", "sell", 100.)], limits=RULES)
    assert nothing.size == (0., 100.) and [c.limit for c in nothing.checks if c.verdict == "unknown"] == ["beta", "sector", "asset class", "cluster", "liquidity", "es", "stress", "kill"]
    assert check(held(S0=.02), limits=RULES).allowed is False and check(Book(1e6, {}, PRICES), limits=RULES).allowed is False


def test_a_limit_that_is_off_is_named_and_not_checked(world):
    decision = check(held(S0=.02), [order("S1", "buy", 1.)], limits=LIMITS)
    assert decision.allowed and decision.off == tuple(n for n in NAMES if n not in ("position", "gross", "drawdown"))
    assert check(held(S0=.02), limits=LIMITS).off == decision.off


def test_collar_and_rate_pass_an_order_wholly_or_not_at_all(world):
    def limited(price, time=0): return Order("S0", "buy", 10., price * PRICES["S0"], time)
    assert [check(held(), [limited(p)], **all_of(world)).size[0] for p in (1.03, .97, 1.031, .969)] == [10., 10., 0., 0.]
    burst = [limited(1., k * NS // 20) for k in range(30)]
    assert check(held(), burst, **all_of(world)).size == tuple(10. * (t < NS // 2 or t >= NS) for t in (o.time for o in burst))      # refused ones do not count
    waiting = replace(held(), open_orders=tuple(burst[:5]))
    assert [check(waiting, [limited(1., NS // 2)], sent=[7] * n, **all_of(world)).allowed for n in (4, 5)] == [True, False]


def test_killed_closes_and_opens_nothing(world):
    stopped = all_of(world) | {"killed": "killed at noon by the monitor: prices froze"}
    decision = check(held(S0=.02), [order("S0", "sell", 3000.), order("S1", "buy", 1.)], **stopped)
    assert decision.size == (pytest.approx(2000.), 0.) and "prices froze" in decision.reasons[0]
    assert check(held(S0=.02), [order("S0", "sell", 2000.)], **stopped).allowed and row(check(held(), **stopped), "kill", -1).verdict == "breach"
    with pytest.raises(LimitBreach, match="prices froze"): enforce(held(), [order("S1", "buy", 1.)], **stopped)
    unknown = check(held(), [order("S1", "buy", 1.)], limits=RULES, instruments=world)
    assert row(unknown, "kill").verdict == "unknown" and "killed=Store.killed()" in unknown.reasons[-1]


def test_a_hedge_passes_over_the_shortfall_limit_and_too_small_a_part_of_it_does_not(world):
    book, tight = held(S0=.04), all_of(world, max_es=.0012, max_drawdown=INF)
    unit = 1e6 / PRICES["S3"]
    assert row(check(book, **tight), "es", -1).verdict == "breach"
    assert check(book, [order("S3", "buy", .03 * unit)], **tight).allowed, "S3 falls when S0 rises"
    two = [order("S0", "buy", .001 * 1e6 / PRICES["S0"]), order("S3", "buy", .03 * unit)]
    assert check(book, two, **tight).size == (0., .03 * unit)
    # another order under way that raises the worst: the hedge must be large enough, and a limit that cuts it makes it none
    busy = replace(held(S0=.03), open_orders=(order("S1", "buy", .02 * 1e6 / PRICES["S1"]),))
    line = row(check(held(S0=.03), **all_of(world)), "es", -1).value
    narrow = all_of(world, max_es=line, max_drawdown=INF)
    large = check(busy, [order("S3", "buy", .045 * unit)], **narrow)
    assert large.allowed and not check(busy, [order("S3", "buy", .001 * unit)], **narrow).allowed
    assert check(busy, [order("S3", "buy", .045 * unit)], **narrow | {"limits": replace(narrow["limits"], max_net=.052)}).size == (0.,)
    over = check(busy, [order("S3", "buy", 5 * unit)], **narrow | {"limits": replace(narrow["limits"], max_position=1., max_exit_days=INF, max_sector=INF, max_asset_class=INF, max_beta=INF, max_net=INF,
                                                                                   warn_cluster=INF, max_cluster=INF, max_gross=9.)})
    part = over.size[0]
    assert 0 < part < 5 * unit and check(busy, [order("S3", "buy", part)], **narrow | {"limits": replace(narrow["limits"], max_position=1., max_exit_days=INF, max_sector=INF, max_asset_class=INF,
                                                                                                      max_beta=INF, max_net=INF, warn_cluster=INF, max_cluster=INF, max_gross=9.)}).allowed


def test_a_batch_over_every_limit_equals_its_orders_one_by_one(world):
    rng = np.random.default_rng(3)
    orders = [Order(rng.choice(SYMBOLS), rng.choice(["buy", "sell"]), float(rng.uniform(10, 2500)), math.nan, k * NS // 4) for k in range(60)]
    book, strict = held(S0=.02, S3=-.02), all_of(world, max_es=.0025, max_cluster=.06, warn_cluster=.06, max_net=.05)
    batch, single = check(book, orders, **strict), []
    for o in orders:
        single.append(check(book, [o], **strict).size[0])
        if single[-1] > 0: book = replace(book, open_orders=(*book.open_orders, replace(o, qty=single[-1])))
    np.testing.assert_allclose(batch.size, single, rtol=1e-6, atol=1e-6)
    assert {c.limit for c in batch.checks if c.verdict == "breach"} >= {"position", "net", "cluster", "es"}


def test_a_book_over_its_limits_says_which_share_would_pass(world):
    decision = check(held(S0=.08, S1=.08), **all_of(world, max_net=.1, max_sector=.08, max_asset_class=.08))
    shares = {c.limit: c.size for c in decision.checks if c.verdict == "breach"}
    assert shares["position"] == pytest.approx(.05 / .08) and shares["net"] == pytest.approx(.1 / .16) and shares["sector"] == shares["asset class"] == pytest.approx(.5)
    assert "only orders that reduce it pass" in decision.reasons[0] and row(decision, "sector", -1).symbol == "a"


# ---- exposures and scaling ---------------------------------------------------------------------------------------------------------

def test_exposures_say_what_they_do_not_know(world):
    full = exposures(held(S0=.03, S3=-.02), world, participation=.1)
    assert isinstance(full, Exposures) and full.unknown == {} and full.sector == {"a": .03, "b": .02} and full.exit_days["S0"] == pytest.approx(.3)
    blind = exposures(held(S0=.03), nothing_known(), participation=.1)
    assert math.isnan(blind.es) and math.isnan(blind.beta) and blind.unknown["sector"] == ("S0",) and blind.clusters == () and blind.gross == pytest.approx(.03)


@examples(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(-.3, .3), min_size=5, max_size=5), st.sampled_from([0., .015, .022, .03]))
def test_a_scaled_book_passes_every_limit_and_never_grows(world, weights, fall):
    book = replace(held(**dict(zip(SYMBOLS, weights))), nav=1e6 * (1 - fall), nav_history=[1e6], high_water=math.nan)
    scaling = pro_rata(book, limits=RULES, instruments=world)
    assert check(scaling.book, **all_of(world)).allowed and (fall < .025 or scaling.book.gross == 0)
    for s in SYMBOLS:
        assert 0 <= scaling.factor[s] <= 1 and scaling.book.positions[s] == pytest.approx(scaling.factor[s] * book.positions[s], abs=1e-9)
    again = pro_rata(scaling.book, limits=RULES, instruments=world)
    assert all(f == pytest.approx(1., abs=1e-9) or fall == .03 for f in again.factor.values())


def test_a_book_cannot_be_scaled_into_the_unknown(world):
    with pytest.raises(DataError, match="known limits only"): pro_rata(held(S0=.03), limits=RULES)
    with pytest.raises(DataError, match="open orders"): pro_rata(replace(held(), open_orders=(order("S0", "buy", 1.),)), limits=RULES, instruments=world)


@pytest.mark.parametrize("spoil, limit", [(lambda r: np.where(np.arange(5) == 0, np.nan, r), "cluster"), (lambda r: np.where(np.arange(5) == 0, .001, r), "cluster")])
def test_a_column_without_returns_or_movement_is_unknown_and_never_zero(world, spoil, limit):
    rng = np.random.default_rng(1)
    seen = instruments(spoil(.01 * rng.standard_normal((600, 5))), SYMBOLS, market=.01 * rng.standard_normal(600), tail_days=500, cluster_days=60, cluster_correlation=.6,
                       sector=dict.fromkeys(SYMBOLS, "a"), asset_class=dict.fromkeys(SYMBOLS, "x"), adv=dict.fromkeys(SYMBOLS, 1e9))
    decision = check(held(), [order("S0", "buy", 1.), order("S1", "buy", 1.)], **all_of(seen))
    assert row(decision, limit).verdict == "unknown" and row(decision, "es").verdict == "unknown" and decision.size == (0., 1.)
    with pytest.raises(LimitBreach, match="unknown"): enforce(held(), [order("S0", "buy", 1.)], **all_of(seen))


# ---- brake: person and words -------------------------------------------------------------------------------------------------------

def test_only_a_person_unlocks_a_brake():
    locked = brake_scan(brake_start(), np.r_[100., np.full(31, 97.), 94.], LIMITS)[0]
    assert locked.locked and brake_step(locked, 94., LIMITS).locked
    opened = brake_unlock(locked, "A. Officer")
    assert (opened.factor, opened.locked, opened.reference) == (.25, False, 94.) and opened.drawdown == pytest.approx(.06)
    with pytest.raises(DataError, match="no name"): brake_unlock(locked, "")
    with pytest.raises(DataError, match="only a locked brake"): brake_unlock(brake_start(), "A. Officer")
    assert [bool(brake_news(a, b)) for a, b in ((locked, opened), (locked, locked), (brake_start(), locked))] == [True, False, True]
    assert "reference is reset to 94" in brake_news(locked, opened)[0]


def slow_path(returns, wanted, cost, delay, braked):
    "The simulation read aloud over the brake of `slow_brake`."
    nav, held_now, target, navs = 1., 0., 0., []
    for t, r in enumerate(returns):
        growth = 1 + held_now * r
        nav, held_now = nav * growth, held_now * (1 + r) / growth
        if delay: nav, held_now = nav * (1 - cost * abs(target - held_now)), target
        factor = slow_brake(navs + [nav])[-1, 0] if braked else 1.
        target, navs = wanted[t] * factor, navs + [nav]
        if not delay: nav, held_now = nav * (1 - cost * abs(target - held_now)), target
        yield nav


@pytest.mark.parametrize("delay, braked", [(0, True), (1, True), (1, False)])
def test_the_simulated_account_equals_the_rules_read_aloud(delay, braked):
    rng = np.random.default_rng(delay)
    returns, volatility = .006 * rng.standard_normal(260), .08 + .04 * rng.random(260)
    path = braked_path(returns, volatility, LIMITS, vol_target=.06, max_weight=1.2, cost_bps=2., delay_bars=delay, person_days=INF, braked=braked)
    np.testing.assert_allclose(path.nav, list(slow_path(returns, np.minimum(1.2, .06 / volatility), 2e-4, delay, braked)), rtol=1e-12)


def test_a_window_counts_its_own_high_and_its_normal_days():
    nav, normal = 100 * np.cumprod(1 + .01 * np.random.default_rng(2).standard_normal(400)), np.random.default_rng(3).random(400) < .8
    truth = [max([0.] + [1 - nav[s] / nav[t - 59:s + 1].max() for s in range(t - 59, t + 1) if normal[s]]) for t in range(59, 400)]
    np.testing.assert_allclose(window_depth(nav, normal, 60)[59:], truth, rtol=0, atol=1e-12)


# ---- what the rooms refuse ---------------------------------------------------------------------------------------------------------

def test_brake_and_simulation_refuse_bad_input_and_say_each_step():
    down = [brake_step(brake_start(), 100., LIMITS)]
    for nav in (98.5, 97.): down.append(brake_step(down[-1], nav, LIMITS))
    assert "from x1 to x0.5" in brake_news(*down[:2])[0] and "is flat" in brake_news(*down[1:])[0]
    r, v = np.full(9, .001), np.full(9, .1)
    def path(r=r, v=v, **change): return braked_path(r, v, LIMITS, **dict(vol_target=.1, max_weight=1., cost_bps=0., delay_bars=1, person_days=10) | change)
    with pytest.raises(ValueError, match="need vol_target"): path(vol_target=0.)
    with pytest.raises(DataError, match="one length"): path(v=v[:3])
    with pytest.raises(DataError, match="infinite weight"): path(v=0 * v)
    with pytest.raises(ValueError, match="window_days"): window_depth(r, r > 0, 1)
    with pytest.raises(DataError, match="one length"): window_depth(r, r[:3] > 0, 3)
    falls = np.r_[0., -.03, np.zeros(12), -.13, np.zeros(40)]
    person, nobody = (path(falls, np.full(falls.size, .1), person_days=d, delay_bars=0) for d in (20, INF))
    assert person.locked.sum() == 20 and person.weight[-1] > 0 and nobody.locked[-1] and nobody.weight[-1] == 0.


def test_instruments_refuse_bad_panels_and_leave_open_what_they_cannot_know(world):
    r, rules = np.random.default_rng(0).standard_normal((300, 2)) * .01, dict(tail_days=100, cluster_days=60, cluster_correlation=.6)
    for call, words in ((lambda: instruments(r, ("A",), **rules), "a column for each"), (lambda: instruments(r, ("A", "A"), **rules), "distinct"), (lambda: instruments(r * np.r_[1, INF], ("A", "B"), **rules), "infinity"),
                        (lambda: instruments(r, ("A", "B"), market=r[:5, 0], **rules), "align"), (lambda: instruments(r, ("A", "B"), adv={"A": 0.}, **rules), "leave out"), (lambda: worst_year(r[:99]), ">= 250 days")):
        with pytest.raises(DataError, match=words): call()
    with pytest.raises(ValueError, match="tail_days"): instruments(r, ("A", "B"), **rules | {"tail_days": 9})
    with pytest.raises(ValueError, match="participation"): exposures(held(), world, participation=2.)
    short = instruments(r[:50], ("A", "B"), market=r[:50, 0], **rules)
    assert (short.cluster == -1).all() and all(np.isnan(x).all() for x in (short.tail, short.stressed, short.beta))
    given = instruments(r, ("A", "B"), correlation=np.array([[1., .9], [.9, 1.]]), stressed=r[:250], **rules)
    assert given.cluster.tolist() == [0, 0] and np.array_equal(given.stressed, r[:250].T)


def test_a_fit_may_be_stopped_early_and_refuses_a_state_of_a_few_days(stretches):
    assert fit_markov(stretches, max_steps=3).n_obs == stretches.size
    with pytest.raises(DataError, match="collapsed"): fit_markov(np.r_[np.full(300, .01), np.random.default_rng(0).standard_normal(40)], 4)


@pytest.mark.parametrize("bad, words", [(dict(side="hold"), "buy or sell"), (dict(limit=0.), "must be a price")])
def test_an_order_that_nobody_can_read_is_refused(bad, words):
    with pytest.raises(DataError, match=words): Order(**dict(symbol="S0", side="buy", qty=1., limit=math.nan, time=0) | bad)


def test_regime_rules_and_series_refuse_what_makes_no_sense(market):
    for bad, words in (({"vix_low_enter": 17.}, "low_enter < low_leave"), ({"adx_range_enter": 23.}, "range_enter < trend_leave"), ({"dwell_bars": 0}, "dwell_bars"), ({"multiplier_low": 2.}, "multiplier_low")):
        with pytest.raises(ValueError, match=words): RegimeRules(**bad)
    for bad, words in ((dict(vix=[], adx=[]), "at least one close"), (dict(vix=[20.], adx=[120.]), "in \\[0, 100\\]"), (dict(vix=[20., 20.], adx=[20.]), "one series"), (dict(vix=[20.], adx=[20.], vix_age=[math.nan]), "vix_age")):
        with pytest.raises(DataError, match=words): classify(**{k: np.array(v) for k, v in bad.items()})
    vix, _, _, realised, _ = market
    for args, words in (((vix, vix, "VIX"), "named as one"), ((vix[:99], vix[:99], "p"), ">= 250 days"), ((np.clip(vix, 0, 29), realised, "p"), "never crossed"), ((vix, np.ones(vix.size), "p"), "must differ")):
        with pytest.raises(DataError, match=words): proxy_thresholds(args[0], args[1], name=args[2])
    assert len(classify(np.r_[20., 21.], np.r_[20., 20.])) == 2

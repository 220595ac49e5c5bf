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
from emp_nb.risk.brake import RELAPSE_DAYS, WAIT_DAYS, Brake, brake_scan, brake_start, brake_step
from emp_nb.risk.limits import Limits, check, enforce
from emp_nb.risk.measures import METHODS, acerbi_szekely, christoffersen, forecast, kupiec, next_bar, traffic_light, var_es
from emp_nb.risk.regime import Regime, RegimeRules, RegimeStream, classify, proxy_thresholds
from emp_nb.risk.sizing import size

LIMITS = Limits(max_position=.05, max_gross=1.5, drawdown_half=.01, drawdown_quarter=.02, drawdown_flat=.025)
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
    (dict(nav_history=[1e6, -1.]), "nav_history must be > 0"), (dict(high_water=5.), "high_water must be >= every NAV")])
def test_a_book_that_cannot_be_valued_is_refused(bad, words):
    with pytest.raises(DataError, match=words): Book(**{"nav": 1e6, "positions": {}, "prices": PRICES} | bad)


def test_bad_orders_limits_and_navs_are_refused():
    book = Book(1e6, {}, PRICES)
    with pytest.raises(DataError, match="X has none"): check(book, [order("X", "buy", 1.)], limits=LIMITS)
    with pytest.raises(DataError, match="must be Order records"): check(book, ["buy"], limits=LIMITS)
    with pytest.raises(DataError, match="quantity"): order("S0", "buy", math.nan)
    with pytest.raises(DataError, match="one series"): brake_scan(brake_start(), np.ones((2, 2)), LIMITS)
    with pytest.raises(DataError, match="navs must be"): brake_step(brake_start(), math.nan, LIMITS)
    for change, words in (({"max_position": 0.}, "max_position"), ({"max_gross": math.inf}, "max_gross"), ({"drawdown_flat": .02}, "drawdown_half <")):
        with pytest.raises(ValueError, match=words): replace(LIMITS, **change)


def test_the_rules_in_code_are_the_rules_in_settings():
    risk = settings().risk
    for f in fields(RegimeRules):
        if hasattr(risk, f.name): assert getattr(risk, f.name) == f.default, f.name
    assert Limits(**{f.name: getattr(risk, f.name) for f in fields(Limits)}) == LIMITS

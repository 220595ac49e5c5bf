"""CHAOS against independent truth: libraries, definitions written out as loops, and markets whose answer is known."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy.stats import genpareto
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from emp_nb.core import DataError
from emp_nb.data.bars import Bars
from emp_nb.data.catalog import load
from emp_nb.measures import log_returns, simple_returns
from emp_nb.sensory import chaos, cortex
from emp_nb.sensory.breaks import BREAK_LIMIT, cusum, regime_age
from emp_nb.sensory.bubble import bubble_confidence, fit_bubble
from emp_nb.sensory.harvest import carry_by_regime, convexity, rebalancing_premium, short_variance, variance_premium
from emp_nb.sensory.jumps import day_slots, jump_critical_value, jump_settings, jump_share, jump_statistic
from emp_nb.sensory.ranks import kept_rank_nb, rank_state
from emp_nb.sensory.reading import check_reading, joined, known_then, rank_step_nb
from emp_nb.sensory.switching import STANDARD_WEATHER, Weather, fit_weather, turbulence
from emp_nb.sensory.tails import PARETO_BARS, TAIL_BARS, TAIL_LARGEST, pareto_fit, pareto_tail

KNOWN_DAYS = ("2008-09-29", "2008-10-09", "2008-10-15", "2008-11-20", "2008-12-01", "2010-05-06", "2011-08-08", "2015-08-24", "2018-02-05")
SEASON = 1 + .75 * np.cos(np.arange(24) / 24 * 2 * np.pi)


@pytest.fixture(scope="module")
def spx(): return load("spx")


@pytest.fixture(scope="module")
def vix(): return load("vix")


@pytest.fixture(scope="module")
def seen(spx, vix): return chaos.read(spx, vix=vix)


def column(reading, name): return reading.features[:, reading.feature_names.index(name)]


def seasonal(days, per_day, rng):
    "Normal returns of a market whose busiest hour is seven times its quietest, and their slots."
    slot = np.tile(np.arange(per_day), days)
    return .001 * np.interp(slot / per_day * 24, np.arange(25), np.r_[SEASON, SEASON[0]]) * rng.standard_normal(slot.size), slot


# the sense

def test_every_prefix_of_real_bars_reads_the_same(spx, vix):
    bars = spx[3500:]
    for part in (bars, spx[:2000]):
        whole = chaos.read(part, vix=vix)
        for t in range(1, len(part), 1 if part is bars else 9):
            some = chaos.read(part[:t], vix=vix)
            np.testing.assert_array_equal(some.features[-1], whole.features[t - 1])
            for name in ("lean", "alarm", "confidence"): np.testing.assert_array_equal(getattr(some, name)[-1], getattr(whole, name)[t - 1])
            assert some.events.tobytes() == whole.events[whole.events["confirm_idx"] < t].tobytes()
            if t % 97 == 0: np.testing.assert_array_equal(some.features, whole.features[:t])


def test_a_vix_of_the_future_changes_nothing(spx, vix, seen):
    for t in (3800, 4200, 4700):
        wild = replace(vix, close=np.where(vix.time > spx.time[t], 99., vix.close))
        np.testing.assert_array_equal(chaos.read(spx, vix=wild).features[:t + 1], seen.features[:t + 1])
        assert (column(chaos.read(spx, vix=wild), "variance_premium")[t + 1:] != column(seen, "variance_premium")[t + 1:]).any()


def test_a_stream_with_its_own_vix_equals_the_batch(spx, vix, seen):
    feed = chaos.stream("SPX")
    parts, given_rows = [feed.update(spx[:3600])], 0
    for t in range(3600, 4400):
        due = int(np.searchsorted(vix.time, spx.time[min(t + t % 3, 4399)], side="right"))      # sometimes the VIX of later days arrives early
        parts.append(feed.update(spx[t:t + 1], vix=vix[given_rows:due] if due > given_rows else None))
        given_rows = max(given_rows, due)
    live = joined(parts)
    np.testing.assert_array_equal(live.features, seen.features[:4400])
    assert live.events.tobytes() == seen.events[seen.events["confirm_idx"] < 4400].tobytes()


def test_a_refused_vix_leaves_no_trace(spx, vix, seen):
    feed = chaos.stream("SPX")
    feed.update(spx[:4000], vix=vix[:200])
    for bad in (vix[100:150], replace(vix[200:203], close=np.r_[-1., 2., 3.])):
        with pytest.raises(DataError): feed.update(spx[4000:4001], vix=bad)
    assert feed.rows == 4000
    np.testing.assert_array_equal(feed.update(spx[4000:], vix=vix[200:]).features, seen.features[4000:])


def test_hours_are_read_with_their_season_live_and_in_batch():
    euro, use = load("eurusd"), {**jump_settings(60), "zone": "Europe/London", "bars_per_year": 6240.}
    whole, feed = chaos.read(euro, **use), chaos.stream("EURUSD", **use)
    check_reading(whole, len(euro))
    live = joined([feed.update(euro[:1500])] + [feed.update(euro[t:t + 1]) for t in range(1500, 2500)])
    np.testing.assert_array_equal(live.features, whole.features[:2500])
    assert live.events.tobytes() == whole.events[whole.events["confirm_idx"] < 2500].tobytes()
    r = log_returns(euro.close)[1:]
    jumps = jump_statistic(r, 78, day_slots(euro.time[1:], 60, "Europe/London"))
    np.testing.assert_allclose(column(whole, "jump")[1:], jumps, rtol=0, atol=1e-12)
    assert np.isnan(column(whole, "jump")[:20 * 20]).all()


def test_without_a_vix_the_premium_is_unknown_throughout(spx): assert np.isnan(column(chaos.read(spx), "variance_premium")).all()


@pytest.mark.parametrize("day", KNOWN_DAYS)
def test_the_alarm_fires_on_a_day_everybody_remembers(spx, seen, day):
    t = int(np.flatnonzero(pd.DatetimeIndex(spx.time).strftime("%Y-%m-%d") == day)[0])
    past = seen.alarm[:t][np.isfinite(seen.alarm[:t])]
    assert (past >= seen.alarm[t]).mean() <= .01 and cortex.fires(seen.alarm)[t]


def test_the_alarm_fires_seldom_and_is_hardly_ever_certain(seen):
    assert cortex.fires(seen.alarm).mean() < .015 and (seen.alarm == 1).mean() <= .005


def test_regimes_follow_the_one_way_through_recovery(seen):
    regime = column(seen, "regime")
    steps = {(int(a), int(b)) for a, b in zip(regime[:-1], regime[1:]) if a != b and np.isfinite(a)}
    assert steps <= {(0, 1), (0, 2), (1, 0), (1, 2), (2, 3), (2, 0), (3, 0), (3, 2)} and (2, 3) in steps and (2, 1) not in steps


def test_background_is_of_the_past_alone(spx):
    part = chaos.background(spx[:3000], windows=(100, 160))
    assert part == chaos.background(replace(spx, close=np.r_[spx.close[:3000], spx.close[3000:] * 9])[:3000], windows=(100, 160))
    assert 0 < part.weather.calm < 1 < part.weather.turbulent and 0 <= part.rising <= 1
    with pytest.raises(DataError, match=">= 505 bars"): chaos.background(spx[:504])
    still = np.full(700, 5.)
    with pytest.raises(DataError, match="that move"): chaos.background(Bars("FLAT", spx.time[:700], still, still, still, still, still))


@pytest.mark.parametrize("name,value", (("vol_bars", 252), ("rank_bars", 10), ("jump_critical", 0.), ("jump_bars", 3), ("share_bars", 3), ("tail_every", 0), ("bars_per_year", np.inf), ("slot_minutes", 7)))
def test_a_bad_setting_is_refused_before_the_first_bar(name, value):
    with pytest.raises(ValueError, match=name): chaos.stream("X", **{name: value})


# ranks

@njit(cache=True)
def both_ranks(ring, bits, after, ends, rows, cells, plain, values, out):
    for n in range(values.size): out[n, 0], out[n, 1] = kept_rank_nb(ring, bits, after, ends, rows, cells, n, values[n]), rank_step_nb(plain, n, values[n])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((252, 253, 400, 900)), st.sampled_from((0., 1., 40.)), st.sampled_from((0, 1, 3, 12)), st.floats(0, .9))
def test_kept_ranks_equal_the_plain_walk(seed, size, spread, digits, zeros):
    rng, out = np.random.default_rng(seed), np.empty((1500, 2))
    values = np.exp(spread * rng.standard_normal(1500)).clip(1e-300, 1e300)
    values = np.where(rng.random(1500) < zeros, 0., np.round(values, digits) if digits < 12 else values)
    both_ranks(*rank_state(size), np.empty(size), values, out)
    np.testing.assert_array_equal(out[:, 0], out[:, 1])


# tails

def test_hill_equals_sorting_each_window(spx, seen):
    losses = np.maximum(-log_returns(spx.close)[1:], 0)
    for t in range(TAIL_BARS, 5030, 173):
        top = np.sort(losses[t - TAIL_BARS:t])[-TAIL_LARGEST - 1:]
        assert column(seen, "tail_xi")[t] == pytest.approx(np.log(top[1:] / top[0]).mean(), abs=1e-12)


@pytest.mark.parametrize("name", ("spx", "nasdaq"))
def test_the_pareto_fit_is_at_least_as_likely_as_that_of_scipy(name):
    losses = np.sort(np.maximum(-log_returns(load(name).close)[1:], 0))
    for k in (25, 50, 250):
        excess = losses[-k:] - losses[-k - 1]
        (xi, sigma), (c, _, s) = pareto_fit(excess), genpareto.fit(excess, floc=0.)
        assert genpareto.logpdf(excess, xi, 0., sigma).sum() >= genpareto.logpdf(excess, c, 0., s).sum() - 1e-9
        assert xi == pytest.approx(c, abs=5e-3) and sigma == pytest.approx(s, rel=5e-3)


def test_the_rare_loss_is_exceeded_as_often_as_it_says():
    returns = np.random.default_rng(8).standard_t(4, 60_000) * .01
    tail = pareto_tail(returns)[:-1, 1]
    known = np.isfinite(tail)
    share = (-returns[1:] > tail)[known].mean()
    assert .0007 < share < .0018


def test_the_pareto_tail_reads_past_bars_and_stands_still_in_between(spx):
    r = log_returns(spx.close)[1:2400]
    tail, cut = pareto_tail(r), r.copy()
    cut[1500:] = -.5
    np.testing.assert_array_equal(pareto_tail(cut)[:1500], tail[:1500])
    moved = np.flatnonzero(np.diff(tail[TAIL_BARS - 1:, 0])) + 1
    assert (moved % 63 == 0).all() and moved.size > 20
    last = TAIL_BARS - 1 + (r.size - TAIL_BARS) // 63 * 63
    window = np.sort(np.maximum(-r[last - PARETO_BARS + 1:last + 1], 0))[-PARETO_BARS // 20 - 1:]
    assert tail[-1, 0] == pytest.approx(genpareto.fit(window[1:] - window[0], floc=0.)[0], abs=5e-3)


# jumps

@pytest.mark.parametrize("minutes,days", ((60, 3000), (30, 2000), (15, 1200), (5, 700)))
def test_jump_test_keeps_its_size_on_seasonal_noise(minutes, days):
    per_day, use = 1440 // minutes, jump_settings(minutes)
    r, slot = seasonal(days, per_day, np.random.default_rng(minutes))
    beyond = abs(jump_statistic(r, use["jump_bars"], slot)) > use["jump_critical"]
    assert abs(beyond.reshape(-1, per_day)[25:].any(axis=1).mean() - .01) < .02


def test_daily_jump_test_keeps_its_size():
    r = np.random.default_rng(21).standard_normal(252 * 3000)
    beyond = abs(jump_statistic(r)) > chaos.JUMP_CRITICAL
    assert abs(beyond.reshape(-1, 252)[1:].any(axis=1).mean() - .01) < .006


def test_planted_jumps_are_found():
    rng = np.random.default_rng(22)
    r, slot = seasonal(1500, 24, rng)
    at = rng.integers(24, size=147) + (np.arange(147) + 3) * 240
    r[at] += 7 * .001 * SEASON[slot[at]] * rng.choice([-1., 1.], at.size)
    found = abs(jump_statistic(r, 78, slot)) > jump_critical_value(24)
    assert found[at].mean() > .95 and found.sum() - found[at].sum() < 36_000 * 1e-3


def test_jump_statistic_equals_its_definition(spx):
    r = log_returns(spx.close)[1:400]
    got = jump_statistic(r)
    for t in range(15, 399, 7):
        local = np.pi / 2 * np.mean([abs(r[i]) * abs(r[i - 1]) for i in range(t - 14, t)])
        assert got[t] == pytest.approx(r[t] / local ** .5, rel=1e-12)


def test_bns_ratio_equals_its_definition_and_keeps_its_size(spx, seen):
    r = log_returns(spx.close)[1:]
    for t in range(63, 5030, 211):
        w = abs(r[t - 63:t])
        assert column(seen, "bns_ratio")[t] == pytest.approx(1 - np.pi / 2 * 63 / 62 * (w[1:] * w[:-1]).sum() / (w ** 2).sum(), abs=1e-12)
    noise = np.random.default_rng(23).standard_normal((4000, 78))
    z = np.array([jump_share(day, 78)[1][-1] for day in noise])
    assert abs((z > 2.326).mean() - .01) < .02 and abs((z > 1.645).mean() - .05) < .02


# breaks

def test_regime_age_equals_the_sum_over_all_starts(spx):
    r = log_returns(spx.close)[2000:2260]
    z = r / r[:100].std()
    scales, hazard = np.sqrt(.6) * 2. ** np.arange(-1.5, 2.25, .5), 1 / 250
    like, evidence, expected = (1 + z[:, None] ** 2 / (5 * scales ** 2)) ** -3. / scales, [1.], []
    for t in range(z.size):
        run, joint = np.ones(8), []
        for s in range(t, -1, -1):
            run = run * like[s]
            joint.append(evidence[s] * (hazard if s else 1.) * (1 - hazard) ** (t - s) * run.mean())
        evidence.append(sum(joint))
        expected.append((sum(joint[:20]) / sum(joint), np.dot(joint, np.arange(t + 1)) / sum(joint)))
    np.testing.assert_allclose(np.array(regime_age(z)).T, expected, rtol=1e-9, atol=1e-12)


def test_cusum_equals_a_plain_loop(spx):
    r = log_returns(spx.close)[1:]
    score, breaks = cusum(r)
    memory, norm, up, down, calls = 0., 0., 0., 0., []
    for v in r:
        call = 0
        if v != 0:
            if memory >= 10:
                u = (min(abs(v) / norm ** .5, 4) - (2 / np.pi) ** .5) / (1 - 2 / np.pi) ** .5
                up, down = max(0, up + u - .5), max(0, down - u - .5)
                call = int(up > BREAK_LIMIT) - int(down > BREAK_LIMIT)
                if call: memory, up, down = 9, 0, 0
            memory = min(memory + 1, 126.5)
            norm += (v * v - norm) / memory
        calls.append(call)
    np.testing.assert_array_equal(breaks, calls)
    assert score[-1] == pytest.approx((up if up >= down else -down) / BREAK_LIMIT, abs=1e-9)


def test_breaks_are_found_and_seldom_invented():
    rng, found = np.random.default_rng(31), []
    fat = lambda n: rng.standard_t(5, n) * np.sqrt(.6)
    assert (cusum(fat(100_000))[1] != 0).mean() < 5e-4 and (regime_age(fat(30_000))[0] > .5).mean() < .01
    for _ in range(60):
        r = fat(800)
        r[600:] *= 3
        found.append(((cusum(r)[1][600:640] == 1).any(), (regime_age(r)[0][600:640] > .5).any()))
    assert (np.mean(found, axis=0) > .95).all()


# turbulence

def test_filtered_turbulence_equals_statsmodels():
    r = 100 * log_returns(load("nasdaq").close)[1:3000]
    for w in (Weather(.9, 2.6, .99, .95), Weather(1.2, 1.5, .7, .6)):
        reference = MarkovRegression(r, k_regimes=2, trend="n", switching_variance=True).filter([w.stay_calm, 1 - w.stay_turbulent, w.calm ** 2, w.turbulent ** 2])
        np.testing.assert_allclose(turbulence(r, w), reference.filtered_marginal_probabilities[:, 1], rtol=0, atol=1e-9)


def test_the_fit_finds_what_was_planted_and_moves_with_the_unit():
    rng, truth = np.random.default_rng(33), Weather(.008, .025, .985, .95)
    state = np.zeros(4000, int)
    for t in range(1, 4000): state[t] = state[t - 1] ^ (rng.random() > (truth.stay_calm, truth.stay_turbulent)[state[t - 1]])
    r = np.where(state, truth.turbulent, truth.calm) * rng.standard_normal(4000)
    fit, scaled = fit_weather(r), fit_weather(1e3 * r)
    assert fit.calm == pytest.approx(.008, rel=.06) and fit.turbulent == pytest.approx(.025, rel=.1) and fit.stay_calm == pytest.approx(.985, abs=.008)
    assert scaled.calm == pytest.approx(1e3 * fit.calm, rel=1e-4) and scaled.stay_calm == pytest.approx(fit.stay_calm, abs=1e-4)
    assert ((turbulence(r, fit) > .5) == state).mean() > .9


def test_turbulence_of_any_returns_is_a_probability():
    r = np.r_[0., 1e150, -1e-300, np.zeros(100), 1e6]
    chance = turbulence(r, STANDARD_WEATHER)
    assert np.isfinite(chance).all() and chance.min() >= 0 and chance.max() <= 1


# volatility as a source of return

@pytest.mark.parametrize("rho", (0., .6))
def test_the_rebalancing_premium_is_what_a_simulated_portfolio_gains(rho):
    rng = np.random.default_rng(41)
    x = .0002 + .015 * (np.sqrt(rho) * rng.standard_normal((8000, 1)) + np.sqrt(1 - rho) * rng.standard_normal((8000, 5)))
    w = np.r_[.4, .3, .1, .1, .1]
    equity, growth = np.prod(1 + x @ w), np.log1p(x).mean(axis=0)
    assert rebalancing_premium(x, w) == pytest.approx(np.log(equity) / 8000 - w @ growth, rel=.02)


def test_the_rebalancing_premium_of_real_stocks():
    x = simple_returns(load("stocks").close)[1:]
    w = np.full(x.shape[1], 1 / x.shape[1])
    assert rebalancing_premium(x, w) == pytest.approx(np.log1p(x @ w).mean() - w @ np.log1p(x).mean(axis=0), rel=.03)


def test_the_variance_premium_of_the_sense_equals_its_definition(spx, vix, seen):
    r, premium = log_returns(spx.close), column(seen, "variance_premium")
    for t in range(3800, 5031, 57):
        implied = vix.close[np.flatnonzero(vix.time <= spx.time[t])[-1]] / 100
        assert premium[t] == pytest.approx(implied ** 2 - 252 * np.mean(r[t - 21:t + 1] ** 2), abs=1e-12)
    both = known_then(spx.time, vix.time, vix.close / 100)
    np.testing.assert_allclose(variance_premium(both, np.nan_to_num(r))[3800:], premium[3800:], rtol=0, atol=1e-12)


def test_the_payoff_of_short_variance_is_that_of_a_swap(spx, vix):
    r, implied = np.nan_to_num(log_returns(spx.close)), known_then(spx.time, vix.time, vix.close / 100)
    paid = short_variance(implied, r)
    for t in (3900, 4500, 5030): assert paid[t] == pytest.approx(implied[t - 22] ** 2 - 252 * np.mean(r[t - 21:t + 1] ** 2), abs=1e-12)
    table = carry_by_regime(paid, np.zeros(paid.size))
    assert table["worst"][0] == np.nanmin(paid) and table["crash_loss"][0] < 0 < table["mean"][0]


def test_antifragility_has_the_sign_of_the_option():
    rng = np.random.default_rng(43)
    shock = rng.standard_normal(3000)
    for payoff, sign in ((abs(shock), 1), (np.maximum(shock - .5, 0), 1), (-abs(shock), -1), (np.minimum(shock, .3), -1)):
        bent = convexity(payoff + .1 * rng.standard_normal(3000), shock)
        assert np.sign(bent.curvature) == np.sign(bent.heuristic) == sign and sign * bent.t > 10
    assert abs(convexity(2 * shock + rng.standard_normal(3000), shock).t) < 4


# bubbles

def planted(rng, left=20, m=.5, omega=9., n=280):
    x = 1 + left / (n - 1) - np.linspace(0, 1, n)
    return np.exp(4 - .6 * x ** m + .06 * x ** m * np.cos(omega * np.log(x) + .5) + .008 * rng.standard_normal(n))


@pytest.mark.parametrize("left,m,omega", ((10, .4, 8.), (20, .5, 9.), (30, .6, 11.), (40, .5, 7.)))
def test_a_planted_bubble_is_recovered(left, m, omega):
    found = fit_bubble(planted(np.random.default_rng(left), left, m, omega))
    assert abs(found.bars_left - left) < .3 * left + 4 and abs(found.m - m) < .15 and abs(found.omega - omega) < 1. and found.b < 0


def test_random_walks_are_no_bubbles_and_planted_ones_are():
    rng, windows = np.random.default_rng(51), (100, 140, 180, 220, 260)
    said = np.array([bubble_confidence(np.exp(np.cumsum(.01 * rng.standard_normal(260))), windows) for _ in range(20)])
    assert said.mean() < .05 and (said.max(axis=1) > .25).mean() <= .1
    assert bubble_confidence(planted(rng), windows)[0] >= .6 and bubble_confidence(1 / planted(rng), windows)[1] >= .6

"""Stress against closes read by hand, general solvers, simulation and brute force; properties over random books."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as examples, strategies as st
from scipy.optimize import minimize
from emp_nb.core import DataError
from emp_nb.data.bars import Panel
from emp_nb.data.catalog import load
from emp_nb.data.scenarios import SCENARIOS, Scenario, shock
from emp_nb.risk.book import Book
from emp_nb.risk.covariance import ledoit_wolf, to_correlation
from emp_nb.risk.stress import (EPISODES, Shock, combine, conditional_moves, correlation_shock, episode_shock, factor_loadings, factor_shock, liquidation, liquidity_shock, most_plausible,
                                reverse, run, scenario_losses, shock_losses, stressed_correlation, synthetic_shock)

seeds = st.integers(0, 10**6)
NAMES = ("AAA", "BBB", "CCC", "DDD")


def book(weights, names=NAMES): return Book(1e6, {s: 1e4 * w for s, w in zip(names, weights)}, dict.fromkeys(names, 100.))


def covariance(seed, N=4):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3 * N, N)) + rng.standard_normal((3 * N, 1))
    return np.cov(x.T) * np.outer(*[rng.uniform(.003, .04, N)] * 2)


def made_panel(seed, T=300, N=4):
    "A panel of random walks with a common part."
    rng = np.random.default_rng(seed)
    close = 100 * np.cumprod(1 + .01 * (rng.standard_normal((T, 1)) + rng.standard_normal((T, N))), axis=0)
    return Panel(np.arange(T) * 86_400_000_000_000 + 10**18, NAMES[:N], close, np.full((T, N), np.nan))


@pytest.fixture(scope="module")
def stocks(): return load("stocks")


@pytest.fixture(scope="module")
def equal(stocks): return Book(1e6, {s: 5e4 / p for s, p in zip(stocks.symbols, stocks.close[-1])}, dict(zip(stocks.symbols, stocks.close[-1])))


# ---- history -----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [n for n in EPISODES if n != "1987"])
def test_episode_equals_the_closes_of_its_days(stocks, equal, name):
    e = EPISODES[name]
    frame = pd.DataFrame(stocks.close, pd.to_datetime(stocks.time, utc=True).tz_convert("America/New_York").date, list(stocks.symbols))
    days = frame.loc[pd.Timestamp(e.start).date():pd.Timestamp(e.end).date()]
    assert str(days.index[0]) == e.start and str(days.index[-1]) == e.end
    s = episode_shock(name, stocks)
    np.testing.assert_allclose(s.path, days.to_numpy()[1:] / days.to_numpy()[0] - 1, rtol=1e-12)
    row = run(equal, [name], stocks).loc[name]
    value = 1 + (days / days.iloc[0] - 1).mean(axis=1)                  # twenty equal parts of NAV, units fixed
    assert row.loss == pytest.approx(1 - value.iloc[-1]) and row.worst_day == pytest.approx(max(-value.diff().min(), 0))
    assert row.depth == pytest.approx((1 - value / value.cummax()).max()) and row.days == len(days) - 1 and row.proxied == 0
    closes = load("spx_close").to_frame().close
    closes.index = closes.index.tz_convert("America/New_York").date
    assert closes[pd.Timestamp(e.end).date()] / closes[pd.Timestamp(e.start).date()] - 1 == pytest.approx(e.index, abs=6e-5)


def test_black_monday_is_the_published_number_times_beta_and_says_so(stocks):
    betas = {s: .5 + n / 10 for n, s in enumerate(stocks.symbols)}
    s = episode_shock("1987", stocks, betas)
    assert EPISODES["1987"].index == -.2047 and s.proxied == stocks.symbols and "beta" in s.how
    np.testing.assert_allclose(s.path, [[-.2047 * b for b in betas.values()]])
    assert episode_shock("1987", stocks, dict.fromkeys(stocks.symbols, 9.)).path.min() == -1       # no price falls below zero


def test_a_position_scaled_by_beta_has_no_worst_day(stocks):
    held = Book(1e6, {"AAPL": 100., "NEW": 100.}, {"AAPL": 100., "NEW": 100.})
    row = run(held, ["2008"], stocks, {"NEW": 1.2}).iloc[0]
    assert row.proxied == 1 and np.isnan(row.worst_day) and np.isnan(row.depth)
    assert row.loss == pytest.approx(-.01 * (episode_shock("2008", stocks).returns["AAPL"] + 1.2 * EPISODES["2008"].index))
    assert run(held, ["1987"], stocks, {"AAPL": 1., "NEW": 1.}).worst_day.iloc[0] == pytest.approx(.02 * .2047)


def test_a_gap_in_the_middle_of_an_episode_is_not_covered(stocks):
    close = stocks.close.copy()
    close[int(np.searchsorted(stocks.time, pd.Timestamp("2008-10-10", tz="UTC").value)), 3] = np.nan
    holed = Panel(stocks.time, stocks.symbols, close, stocks.volume)
    with pytest.raises(DataError, match=stocks.symbols[3]): episode_shock("2008", holed)
    assert episode_shock("2008", holed, {stocks.symbols[3]: 1.}).proxied == (stocks.symbols[3],)
    late = stocks[-100:]                                                # from August 2022: holds the end of 2022's episode, not its start
    with pytest.raises(DataError, match="no closes in 2022"): episode_shock("2022", late)


# ---- the table ---------------------------------------------------------------------------------------------------------------------

@examples(max_examples=30, deadline=None)
@given(seeds, st.floats(-3, 3), st.floats(-3, 3))
def test_stress_is_linear_in_weights(seed, a, b):
    rng = np.random.default_rng(seed)
    u, v = rng.normal(0, .1, (2, 4))
    s = Shock("drawn", "factor", NAMES, rng.normal(0, .2, (5, 4)), "drawn")
    def loss(w): return run(book(w), [s]).loss.iloc[0]
    assert loss(a * u + b * v) == pytest.approx(a * loss(u) + b * loss(v), abs=1e-12)
    assert sum(shock_losses(book(u), s).values()) == pytest.approx(loss(u), abs=1e-12)
    assert scenario_losses(u, s.path)[-1] == pytest.approx(loss(u), abs=1e-12)


def test_depth_and_worst_day_equal_loops():
    rng = np.random.default_rng(4)
    w, path = rng.normal(0, .3, 4), np.cumprod(1 + rng.normal(0, .05, (30, 4)), axis=0) - 1
    row = run(book(w), [Shock("drawn", "replay", NAMES, path, "drawn")]).iloc[0]
    equity = [1.] + [1 + sum(p * x for p, x in zip(day, w)) for day in path]
    assert row.worst_day == pytest.approx(max(a - b for a, b in zip(equity, equity[1:])))
    assert row.depth == pytest.approx(max(1 - e / max(equity[:t + 1]) for t, e in enumerate(equity)))
    worst = max(range(4), key=lambda n: -path[-1, n] * w[n])
    assert row.worst_symbol == NAMES[worst] and row.worst_loss == pytest.approx(-path[-1, worst] * w[worst])


def test_ten_thousand_losses_equal_numpy_and_find_every_hole():
    rng = np.random.default_rng(0)
    r, w = .01 * rng.standard_normal((10_000, 500)), rng.normal(0, .01, 500)
    np.testing.assert_allclose(scenario_losses(w, r), -r @ w, rtol=0, atol=1e-14)
    r[77, 499] = np.inf
    with pytest.raises(DataError, match="scenario 77"): scenario_losses(w, r)
    with pytest.raises(DataError, match="scenario 0"): scenario_losses(np.where(np.arange(500) == 3, np.nan, w), r)


@pytest.mark.parametrize("name", SCENARIOS)
def test_synthetic_shock_is_the_worst_stretch_of_the_bent_panel(name):
    panel, w = made_panel(5, 400), np.array([.3, -.1, .2, .1])
    got = synthetic_shock(book(w), panel, Scenario(name, 4, 3), days=7, rows=200)
    bent = shock(panel[200:], Scenario(name, 4, 3)).close
    worst = max(-(bent[t + 7] / bent[t] - 1) @ w for t in range(193))
    assert run(book(w), [got]).loss.iloc[0] == pytest.approx(worst, rel=1e-12) and len(got.path) == 7
    short = synthetic_shock(book(w), panel, Scenario(name, 4, 3))       # fewer rows than it asks for: all there are
    pd.testing.assert_frame_equal(run(book(w), [Scenario(name, 4, 3)], panel), run(book(w), [short]))


def test_a_combination_compounds_day_by_day():
    rng = np.random.default_rng(6)
    one, two = (Shock(n, "replay", NAMES, rng.normal(0, .1, (d, 4)), n, p) for n, d, p in (("a", 3, ()), ("b", 2, ("CCC",))))
    other = Shock("b", "replay", NAMES[::-1], two.path[:, ::-1], "b", ("CCC",))
    got = combine("both", one, other)
    np.testing.assert_allclose(got.path, np.r_[one.path, (1 + one.path[-1]) * (1 + two.path) - 1], atol=1e-14)
    assert got.proxied == ("CCC",) and got.kind == "combined"


# ---- the most plausible day --------------------------------------------------------------------------------------------------------

@examples(max_examples=40, deadline=None)
@given(seeds, st.floats(.001, .8))
def test_reverse_stress_loses_exactly_what_was_asked_and_nothing_nearer_does(seed, loss):
    rng = np.random.default_rng(seed)
    c, w = covariance(seed), rng.normal(0, .2, 4)
    x, distance = most_plausible(w, c, loss)
    assert -w @ x == pytest.approx(loss, rel=1e-10)
    inverse = np.linalg.inv(c)
    assert distance == pytest.approx(np.sqrt(x @ inverse @ x), rel=1e-6)
    for _ in range(20):
        other = x + rng.normal(0, .05, 4)
        other *= loss / (-w @ other)
        assert np.sqrt(other @ inverse @ other) >= distance * (1 - 1e-9)


def test_reverse_stress_equals_a_general_solver():
    c, w = covariance(1), np.array([.3, -.2, .1, .4])
    inverse = np.linalg.inv(c)
    truth = minimize(lambda x: x @ inverse @ x, np.zeros(4), jac=lambda x: 2 * inverse @ x, constraints={"type": "eq", "fun": lambda x: w @ x + .05}, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500}).x
    np.testing.assert_allclose(most_plausible(w, c, .05)[0], truth, atol=1e-6)


@pytest.mark.parametrize("dof", [None, 4.])
def test_reverse_door_uses_the_shrunk_covariance_and_says_how_likely(dof):
    panel, w = made_panel(7), np.array([.3, -.1, .2, 0.])
    s = reverse(book(w), .03, panel, rows=200, dof=dof)
    close = panel.close[-201:]
    c = ledoit_wolf(close[1:] / close[:-1] - 1).covariance
    np.testing.assert_allclose(s.path[0], most_plausible(w, c, .03)[0])
    sigma = np.sqrt(w @ c @ w)
    rng = np.random.default_rng(0)
    draws = sigma * (rng.standard_normal(400_000) if dof is None else rng.standard_t(dof, 400_000) / np.sqrt(dof / (dof - 2)))
    two = reverse(book(w), 2 * sigma, panel, rows=200, dof=dof)
    assert two.probability == pytest.approx((draws > 2 * sigma).mean(), rel=.03) and two.distance == pytest.approx(2)
    row = run(book(w), [s]).iloc[0]
    assert row.loss == pytest.approx(.03, rel=1e-12) and row.distance == s.distance and row.kind == "reverse"


def test_historical_reverse_is_the_nearest_scaled_past_day():
    panel, w = made_panel(8), np.array([.3, -.1, .2, .05])
    s = reverse(book(w), .04, panel, rows=250, method="historical")
    r = panel.close[1:] / panel.close[:-1] - 1
    inverse = np.linalg.inv(ledoit_wolf(r[-250:]).covariance)
    found = [(np.sqrt(y @ inverse @ y), y) for x in r if -x @ w > 0 for y in [x * .04 / (-x @ w)]]
    distance, day = min(found, key=lambda f: f[0])
    np.testing.assert_allclose(s.path[0], day, rtol=1e-10)
    assert s.distance == pytest.approx(distance) and s.distance >= reverse(book(w), .04, panel, rows=250).distance
    assert -s.path[0] @ w == pytest.approx(.04)


# ---- correlations and factors ------------------------------------------------------------------------------------------------------

@examples(max_examples=30, deadline=None)
@given(seeds, st.floats(0, 1), st.lists(st.integers(0, 5), unique=True))
def test_stressed_correlations_exist_and_hurt_more_the_further_they_go(seed, severity, members):
    rng = np.random.default_rng(seed)
    r, w = to_correlation(covariance(seed, 6))[0], rng.normal(0, 1, 6)
    signs = np.sign(w)
    for m in (None, members):
        got = stressed_correlation(r, severity, signs, m)
        np.testing.assert_allclose(got, got.T, atol=1e-15)
        assert np.abs(np.diag(got) - 1).max() < 1e-12 and np.linalg.eigvalsh(got)[0] > -1e-9
    assert w @ stressed_correlation(r, severity, signs) @ w >= w @ r @ w - 1e-9
    assert w @ stressed_correlation(r, 1., signs) @ w == pytest.approx(np.abs(w).sum() ** 2)


def test_correlation_shock_is_the_shortfall_of_the_stressed_book():
    panel, w = made_panel(9), np.array([.3, -.3, .2, -.2])
    close = panel.close[-251:]
    r, vol = to_correlation(ledoit_wolf(close[1:] / close[:-1] - 1).covariance)
    draws = np.random.default_rng(1).standard_normal(2_000_000)
    for severity in (0., .5, 1.):
        moved = (r + severity * (np.outer(np.sign(w), np.sign(w)) - r)) * np.outer(vol, vol)
        tail = np.sort(np.sqrt(w @ moved @ w) * draws)[-20_000:].mean()
        s = correlation_shock(book(w), panel, severity)
        assert run(book(w), [s]).loss.iloc[0] == pytest.approx(tail, rel=5e-3)
    losses = [run(book(w), [correlation_shock(book(w), panel, s)]).loss.iloc[0] for s in np.linspace(0, 1, 6)]
    assert (np.diff(losses) > 0).all()


def test_loadings_and_conditional_moves_equal_regression_and_simulation():
    rng = np.random.default_rng(2)
    f = rng.standard_normal((500, 2)) @ [[1., .6], [0., .8]] * .01
    y = f @ [[1., .2, 0.], [.5, 0., -1.]] + .001 * rng.standard_normal((500, 3)) + .01
    truth = np.linalg.lstsq(np.c_[np.ones(500), f], y, rcond=None)[0][1:].T
    np.testing.assert_allclose(factor_loadings(y, f), truth, atol=1e-12)
    assert factor_loadings(y, f[:, 0])[0, 0] == pytest.approx(np.cov(y[:, 0], f[:, 0])[0, 1] / f[:, 0].var(ddof=1))
    c = covariance(3)
    got = conditional_moves([np.nan, -.05, np.nan, .02], c)
    np.testing.assert_allclose(got[[0, 2]], c[np.ix_([0, 2], [1, 3])] @ np.linalg.inv(c[np.ix_([1, 3], [1, 3])]) @ [-.05, .02], rtol=1e-10)
    np.testing.assert_allclose(factor_shock("x", ("A", "B"), [[1., 2.], [0., -1.]], [.01, .02]).path, [[.05, -.02]])
    nearest = most_plausible(np.eye(4)[1], c, .05)[0]                   # the same answer from the other side: one factor given
    np.testing.assert_allclose(conditional_moves([np.nan, -.05, np.nan, np.nan], c), nearest, rtol=1e-10)


def test_exit_at_an_even_pace_carries_a_third_of_the_variance():
    b = Book(1e6, {"AAA": 500.}, {"AAA": 100.})
    table = liquidation(b, {"AAA": 2e4}, {"AAA": .004}, {"AAA": .02}, spread_factor=2., sigmas=1.)
    assert table.exit_days["AAA"] == pytest.approx(25.)
    steps = 2000
    left = 1 - (np.arange(steps) + .5) / steps                          # what is still held, over 25 days
    walk = np.random.default_rng(3).standard_normal((4000, steps)) * .02 * np.sqrt(25 / steps)
    assert table.move_cost["AAA"] == pytest.approx(.05 * (walk @ left).std(), rel=.03)
    assert table.spread_cost["AAA"] == pytest.approx(.05 * .004)
    s = liquidity_shock(b, {"AAA": 2e4}, {"AAA": .004}, {"AAA": .02}, spread_factor=2., sigmas=1.)
    assert run(b, [s]).loss.iloc[0] == pytest.approx(table.loss.sum())


# ---- refusals ----------------------------------------------------------------------------------------------------------------------

PANEL = made_panel(1)
HOLED = Panel(PANEL.time, PANEL.symbols, np.where(np.arange(4) == 2, np.nan, PANEL.close), PANEL.volume)
STILL = Panel(PANEL.time, PANEL.symbols, np.where(np.arange(4) == 2, 5., PANEL.close), PANEL.volume)
HELD, EMPTY = book([.1, .1, .1, .1]), Book(1e6, {}, {})


@pytest.mark.parametrize("call", [
    lambda: run(HELD, ["1929"], PANEL), lambda: run(HELD, [None], PANEL), lambda: run(HELD, [], PANEL), lambda: run(HELD, ["2008"]), lambda: run(HELD, ["2008"], PANEL), lambda: run(HELD, ["1987"], PANEL, {"AAA": 1.}),
    lambda: run(HELD, ["1987"], PANEL, dict.fromkeys(NAMES, np.nan)), lambda: run(HELD, [Scenario("regime_flip", 1, 1)]), lambda: run(HELD, [Shock("x", "factor", ("AAA",), [[.1]], "")]), lambda: Scenario("tsunami", 1, 1),
    lambda: Book(-1., {}, {}), lambda: reverse(EMPTY, .05, PANEL), lambda: reverse(HELD, .05, HOLED), lambda: reverse(HELD, .05, STILL), lambda: reverse(HELD, .05, PANEL, rows=300), lambda: reverse(book([1.], ("ZZZ",)), .05, PANEL),
    lambda: most_plausible([1., -1.], np.ones((2, 2)), .1), lambda: most_plausible([1., np.nan], np.eye(2), .1), lambda: most_plausible([1., 0.], np.diag([1., 0.]), .1), lambda: correlation_shock(EMPTY, PANEL, .5),
    lambda: correlation_shock(HELD, HOLED, .5), lambda: synthetic_shock(EMPTY, PANEL, Scenario("regime_flip", 1, 1)), lambda: synthetic_shock(HELD, HOLED, Scenario("regime_flip", 1, 1), rows=100),
    lambda: synthetic_shock(book([1.], ("ZZZ",)), PANEL, Scenario("regime_flip", 1, 1)), lambda: factor_loadings(np.ones((9, 2)), np.ones(9)), lambda: factor_loadings(np.full((9, 2), np.nan), np.arange(9.)),
    lambda: factor_loadings(np.ones((2, 2)), np.arange(2.)), lambda: factor_shock("x", ("A",), [[1.]], [np.nan]), lambda: conditional_moves([np.nan], [[1.]]), lambda: conditional_moves([.1, .1], np.ones((2, 2))),
    lambda: combine("x"), lambda: liquidation(HELD, {}, {}, {}), lambda: liquidity_shock(EMPTY, {}, {}, {}), lambda: scenario_losses(np.ones(3), np.ones((2, 2))), lambda: stressed_correlation(np.full((2, 2), np.nan), .5)])
def test_bad_input_is_a_data_error_never_a_silent_zero(call):
    with pytest.raises(DataError, match=r"; |, got"): call()


@pytest.mark.parametrize("call", [lambda: most_plausible([1.], [[1.]], 0.), lambda: reverse(HELD, .05, PANEL, dof=2.), lambda: reverse(HELD, .05, PANEL, method="guess"), lambda: stressed_correlation(np.eye(2), np.nan),
                                  lambda: stressed_correlation(np.eye(2), .5, [0, 1]), lambda: correlation_shock(HELD, PANEL, .5, level=99), lambda: synthetic_shock(HELD, PANEL, Scenario("regime_flip", 1, 1), days=0),
                                  lambda: liquidation(HELD, {}, {}, {}, participation=2.)])
def test_bad_parameters_are_value_errors(call):
    with pytest.raises(ValueError) as e: call()
    assert not isinstance(e.value, DataError)


def test_an_empty_book_loses_nothing_in_history(stocks):
    row = run(EMPTY, ["2008", "1987"], stocks, dict.fromkeys(stocks.symbols, 1.))
    assert (row.loss == 0).all() and (row.worst_symbol == "").all()

"""The data rooms: packaged markets are what they claim, bad rows are counted or refused, scenarios are causal and valid."""
import shutil
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from emp_nb.core import DataError, SourceError, settings
from emp_nb.data import catalog, scenarios
from emp_nb.data.bars import Bars, Panel, check_bars
from emp_nb.data.orderflow import BUY, TRADE, OrderFlow, bars_from_trades, check_orderflow
from emp_nb.data.quality import assess
from emp_nb.measures import simple_returns

DAY = 86_400_000_000_000


def daily(n=400, seed=0):
    "A drawn market of business days with ranges."
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(.01 * rng.standard_normal(n)))
    open_ = np.r_[close[0], close[:-1]] * (1 + .001 * rng.standard_normal(n))
    high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) / 1.002
    index = pd.date_range("2020-01-01 21:00", periods=n, freq="B", tz="UTC")
    return Bars.from_frame(pd.DataFrame({"open": open_, "high": high, "low": low, "close": close, "volume": 1e6}, index=index), "DEMO")


def bent(bars, **columns):
    "The bars with some values of some columns replaced: name=(row, value)."
    values = {n: getattr(bars, n).copy() for n in ("time", "open", "high", "low", "close", "volume")}
    for name, (row, value) in columns.items(): values[name][row] = value
    return Bars(bars.symbol, **values)


# -- catalog ------------------------------------------------------------------------------------------------------------------------------------

ROWS = {"spx": 5031, "nasdaq": 5031, "spx_close": 8313, "stocks": 8313, "etfs": 2141, "eurusd": 6225}


@pytest.mark.parametrize("name", catalog.catalog().index)
def test_every_packaged_market_loads_and_keeps_the_rules(name):
    prices = catalog.load(name)
    for bars in [prices] if isinstance(prices, Bars) else [prices.bars(s) for s in prices.symbols]:
        check_bars(bars)
        kept, report = assess(bars, int(bars.time[-1]))
        assert len(kept) == len(bars) and 0 < report.score <= 1
    facts = catalog.describe(name)
    assert facts["licence"] and facts["origin"] and facts["rows"] == ROWS.get(name, facts["rows"])


def test_the_crashes_everybody_knows_are_there():
    ohlc, close = catalog.load("spx"), catalog.load("spx_close")
    def fall(bars, day): return simple_returns(bars.close)[list(pd.DatetimeIndex(bars.time).strftime("%Y-%m-%d")).index(day)]
    assert fall(ohlc, "2008-10-15") == pytest.approx(-.0903, abs=5e-4)
    assert fall(close, "2008-10-15") == pytest.approx(-.0903, abs=5e-4)
    assert fall(close, "2020-03-16") == pytest.approx(-.1198, abs=5e-4)


def test_two_sources_of_the_same_index_agree():
    ohlc, close = catalog.load("spx"), catalog.load("spx_close", start="1999-01-01", end="2018-12-31")
    both, left, right = np.intersect1d(ohlc.time, close.time, return_indices=True)
    assert both.size > 5000
    np.testing.assert_allclose(ohlc.close[left], close.close[right], rtol=2e-3)


def test_a_row_is_known_at_its_close_and_early_closes_count():
    time = pd.DatetimeIndex(catalog.load("spx").time, tz="UTC").tz_convert("America/New_York")
    hours = set(time.strftime("%H:%M"))
    assert hours == {"16:00", "13:00"} and time[time.strftime("%Y-%m-%d") == "2018-11-23"][0].hour == 13


def test_monthly_figures_wait_45_days():
    bars = catalog.load("cpi")
    over = pd.DatetimeIndex(bars.time) - pd.Timedelta(days=45)
    assert (over.day == 1).all() and len(over) > 500


def test_a_changed_or_missing_file_is_refused_by_name(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "data", tmp_path / "data")
    monkeypatch.setenv("EMP_DATA_DATA_DIR", str(tmp_path / "data"))
    settings.cache_clear()
    whole = (tmp_path / "data/etfs.parquet").read_bytes()
    (tmp_path / "data/etfs.parquet").write_bytes(whole[:-100])
    with pytest.raises(SourceError, match=r"etfs\.parquet must have SHA-256 .* changed or truncated; restore"): catalog.load("etfs")
    (tmp_path / "data/etfs.parquet").unlink()
    with pytest.raises(SourceError, match="etfs.*not readable; restore"): catalog.load("etfs")
    settings.cache_clear()


def test_unknown_names_come_with_the_list_of_known_ones():
    with pytest.raises(DataError, match="must be one of spx, nasdaq"): catalog.load("dax")
    with pytest.raises(DataError, match="must be among EEM, EWG"): catalog.load("etfs", symbols=["QQQ"])
    with pytest.raises(DataError, match="kind ticks"): catalog.trades("spx")


def test_one_symbol_of_a_panel_is_bars():
    assert isinstance(catalog.load("tech", symbols="AAPL"), Bars) and not catalog.load("tech", symbols="AAPL").close_only
    assert isinstance(catalog.load("tech"), Panel)


# -- your own files -----------------------------------------------------------------------------------------------------------------------------

def test_own_files_come_back_as_they_were(tmp_path):
    bars = daily()
    bars.to_frame().to_parquet(tmp_path / "x.parquet")
    bars.to_frame().to_csv(tmp_path / "x.csv")
    for name in ("x.parquet", "x.csv"):
        back = catalog.read_file(tmp_path / name, "DEMO")
        np.testing.assert_array_equal(back.time, bars.time)
        np.testing.assert_allclose(back.close, bars.close, rtol=1e-15)


# -- quality ------------------------------------------------------------------------------------------------------------------------------------

FAULTS = {"nan": dict(close=(3, np.nan)), "inf": dict(close=(3, np.inf)), "zero": dict(low=(3, 0.)), "negative": dict(open=(3, -1.)), "crossed": dict(high=(3, 1.)),
          "volume": dict(volume=(3, -5.)), "duplicate": dict(time=(3, int(daily().time[2]))), "unsorted": dict(time=(3, int(daily().time[0]) - DAY))}
SAYS = {"nan": "NaN or infinite", "inf": "NaN or infinite", "zero": "zero or negative", "negative": "zero or negative", "crossed": "high < low", "volume": "volume below zero",
        "duplicate": "duplicates", "unsorted": "unsorted"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_row_is_refused_in_a_sentence_and_counted_when_allowed(fault):
    bars = bent(daily(), **FAULTS[fault])
    now = int(daily().time[-1])
    with pytest.raises(DataError, match=SAYS[fault].replace("(", r"\(")) as refused: assess(bars, now)
    assert "first at row 3" in str(refused.value) and "max_drop" in str(refused.value)
    kept, report = assess(bars, now, max_drop=.01)
    check_bars(kept)
    assert report.score < 1 and report.rows_kept == len(kept) and SAYS[fault] in " ".join(report.issues)


def test_a_clean_set_scores_one():
    _, report = assess(daily(), int(daily().time[-1]))
    assert report.score == 1. and report.issues == () and report.rows_in == report.rows_kept == 400


def test_gaps_age_spikes_and_dead_feeds_lower_their_own_score():
    bars, now = daily(), int(daily().time[-1])
    gap = Bars("DEMO", *(np.delete(getattr(bars, n), slice(100, 140)) for n in ("time", "open", "high", "low", "close", "volume")))
    assert assess(gap, now)[1].completeness == pytest.approx(.9, abs=.005)
    assert assess(bars, now + 30 * DAY, max_age_days=3)[1].timeliness == pytest.approx(.1)
    spike = Bars.from_frame(bars.to_frame()[["close"]].assign(close=np.where(np.arange(400) == 50, 3 * bars.close, bars.close)), "DEMO")
    assert assess(spike, now)[1].consistency == pytest.approx(1 - 1 / 400)
    stuck = Bars.from_frame(bars.to_frame()[["close"]].assign(close=np.where((np.arange(400) > 50) & (np.arange(400) < 60), bars.close[50], bars.close)), "DEMO")
    assert assess(stuck, now)[1].consistency == pytest.approx(1 - 9 / 400)


def test_a_row_after_now_is_not_known_yet():
    with pytest.raises(DataError, match="a time after now"): assess(daily(), int(daily().time[-2]))


def test_a_timetable_may_be_given():
    bars = daily(10)
    assert assess(bars, int(bars.time[-1]), expected=np.sort(np.r_[bars.time, bars.time[4] + DAY // 2]))[1].completeness == pytest.approx(10 / 11)
    with pytest.raises(DataError, match="expected must hold instants"): assess(bars, int(bars.time[-1]), expected=bars.time[:0])


def test_intraday_weekly_and_monthly_timetables_are_learnt():
    hours = pd.date_range("2024-01-01 01:00", periods=72, freq="h", tz="UTC")
    weeks, months = pd.date_range("2020-01-03", periods=60, freq="W-FRI", tz="UTC"), pd.date_range("2015-01-31", periods=60, freq="ME", tz="UTC")
    for index in (hours, weeks, months):
        bars = Bars.from_frame(pd.DataFrame({"close": np.linspace(50, 60, len(index))}, index=index), "DEMO")
        assert assess(bars, int(bars.time[-1]))[1].completeness == 1.
        fewer = Bars.from_frame(bars.to_frame().drop(bars.to_frame().index[[20, 21]]), "DEMO")
        assert assess(fewer, int(bars.time[-1]))[1].completeness < 1.


@pytest.mark.parametrize("n", (1, 2, 3))
def test_the_shortest_sets_are_judged(n): assert assess(daily(n), int(daily(n).time[-1]))[1].rows_kept == n


@pytest.mark.parametrize("wrong, error, says", [
    (dict(now="yesterday"), DataError, "now must be"), (dict(now="2024-01-01"), DataError, "add the zone"), (dict(now="NaT"), DataError, "add the zone"),
    (dict(now=0, max_drop=2.), ValueError, "max_drop"), (dict(now=0, max_age_days=0.), ValueError, "max_age_days")])
def test_bad_arguments_are_refused(wrong, error, says):
    with pytest.raises(error, match=says): assess(daily(), **wrong)


def test_now_may_be_a_time_with_a_zone(): assert assess(daily(), pd.Timestamp("2030-01-01", tz="Europe/Berlin"))[1].timeliness < 1


def test_nothing_left_is_refused():
    with pytest.raises(DataError, match="at least one row"): assess(daily()[:0], 0)
    bad = bent(daily(2), close=(slice(None), np.nan))
    with pytest.raises(DataError, match="at least one good row"): assess(bad, int(bad.time[-1]), max_drop=1.)


# -- scenarios ----------------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", scenarios.SCENARIOS)
@pytest.mark.parametrize("close_only", [False, True])
def test_a_stress_is_valid_causal_and_grows_with_severity(name, close_only):
    bars = catalog.load("spx")[:1500]
    if close_only: bars = Bars.from_frame(bars.to_frame()[["close"]], "SPX")
    moved = []
    for severity in (1, 3, 5):
        scenario = scenarios.Scenario(name, severity, 7)
        world = scenarios.stress(bars, scenario)
        check_bars(world)
        for t in (200, 701, 1400): np.testing.assert_array_equal(scenarios.stress(bars[:t], scenario).close, world.close[:t])
        moved.append(np.abs(np.diff(np.log(world.close)) - np.diff(np.log(bars.close))).mean())
    assert moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize("make", [scenarios.null_iid, scenarios.null_garch_t, scenarios.null_jump, scenarios.null_drift, scenarios.planted_trend, scenarios.planted_reversion, scenarios.planted_regime])
def test_a_synthetic_market_is_valid_repeatable_and_says_its_optimum(make):
    bars, optimum = make(np.random.default_rng(3), 2000)
    again, _ = make(np.random.default_rng(3), 2000)
    check_bars(bars, ranges=True)
    np.testing.assert_array_equal(bars.close, again.close)
    earned = optimum.position[:-1] * simple_returns(bars.close)[1:]             # decided at one close, earned by the next
    if make.__name__.startswith("null"): assert optimum.net_sharpe == 0 and not optimum.position.any()
    else: assert optimum.net_sharpe > 1 and earned.mean() > 0


def test_a_shock_moves_a_panel_and_keeps_its_gaps():
    panel = catalog.load("etfs")[:600]
    for name in scenarios.SCENARIOS:
        hit = scenarios.shock(panel, scenarios.Scenario(name, 4, 1))
        np.testing.assert_array_equal(np.isnan(hit.close), np.isnan(panel.close))
        moved = np.nanmax(np.abs(hit.close / panel.close - 1), axis=0) > 0
        assert moved.all() if name != "regime_flip" else moved.mean() > .25         # a flip turns some of the members against the others


# -- order flow ---------------------------------------------------------------------------------------------------------------------------------

def test_real_ticks_make_the_bars_that_pandas_makes():
    flow = catalog.trades("ticks")
    check_orderflow(flow)
    bars = bars_from_trades(flow, "5min", "ES")
    ohlc = flow.to_frame()["price"].resample("5min").ohlc().dropna().iloc[:-1]
    np.testing.assert_array_equal(bars.to_frame()[["open", "high", "low", "close"]], ohlc)
    assert (bars.time == ohlc.index.as_unit("ns").asi8 + 300 * 10**9).all()


@pytest.mark.parametrize("column, value, says", [("price", np.nan, "must be finite"), ("size", 0., "must be > 0"), ("kind", 5, "kind must be"), ("side", 3, "side must be"),
                                                  ("order_id", -2, "order_id"), ("account", -2, "account"), ("time", -1, "times must ascend")])
def test_bad_messages_are_refused_in_a_sentence(column, value, says):
    columns = dict(time=np.arange(5), kind=np.full(5, TRADE), side=np.full(5, BUY), price=np.ones(5), size=np.ones(5), order_id=np.full(5, -1), account=np.full(5, -1))
    check_orderflow(OrderFlow(**columns))
    columns[column] = columns[column].astype(np.float64 if isinstance(value, float) else np.int64)
    columns[column][2] = value
    with pytest.raises(DataError, match=says): check_orderflow(OrderFlow(**columns))

"The sense contract: what every sense keeps, and what the cortex makes of them. A new sense joins by one line in SENSES."
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import talib
from conftest import ROOT

from emp_nb.core import DataError
from emp_nb.data.bars import Bars
from emp_nb.data.catalog import load
from emp_nb.data.feeds import Document
from emp_nb.sensory import anomaly, chaos, cortex, how, what, when, why
from emp_nb.sensory.macro import RELEASE
from emp_nb.sensory.reading import RANK_MIN, Stream, check_reading, joined

NS_DAY = 86_400_000_000_000


class World:
    "WHY with the same world for every market: monthly series, statements that turn, news and releases; a stream gets each with the first bars at or after it."
    __name__ = "emp_nb.sensory.why"

    def __init__(self):
        rng, self.month = np.random.default_rng(8), pd.date_range("1998-01-31", "2026-12-31", freq="ME", tz="UTC").as_unit("ns").asi8
        self.macro = {name: (self.month + k, np.cumsum(.1 * rng.standard_normal(self.month.size))) for k, name in enumerate(("slope", "credit", "inflation"))}
        said = ("Inflation has risen. Growth has been strong.", "Inflation has been subdued. Growth has slowed.", "The Committee met.")
        news = ("The team won.", "Tensions rose as troops massed.", "The army launched an offensive.")
        self.documents = [Document("fed", "Statement", said[k], "", None, t + 5) for t, k in zip(self.month, rng.integers(0, 3, self.month.size))]
        self.documents += [Document("wire", "News", news[k], "", None, t + 9 * NS_DAY) for t, k in zip(self.month, rng.integers(0, 3, self.month.size))]
        self.releases = np.array([(t + 3 * NS_DAY, "payrolls", a, 0., .5) for t, a in zip(self.month, rng.standard_normal(self.month.size))], RELEASE)

    def between(self, after, upto):
        inside = lambda t: (t > after) & (t <= upto)
        return {"macro": {name: (t[inside(t)], v[inside(t)]) for name, (t, v) in self.macro.items()}, "documents": [d for d in self.documents if inside(d.first_seen)],
                "releases": self.releases[inside(self.releases["time"])]}

    def read(self, bars): return why.read(bars, macro=self.macro, documents=self.documents, releases=self.releases)

    def stream(self, symbol):
        feed, last = why.stream(symbol), [np.iinfo(np.int64).min]
        def update(bars):
            reading = Stream.update(feed, bars, **self.between(last[0], bars.time[-1]))
            last[0] = bars.time[-1]
            return reading
        feed.update = update
        return feed


world = World()
SENSES = {"why": world, "how": how, "what": what, "when": when, "anomaly": anomaly, "chaos": chaos}
NEED_RANGES = (how,)                                # what needs a range says nothing where there is none
OF_VOLUME = ("poc", "value", "node", "high_node", "low_node")
COLUMNS = ("time", "lean", "alarm", "confidence", "features")
KNOWN_DAYS = ("2008-09-29", "2008-10-09", "2008-10-15", "2008-11-20", "2008-12-01", "2010-05-06", "2011-08-08", "2015-08-24", "2018-02-05")


def market(n=2200, seed=11, freq="B", ranges=True):
    "Heavy-tailed returns with volatility clusters, drifts that change sign, and one crash."
    rng = np.random.default_rng(seed)
    vol = .01 * np.exp(.5 * np.sin(np.arange(n) / 90) + .2 * rng.standard_normal(n))
    returns = vol * rng.standard_t(4, n) + .0015 * np.sign(np.sin(np.arange(n) / 150))
    if n > 900: returns[900] = -.12
    close = 50 * np.exp(np.cumsum(returns))
    opens = np.r_[close[0], close[:-1]]
    spread = .4 * vol * close * rng.random((2, n))
    time = pd.date_range("2009-01-05 21:00", periods=n, freq=freq, tz="UTC").as_unit("ns").asi8
    bars = Bars("MADE", time, opens, np.maximum(opens, close) + spread[0], np.minimum(opens, close) - spread[1], close, rng.lognormal(10, 1, n))
    return bars if ranges else closes_of(bars)


def closes_of(bars):
    nothing = np.full(len(bars), np.nan)
    return replace(bars, open=nothing, high=nothing, low=nothing, volume=nothing)


def flat(n, price=50.):
    still = np.full(n, price)
    return replace(market(n), open=still, high=still, low=still, close=still)


def gapped():
    bars = market(1500)
    kept = np.sort(np.random.default_rng(3).choice(1500, 1100, replace=False))
    kept = kept[(kept < 500) | (kept > 580)]
    return Bars("MADE", *(getattr(bars, name)[kept] for name in ("time", "open", "high", "low", "close", "volume")))


MARKETS = {"daily": market, "closes": lambda: market(ranges=False), "hourly": lambda: market(2400, 5, "h"), "gapped": gapped, "spx": lambda: load("spx")[:2000]}


@pytest.fixture(scope="module", params=MARKETS)
def bars(request): return MARKETS[request.param]()


@pytest.fixture(params=SENSES)
def sense(request): return SENSES[request.param]


def says_nothing(reading): return all(np.isnan(getattr(reading, name)).all() for name in COLUMNS[1:]) and not reading.events.size


def assert_same(a, b, upto=None):
    "Bit for bit: every column and every event before row `upto`."
    upto = len(b) if upto is None else upto
    assert a.feature_names == b.feature_names
    for name in COLUMNS: np.testing.assert_array_equal(getattr(a, name)[:upto], getattr(b, name)[:upto])
    assert a.events[a.events["confirm_idx"] < upto].tobytes() == b.events[b.events["confirm_idx"] < upto].tobytes()


def test_reading_keeps_shape_range_and_warm_up(sense, bars):
    reading = sense.read(bars)
    check_reading(reading, len(bars))
    assert reading.sense == sense.__name__.rpartition(".")[2] and reading.symbol == bars.symbol
    if sense in NEED_RANGES and bars.close_only:
        assert says_nothing(reading)
        return
    assert np.isnan(reading.lean[0]) and np.isnan(reading.alarm[0]) and np.isnan(reading.confidence[0])
    assert np.isfinite(reading.lean[-1]) and np.isfinite(reading.alarm[-1]) and np.isfinite(reading.confidence[-1])
    assert np.isnan(reading.alarm[:RANK_MIN]).all()
    np.testing.assert_array_equal(np.isnan(reading.lean), np.isnan(reading.confidence))


def test_truncating_the_future_rewrites_nothing(sense, bars):
    whole = sense.read(bars)
    cuts = np.r_[1:6, np.random.default_rng(1).integers(6, len(bars), 30), len(bars) - 1]
    for t in cuts: assert_same(sense.read(bars[:t]), whole, t)


def test_overwriting_the_future_rewrites_nothing(sense, bars):
    whole, rng = sense.read(bars), np.random.default_rng(2)
    for t in np.r_[1, 3, rng.integers(6, len(bars), 15)]:
        factor = np.exp(np.r_[np.zeros(t), rng.standard_normal(len(bars) - t)])
        wild = replace(bars, **{name: getattr(bars, name) * factor for name in ("open", "high", "low", "close")},
                       time=np.r_[bars.time[:t], bars.time[t:] + NS_DAY * 100])
        assert_same(sense.read(wild), whole, t)


@pytest.mark.parametrize("name", ("daily", "closes", "spx"))
def test_a_stream_of_single_bars_equals_the_batch(sense, name):
    bars = MARKETS[name]()[:2000]
    whole, feed, parts = sense.read(bars), sense.stream(bars.symbol), []
    for t in range(len(bars)):
        parts.append(feed.update(bars[t:t + 1]))
        assert len(parts[-1]) == 1 and (parts[-1].events["confirm_idx"] == 0).all()
    live = joined(parts)
    assert len(bars) == 2000 and live.events.size == whole.events.size
    for column in COLUMNS: np.testing.assert_allclose(getattr(live, column), getattr(whole, column), rtol=0, atol=1e-9)
    for field in whole.events.dtype.names: np.testing.assert_array_equal(live.events[field], whole.events[field])


def test_a_stream_may_be_fed_in_chunks(sense, bars):
    feed, edges = sense.stream(bars.symbol), [0, 1, 5, 300, 301, 900, len(bars)]
    assert_same(joined([feed.update(bars[a:b]) for a, b in zip(edges, edges[1:])]), sense.read(bars))


PLAIN = """
import sys, numpy as np
sys.path.insert(0, "tests")
from test_senses import SENSES, market
for name, sense in SENSES.items():
    r = sense.read(market(700))
    np.savez(f"{sys.argv[1]}/{name}", lean=r.lean, alarm=r.alarm, confidence=r.confidence, features=r.features, events=r.events)
"""


@pytest.mark.jit
def test_readings_are_the_same_with_the_compiler_off(tmp_path):
    done = subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, sense in SENSES.items():
        plain, fast = np.load(tmp_path / f"{name}.npz"), sense.read(market(700))
        for column in COLUMNS[1:]: np.testing.assert_allclose(plain[column], getattr(fast, column), rtol=1e-10, atol=1e-12, err_msg=f"{name} {column}")
        assert (plain["events"][["kind", "event_idx", "confirm_idx"]] == fast.events[["kind", "event_idx", "confirm_idx"]]).all()


def test_reading_is_deterministic(sense, bars): assert_same(sense.read(bars), sense.read(bars))


def test_flat_market_has_no_lean_no_alarm_and_no_events(sense):
    if sense is world: return                       # what it reads is not the price
    for still in (flat(800), closes_of(flat(800))):
        reading = sense.read(still)
        check_reading(reading, 800)
        if sense in NEED_RANGES and still.close_only: assert says_nothing(reading)
        else: assert np.nanmax(abs(reading.lean)) == np.nanmax(reading.alarm) == np.nanmax(reading.confidence) == 0 and not reading.events.size


def test_a_market_that_goes_flat_stays_known(sense):
    moving = market(1200)
    still = lambda values: np.r_[values[:600], np.full(600, moving.close[599])]
    reading = sense.read(replace(moving, open=still(moving.open), high=still(moving.high), low=still(moving.low), close=still(moving.close)))
    check_reading(reading, 1200)
    assert np.isfinite(reading.lean[600:]).all() and np.isfinite(reading.alarm[600:]).all() and (reading.alarm[-1] < .2 or sense is world)


@pytest.mark.parametrize("scale", (8., 3.7e-3, 1e5))
def test_price_units_do_not_matter(sense, bars, scale):
    scaled = replace(bars, **{name: getattr(bars, name) * scale for name in ("open", "high", "low", "close")})
    a, b = sense.read(scaled), sense.read(bars)
    np.testing.assert_allclose(a.lean, b.lean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(a.confidence, b.confidence, rtol=0, atol=1e-9)
    np.testing.assert_allclose(a.alarm, b.alarm, rtol=0, atol=2 / RANK_MIN)      # rounding may swap two ranks that were equal
    for name in ("kind", "event_idx", "confirm_idx", "state"): np.testing.assert_array_equal(a.events[name], b.events[name])


@pytest.mark.parametrize("n", (1, 2, 3, 60))
def test_short_series_are_all_unknown(sense, n):
    for bars in (market(n), market(n, ranges=False), flat(n)):
        reading = sense.read(bars)
        check_reading(reading, n)
        assert np.isnan(reading.lean).all() and np.isnan(reading.alarm).all() and np.isnan(reading.confidence).all()


def test_last_warm_up_bar_is_unknown_and_the_next_is_known(sense):
    bars = market(700)
    whole = sense.read(bars)
    for name in ("lean", "alarm", "confidence"):
        warm = int(np.isnan(getattr(whole, name)).sum())
        assert np.isnan(getattr(sense.read(bars[:warm]), name)).all() and np.isfinite(getattr(sense.read(bars[:warm + 1]), name)[-1])


def test_zero_volume_changes_nothing_but_what_is_of_volume(sense, bars):
    real = replace(bars, volume=np.full(len(bars), np.nan)) if sense is anomaly else bars         # to this sense volume is evidence: there zero reads as unknown
    silent, whole = sense.read(replace(bars, volume=np.zeros(len(bars)))), sense.read(real)
    kept = ~np.isin(whole.feature_names, OF_VOLUME)
    assert np.isnan(silent.features[:, ~kept]).all()
    assert_same(*(replace(r, features=r.features[:, kept]) for r in (silent, whole)))


@pytest.mark.parametrize("column,value,message", (("close", np.nan, "finite"), ("close", np.inf, "finite"), ("close", -1., "must be > 0"), ("close", 0., "must be > 0"),
                                                  ("high", np.nan, "finite"), ("high", .01, "must hold"), ("volume", -5., "volume")))
def test_broken_bars_are_refused_in_a_sentence(sense, column, value, message):
    bars = market(400)
    values = getattr(bars, column).copy()
    values[300] = value
    broken = replace(bars, **{column: values})
    with pytest.raises(DataError, match=message): sense.read(broken)
    feed = sense.stream("MADE")
    feed.update(bars[:300])
    before = feed.rows
    with pytest.raises(DataError): feed.update(broken[300:301])
    assert feed.rows == before
    assert_same(feed.update(bars[300:]), rows_from(sense.read(bars), 300))                # a refused bar leaves no trace


def rows_from(reading, t):
    "The rows from t on, as a stream hands them out."
    late = reading.events[reading.events["confirm_idx"] >= t].copy()
    late["event_idx"] -= t
    late["confirm_idx"] -= t
    return replace(reading, **{name: getattr(reading, name)[t:] for name in COLUMNS}, events=late)


def test_empty_unsorted_and_repeated_times_are_refused(sense):
    bars = market(50)
    for time in (bars.time[::-1], np.r_[bars.time[:1], bars.time[:-1]]):
        with pytest.raises(DataError, match="ascend"): sense.read(replace(bars, time=time))
    with pytest.raises(DataError, match="at least one row"): sense.read(bars[:0])
    feed = sense.stream("MADE")
    feed.update(bars[:10])
    with pytest.raises(DataError, match="follow each other"): feed.update(bars[9:12])
    with pytest.raises(DataError, match="one symbol"): feed.update(replace(bars[10:], symbol="OTHER"))
    with pytest.raises(DataError, match="keep their kind"): feed.update(closes_of(bars[10:]))


def test_an_alarm_is_never_certain(sense, bars): assert not (sense.read(bars).alarm >= 1).any()


def test_what_measures_agree_with_talib():
    bars = load("spx")[:2000]
    reading = what.read(bars)
    adx = reading.features[:, reading.feature_names.index("adx")]
    np.testing.assert_allclose(adx, talib.ADX(bars.high, bars.low, bars.close, 14), rtol=0, atol=1e-9)


@pytest.mark.parametrize("left,right", ((5, 5), (2, 2), (3, 1), (1, 4)))
def test_swings_equal_their_definition(left, right):
    bars = load("spx")[:1500]
    bars = replace(bars, high=np.round(bars.high), low=np.round(bars.low), close=np.clip(bars.close, np.round(bars.low), np.round(bars.high)),
                   open=np.clip(bars.open, np.round(bars.low), np.round(bars.high)))      # rounded, so that plateaus occur
    events = what.read(bars, swing_left=left, swing_right=right).events
    for kind, top in (("swing_high", bars.high), ("swing_low", -bars.low)):
        expected = [p for p in range(left, 1500 - right) if top[p] > top[p - left:p].max() and top[p] >= top[p + 1:p + right + 1].max()]
        found = events[events["kind"] == kind]
        assert found["event_idx"].tolist() == expected and (found["confirm_idx"] - found["event_idx"] == right).all()
        np.testing.assert_array_equal(found["level"], abs(top[expected]))


@pytest.mark.parametrize("day,opens", (("2024-03-08", 13), ("2024-03-11", 12), ("2024-03-28", 12), ("2024-04-01", 12), ("2023-10-30", 12), ("2023-11-06", 13)))
def test_new_york_opens_by_its_own_clock_when_europe_differs(day, opens):
    hours = pd.date_range(day, periods=24, freq="h", tz="UTC").as_unit("ns").asi8
    london_opens = 7 if day in ("2024-04-01",) else 8
    assert np.flatnonzero(when.session_open(hours, "new_york")).tolist() == list(range(opens, opens + 9))
    assert np.flatnonzero(when.session_open(hours, "london")).tolist() == list(range(london_opens, london_opens + 9))


def test_sessions_agree_with_a_walk_through_local_clocks():
    times = pd.date_range("2024-10-24", "2024-11-08", freq="29min", tz="UTC").as_unit("ns")
    for column, (zone, opens, closes) in enumerate(when.SESSIONS.values()):
        local = times.tz_convert(zone)
        expected = (local.day_of_week < 5) & (local.hour >= opens) & (local.hour < closes)
        np.testing.assert_array_equal(when.sessions(times.asi8)[:, column], expected)


def test_exchange_hours_agree_with_exchange_calendars():
    import exchange_calendars
    for code in ("XNYS", "XTKS", "XLON"):
        calendar = exchange_calendars.get_calendar(code, start="2023-06-01", end="2024-06-01")
        times = pd.date_range("2023-11-20", "2023-12-29", freq="17min", tz="UTC").as_unit("ns")
        expected = calendar.is_open_on_minute
        got = when.exchange_open(times.asi8, code)
        assert [bool(v) for v in got] == [expected(t, ignore_breaks=False) for t in times]


def test_when_rewrites_nothing_across_new_year():
    time = pd.date_range("2022-12-20", "2024-01-15", freq="h", tz="UTC").as_unit("ns").asi8
    n = time.size
    nothing = np.full(n, np.nan)
    bars = Bars("FX", time, nothing, nothing, nothing, np.exp(np.cumsum(.001 * np.random.default_rng(4).standard_normal(n))), nothing)
    for code in ("XASX", "XNYS", "XSAU"):
        whole = when.read(bars, exchange=code, slot_minutes=60)
        for t in range(250, 330, 7): assert_same(when.read(bars[:t], exchange=code, slot_minutes=60), whole, t)
        feed = when.stream("FX", exchange=code, slot_minutes=60)
        assert_same(joined([feed.update(bars[t:t + 1]) for t in range(330)]), whole, 330)


def test_chaos_fires_on_the_days_everybody_remembers():
    bars = load("spx")
    fired = cortex.fires(chaos.read(bars).alarm)
    days = pd.DatetimeIndex(bars.time).strftime("%Y-%m-%d")
    assert fired[np.isin(days, KNOWN_DAYS)].all() and np.isin(KNOWN_DAYS, days).all()
    assert fired.mean() < .02


def test_senses_are_not_copies_of_each_other():
    bars = load("spx")
    readings = [s.read(bars) for s in SENSES.values()]
    leans = np.corrcoef(np.stack([r.lean for r in readings])[:, 400:])
    assert abs(leans[np.triu_indices(len(SENSES), 1)]).max() < .8


def test_perception_of_real_bars_hears_all_six():
    bars = load("spx")[:2000]
    seen = cortex.perceive({name: s.read(bars) for name, s in SENSES.items()}, quality=.9)
    assert seen.senses == cortex.SENSES and seen.missing == ()
    np.testing.assert_array_equal(seen.time, bars.time)
    assert len(seen.feature_names) == len(set(seen.feature_names)) == seen.features.shape[1] and "what.trend" in seen.feature_names
    for name, low in (("lean", -1), ("alarm", 0), ("confidence", 0), ("agreement", 0)):
        values = getattr(seen, name)[400:]
        assert np.isfinite(values).all() and values.min() >= low and values.max() <= 1
    assert np.nanmax(seen.confidence) <= .9
    deaf = cortex.perceive({name: s.read(bars) for name, s in SENSES.items() if name != "why"}, quality=.9)
    assert deaf.missing == ("why",) and np.nanmax(deaf.confidence) <= .9 * 5 / 6
    assert set(seen.events) == set(SENSES) and (seen.events["what"]["confirm_idx"] == what.read(bars).events["confirm_idx"]).all()


def test_perception_rewrites_nothing():
    bars = load("spx")[:1200]
    perceive = lambda b: cortex.perceive({name: s.read(b) for name, s in SENSES.items()})
    whole = perceive(bars)
    for t in (1, 2, 70, 300, 777, 1199):
        part = perceive(bars[:t])
        for name in ("time", "lean", "alarm", "confidence", "agreement", "features"): np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:t])
        for name, events in part.events.items(): assert events.tobytes() == whole.events[name][whole.events[name]["confirm_idx"] < t].tobytes()


def test_perception_of_a_live_bar_equals_its_row_in_history():
    bars = load("spx")[:600]
    whole = cortex.perceive({name: s.read(bars) for name, s in SENSES.items()})
    feeds = {name: s.stream(bars.symbol) for name, s in SENSES.items()}
    for feed in feeds.values(): feed.update(bars[:590])
    for t in range(590, 600):
        now = cortex.perceive({name: feed.update(bars[t:t + 1]) for name, feed in feeds.items()})
        for name in ("lean", "alarm", "confidence", "agreement"): np.testing.assert_allclose(getattr(now, name), getattr(whole, name)[t:t + 1], atol=1e-12)

"""WHEN from independent truth: local clocks walked with zoneinfo, the index of twenty years of sessions, schedules by hand, least squares from scratch."""
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from test_senses import assert_same, rows_from

from emp_nb.core import DataError
from emp_nb.data.bars import Bars
from emp_nb.data.catalog import load, trades
from emp_nb.data.orderflow import bars_from_trades, flow_from_trades
from emp_nb.sensory import calendars, season, when
from emp_nb.sensory.calendars import EventCalendar, event_hours, intervals, merge_events, session_open, us_events
from emp_nb.sensory.reading import check_reading, joined

HOUR, DAY = 3_600_000_000_000, 86_400_000_000_000
FIRST_DAY = {"kz_asia": 6}              # Sunday to Thursday; all others Monday to Friday
UNIT = ("sydney", "tokyo", "london", "new_york", "overlap", "open", "early_close", "kz_asia", "kz_london", "kz_new_york", "kz_london_close", "tokyo_london", "london_new_york", "pre_holiday",
        "fomc_before", "fomc_after", "nfp_before", "nfp_after", "cpi_before", "cpi_after", "deseasoned_vol", "deseasoned_volume", "trade_intensity", "volume_intensity")


def ns(*stamps, tz="UTC"): return pd.DatetimeIndex(stamps).tz_localize(tz).tz_convert("UTC").as_unit("ns").asi8


def columns(reading): return dict(zip(reading.feature_names, reading.features.T))


def euro(n=2000): return load("eurusd")[:n]


def local_clock(instant, zone): return datetime.fromtimestamp(instant / 1e9, ZoneInfo(zone))


@pytest.mark.parametrize("start", ("2024-03-08", "2024-03-29", "2024-04-05", "2024-10-04", "2024-10-25", "2024-11-01"))
@pytest.mark.parametrize("name", (*calendars.SESSIONS, *calendars.KILL_ZONES))
def test_every_window_agrees_with_a_walk_through_local_clocks(name, start):
    zone, opens, closes = (calendars.SESSIONS | calendars.KILL_ZONES)[name]
    walk = np.arange(*ns(start, str(pd.Timestamp(start) + pd.Timedelta(days=5))[:10]), 23 * HOUR // 60)
    clocks = [local_clock(t, zone) for t in walk.tolist()]
    expected = [(c.weekday() - FIRST_DAY.get(name, 0)) % 7 < 5 and opens <= c.hour < closes for c in clocks]
    assert session_open(walk, name).tolist() == expected


def test_windows_open_at_the_instant_and_close_at_the_instant():
    for name in (*calendars.SESSIONS, *calendars.KILL_ZONES):
        opens, closes = intervals(name, *ns("2024-10-20", "2024-11-10"))
        inside = session_open(np.r_[opens - 1, opens, closes - 1, closes], name).reshape(4, -1)
        assert not inside[0].any() and inside[1].all() and inside[2].all() and not inside[3].any(), name


@pytest.mark.parametrize("name", calendars.OVERLAPS)
def test_overlaps_are_where_both_sessions_are_open(name):
    both = calendars.OVERLAPS[name]
    for start in ("2024-03-08", "2024-03-29", "2024-10-04", "2024-10-26"):
        walk = np.arange(*ns(start, str(pd.Timestamp(start) + pd.Timedelta(days=6))[:10]), HOUR // 4)
        np.testing.assert_array_equal(session_open(walk, name), session_open(walk, both[0]) & session_open(walk, both[1]))
    hours = lambda day: int(session_open(np.arange(ns(day)[0], ns(day)[0] + DAY, HOUR), "london_new_york").sum())
    assert [hours(d) for d in ("2024-03-08", "2024-03-12", "2024-04-02", "2024-10-29", "2024-11-05")] == [4, 5, 4, 5, 4]


def test_new_york_sessions_are_the_days_of_the_index_one_by_one():
    days = lambda stamps: pd.DatetimeIndex(stamps, tz="UTC").tz_convert("America/New_York").strftime("%Y-%m-%d").tolist()
    index, sessions = days(load("spx").time), days(intervals("XNYS", *ns("1999-01-01", "2019-01-01"))[0])
    assert len(index) == 5031 and sessions == index
    for shut in ("2001-09-11", "2001-09-14", "2004-06-11", "2007-01-02", "2012-10-29", "2012-10-30", "2018-12-05"): assert shut not in sessions
    assert "2001-09-17" in sessions and "2012-10-31" in sessions


@pytest.mark.parametrize("exchange,zone,day,open_at", (("XTKS", "Asia/Tokyo", "2024-07-10", ("09:00", "11:30", "12:30", "15:00")), ("XTKS", "Asia/Tokyo", "2024-11-11", ("09:00", "11:30", "12:30", "15:30")),
                                                       ("XHKG", "Asia/Hong_Kong", "2024-07-10", ("09:30", "12:00", "13:00", "16:00")), ("XHKG", "Asia/Hong_Kong", "2024-12-24", ("09:30", "12:00")),
                                                       ("XNYS", "America/New_York", "2023-11-24", ("09:30", "13:00")), ("XNYS", "America/New_York", "2024-12-24", ("09:30", "13:00")),
                                                       ("XNYS", "America/New_York", "2024-07-03", ("09:30", "13:00")), ("XNYS", "America/New_York", "2024-07-05", ("09:30", "16:00")),
                                                       ("XHKG", "Asia/Hong_Kong", "2023-09-01", ()), ("XHKG", "Asia/Hong_Kong", "2023-09-08", ()), ("XNYS", "America/New_York", "2018-12-05", ())))
def test_hours_of_known_days(exchange, zone, day, open_at):
    table = intervals(exchange, *ns(f"{day} 00:00", f"{day} 23:59", tz=zone))
    assert pd.DatetimeIndex(table.T.ravel(), tz="UTC").tz_convert(zone).strftime("%Y-%m-%d %H:%M").tolist() == [f"{day} {t}" for t in open_at]
    if exchange == "XNYS" and open_at:
        bar = Bars("X", ns(f"{day} 12:00", tz=zone), *[np.ones(1)] * 4, np.ones(1))
        assert columns(when.read(bar))["early_close"][0] == (open_at[-1] == "13:00")


def test_before_a_holiday_is_told_by_rule_alone():
    days = pd.DatetimeIndex(["2024-07-03", "2024-11-27", "2024-12-24", "2018-12-04", "2012-10-26", "2001-09-10", "2021-06-17", "2022-06-17", "2024-03-28"])
    bars = Bars("X", np.sort(ns(*days.strftime("%Y-%m-%d 16:00"), tz="America/New_York")), *[np.ones(9)] * 4, np.ones(9))
    told = dict(zip(sorted(days.strftime("%Y-%m-%d")), columns(when.read(bars))["pre_holiday"]))
    assert told == {"2001-09-10": 0, "2012-10-26": 0, "2018-12-04": 0, "2021-06-17": 0, "2022-06-17": 1, "2024-03-28": 1, "2024-07-03": 1, "2024-11-27": 1, "2024-12-24": 1}


REPORTS = """1999-01-08 2003-07-03 2004-01-09 2008-07-03 2009-07-02 2010-01-08 2010-10-08 2012-03-09 2013-09-06 2014-01-10 2015-05-08 2015-07-02 2016-07-08 2017-12-08 2018-03-09 2019-07-05 2020-01-10 2020-05-08
             2020-07-02 2021-01-08 2021-10-08 2023-03-10 2023-04-07 2024-02-02 2024-07-05 2024-11-01 2025-01-10 2025-03-07 2025-07-03 2026-01-09 2026-04-03 2026-05-08"""
LATE = {"2013-10-04": "2013-10-22", "2013-11-01": "2013-11-08", "2025-10-03": "2025-11-20", "2025-11-07": None, "2025-12-05": "2025-12-16", "2026-02-06": "2026-02-11"}


def took_place(kind):
    events = us_events()
    kept = (events.kind == kind) & (events.withdrawn > events.time)
    return pd.DatetimeIndex(np.sort(events.time[kept]), tz="UTC").tz_convert("America/New_York")


def test_employment_reports_come_on_the_days_they_came():
    held = took_place("nfp")
    assert set(REPORTS.split()) <= set(held.strftime("%Y-%m-%d")) and set(held.strftime("%H:%M")) == {"08:30"}
    for due, came in LATE.items(): assert due not in held.strftime("%Y-%m-%d") and (came is None or came in held.strftime("%Y-%m-%d"))
    assert pd.Series(held.year).value_counts().drop([2025]).eq(12).all() and (held.year == 2025).sum() == 11
    ordinary = held[~held.strftime("%Y-%m-%d").isin([d for d in LATE.values() if d])]
    for d in ordinary:                              # the third Friday after the week of the 12th, by counting days on a wall calendar
        twelfth = (d.replace(day=1) - timedelta(days=1)).replace(day=12).date()
        friday = twelfth + timedelta(days=(5 - twelfth.weekday()) % 7 + 20)
        moved = (d.date() - friday).days
        assert moved == 0 or (moved == 7 and friday.month == 1 and friday.day <= 3) or (moved == -1 and (friday.month, friday.day) in ((7, 3), (7, 4)))


def test_meetings_are_eight_a_year_and_only_the_scheduled_ones():
    held = took_place("fomc")
    days = held.strftime("%Y-%m-%d")
    assert pd.Series(held.year).value_counts().to_dict() == {y: 7 if y == 2020 else 8 for y in range(1999, 2028)}
    assert set(held.day_of_week) <= {1, 2, 3}
    for unscheduled in ("2001-01-03", "2001-04-18", "2001-09-17", "2008-01-22", "2008-10-08", "2020-03-03", "2020-03-15", "2020-03-18"): assert unscheduled not in days
    for known in ("1999-06-30", "2008-12-16", "2011-09-21", "2009-03-18", "2013-12-18", "2015-12-16", "2018-11-08", "2022-06-15", "2024-11-07"): assert known in days
    at = dict(zip(days, held.strftime("%H:%M")))
    assert (at["2008-12-16"], at["2011-04-27"], at["2012-12-12"], at["2013-01-30"], at["2013-03-20"]) == ("14:15", "12:30", "12:30", "14:15", "14:00")


def test_the_clock_counts_only_to_dates_that_were_known():
    events, rng = us_events(), np.random.default_rng(5)
    instants = rng.integers(*ns("1998-06-01", "2029-01-01"), 400)
    for kind in ("fomc", "nfp"):
        ahead, since = event_hours(instants, events, kind)
        mine = events.kind == kind
        for t, a, s in zip(instants, ahead, since):
            listed = events.time[mine & (events.known <= t) & (events.withdrawn > t) & (events.time > t)]
            past = events.time[mine & (events.time <= t) & (events.withdrawn > events.time)]
            assert (np.isnan(a) and not listed.size) or a == (listed.min() - t) / HOUR
            assert (np.isnan(s) and not past.size) or s == (t - past.max()) / HOUR


def test_a_date_enters_the_reading_when_it_is_known_and_leaves_when_it_is_withdrawn():
    time = np.arange(*ns("2024-01-01 01:00", "2024-01-09"), HOUR)
    flat = np.ones(time.size)
    calendar = EventCalendar(time[[60, 100]] - 1, ["cpi", "cpi"], time[[20, 70]], [calendars.NEVER, time[80]])
    seen = columns(when.read(Bars("X", time, flat, flat, flat, flat, flat), events=calendar, exchange=None))
    before, after = seen["cpi_before"], seen["cpi_after"]
    assert np.isnan(before[:21]).all() and np.isnan(after[:60]).all() and np.isnan(seen["fomc_before"]).all()
    np.testing.assert_allclose(before[21:60], 24 / (24 + np.arange(39, 0, -1)))
    assert (before[60:71] == 0).all() and (before[71:81] > .4).all() and (before[81:] == 0).all()
    np.testing.assert_allclose(after[60:], 24 / (24 + np.arange(time.size - 60)))
    late = EventCalendar(time[[150]], ["cpi"], time[[120]])
    whole = when.read(Bars("X", time, flat, flat, flat, flat, flat), events=merge_events(calendar, late), exchange=None)
    np.testing.assert_array_equal(columns(whole)["cpi_before"][:121], before[:121])       # a date announced later changes nothing before


def test_event_calendars_that_know_too_much_are_refused():
    with pytest.raises(DataError, match="no later than it is due"): EventCalendar([5, 9], ["cpi", "cpi"], [5, 10])
    with pytest.raises(DataError, match="one length"): EventCalendar([5, 9], ["cpi"], [5, 9])


def least_squares_season(day, slot, size, logs, weight, days, slots, today, power):
    "The season known on `today`, from nothing but the rows of earlier days."
    level, used = 0., []
    for d in np.unique(day[day < today]):
        on = day == d
        if level > 0: used.append((slot[on], np.maximum(logs[on] - np.log(level) / power, np.log(season.FLOOR))))
        mean = weight[on].mean()
        level = mean if level == 0 else level + 2 / (season.SIGMA_DAYS + 1) * (mean - level)
    slot, y = (np.concatenate(part) for part in zip(*used[-days:]))
    x = (np.arange(slots) + .5) / slots
    X = np.column_stack([x ** 0, 2 * x - 1, (2 * x - 1) ** 2 - 1 / 3, *(f(2 * np.pi * k * x) for k in range(1, min(4, slots // 4) + 1) for f in (np.cos, np.sin))])
    prior = np.eye(X.shape[1])[1:]
    fit = np.exp(X @ np.linalg.lstsq(np.vstack([X[slot], prior]), np.r_[y, np.zeros(len(prior))], rcond=None)[0])
    n = np.bincount(slot, minlength=slots)
    return np.where(n > 0, fit * n.sum() / (n * fit).sum(), 1.)


@pytest.mark.parametrize("slot_minutes,days", ((60, 60), (30, 25), (240, 40)))
def test_the_season_is_the_least_squares_fit_to_the_days_before(slot_minutes, days):
    bars, slots = euro(4000), 1440 // slot_minutes
    got = columns(when.read(bars, slot_minutes=slot_minutes, season_days=days))
    last, close = (pd.DatetimeIndex(t, tz="UTC").tz_convert("America/New_York") for t in (bars.time - 1, bars.time))
    day, slot, following = last.normalize().asi8 // 10 ** 9, (last.hour * 60 + last.minute).to_numpy() // slot_minutes, (close.hour * 60 + close.minute).to_numpy() // slot_minutes
    r = np.abs(np.diff(np.log(bars.close)))
    log = lambda v: np.log(np.maximum(v, 1e-300))
    for t in np.random.default_rng(2).integers(900, 4000, 6):
        vol = least_squares_season(day[1:], slot[1:], r, log(r), r * r, days, slots, day[t], 2.)
        volume = least_squares_season(day, slot, bars.volume, log(bars.volume), bars.volume, days, slots, day[t], 1.)
        np.testing.assert_allclose([got["season_vol"][t], got["season_volume"][t]], [vol[following[t]], volume[following[t]]], rtol=1e-9)


def seasonal(n_days=500, seed=9):
    "A market of hours with a planted season of volatility and another of volume, and slow volatility clusters."
    rng, hour = np.random.default_rng(seed), np.tile(np.arange(24), n_days)
    vol, volume = (np.exp(a * np.cos(2 * np.pi * (np.arange(24) - p) / 24)) for a, p in ((.9, 14), (.5, 9)))
    vol, volume = vol / vol.mean(), volume / volume.mean()
    slow = .001 * np.exp(.5 * np.sin(np.arange(n_days * 24) / 400))
    close = 100 * np.exp(np.cumsum(slow * vol[hour] * rng.standard_normal(hour.size)))
    nothing = np.full(close.size, np.nan)
    return Bars("MADE", ns("2021-01-04")[0] + HOUR * (1 + np.arange(close.size)), nothing, nothing, nothing, close, 1e4 * volume[hour] * rng.lognormal(0, .4, hour.size)), vol, volume, slow


def test_a_planted_season_is_found_and_taken_out():
    bars, vol, volume, slow = seasonal()
    got = columns(when.read(bars, exchange=None, slot_minutes=60))
    hour = np.tile(np.arange(24), 500)[1:]
    for name, planted in (("season_vol", vol), ("season_volume", volume)):
        found = pd.Series(got[name][2400:-1], hour[2400:]).groupby(level=0).mean()
        assert np.abs(found / planted - 1).max() < .12 and np.corrcoef(found, planted)[0, 1] > .99
    calm = pd.Series(got["deseasoned_vol"][2400:], np.tile(np.arange(24), 500)[2400:]).groupby(level=0).mean()
    busy = pd.Series(got["deseasoned_volume"][2400:], np.tile(np.arange(24), 500)[2400:]).groupby(level=0).mean()
    assert calm.max() - calm.min() < .06 and busy.max() - busy.min() < .06 and .45 < busy.mean() < .52
    assert np.corrcoef(got["deseasoned_vol"][1000:], slow[1000:])[0, 1] > .2                 # what is left moves with the market's own volatility


def test_the_season_of_a_bar_does_not_read_its_own_day():
    bars = euro(1500)
    whole = columns(when.read(bars, slot_minutes=60))
    day = pd.DatetimeIndex(bars.time - 1, tz="UTC").tz_convert("America/New_York").normalize()
    start = int(np.flatnonzero(day == day[1200])[0])
    wild = replace(bars, volume=np.r_[bars.volume[:start], bars.volume[start:] * 50])
    seen = columns(when.read(wild, slot_minutes=60))
    today = day == day[1200]
    np.testing.assert_array_equal(seen["season_volume"][today], whole["season_volume"][today])
    assert (seen["deseasoned_volume"][today] > whole["deseasoned_volume"][today]).all()


@pytest.mark.parametrize("slots", (1, 7))
def test_few_open_hours_leave_the_others_without_a_season(slots):
    time = np.concatenate([ns(d)[0] + 14 * HOUR + HOUR * (1 + np.arange(slots)) for d in pd.bdate_range("2023-01-02", periods=150).strftime("%Y-%m-%d")])
    rng = np.random.default_rng(3)
    bars = Bars("X", time, *[np.exp(np.cumsum(.01 * rng.standard_normal(time.size)))] * 4, rng.lognormal(5, 1, time.size))
    reading = when.read(bars, exchange=None, slot_minutes=60)
    check_reading(reading, time.size)
    got = columns(reading)
    last_of_day = np.arange(time.size) % slots == slots - 1
    assert (got["season_vol"][last_of_day][60:] == 1).all() and np.isfinite(got["season_vol"][30 * slots:]).all()       # the next slot is one in which nothing trades


def minutes():
    tape = trades("ticks")
    bars = bars_from_trades(tape, "1min", "FUTURE")
    return tape[tape.time < bars.time[-1]], bars


def test_intensity_of_real_trades_by_counting_them():
    tape, bars = minutes()
    reading = when.read(bars, flow=tape, slot_minutes=60)
    check_reading(reading, len(bars))
    got = columns(reading)
    step = 60 * 10 ** 9
    counts = np.array([((tape.time >= t - step) & (tape.time < t)).sum() for t in bars.time[::50]])
    hour = pd.DatetimeIndex(bars.time - 1, tz="UTC").tz_convert("America/New_York").hour.to_numpy()
    every = np.histogram(tape.time, np.r_[bars.time[0] - step, bars.time])[0]
    np.testing.assert_array_equal(every[::50], counts)                                      # empty minutes make no bar, so the edges are those of the tape
    for t in range(500, len(bars), 177):
        same = np.flatnonzero(hour[:t] == hour[t])[-120:]
        expected = .5 if same.size < season.MIN_VISITS else every[t] / (every[t] + every[same].mean())
        assert got["trade_intensity"][t] == pytest.approx(expected, abs=1e-12)
        expected = .5 if same.size < season.MIN_VISITS else bars.volume[t] / (bars.volume[t] + bars.volume[same].mean())
        assert got["volume_intensity"][t] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(columns(when.read(bars, slot_minutes=60))["trade_intensity"]).all()
    edges, feed, parts = [0, 1, 2, 333, 334, 900], when.stream("FUTURE", slot_minutes=60), []
    for a, b in zip(edges, edges[1:]):
        parts.append(feed.update(bars[a:b], flow=tape[(tape.time >= (bars.time[a - 1] if a else 0)) & (tape.time < bars.time[b - 1])]))
    assert_same(joined(parts), reading, 900)


def test_a_tape_that_begins_or_ends_half_way_is_refused_and_leaves_no_trace():
    tape, bars = minutes()
    nothing = flow_from_trades([], [], [])
    feed, quiet = when.stream("FUTURE"), when.stream("FUTURE")
    feed.update(bars[:10], flow=tape[tape.time < bars.time[9]])
    quiet.update(bars[:10])
    with pytest.raises(DataError, match="began with flow"): feed.update(bars[10:11])
    with pytest.raises(DataError, match="began without flow"): quiet.update(bars[10:11], flow=nothing)
    with pytest.raises(DataError, match="before the last bar's stamp"): feed.update(bars[10:11], flow=tape[:40_000])
    assert len(feed.update(bars[10:11], flow=nothing)) == 1 and feed.rows == 11


REAL = {"daily": (lambda: load("spx")[:2000], {}), "hourly": (euro, {"slot_minutes": 60}), "hourly as days": (euro, {}), "no exchange": (euro, {"exchange": None, "slot_minutes": 30, "season_days": 20, "memory": 20, "rank_bars": 300})}


@pytest.mark.parametrize("name", REAL)
def test_no_prefix_of_2000_real_bars_is_rewritten(name):
    make, settings = REAL[name]
    bars = make()
    whole, feed = when.read(bars, **settings), when.stream(bars.symbol, **settings)
    check_reading(whole, 2000)
    for t in range(2000): assert_same(feed.update(bars[t:t + 1]), rows_from(whole, t), 1)       # every prefix, as a feed sees it
    for t in (1, 2, 3, 60, 253, 500, 1001, 1999): assert_same(when.read(bars[:t], **settings), whole, t)


def test_features_are_dimensionless_known_after_the_warm_up_and_within_bounds():
    for bars, settings in ((load("spx"), {}), (load("eurusd"), {"slot_minutes": 60}), (load("spx_close"), {})):
        reading = when.read(bars, **settings)
        check_reading(reading, len(bars))
        got = columns(reading)
        for name in UNIT: assert np.isnan(got[name]).all() or (np.nanmin(got[name]) >= 0 and np.nanmax(got[name]) <= 1), name
        scaled = columns(when.read(replace(bars, **{n: getattr(bars, n) * 1000 for n in ("open", "high", "low", "close")}, volume=bars.volume * 7), **settings))
        for name, values in got.items(): np.testing.assert_allclose(scaled[name], values, rtol=1e-6, atol=1e-9, err_msg=name)
    assert np.isnan(got["nfp_before"][0]) and np.isfinite(got["nfp_before"][-1])             # a market from 1990: no date was named before December 1998


def test_awkward_bars_give_nan_or_a_clear_error():
    bars = euro(600)
    settings = {"slot_minutes": 60}
    for n in (1, 2, 3): assert np.isnan(when.read(bars[:n], **settings).lean).all()
    whole = when.read(bars, **settings)
    warm = int(np.isnan(whole.lean).sum())
    assert np.isnan(when.read(bars[:warm], **settings).lean).all() and np.isfinite(when.read(bars[:warm + 1], **settings).lean[-1])
    kept = np.sort(np.random.default_rng(1).choice(600, 400, replace=False))
    for odd in (replace(bars, volume=np.zeros(600)), replace(bars, volume=np.full(600, np.nan)), Bars("EURUSD", *(getattr(bars, n)[kept] for n in ("time", "open", "high", "low", "close", "volume"))),
                replace(bars, volume=np.where(np.arange(600) % 7 == 0, np.nan, bars.volume)), replace(bars, time=bars.time + 3 * DAY)):
        check_reading(when.read(odd, **settings), len(odd))
    assert np.isnan(columns(when.read(replace(bars, volume=np.zeros(600)), **settings))["season_volume"]).all()
    flat = when.read(replace(bars, **{n: np.ones(600) for n in ("open", "high", "low", "close")}), **settings)
    assert not flat.events.size and np.nanmax(abs(flat.lean)) == 0 and np.isnan(columns(flat)["deseasoned_vol"]).all()
    with pytest.raises(DataError, match="ascend"): when.read(replace(bars, time=bars.time[::-1]), **settings)
    with pytest.raises(DataError, match="finite"): when.read(replace(bars, close=np.r_[bars.close[:-1], np.nan]), **settings)
    with pytest.raises(DataError, match="calendar of XTKS"): when.read(replace(bars, time=bars.time - 60 * 365 * DAY), exchange="XTKS")
    for settings, message in (({"slot_minutes": 7}, "divide a day"), ({"memory": 19}, "memory"), ({"rank_bars": 100}, "rank_bars"), ({"season_days": 19}, "season_days"), ({"exchange": "NOWHERE"}, "exchange must be")):
        with pytest.raises(ValueError, match=message): when.read(bars, **settings)


def test_a_market_that_crosses_the_end_of_the_table_keeps_a_clock_and_one_beyond_it_has_none():
    time = np.arange(ns("2027-11-01")[0], ns("2028-02-01")[0], HOUR)
    flat = np.ones(time.size)
    whole = columns(when.read(Bars("X", time, flat, flat, flat, flat, flat), exchange=None))
    last = np.searchsorted(time, ns("2027-12-08 19:00")[0], side="right")
    assert (whole["fomc_before"][:last] > 0).all() and (whole["fomc_before"][last:] == 0).all() and (whole["fomc_after"][last:] > 0).all() and (whole["nfp_before"] > 0).all()
    beyond = columns(when.read(Bars("X", time[last:], *[flat[last:]] * 5), exchange=None))
    assert np.isnan(beyond["fomc_before"]).all() and np.isnan(beyond["fomc_after"]).all() and (beyond["nfp_before"] > 0).all()

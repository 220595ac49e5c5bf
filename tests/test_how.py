"""HOW against independent truth: slow references written from the definitions, smartmoneyconcepts where it is causal, symmetries, every prefix.

The differences from smartmoneyconcepts 0.0.27 are all counted and explained by `test_breaks_equal_smartmoneyconcepts_or_are_explained` and its neighbours:
- gaps: none, bars of opening, edges and first touch are equal (middle-candle rule, books that never fill);
- swings: it looks 4 bars back and 5 ahead, lets equal highs tie, deletes until highs and lows alternate (with hindsight), and adds a swing at each end of the data;
- breaks: its swings are those that survive the deletion, so another swing may stand in front of the one that we break; its labels come from a pattern of four swings, the last of
  which is confirmed after the break, ours from the direction of the break before.
"""
import collections
import contextlib
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import talib

from emp_nb.core import DataError
from emp_nb.data.bars import Bars
from emp_nb.data.catalog import load, trades
from emp_nb.data.orderflow import bars_from_trades, flow_from_trades
from emp_nb.measures import is_pivot_nb
from emp_nb.sensory import how
from emp_nb.sensory.profile import day_numbers, previous_levels
from emp_nb.sensory.reading import RANK_MIN, check_reading, joined
from emp_nb.sensory.structure import KINDS, STATES

COLUMNS = ("time", "lean", "alarm", "confidence", "features")
PRICES = ("open", "high", "low", "close")
MIRROR = {kind: KINDS[i ^ 1] for i, kind in enumerate(KINDS)}


def random_bars(n=700, seed=3, step=.25, freq="h"):
    "A random walk on a coarse grid of prices, so that equal highs, equal lows and doji happen often."
    rng = np.random.default_rng(seed)
    close = 200 + np.cumsum(rng.standard_normal(n))
    opens = np.r_[close[0], close[:-1]] + .2 * rng.standard_normal(n)
    spread = .7 * rng.random((2, n))
    o, h, l, c = (np.round(v / step) * step for v in (opens, np.maximum(opens, close) + spread[0], np.minimum(opens, close) - spread[1], close))
    time = pd.date_range("2020-01-01 01:00", periods=n, freq=freq, tz="UTC").as_unit("ns").asi8
    return Bars("WALK", time, o, np.maximum(h, np.maximum(o, c)), np.minimum(l, np.minimum(o, c)), c, rng.lognormal(5, 1, n))


MARKETS = {"spx": lambda: load("spx")[2000:2700], "eurusd": lambda: load("eurusd")[:700], "walk": random_bars, "finer walk": lambda: random_bars(seed=8, step=.03125)}


@pytest.fixture(scope="module", params=MARKETS)
def bars(request): return MARKETS[request.param]()


def table(reading): return pd.DataFrame(reading.events)


def sides(bars):
    "Upper side and mirrored lower side as (sign, open, high, low, close): what is written for highs holds for lows."
    return (1, bars.open, bars.high, bars.low, bars.close), (-1, -bars.open, -bars.low, -bars.high, -bars.close)


def assert_same_marks(events, expected, kinds):
    "Equal as sets of (kind, state, about, confirmed, low, high), with the first difference shown."
    got = events[events["kind"].isin(kinds)]
    got = sorted(zip(got["kind"], got["state"], got["event_idx"].astype(int), got["confirm_idx"].astype(int), got["low"].round(9), got["high"].round(9)))
    want = sorted((k, s, int(a), int(c), round(lo, 9), round(hi, 9)) for k, s, a, c, lo, hi in expected)
    missing, extra = [w for w in want if w not in set(got)], [g for g in got if g not in set(want)]
    assert got == want, f"missing {missing[:5]}, extra {extra[:5]}"
    return len(got)


# ---- slow references, from the definitions -----------------------------------------------------------------------------------------------------------

def swings_of(high, left, right):
    "[(bar, confirmed, level)] of the upper side."
    return [(p, p + right, high[p]) for p in range(left, len(high) - right) if high[p] > max(high[p - left:p]) and high[p] >= max(high[p + 1:p + right + 1])]


def life_of(near, far, about, opened, low, close, names):
    "[(state, bar)] of a zone below the price from bar opened + 1 on; `names` for touched, halved, filled, inverted."
    out, deepest = [], 0
    for t in range(opened + 1, len(low)):
        depth = 4 if close[t] < far else 3 if low[t] <= far else 2 if low[t] <= (near + far) / 2 else 1 if low[t] <= near else 0
        if depth > deepest and names[depth - 1] != (names[deepest - 1] if deepest else None): out.append((names[depth - 1], t))
        deepest = max(deepest, depth)
        if depth == 4: break
    return out


BLOCK_NAMES = ("mitigated", "mitigated", "mitigated", "broken")


def breaks_of(bars, left, right, extreme=False):
    "Every break as (bar, sign, kind, level, block or None), a block as (candle, low, high) in real prices."
    found, trend, used, both = [], 0, {1: None, -1: None}, sides(bars)
    swings = {s: swings_of(h, left, right) for s, o, h, l, c in both}
    gone = set()
    for t in range(len(bars)):
        for s, o, _, l, c in both:
            known = [w for w in swings[s] if w[1] < t]
            if not known or (s, known[-1][0]) in gone: continue
            p, confirmed, level = known[-1]
            if c[t] <= level: continue
            gone.add((s, p))
            start = max(i for i in range(p + 1, t + 1) if l[i] == min(l[p + 1:t + 1]))                     # the lowest low of the leg, the last of equals
            candles = [start] if extreme else [i for i in range(p, start + 1) if c[i] < o[i]]
            block = candles[-1] if candles and candles[-1] != used[s] else None
            if block is not None: used[s] = block
            found.append((t, s, "choch" if trend == -s else "bos", s * level, None if block is None else (block, bars.low[block], bars.high[block])))
            trend = s
    return found


def expected_zones(bars, zones, names):
    "Events of zones (kind, sign, about, opened, low, high) of the upper (1) or lower (-1) side through their whole life."
    out = []
    for kind, s, about, opened, lo, hi in zones:
        (_, _, _, low, close) = sides(bars)[0 if s == 1 else 1]
        near, far = (hi, lo) if s == 1 else (-lo, -hi)
        out.append((kind, "open", about, opened, lo, hi))
        out += [(kind, state, about, t, lo, hi) for state, t in life_of(near, far, about, opened, low, close, names)]
    return out


def gaps_of(bars, middle=False):
    "Gaps as (kind, sign, about, opened, low, high)."
    out = []
    for t in range(2, len(bars)):
        body = bars.close[t - 1] - bars.open[t - 1]
        if bars.low[t] > bars.high[t - 2] and (body > 0 or not middle): out.append(("fvg_bull", 1, t - 1, t, bars.high[t - 2], bars.low[t]))
        if bars.high[t] < bars.low[t - 2] and (body < 0 or not middle): out.append(("fvg_bear", -1, t - 1, t, bars.high[t], bars.low[t - 2]))
    return out


GAP_NAMES = ("touched", "halved", "filled", "inverted")


# ---- concepts against them ---------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("left,right", ((5, 5), (2, 2), (4, 1), (1, 3)))
def test_swings_equal_their_definition_and_the_shared_kernel(bars, left, right):
    e = table(how.read(bars, swing_left=left, swing_right=right))
    for kind, (s, _, high, _, _) in zip(("swing_high", "swing_low"), sides(bars)):
        expected = swings_of(high, left, right)
        got = e[e["kind"] == kind]
        assert list(zip(got["event_idx"], got["confirm_idx"], s * got["level"])) == expected and len(expected) > 20
        ring, shared = np.zeros(left + 1 + right), []
        for t, value in enumerate(high):
            ring[t % ring.size] = value
            if is_pivot_nb(ring, t, right): shared.append(t - right)
        assert [p for p, _, _ in expected] == shared


@pytest.mark.parametrize("middle", (False, True))
def test_gaps_live_as_defined(bars, middle):
    expected = expected_zones(bars, gaps_of(bars, middle), GAP_NAMES)
    assert assert_same_marks(table(how.read(bars, middle_candle=middle, book_rows=len(bars))), expected, ("fvg_bull", "fvg_bear")) > 200


@pytest.mark.parametrize("rows", (1, 3))
def test_a_full_book_drops_the_zone_about_the_oldest_bar(bars, rows):
    expected, gaps = [], gaps_of(bars)
    for side, (s, _, _, low, close) in zip(("fvg_bull", "fvg_bear"), sides(bars)):
        mine, alive = [g for g in gaps if g[0] == side], []
        for kind, _, about, opened, lo, hi in mine:
            near, far = (hi, lo) if s == 1 else (-lo, -hi)
            life = [("open", opened)] + life_of(near, far, about, opened, low, close, GAP_NAMES)
            alive = [z for z in alive if z["life"][-1][0] != "inverted" or z["life"][-1][1] > opened]
            if len(alive) == rows:
                old = min(alive, key=lambda z: z["about"])
                old["life"] = [m for m in old["life"] if m[1] <= opened] + [("expired", opened)]
                alive.remove(old)
            alive.append({"about": about, "life": life})
            expected.append((kind, about, alive[-1], lo, hi))
    flat = [(kind, state, about, t, lo, hi) for kind, about, z, lo, hi in expected for state, t in z["life"]]
    e = table(how.read(bars, book_rows=rows))
    assert_same_marks(e, flat, ("fvg_bull", "fvg_bear"))
    assert (e["state"] == "expired").any()


@pytest.mark.parametrize("left,right,extreme", ((5, 5, False), (2, 2, False), (2, 2, True), (3, 1, False)))
def test_breaks_order_blocks_and_breakers_are_as_defined(bars, left, right, extreme):
    e, breaks = table(how.read(bars, swing_left=left, swing_right=right, extreme_block=extreme, book_rows=len(bars))), breaks_of(bars, left, right, extreme)
    got = e[e["kind"].str.contains("bos|choch")]
    assert list(zip(got["confirm_idx"], got["kind"], got["level"])) == [(t, f"{kind}_{'up' if s == 1 else 'down'}", level) for t, s, kind, level, _ in breaks]
    assert (got["event_idx"] == got["confirm_idx"]).all() and len(got) > 10
    name = {1: "bull", -1: "bear"}
    blocks = [(f"order_block_{name[s]}", s, b[0], t, b[1], b[2]) for t, s, _, _, b in breaks if b is not None]
    lives = expected_zones(bars, blocks, BLOCK_NAMES)
    breakers = [(f"breaker_{name[-1 if 'bull' in kind else 1]}", -1 if "bull" in kind else 1, about, t, lo, hi) for kind, state, about, t, lo, hi in lives if state == "broken"]
    n = assert_same_marks(e, lives, ("order_block_bull", "order_block_bear")) + assert_same_marks(e, expected_zones(bars, breakers, BLOCK_NAMES), ("breaker_bull", "breaker_bear"))
    assert n > 30


def pools_of(bars, left, right, tolerance):
    "Pool and sweep events, from an unsorted list of levels walked through at every bar."
    out = []
    for s, _, high, _, close in sides(bars):
        end, swings, levels = "high" if s == 1 else "low", swings_of(high, left, right), []
        def note(kind, state, about, t, a, b, s=s, end=end): out.append((f"{kind}_{end}", state, about, t, min(s * a, s * b), max(s * a, s * b)))
        for t in range(len(bars)):
            for z in list(levels):
                if high[t] <= z["level"]: continue
                back = close[t] <= z["level"]
                if back and not z["swept"]: note("sweep", "pool" if z["n"] > 1 else "swing", t, t, z["level"], high[t])
                z["swept"] = z["swept"] or back
                if z["n"] > 1: note("pool", "swept" if back else "broken", z["about"], t, z["inner"], z["level"])
                if z["n"] > 1 or not back: levels.remove(z)
            for p, confirmed, level in swings:
                if confirmed != t: continue
                near = min(levels, key=lambda z: (abs(z["level"] - level), z["level"] < level), default=None)
                if near is None or not abs(near["level"] - level) <= tolerance[t]:
                    levels.append({"level": level, "inner": level, "about": p, "n": 1, "swept": False})
                    continue
                near.update(level=max(near["level"], level), inner=min(near["inner"], level), about=p, n=near["n"] + 1, swept=False)
                note("pool", "open" if near["n"] == 2 else "grown", p, t, near["inner"], near["level"])
    return out


@pytest.mark.parametrize("left,right,equal", ((5, 5, .1), (2, 2, .1), (2, 2, .4)))
def test_pools_and_sweeps_are_as_defined(bars, left, right, equal):
    e = table(how.read(bars, swing_left=left, swing_right=right, equal_atr=equal, book_rows=len(bars)))
    e = e[~e["state"].isin(["day", "week"])]
    expected = pools_of(bars, left, right, equal * talib.ATR(bars.high, bars.low, bars.close, 14))
    assert assert_same_marks(e, expected, ("pool_high", "pool_low", "sweep_high", "sweep_low")) > 20


@pytest.mark.parametrize("zone", ("UTC", "America/New_York", "Asia/Tokyo"))
def test_previous_days_and_weeks_and_their_sweeps(zone):
    for bars in (load("eurusd")[:1500], random_bars(1500, 4)):
        local = pd.DatetimeIndex(bars.time - 1, tz="UTC").tz_convert(zone).tz_localize(None)
        expected, levels = [], np.full((len(bars), 4), np.nan)
        for p, key in enumerate((local.normalize(), (local - pd.to_timedelta(local.dayofweek, "D")).normalize())):
            groups = [np.flatnonzero(key == k) for k in key.unique()]
            for before, rows in zip(groups[1:], groups[2:]):
                top, bottom = bars.high[before].max(), bars.low[before].min()
                levels[rows, 2 * p], levels[rows, 2 * p + 1] = top, bottom
                if len(before) == 1: continue
                for name, beyond, back in (("high", bars.high[rows] > top, bars.close[rows] <= top), ("low", bars.low[rows] < bottom, bars.close[rows] >= bottom)):
                    if not beyond.any() or not back[np.argmax(beyond)]: continue
                    t = rows[np.argmax(beyond)]
                    expected.append((f"sweep_{name}", ("day", "week")[p], t, t, *((top, bars.high[t]) if name == "high" else (bars.low[t], bottom))))
        np.testing.assert_array_equal(previous_levels(bars, zone), levels)
        e = table(how.read(bars, zone=zone))
        assert assert_same_marks(e[e["state"].isin(["day", "week"])], expected, ("sweep_high", "sweep_low")) > 20


def test_days_of_one_bar_are_no_place_for_stops():
    e = table(how.read(load("spx")[:1500]))
    assert not (e["state"] == "day").any() and (e["state"] == "week").sum() > 50


def ranges_of(bars, left, right):
    "(T, 5) top, bottom, leg, inside the entry zone, first of its leg; from all bars up to each."
    swings = [swings_of(h, left, right) for _, _, h, _, _ in sides(bars)]
    out, leg, noted = np.full((len(bars), 5), np.nan), 0, None
    for t in range(len(bars)):
        last = [[w for w in side if w[1] <= t] for side in swings]
        if not last[0] or not last[1]: continue
        p, q = last[0][-1][0], last[1][-1][0]
        top_at, bottom_at = p + int(np.argmax(bars.high[p:t + 1])), q + int(np.argmin(bars.low[q:t + 1]))
        top, bottom = bars.high[top_at], bars.low[bottom_at]
        leg = leg if top_at == bottom_at else 1 if top_at > bottom_at else -1
        back = (top - bars.close[t]) / (top - bottom) if leg == 1 else (bars.close[t] - bottom) / (top - bottom)
        inside, now = .62 - 1e-12 <= back <= .79 + 1e-12, (top_at, bottom_at)
        out[t] = top, bottom, leg, inside, inside and noted != now
        if inside: noted = now
    return out


@pytest.mark.parametrize("left,right", ((5, 5), (2, 2)))
def test_dealing_range_and_optimal_entries(bars, left, right):
    reading, ref = how.read(bars, swing_left=left, swing_right=right), ranges_of(bars, left, right)
    f = dict(zip(reading.feature_names, reading.features.T))
    known = np.isfinite(ref[:, 0]) & np.isfinite(f["trend"])
    np.testing.assert_allclose(f["range_position"][known], ((bars.close - ref[:, 1]) / (ref[:, 0] - ref[:, 1]))[known], atol=1e-12)
    np.testing.assert_array_equal(f["leg"][known], ref[known, 2])
    np.testing.assert_array_equal(f["ote"][known], np.where(ref[known, 3] == 1, ref[known, 2], 0))
    e = table(reading)
    got = e[e["kind"].str.startswith("ote")]
    expected = np.flatnonzero(ref[:, 4] == 1)
    assert got["confirm_idx"].tolist() == expected.tolist() and (got["kind"] == np.where(ref[expected, 2] == 1, "ote_long", "ote_short")).all() and len(got) > 5
    span = ref[expected, 0] - ref[expected, 1]
    np.testing.assert_allclose(got["low"], np.where(ref[expected, 2] == 1, ref[expected, 0] - .79 * span, ref[expected, 1] + .62 * span))


def test_displacements_exceed_the_range_of_before(bars):
    e, unit = table(how.read(bars, displacement_atr=1.2)), talib.ATR(bars.high, bars.low, bars.close, 14)
    body = (bars.close - bars.open)[1:]
    strong = np.flatnonzero(abs(body) > 1.2 * unit[:-1]) + 1
    got = e[e["kind"].str.startswith("displacement")]
    assert got["event_idx"].tolist() == strong.tolist() and (got["kind"] == np.where(body[strong - 1] > 0, "displacement_up", "displacement_down")).all() and len(strong) > 5


def votes_of(e):
    "+1, -1 or 0 for each event, from the table in the notebook's words."
    bull = e["kind"].isin(["bos_up", "choch_up", "displacement_up", "ote_long", "flow_buy", "sweep_low"]) | (e["kind"].isin(["fvg_bull", "order_block_bull", "breaker_bull"]) & (e["state"] == "open"))
    bear = e["kind"].isin(["bos_down", "choch_down", "displacement_down", "ote_short", "flow_sell", "sweep_high"]) | (e["kind"].isin(["fvg_bear", "order_block_bear", "breaker_bear"]) & (e["state"] == "open"))
    inverted = e["state"] == "inverted"
    return (bull | (inverted & (e["kind"] == "fvg_bear"))).astype(int) - (bear | (inverted & (e["kind"] == "fvg_bull"))).astype(int)


def test_lean_alarm_and_confidence_follow_from_the_events(bars):
    reading = how.read(bars, vote_bars=7, rank_bars=300)
    e, T = table(reading), len(bars)
    vote, bar, fade = votes_of(e).to_numpy(), e["confirm_idx"].to_numpy(), .5 ** (1 / 7)
    sized = e["kind"].str.contains("displacement|sweep") | (e["kind"].str.startswith("fvg") & (e["state"] == "open"))
    size = np.where(sized, e["high"] - e["low"], 0.)
    ranges = np.maximum(bars.high[1:], bars.close[:-1]) - np.minimum(bars.low[1:], bars.close[:-1])
    norm, past = 0., []
    for t in range(T):
        weight = np.where(bar <= t, fade ** (t - bar), 0.)
        bull, bear, rush = weight @ (vote == 1), weight @ (vote == -1), weight @ size
        if t >= RANK_MIN:
            assert reading.lean[t] == pytest.approx((bull - bear) / (1 + bull + bear), abs=1e-9)
            z2 = (bull - bear) ** 2 / (1 + bull + bear)
            assert reading.confidence[t] == pytest.approx(z2 / (4 + z2), abs=1e-9)
        if t:
            norm += (ranges[t - 1] - norm) / min(t, 252)
            value = np.floor(1024 * rush / (rush + norm) + 1e-10)
            window = past[-300:]
            if len(window) >= RANK_MIN: assert reading.alarm[t] == pytest.approx(np.mean(np.array(window) < value) * len(window) / (len(window) + 1), abs=2.5 / len(window))
            past.append(value)


def test_structure_features_follow_from_events_and_bars(bars):
    reading = how.read(bars, book_rows=len(bars), swing_left=2, swing_right=2)
    e, unit = table(reading), talib.ATR(bars.high, bars.low, bars.close, 14)
    f = dict(zip(reading.feature_names, reading.features.T))
    squash = lambda d, u: d / (abs(d) + u) if d else 0.
    for t in np.r_[14:40, np.random.default_rng(0).integers(40, len(bars), 60)]:
        now, c, u = e[e["confirm_idx"] <= t], bars.close[t], unit[t]
        breaks = now[now["kind"].str.contains("bos|choch")]
        if len(breaks):
            assert f["trend"][t] == (1 if breaks["kind"].iloc[-1].endswith("up") else -1)
            assert f["break_fresh"][t] == pytest.approx(10 / (10 + t - breaks["confirm_idx"].iloc[-1]))
        else: assert f["trend"][t] == f["break_fresh"][t] == 0
        for name in ("swing_high", "swing_low"):
            level = now.loc[now["kind"] == name, "level"]
            if len(level): assert f[name][t] == pytest.approx(squash(level.iloc[-1] - c if name == "swing_high" else c - level.iloc[-1], u), abs=1e-9)
            else: assert np.isnan(f[name][t])
        assert f["displacement"][t] == pytest.approx(squash(c - bars.open[t], u), abs=1e-9)
        states = now.groupby(["kind", "event_idx"]).last()
        for name, kind, ended, above in (("fvg_bull", "fvg_bull", ("filled", "inverted"), False), ("fvg_bear", "fvg_bear", ("filled", "inverted"), True), ("block_bull", "order_block_bull", ("broken",), False),
                                         ("block_bear", "order_block_bear", ("broken",), True), ("breaker_bull", "breaker_bull", ("broken",), False), ("breaker_bear", "breaker_bear", ("broken",), True)):
            zones = states.loc[kind] if kind in states.index.get_level_values(0) else states.iloc[:0]
            zones = zones[~zones["state"].isin(ended)]
            away = np.maximum(zones["low"] - c if above else c - zones["high"], 0)
            assert f[name][t] == pytest.approx(u / (u + away.min()) if len(zones) else 0., abs=1e-9), (name, t)


def test_profile_equals_a_profile_laid_out_afresh(bars):
    W, B = 60, 32
    reading = how.read(bars, profile_bars=W)
    f, unit, base, width, age = dict(zip(reading.feature_names, reading.features.T)), talib.ATR(bars.high, bars.low, bars.close, 14), 0., 0., 0
    near, judged = (lambda d, u: u / (u + d) if d > 0 else 1.), 0
    for t in range(len(bars)):
        rows, age = slice(max(0, t - W + 1), t + 1), age + 1
        if width == 0 or bars.low[t] < base or bars.high[t] > base + B * width or age >= W:
            low, high, age = bars.low[rows].min(), bars.high[rows].max(), 0
            base, width = low - .25 * (high - low), 1.5 * (high - low) / B
        if t < W - 1: continue
        if (t + 1) % 8 == 0 or t == W - 1:                                       # read off afresh; in between the last reading stands
            edges, foot, step = base + width * np.arange(B + 1), base, width
            lo, hi = bars.low[rows, None], np.maximum(bars.high[rows], bars.low[rows] + 1e-9 * width)[:, None]
            volume = (np.clip(np.minimum(hi, edges[1:]) - np.maximum(lo, edges[:-1]), 0, None) / (hi - lo) * bars.volume[rows, None]).sum(axis=0)
            at, first, last = int((bars.close[t] - base) / width), int(np.argmax(volume)), int(np.argmax(volume))
            poc = edges[first] + step / 2
            while volume[first:last + 1].sum() < .7 * volume.sum():
                below, above = volume[first - 1] if first else -1, volume[last + 1] if last < B - 1 else -1
                first, last = first - (below >= above), last + (above >= below)
            middle, half = (edges[first] + edges[last + 1]) / 2, (edges[last + 1] - edges[first]) / 2
            nodes = {}
            for name, s in (("high_node", 1), ("low_node", -1)):
                v, eps = s * volume, 1e-9 * volume.mean()                        # rounding may decide between equal bins: such a node, sure only with one sign of eps, is not judged
                sure, may = ([i for i in range(1, B - 1) if volume[i] > 10 * eps and v[i] > v[i - 1] + e and v[i] >= v[i + 1] + e and v[i] > v.mean() + e] for e in (eps, -eps))
                judged += sure == may
                best = min(sure, key=lambda i: (abs(i - at), i), default=None)
                if sure == may: nodes[name] = np.nan if best is None else edges[best] + step / 2
        c, d, v = bars.close[t], bars.close[t] - poc, bars.close[t] - middle
        inside = foot <= c <= foot + B * step
        assert f["node"][t] == pytest.approx(volume[min(int((c - foot) / step), B - 1)] / volume.max() if inside else 0., abs=1e-6)
        assert f["poc"][t] == pytest.approx(d / (abs(d) + unit[t]), abs=1e-6) and f["value"][t] == pytest.approx(v / (abs(v) + half), abs=1e-6)
        for name, node in nodes.items(): assert f[name][t] == pytest.approx(0. if np.isnan(node) else near(abs(c - node), unit[t]), abs=1e-6)
    assert judged > 100


def test_flow_equals_pandas_and_surges_vote():
    rng, bars, span = np.random.default_rng(6), random_bars(600, 12), 40
    n = 5000
    time = np.sort(rng.integers(bars.time[0] - 3600 * 10**9, bars.time[-1], n))
    row = np.searchsorted(bars.time, time, side="right")
    side = np.where(rng.random(n) < .5 + .3 * np.sign(np.r_[0, np.diff(bars.close)])[row], 1, -1)
    flow = flow_from_trades(time, np.full(n, 200.), rng.lognormal(2, 1, n), side)
    reading = how.read(bars, flow_bars=span, flow=flow)
    f = dict(zip(reading.feature_names, reading.features.T))
    frame = pd.DataFrame({"q": np.bincount(row, flow.size * side, len(bars)), "v": np.bincount(row, flow.size, len(bars)), "dp": np.diff(bars.close, prepend=np.nan)})
    late = frame[1:].ewm(span=span, adjust=False)
    cov, sd = late["q"].cov(frame["dp"][1:], bias=True), late["q"].var(bias=True) ** .5
    signed, total = ((frame[c] * 1.).pipe(lambda x: pd.concat([pd.Series([0.]), x])).ewm(span=span, adjust=False).mean()[1:].to_numpy() for c in "qv")
    push, unit = (cov / sd).to_numpy(), talib.ATR(bars.high, bars.low, bars.close, 14)[1:]
    known = np.arange(len(bars)) > span
    np.testing.assert_allclose(f["imbalance"][known], (signed / total)[known], atol=1e-9)
    np.testing.assert_allclose(f["impact"][known], (push / (abs(push) + unit))[known[1:]], atol=1e-9)
    assert np.isnan(f["impact"][~known]).all() and np.median(f["impact"][known]) > .05
    before = (late["q"].mean().shift(1), sd.shift(1))
    surge = ((frame["q"][1:] - before[0]) / before[1]).to_numpy()
    e = table(reading)
    for kind, s in (("flow_buy", 1), ("flow_sell", -1)):
        assert e.loc[e["kind"] == kind, "confirm_idx"].tolist() == (np.flatnonzero((s * surge > 2) & known[1:]) + 1).tolist() != []


# ---- nothing is rewritten ----------------------------------------------------------------------------------------------------------------------------

def flowed():
    tape = trades("ticks")
    bars = bars_from_trades(tape, "2min", "FUT")[:900]
    return bars, tape[:int(np.searchsorted(tape.time, bars.time[-1]))]


@pytest.mark.parametrize("name", ("spx", "eurusd"))
def test_no_prefix_of_2000_real_bars_rewrites_anything(name):
    bars = load(name)[-2000:]
    arguments = {"swing_left": 2, "swing_right": 2, "book_rows": 4, "equal_atr": .3}
    whole = how.read(bars, **arguments)
    confirmed = whole.events["confirm_idx"]
    assert len(whole) == 2000 and set(whole.events["kind"]) == {k for k in KINDS if not k.startswith("flow")}
    assert set(whole.events["state"]) >= set(STATES) - ({"day"} if name == "spx" else set())
    for t in range(1, 2000):
        part = how.read(bars[:t], **arguments)
        for column in COLUMNS[1:]: assert np.array_equal(getattr(part, column), getattr(whole, column)[:t], equal_nan=True), (t, column)
        assert part.events.tobytes() == whole.events[:np.searchsorted(confirmed, t)].tobytes(), t


def test_no_prefix_rewrites_a_surge_of_flow():
    bars, tape = flowed()
    whole = how.read(bars, flow=tape)
    confirmed = whole.events["confirm_idx"]
    assert {"flow_buy", "flow_sell"} <= set(whole.events["kind"])
    for t in range(1, len(bars), 3):
        part = how.read(bars[:t], flow=tape[:int(np.searchsorted(tape.time, bars.time[t - 1]))])
        assert np.array_equal(part.features, whole.features[:t], equal_nan=True) and part.events.tobytes() == whole.events[:np.searchsorted(confirmed, t)].tobytes()


@pytest.mark.parametrize("name", ("spx", "eurusd"))
def test_a_stream_of_all_real_bars_equals_the_batch(name):
    bars = load(name)
    whole, feed = how.read(bars), how.stream(bars.symbol)
    live = joined([feed.update(bars[t:t + 1]) for t in range(len(bars))])
    for column in COLUMNS: np.testing.assert_allclose(getattr(live, column), getattr(whole, column), rtol=0, atol=1e-9)
    assert live.events.tobytes() == whole.events.tobytes()


# ---- smartmoneyconcepts ------------------------------------------------------------------------------------------------------------------------------

LENGTH = 5          # its swing_length: a window of 4 bars before and 5 after


@pytest.fixture(scope="module", params=("spx", "eurusd"))
def peer(request):
    "The peer's answers and ours, in its own rules and with books that never fill."
    with contextlib.redirect_stdout(io.StringIO()): from smartmoneyconcepts import smc           # it greets on import
    bars = load(request.param)
    frame = bars.to_frame().reset_index(drop=True)
    swings = smc.swing_highs_lows(frame, LENGTH)
    ours = table(how.read(bars, middle_candle=True, swing_left=LENGTH - 1, swing_right=LENGTH, book_rows=len(bars)))
    return request.param, bars, ours, smc.fvg(frame), swings, smc.bos_choch(frame, swings)


def test_gaps_equal_smartmoneyconcepts(peer):
    name, bars, ours, gaps, _, _ = peer
    for kind, s in (("fvg_bull", 1), ("fvg_bear", -1)):
        theirs, mine = gaps[gaps["FVG"] == s], ours[ours["kind"] == kind]
        opened = mine[mine["state"] == "open"]
        assert opened["event_idx"].tolist() == theirs.index.tolist() and (opened["confirm_idx"] == opened["event_idx"] + 1).all()       # known one bar after its stamp
        np.testing.assert_array_equal(opened[["low", "high"]], theirs[["Bottom", "Top"]])
        touched = mine[mine["state"] != "open"].groupby("event_idx")["confirm_idx"].min().reindex(theirs.index, fill_value=0)
        np.testing.assert_array_equal(touched, theirs["MitigatedIndex"])
        print(f"{name} {kind}: {len(theirs)} gaps, all equal in bar, edges and first touch ({(theirs['MitigatedIndex'] == 0).sum()} never touched)")


def alternating(swings, level):
    "The peer's clean-up, on our swings: of neighbours of one kind the more extreme stays, again and again. {bar: sign}"
    kept = sorted(swings)
    while True:
        drop = set()
        for (p, s), (q, r) in zip(kept, kept[1:]):
            if s == r: drop.add((p, s) if s * level[s][p] < s * level[s][q] else (q, s))
        if not drop: return dict(kept)
        kept = [k for k in kept if k not in drop]


def test_swings_equal_smartmoneyconcepts_or_are_explained(peer):
    name, bars, ours, _, swings, _ = peer
    level, T = {1: bars.high, -1: bars.low}, len(bars)
    mine = {(int(p), s) for kind, s in (("swing_high", 1), ("swing_low", -1)) for p in ours.loc[ours["kind"] == kind, "event_idx"]}
    theirs = {int(p): int(s) for p, s in swings["HighLow"].dropna().items()}
    count, raw = collections.Counter(), set(mine)
    for s in (1, -1):                                       # ties: a bar as high as one of the 4 before it is a swing for the peer, not for us
        for p in range(LENGTH - 1, T - LENGTH):
            window = s * level[s][p - LENGTH + 1:p + LENGTH + 1]
            if s * level[s][p] == window.max() and (p, s) not in mine: raw.add((p, s)); count["ties on the left, the peer's alone"] += 1
    early = {(p, s) for p, s in raw if p < 2 * LENGTH - 1}                          # its rolling window is not full there
    raw, both = raw - early, {p for p, s in raw - early if (p, -s) in raw}
    count["in the first bars, ours alone"] = len(early)
    count["high and low in one bar, the peer keeps the high"] = len(both)
    cleaned = alternating({(p, s) for p, s in raw if not (p in both and s == -1)}, level)
    count["at the ends of the data, the peer's alone"] = len(set(theirs) - set(cleaned))
    count["deleted by the peer with hindsight, ours alone"] = len(raw) - len(both) - len(cleaned)
    count["equal"] = len(set(theirs.items()) & mine)
    assert set(theirs) - set(cleaned) <= {0, T - 1}
    assert {p: s for p, s in theirs.items() if p in cleaned} == cleaned            # nothing is left over
    assert (ours.loc[ours["kind"].str.startswith("swing"), "confirm_idx"] == ours.loc[ours["kind"].str.startswith("swing"), "event_idx"] + LENGTH).all()
    print(f"{name} swings:", dict(count))
    assert count["equal"] > 500


def patterns(swings, close):
    "The peer's breaks before its deletions: (kind, sign, level, swing bar, breaking bar or 0)."
    at = np.flatnonzero(swings["HighLow"].notna())
    sign, level, out = swings["HighLow"][at].to_numpy(), swings["Level"][at].to_numpy(), []
    for k in range(3, len(at)):
        s = int(sign[k])
        if list(sign[k - 3:k + 1]) != [-s, s, -s, s]: continue
        a, b, c, d = s * level[k - 3:k + 1]
        kind = "bos" if a < c < b < d else "choch" if d > b > a > c else None
        beyond = np.flatnonzero(s * close[at[k - 2] + 2:] > s * float(np.float32(level[k - 2])))         # it keeps levels in float32
        if kind: out.append((kind, s, level[k - 2], int(at[k - 2]), int(beyond[0]) + int(at[k - 2]) + 2 if beyond.size else 0))
    return out


def surviving(found):
    "What the peer keeps: an older break that has not happened before a younger one is deleted."
    alive = [True] * len(found)
    for x, (*_, j) in enumerate(found):
        if not alive[x] or not j: continue
        for y in range(x): alive[y] = alive[y] and found[y][-1] < j
    return [f for f, a in zip(found, alive) if a and f[-1]]


def test_breaks_equal_smartmoneyconcepts_or_are_explained(peer):
    name, bars, ours, _, swings, breaks = peer
    found = patterns(swings, bars.close)
    kept = surviving(found)
    final = breaks[breaks["BOS"].notna() | breaks["CHOCH"].notna()]
    assert [(k, s, p, j) for k, s, _, p, j in kept] == [("bos" if r.BOS == r.BOS else "choch", int(r.BOS if r.BOS == r.BOS else r.CHOCH), int(p), int(r.BrokenIndex)) for p, r in final.iterrows()]
    rows = ours[ours["kind"].str.contains("bos|choch")]
    mine = {(1 if k.endswith("up") else -1, level, int(t)): k.split("_")[0] for k, level, t in zip(rows["kind"], rows["level"], rows["confirm_idx"])}
    swing = {s: ours[ours["kind"] == f"swing_{w}"] for s, w in ((1, "high"), (-1, "low"))}
    count, equal = collections.Counter(), set()
    for kind, s, level, p, j in kept:
        if (s, level, j) in mine:
            equal.add((s, level, j))
            count["equal, " + ("same label" if kind == mine[s, level, j] else "labelled by pattern there, by trend here")] += 1
        elif p not in set(swing[s]["event_idx"]): count["theirs: of a swing that ties or ends the data"] += 1
        elif p + LENGTH >= j: count["theirs: broken before the swing could be confirmed"] += 1
        elif ((swing[s]["event_idx"] > p) & (swing[s]["confirm_idx"] < j)).any(): count["theirs: a newer swing stood in front"] += 1
        else: raise AssertionError(f"unexplained break of theirs: {(kind, s, level, p, j)}")
    survived, asked = {(int(p), int(h)) for p, h in swings["HighLow"].dropna().items()}, {(p, s) for _, s, _, p, _ in found}
    for s, level, t in set(mine) - equal:
        p = int(swing[s].loc[(swing[s]["level"] == level) & (swing[s]["confirm_idx"] < t), "event_idx"].iloc[-1])
        if (p, s) not in survived: count["ours: of a swing the peer deleted with hindsight"] += 1
        elif (p, s) not in asked: count["ours: the peer's pattern of four swings does not hold"] += 1
        else: raise AssertionError(f"unexplained break of ours: {(s, level, t, p)}")
    print(f"{name} breaks:", dict(count))
    assert len(equal) > 200 and sum(count.values()) == len(kept) + len(mine) - len(equal)


# ---- symmetry ----------------------------------------------------------------------------------------------------------------------------------------

def rounded(bars, unit): return replace(bars, **{n: np.round(getattr(bars, n) / unit) * unit for n in PRICES})


def marks(e, turn=None, level=lambda v: v):
    "Events as sorted tuples; entry zones are computed, so their edges are rounded."
    names = e["kind"] if turn is None else [turn[k] for k in e["kind"]]
    ends = (e["low"], e["high"]) if turn is None else (e["high"], e["low"])
    return sorted(zip(e["confirm_idx"].tolist(), names, e["event_idx"].tolist(), e["state"].tolist(), *(level(v).round(6).tolist() for v in (e["level"], *ends))))


def real_and_walk(): return rounded(load("spx")[:1500], 1 / 16), rounded(load("eurusd")[:1500], 2.**-17), random_bars(1500, 21)


@pytest.mark.parametrize("bars", real_and_walk(), ids=("spx", "eurusd", "walk"))
def test_mirrored_prices_give_the_mirrored_reading(bars):
    C = 2. ** np.ceil(np.log2(2.2 * bars.high.max()))                        # sums are exact on the grid
    glass = replace(bars, open=C - bars.open, high=C - bars.low, low=C - bars.high, close=C - bars.close)
    a, b = how.read(bars), how.read(glass)
    np.testing.assert_allclose(a.lean, -b.lean, atol=1e-12)
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-12)
    np.testing.assert_allclose(a.alarm, b.alarm, atol=2.5 / RANK_MIN)
    assert marks(a.events) == marks(b.events, MIRROR, lambda v: C - v)
    fa, fb = (dict(zip(r.feature_names, r.features.T)) for r in (a, b))
    for name in ("trend", "leg", "ote", "displacement", "sweep", "day_position", "week_position"): np.testing.assert_allclose(fa[name], -fb[name], atol=1e-9, err_msg=name)
    np.testing.assert_allclose(fa["range_position"], 1 - fb["range_position"], atol=1e-9)
    for pair in (("swing_high", "swing_low"), ("fvg_bull", "fvg_bear"), ("block_bull", "block_bear"), ("breaker_bull", "breaker_bear"), ("pool_high", "pool_low"), ("votes_bull", "votes_bear")):
        for one, other in (pair, pair[::-1]): np.testing.assert_allclose(fa[one], fb[other], atol=1e-9, err_msg=one)


@pytest.mark.parametrize("bars", real_and_walk(), ids=("spx", "eurusd", "walk"))
def test_scale_and_shift_change_nothing(bars):
    a = how.read(bars)
    scaled = how.read(replace(bars, **{n: 8 * getattr(bars, n) for n in PRICES}))
    for column in COLUMNS[1:]: np.testing.assert_array_equal(getattr(a, column), getattr(scaled, column))
    assert marks(a.events, level=lambda v: 8 * v) == marks(scaled.events)
    shift = 2. ** np.ceil(np.log2(bars.high.max()))
    moved = how.read(replace(bars, **{n: shift + getattr(bars, n) for n in PRICES}))
    np.testing.assert_allclose(a.lean, moved.lean, atol=1e-12)
    assert [m[:4] for m in marks(a.events)] == [m[:4] for m in marks(moved.events)]
    by_events = [i for i, n in enumerate(a.feature_names) if n not in ("poc", "value", "node", "high_node", "low_node")]      # the profile's own bins may round otherwise
    np.testing.assert_allclose(a.features[:, by_events], moved.features[:, by_events], atol=1e-9)


# ---- monotone ----------------------------------------------------------------------------------------------------------------------------------------

def test_one_more_vote_never_moves_the_lean_the_other_way(bars):
    e = table(how.read(bars))
    vote, bar = votes_of(e).to_numpy(), e["confirm_idx"].to_numpy()
    def lean(bull, bear): return how._verdict_nb(bull, bear)[0]
    for t in range(RANK_MIN, len(bars), 7):
        weight = np.where(bar <= t, .5 ** ((t - bar) / 10), 0.)
        bull, bear = weight @ (vote == 1), weight @ (vote == -1)
        for more in (1e-6, .3, 1., 5.): assert lean(bull + more, bear) > lean(bull, bear) > lean(bull, bear + more)


def test_a_close_that_breaks_structure_leans_more_than_one_that_does_not():
    bars = load("spx")[:2500]
    whole, tried = how.read(bars), 0
    for e in whole.events[np.isin(whole.events["kind"], ("bos_up", "choch_up", "bos_down", "choch_down"))]:
        t, s = int(e["confirm_idx"]), 1 if e["kind"].endswith("up") else -1
        if t < RANK_MIN or not bars.low[t] <= e["level"] <= bars.high[t]: continue
        close = bars.close[:t + 1].copy()
        close[t] = e["level"]                               # it only reaches the level
        fails = how.read(replace(bars[:t + 1], close=close))
        assert s * fails.lean[t] < s * whole.lean[t]
        tried += 1
    assert tried > 40


# ---- rates, edges ------------------------------------------------------------------------------------------------------------------------------------

def test_rates_on_a_random_walk():
    rng, n = np.random.default_rng(0), 20_000
    steps = np.cumsum(rng.standard_normal((n, 16)) * .25, axis=None).reshape(n, 16)              # sixteen ticks a bar, so that wicks and bodies fit each other
    path = np.c_[np.r_[0., steps[:-1, -1]], steps] + 1000
    bars = Bars("WALK", np.arange(1, n + 1) * 3600 * 10**9, path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1], np.ones(n))
    reading = how.read(bars)
    e, alarm = table(reading), reading.alarm
    rate = e.groupby(["kind", "state"]).size() * 1000 / n
    print(rate.unstack(fill_value=0).round(1).to_string())
    for a, b in (("fvg_bull", "fvg_bear"), ("bos_up", "bos_down"), ("choch_up", "choch_down"), ("sweep_high", "sweep_low"), ("ote_long", "ote_short"), ("order_block_bull", "order_block_bear")):
        up, down = (e["kind"] == a).sum(), (e["kind"] == b).sum()
        assert abs(up - down) < 4 * np.sqrt(6 * (up + down)), (a, up, down)                      # no side is favoured; events come in clusters of some six
    assert abs(np.nanmean(reading.lean)) < .03 and np.mean(alarm[300:] >= .99) < .02 and abs(np.nanmean(alarm) - .5) < .03


def test_without_ranges_there_is_nothing_to_say():
    bars = load("spx")[:600]
    nothing = np.full(600, np.nan)
    reading = how.read(replace(bars, open=nothing, high=nothing, low=nothing))
    check_reading(reading, 600)
    assert all(np.isnan(getattr(reading, column)).all() for column in COLUMNS[1:]) and not reading.events.size


@pytest.mark.parametrize("volume", (0., np.nan))
def test_without_volume_only_the_profile_is_unknown(volume):
    bars = load("spx")[:900]
    a, b = how.read(bars), how.read(replace(bars, volume=np.full(900, volume)))
    profile = [i for i, n in enumerate(a.feature_names) if n in ("poc", "value", "node", "high_node", "low_node")]
    others = np.setdiff1d(np.arange(len(a.feature_names)), profile)
    assert np.isnan(b.features[:, profile]).all() and np.isfinite(a.features[240:, profile]).all() and a.events.tobytes() == b.events.tobytes()
    np.testing.assert_array_equal(a.features[:, others], b.features[:, others])
    part = replace(bars, volume=np.where(np.arange(900) % 3 == 0, volume, bars.volume))          # some volume unknown: no hole, the rest counts
    check_reading(how.read(part), 900)
    gap = replace(bars, volume=np.where((np.arange(900) > 300) & (np.arange(900) < 700), volume, bars.volume))
    check_reading(how.read(gap), 900)                                                            # longer than the window: the last levels stand


def test_one_price_and_then_another():
    still = np.full(700, 50.)
    flat = Bars("FLAT", np.arange(1, 701) * 86400 * 10**9, still, still, still, still, np.ones(700))
    reading = how.read(flat)
    check_reading(reading, 700)
    assert not reading.events.size and np.nanmax(abs(reading.lean)) == np.nanmax(reading.alarm) == np.nanmax(reading.confidence) == 0 and np.isfinite(reading.lean[RANK_MIN])
    step = replace(flat, **{n: np.where(np.arange(700) < 400, 50., 60.) for n in PRICES})
    reading = how.read(step)
    check_reading(reading, 700)
    gap = table(reading)
    assert gap.iloc[0][["kind", "state", "low", "high"]].tolist() == ["fvg_bull", "open", 50., 60.] and gap["confirm_idx"].iloc[0] == 400


@pytest.mark.parametrize("n", (1, 2, 3, 14, 15, RANK_MIN, RANK_MIN + 1, RANK_MIN + 2))
def test_short_series_say_only_what_they_know(n):
    reading = how.read(load("spx")[:n])
    check_reading(reading, n)
    assert np.isfinite(reading.lean).sum() == np.isfinite(reading.confidence).sum() == max(0, n - RANK_MIN) and np.isfinite(reading.alarm).sum() == max(0, n - RANK_MIN - 1)
    assert np.isfinite(reading.features[:, 0]).sum() == max(0, n - 14)


def test_bad_input_is_refused_in_a_sentence():
    bars, (fut, tape) = load("spx")[:400], flowed()
    for broken, words in ((replace(bars, high=np.r_[bars.high[:9], np.nan, bars.high[10:]]), "must be finite"), (replace(bars, time=bars.time[::-1]), "ascend"), (bars[:0], "at least one row")):
        with pytest.raises(DataError, match=words): how.read(broken)
    with pytest.raises(DataError, match="end before the last bar"): how.read(fut[:10], flow=tape)
    feed = how.stream("FUT")
    feed.update(fut[:10])
    with pytest.raises(DataError, match="stays without"): feed.update(fut[10:20], flow=tape[:0])
    feed = how.stream("FUT")
    cut = int(np.searchsorted(tape.time, fut.time[9]))
    feed.update(fut[:10], flow=tape[:cut])
    with pytest.raises(DataError, match="pass an empty OrderFlow"): feed.update(fut[10:20])
    with pytest.raises(DataError, match="end before"): feed.update(fut[10:20], flow=tape)
    rest = feed.update(fut[10:], flow=tape[cut:])                                                # what was refused left no trace
    np.testing.assert_array_equal(rest.features, how.read(fut, flow=tape).features[10:])
    for bad in ({"swing_right": 0}, {"atr_bars": 1}, {"rank_bars": 251}, {"equal_atr": -1.}, {"vote_bars": 2.5}, {"zone": "EST5EDT/no"}, {"profile_bars": 1}, {"flow_bars": 1}, {"book_rows": 0}):
        with pytest.raises(ValueError): how.read(bars, **bad)


def test_local_days_agree_with_pandas_over_decades():
    for zone in ("Europe/London", "Asia/Kathmandu", "America/Santiago", "Africa/Cairo"):
        time = np.random.default_rng(1).integers(0, 1_800_000_000, 4000) * 10**9
        local = pd.DatetimeIndex(time - 1, tz="UTC").tz_convert(zone).tz_localize(None)
        np.testing.assert_array_equal(day_numbers(time, zone), local.normalize().as_unit("ns").asi8 // (86400 * 10**9))

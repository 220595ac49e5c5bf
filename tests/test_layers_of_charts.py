"Layers over candles: every mark at its bar and price, nothing before it was known, real figures in a real browser."
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bokeh.embed import file_html
from bokeh.resources import INLINE

from emp_nb import layers
from emp_nb.charts import candles
from emp_nb.core import DataError
from emp_nb.data.catalog import load
from emp_nb.sensory import what
from emp_nb.sensory.calendars import KILL_ZONES, SESSIONS, intervals
from emp_nb.sensory.reading import events_array


def blocks(bars, seed=3):
    "Zones of several kinds with whole lives at drawn bars of real prices."
    rng, rows = np.random.default_rng(seed), []
    for kind in ("fvg_bull", "fvg_bear", "order_block_bull", "order_block_bear", "breaker_bear", "pool_high", "pool_low"):
        for t in rng.choice(len(bars) - 30, 12, replace=False):
            low, high = bars.low[t] - 1e-4, bars.high[t] + 1e-4
            rows.append((kind, t, t + 2, .5 * (low + high), low, high, "open"))
            lives = rng.choice(["touched", "halved", "mitigated"], 1).tolist() + ([{"f": "filled", "o": "broken", "b": "expired", "p": "swept"}[kind[0]]] if rng.random() < .6 else [])
            rows += [(kind, t, t + 2 + k * int(rng.integers(3, 9)), .5 * (low + high), low, high, state) for k, state in enumerate(lives, 1)]
    return events_array(*zip(*rows))


def broken(bars, swung):
    "A break for every swing that a later close passes, named in turn."
    rows = []
    for n, e in enumerate(swung[:40]):
        way = 1 if e["kind"] == "swing_high" else -1
        later = np.flatnonzero(way * bars.close[e["confirm_idx"] + 1:] > way * e["level"])
        if later.size: rows.append((("bos", "choch")[n % 2] + ("_up" if way > 0 else "_down"), *[int(e["confirm_idx"]) + 1 + int(later[0])] * 2, e["level"]))
    return events_array(*zip(*rows))


@pytest.fixture(scope="module", params=("eurusd", "spx"))
def seen(request):
    bars = load(request.param)[1000:1400]
    swung = layers.of_kind(what.read(bars).events, "swing_")
    return bars, np.sort(np.concatenate([swung, blocks(bars), broken(bars, swung)]), order="confirm_idx", kind="stable")


def drawn(figure, glyph): return [r.data_source.data for r in figure.renderers if type(r.glyph).__name__ == glyph]


def test_a_zone_lives_from_its_opening_to_the_first_state_that_ends_it(seen):
    bars, events = seen
    for ends in (layers.ENDS, ("broken",), ()):
        for first, last, state in layers.lives(events, ends):
            same = [i for i in range(len(events)) if all(events[i][n] == events[first][n] for n in ("kind", "event_idx", "low", "high"))]
            assert same[0] == first and events[first]["state"] == "open"
            closing = [i for i in same if events[i]["state"] in ends]
            assert last == (closing[0] if closing else None)
            assert state == events[[i for i in same if last is None or i <= last][-1]]["state"]
    assert len(layers.lives(events)) == (events["state"] == "open").sum()


@pytest.mark.parametrize("start", (0, 250))
def test_boxes_begin_when_known_end_when_ended_and_stay_in_sight(seen, start):
    bars, events = seen
    figure = layers.zones(candles(bars[start:]), bars, events, kinds=("fvg", "order_block", "breaker", "pool"), start=start)
    ms = bars.time / 1e6
    boxes = pd.concat([pd.DataFrame({k: list(v) for k, v in d.items()}) for d in drawn(figure, "Quad")])
    assert (boxes["left"] >= ms[start]).all() and (boxes["right"] > boxes["left"]).all() and (boxes["left"] >= boxes["known"]).all()
    low, high = bars.low[start:].min(), bars.high[start:].max()
    assert boxes["bottom"].min() >= low - .1 * (high - low) - 1e-12 and boxes["top"].max() <= high + .1 * (high - low) + 1e-12
    expected = 0
    for first, last, _ in layers.lives(events):
        e, end = events[first], np.inf if last is None else ms[events[last]["confirm_idx"]]
        here = boxes[(boxes["kind"] == e["kind"]) & (boxes["known"] == ms[e["confirm_idx"]]) & (boxes["low"] == e["low"])]
        visible = end > ms[start] and e["low"] <= high + .1 * (high - low) and e["high"] >= low - .1 * (high - low)
        assert len(here) == visible, e
        if visible: assert here["right"].iloc[0] == end or (last is None and here["right"].iloc[0] > ms[-1])
        expected += visible
    assert len(boxes) == expected > 20


def test_swings_stand_on_their_bar_and_tell_when_they_were_known(seen):
    bars, events = seen
    (dots,) = drawn(layers.swings(candles(bars[100:]), bars, events, start=100), "Scatter")
    found = layers.of_kind(events, "swing_")
    found = found[found["event_idx"] >= 100]
    np.testing.assert_array_equal(dots["x"], bars.time[found["event_idx"]] / 1e6)
    np.testing.assert_array_equal(dots["known"], bars.time[found["confirm_idx"]] / 1e6)
    top = np.asarray(dots["marker"]) == "inverted_triangle"
    np.testing.assert_array_equal(np.asarray(dots["y"])[top], bars.high[found["event_idx"][top]])
    np.testing.assert_array_equal(np.asarray(dots["y"])[~top], bars.low[found["event_idx"][~top]])


def test_a_break_runs_from_the_bar_that_made_the_level_to_the_close_beyond_it(seen):
    bars, events = seen
    lines = drawn(layers.broken_levels(candles(bars), bars, events), "Segment")[1:]          # the first are the wicks
    ms, n = bars.time / 1e6, 0
    for d in lines:
        for x0, x1, y, kind in zip(d["x0"], d["x1"], d["y"], d["kind"]):
            a, b, way = int(np.searchsorted(ms, x0)), int(np.searchsorted(ms, x1)), 1 if kind.endswith("up") else -1
            assert a < b and (bars.high if way > 0 else bars.low)[a] == y and way * bars.close[b] > way * y
            n += 1
    assert n == len(layers.of_kind(events, "bos", "choch")) > 10


def zigzag(knots, width=3):
    "Bars along straight legs, with the swings of their corners."
    t, price = np.array([k[0] for k in knots]), np.array([k[1] for k in knots], float)
    path = np.interp(np.arange(t[-1] + width + 1), t, price)
    bars = replace(load("spx")[:path.size], open=path, high=path + .2, low=path - .2, close=path)
    kinds = ["swing_high" if b > a else "swing_low" for a, b in zip(price, price[1:])]
    kinds = [{"swing_high": "swing_low", "swing_low": "swing_high"}[kinds[0]], *kinds]
    level = [p + .2 if k == "swing_high" else p - .2 for k, p in zip(kinds, price)]
    return bars, events_array(kinds, t, t + width, level)


@pytest.mark.parametrize("kind,points", (("gartley_bull", 5), ("crab_bear", 5), ("ab_cd_1.27_bull", 4), ("three_drives_bear", 6)))
def test_a_pattern_is_drawn_through_the_turns_known_when_it_was(kind, points):
    sign = 1 if kind.endswith("bull") else -1
    bars, swung = zigzag([(10 * k, 100 + sign * p) for k, p in enumerate((4, 0, 10, 4, 8, 2, 6, 3))])
    done = events_array([kind, kind], [40, 50], [43, 53], 100., 99., 101., ["forming", "completed"])
    events = np.sort(np.concatenate([swung, done]), order="confirm_idx", kind="stable")
    completed, forming = (events[np.flatnonzero(events["state"] == s)[0]] for s in ("completed", "forming"))
    path = layers.turns(events, completed)
    assert path[:, 0].tolist() == [50 - 10 * k for k in range(points)][::-1]
    np.testing.assert_allclose(path[:, 1], [swung["level"][int(t) // 10] for t in path[:, 0]])
    assert layers.turns(events, forming)[:, 0].tolist() == [40 - 10 * k for k in range(points - 1)][::-1]
    figure = layers.patterns(candles(bars), bars, events)
    (shape,), (zone,) = drawn(figure, "MultiLine"), drawn(figure, "Quad")
    assert set(shape["xs"][0]) == set(bars.time[path[:, 0].astype(int)] / 1e6) and list(zone["left"]) == [bars.time[53] / 1e6]
    longer = np.concatenate([events, events_array(["swing_low"], [47], [60], 1.)])           # a swing known later must not enter
    np.testing.assert_array_equal(layers.turns(longer, completed), path)


def test_stretches_are_clipped_to_the_candles_and_lie_behind_them():
    bars = load("eurusd")[2000:2200]
    for name in (*SESSIONS, *KILL_ZONES, "XNYS"):
        table = intervals(name, int(bars.time[80]), int(bars.time[-1]))
        figure = layers.shade(candles(bars[80:]), table, bars, label=name, start=80)
        (strip,) = [r for r in figure.renderers if type(r.glyph).__name__ == "VStrip"]
        x0, x1 = (np.asarray(strip.data_source.data[k]) for k in ("x0", "x1"))
        assert strip.level == "underlay" and (x1 > x0).all() and x1.max() <= bars.time[-1] / 1e6 and x0.min() >= bars.time[79] / 1e6 - 3.6e6
        inside = (table[0] > bars.time[80]) & (table[1] < bars.time[-1])
        assert set(table[0][inside] / 1e6) <= set(x0) and set(table[1][inside] / 1e6) <= set(x1)
    assert len(layers.shade(candles(bars), np.array([[0], [5]]), bars, label="1970").renderers) == len(candles(bars).renderers)


def test_a_profile_has_an_axis_of_its_own():
    bars = load("spx")[:100]
    edges = np.linspace(bars.low.min(), bars.high.max(), 21)
    volume = np.histogram(bars.close, edges, weights=bars.volume)[0]
    figure = layers.price_profile(candles(bars), edges, volume, poc=edges[np.argmax(volume)], value_low=edges[4], value_high=edges[15])
    (bar,) = [r for r in figure.renderers if type(r.glyph).__name__ == "HBar"]
    assert bar.x_range_name == "volume at price" and bar not in figure.x_range.renderers
    own = figure.extra_x_ranges["volume at price"]
    assert own.end == 0 and own.start == pytest.approx(4 * volume.max())                     # zero on the right edge, a quarter of the width for the longest bar
    np.testing.assert_array_equal(bar.data_source.data["volume"], volume)
    for wrong in (volume[1:], 0 * volume):
        with pytest.raises(DataError, match="one edge more"): layers.price_profile(candles(bars), edges, wrong, poc=1., value_low=1., value_high=2.)


def test_events_of_other_bars_and_closes_only_are_refused(seen):
    bars, events = seen
    for layer in (layers.zones, layers.swings, layers.broken_levels, layers.patterns):
        with pytest.raises(DataError, match="rows of its bars"): layer(candles(bars[:50]), bars[:50], events)
        with pytest.raises(DataError, match="one of its bars"): layer(candles(bars), bars, events, start=len(bars))
        before = candles(bars)
        assert len(layer(before, bars, events_array()).renderers) == len(candles(bars).renderers)         # nothing seen, nothing drawn
    assert layers.keyed(candles(bars)).legend == []


@pytest.mark.browser
def test_all_layers_together_draw_in_a_browser(seen, browser, tmp_path):
    bars, events = seen
    figure = candles(bars[200:], title="all layers")
    layers.shade(figure, intervals("london", int(bars.time[200]), int(bars.time[-1])), bars, label="london", start=200)
    for layer in (layers.zones, layers.broken_levels, layers.swings, layers.patterns): layer(figure, bars, events, start=200)
    page = tmp_path / "layers.html"
    page.write_text(file_html(layers.keyed(figure), INLINE, "layers"))
    tab, errors = browser.new_page(viewport={"width": 1100, "height": 400}), []
    tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda e: errors.append(str(e)))
    tab.goto(page.as_uri())
    tab.wait_for_function("window.Bokeh && Bokeh.documents.length === 1 && Bokeh.documents[0].is_idle", timeout=30_000)
    shot = tmp_path / "layers.png"
    tab.screenshot(path=shot)
    tab.close()
    from matplotlib.pyplot import imread
    pixels = (255 * imread(shot)[..., :3]).astype(int).reshape(-1, 3)
    near = lambda colour: (abs(pixels - [int(colour[i:i + 2], 16) for i in (1, 3, 5)]).max(axis=1) < 40).sum()
    assert not errors and near(layers.BLUE) > 100 and near(layers.ORANGE) > 100 and near(layers.GREEN) > 20 and near(layers.RED) > 20

"""Manipulation: detectors against independent references and brute force, and what is planted in real order flow against what is found.

The real order flow is the half hour of BTC/USD in the wheel of ob-analytics, a test dependency; nothing of it is copied. bench/anomaly.py measures more of it."""
import sys
import time
from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from emp_nb.core import DataError
from emp_nb.data.catalog import trades
from emp_nb.data.orderflow import ADD, BUY, CANCEL, PATTERNS, SELL, TRADE, OrderFlow, bars_from_trades, flow_from_trades, inject, touch, with_accounts
from emp_nb.sensory import anomaly, episodes
from emp_nb.sensory.accounts import poisson_tail_nb
from emp_nb.sensory.reading import check_reading, joined
from emp_nb.sensory.tape import BENFORD, PumpStream, first_digits, pumps, toxicity

sys.path.insert(0, str(ROOT / "bench"))
import anomaly as bench       # the measuring program, not the sense

COLUMNS = ("lean", "alarm", "confidence", "features")


@pytest.fixture(scope="module")
def real():
    tape = bench.real_tape()
    if tape is None: pytest.skip("no real order flow: ob-analytics, a dependency of the tests, is not installed")
    return tape


@pytest.fixture(scope="module")
def planted(real): return bench.planted(real, 11)


def simulated(M=12_000, seed=1):
    "Order flow of a simulated book with ids: orders near a walking price, most pulled, few hit."
    rng, rows, mid, live = np.random.default_rng(seed), [], 100., {BUY: [], SELL: []}
    for m in range(M):
        s, u = (BUY, SELL)[int(rng.integers(2))], rng.random()
        if u < .495 or len(live[s]) < 100:
            live[s].append((round(mid - s * .01 * (1 + rng.geometric(.2)), 2), round(rng.lognormal(0, .8) + .01, 2), m))
            rows.append((ADD, s, *live[s][-1]))
        elif u < .99: rows.append((CANCEL, s, *live[s].pop(int(rng.integers(len(live[s]))))))
        else:
            rows.append((TRADE, -s, *live[s].pop(max(range(len(live[s])), key=lambda i: s * live[s][i][0]))))
            mid = round(mid + .01 * rng.choice([-1, 1]), 2)
    kind, side, price, size, order = map(np.array, zip(*rows))
    flow = OrderFlow(1_700_000_000 * 10 ** 9 + np.cumsum(rng.exponential(2e7, M).astype(np.int64)), kind, side, price, size, order, np.full(M, -1))
    return with_accounts(flow, rng)


@pytest.fixture(scope="module")
def busy():
    "A simulated book with two episodes of each pattern that needs orders."
    flow, rng = simulated(), np.random.default_rng(4)
    for pattern in PATTERNS[:5]: flow, _ = inject(flow, pattern, rng, 3, 2)
    return flow


def same_episodes(a, b, but=()):
    for name in a.dtype.names:
        if name not in but: np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_planted_manipulation_is_found_in_real_order_flow(real):
    got = bench.measure(real, 2, 21, "tune")
    assert got["precision"] > .85 and got["accuracy"] > .9 and got["false-positive rate"] < .1 and got["recall"] > .6
    assert 0 < got["prevalence"] < .4 and got["PR-AUC of windows"] > 2 * got["PR-AUC of ECOD"]


def test_honest_flow_is_seldom_accused(real):
    assert len(bench.alerts_of(with_accounts(real, np.random.default_rng(3)), episodes.ALPHA)) <= 3       # half an hour
    assert sum(bench.decoys(real, 3).values()) <= 1


def test_no_field_of_one_message_gives_it_away(real): assert bench.giveaway(real, range(1, 7), each=False)["all fields"] <= .55


def test_real_order_flow_in_pieces_gives_the_same_episodes(planted):
    flow, whole = planted[0], episodes.detect(planted[0])
    cuts = [0, 1, 6500, 6501, 90_000, 200_000, len(flow)]
    feed = episodes.stream()
    same_episodes(np.concatenate([feed.update(flow[a:b])[0] for a, b in zip(cuts, cuts[1:])]), whole)
    assert whole.size > 20
    for cut in (50_000, 150_000, 250_000): same_episodes(episodes.detect(flow[:cut]), whole[whole["confirm"] <= flow.time[cut - 1]])


@pytest.mark.jit
def test_three_hundred_thousand_messages_take_about_a_second(planted):
    episodes.detect(planted[0][:1000])
    took = []
    for _ in range(3):
        start = time.process_time()
        episodes.detect(planted[0])
        took.append(time.process_time() - start)
    assert len(planted[0]) > 300_000 and min(took) < 2


def test_touch_equals_a_book_of_dictionaries(real):
    flow = real[:20_000]
    book, got = ({}, {}), touch(flow)
    for m in range(len(flow)):
        own = 0 if (flow.side[m] > 0) == (flow.kind[m] != TRADE) else 1
        levels, price = book[own], flow.price[m]
        if flow.kind[m] == TRADE:
            for other in [p for p in levels if (p > price if own == 0 else p < price)]: del levels[other]
        if flow.kind[m] == ADD: levels[price] = levels.get(price, 0.) + flow.size[m]
        elif price in levels:
            levels[price] -= flow.size[m]
            if levels[price] <= 1e-9 * flow.size[m]: del levels[price]
        if m % 500 == 0: np.testing.assert_array_equal(got[m], [max(book[0], default=np.nan), min(book[1], default=np.nan)])


def test_names_of_accounts_and_orders_do_not_matter(busy):
    rng, found = np.random.default_rng(5), episodes.detect(busy)
    account, order = rng.permutation(10_000), rng.permutation(busy.order_id.max() + 1)
    other = episodes.detect(replace(busy, account=account[busy.account], order_id=order[busy.order_id]))
    assert found.size >= 5 and set(found["kind"]) <= set(PATTERNS)
    order = lambda rows: np.sort(rows, order=("confirm", "kind", "start"))
    same_episodes(order(other), order(found), but=("account",))


def test_price_units_sizes_and_the_calendar_do_not_matter(busy):
    found = episodes.detect(busy)
    other = episodes.detect(replace(busy, price=busy.price * 8., size=busy.size * 4., time=busy.time + 10 ** 15))
    np.testing.assert_array_equal(other["kind"], found["kind"])
    np.testing.assert_array_equal(other["start"] - 10 ** 15, found["start"])
    np.testing.assert_allclose(other["p"], found["p"], rtol=1e-6)
    np.testing.assert_allclose(other["low"], 8. * found["low"])


def test_bids_and_offers_are_treated_alike(busy):
    high = 10_000. + busy.price                         # so that "near the touch", which is relative to the price, is the same both ways
    found, other = episodes.detect(replace(busy, price=high)), episodes.detect(replace(busy, side=-busy.side, price=20_200. - high))
    np.testing.assert_array_equal(other["kind"], found["kind"])
    np.testing.assert_array_equal(other["side"], -found["side"])
    np.testing.assert_array_equal(other["start"], found["start"])


def test_an_alert_says_why_and_how_sure(busy):
    for one in episodes.detect(busy):
        assert 0 < one["p"] <= episodes.ALPHA and one["score"] == pytest.approx(-np.log10(one["p"])) and len(one["evidence"]) > 20
        assert one["start"] <= one["end"] < one["confirm"] and one["low"] <= one["high"] and one["account"] >= 0


def test_anonymous_flow_gets_kinds_that_say_so(busy):
    nobody = np.full(len(busy), -1)
    for flow in (replace(busy, account=nobody), replace(busy, account=nobody, order_id=nobody)):
        found = episodes.detect(flow, alpha=.05)
        assert found.size and all(kind.endswith("-like") for kind in found["kind"]) and (found["account"] == -1).all()


def test_a_stream_refuses_bad_messages_and_forgets_them(busy):
    feed, whole = episodes.stream(), episodes.detect(busy)
    first = feed.update(busy[:6000])[0]
    for bad in (busy[:10], replace(busy[6000:6010], size=np.zeros(10)), busy[6000:6000]):
        with pytest.raises(DataError): feed.update(bad)
    same_episodes(np.r_[first, feed.update(busy[6000:])[0]], whole)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 80), st.floats(1e-9, 60.))
def test_chances_equal_scipy(k, mu): assert poisson_tail_nb(k, mu) == pytest.approx(stats.poisson.sf(k - 1, mu), rel=1e-7, abs=1e-290)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-6, 1e9), min_size=5, max_size=60))
def test_first_digits_equal_their_decimal_form(values):
    chi, counts = first_digits(np.array(values))
    assert counts.sum() == len(values) and chi == pytest.approx(stats.chisquare(counts, BENFORD / BENFORD.sum() * len(values)).statistic)
    plain = np.bincount([int(f"{v:.17e}"[0]) for v in values], minlength=10)[1:]
    assert abs(counts - plain).sum() <= 2 * sum(f"{v:.17e}"[1:9] in (".9999999", ".0000000") or f"{v:.6e}"[0] != f"{v:.17e}"[0] for v in values)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from((-1, 1))), min_size=5, max_size=60), st.integers(1, 30), st.integers(1, 4))
def test_vpin_equals_unit_by_unit(told, bucket, n):
    size, side = map(np.array, zip(*told))
    got = toxicity(flow_from_trades(np.arange(size.size), np.ones(size.size), size, side), float(bucket), n)
    units = np.repeat(side, size)
    for k, done in enumerate(np.cumsum(size) // bucket):
        last = units[:done * bucket].reshape(-1, bucket)[-n:]
        assert np.isnan(got[k]) if done < n else got[k] == pytest.approx(abs(last.sum(axis=1)).mean() / bucket, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(-10, 10)), min_size=3, max_size=40))
def test_ecod_equals_its_definition(rows):
    x = np.array(rows, np.float64)
    low, high = (-np.log([[op(x[:, c], v).mean() for c, v in enumerate(row)] for row in x]) for op in (np.less_equal, np.greater_equal))
    left = ((x - x.mean(axis=0)) ** 3).sum(axis=0) < 0
    np.testing.assert_allclose(anomaly.ecod(x), np.max([low.sum(1), high.sum(1), np.where(left, low, high).sum(1)], axis=0), atol=1e-12)


@pytest.fixture(scope="module")
def pumped():
    "Real trades of the E-mini with three pumps planted, as bars of five seconds and the messages inside them."
    flow, truth = inject(trades("ticks")[:40_000], "pump_and_dump", np.random.default_rng(2), 3, 3)
    bars = bars_from_trades(flow, "5s", "ES")
    return bars, flow[flow.time < bars.time[-1]], truth


def test_pumps_in_real_trades_are_found_and_lean_the_other_way(pumped):
    bars, flow, truth = pumped
    reading = anomaly.read(bars, flow=flow)
    check_reading(reading, len(bars))
    found = reading.events[reading.events["kind"] == "pump_and_dump"]
    hit = [((truth["start"] <= bars.time[e["confirm_idx"]]) & (truth["end"] + 30 * 10 ** 9 >= bars.time[e["event_idx"]])).any() for e in found]
    assert len(found) >= 2 and all(hit) and (reading.lean[found["confirm_idx"]] < -.3).all() and (reading.alarm[found["confirm_idx"]] > .95).all()


def test_untouched_real_trades_are_left_alone(): assert len(pumps(trades("ticks"))) <= 3           # 45 hours


def test_a_sense_with_flow_is_the_same_in_pieces(pumped):
    bars, flow, _ = pumped
    whole, rng = anomaly.read(bars, flow=flow), np.random.default_rng(1)
    for _ in range(3):
        feed, parts, cuts = anomaly.stream("ES"), [], np.r_[0, np.sort(rng.choice(np.arange(1, len(bars)), 12, replace=False)), len(bars)]
        for a, b in zip(cuts, cuts[1:]): parts.append(feed.update(bars[a:b], flow=flow[(flow.time >= (bars.time[a - 1] if a else 0)) & (flow.time < bars.time[b - 1])]))
        live = joined(parts)
        for name in COLUMNS: np.testing.assert_allclose(getattr(live, name), getattr(whole, name), rtol=0, atol=1e-9)
        for field in ("kind", "event_idx", "confirm_idx", "state"): np.testing.assert_array_equal(live.events[field], whole.events[field])


def test_nothing_is_rewritten_with_flow(pumped):
    bars, flow, _ = pumped
    whole = anomaly.read(bars, flow=flow)
    for t in (1, 2, 90, 700, 2222, len(bars) - 1):
        part = anomaly.read(bars[:t], flow=flow[flow.time < bars.time[t - 1]])
        for name in COLUMNS: np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:t])
        known = whole.events[whole.events["confirm_idx"] < t]
        for field in ("kind", "event_idx", "confirm_idx"): np.testing.assert_array_equal(part.events[field], known[field])


def test_order_flow_reaches_the_reading(busy):
    still = flow_from_trades(busy.time[busy.kind == TRADE], busy.price[busy.kind == TRADE], busy.size[busy.kind == TRADE])
    bars = bars_from_trades(still, "5s", "MADE")
    flow = busy[busy.time < bars.time[-1]]
    reading, found = anomaly.read(bars, flow=flow), episodes.detect(flow)
    names = reading.feature_names
    assert reading.features[:, names.index("episodes")].sum() == len(found) + len(pumps(flow)) > 0
    told = reading.events[np.isin(reading.events["kind"], found["kind"])]
    assert len(told) == len(found) and set(told["state"]) <= {"bid", "offer", ""}
    column = reading.features[:, names.index("order_trade_ratio")]
    row = np.searchsorted(bars.time, flow.time, side="right")
    np.testing.assert_allclose(column, np.bincount(row, flow.kind != TRADE, len(bars)) / (1 + np.bincount(row, flow.kind == TRADE, len(bars))))
    assert np.isnan(anomaly.read(bars).features[:, 4:]).all()


def test_a_pump_stream_equals_the_whole(pumped):
    flow, feed = pumped[1], PumpStream(5.)
    cuts = [0, 3, 4000, 4001, 25_000, len(flow)]
    same_episodes(np.concatenate([feed.update(flow[a:b]) for a, b in zip(cuts, cuts[1:])]), pumps(flow))


def test_planting_is_disclosed_by_its_seed_alone():
    flow = simulated(5000)
    for pattern in PATTERNS:
        a, b = (inject(flow, pattern, np.random.default_rng(8), 2) for _ in range(2))
        pd.testing.assert_frame_equal(a[0].to_frame(), b[0].to_frame())
        assert a[1]["kind"][0] == pattern and len(a[0]) > len(flow) and np.isin(a[0].time, flow.time).all()

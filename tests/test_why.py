"""WHY: words with their signs and scopes, statements against each other, what was known when, and what followed."""
from datetime import UTC, datetime, timedelta, timezone
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from emp_nb.core import DataError
from emp_nb.data.catalog import load
from emp_nb.data.feeds import Document
from emp_nb.data.vendors import BANK_FEEDS
from emp_nb.sensory import why
from emp_nb.sensory.lexicon import DIRECTIONS, NEGATIONS, TOPICS, classify, hawkishness, split_sentences, stance
from emp_nb.sensory.macro import RELEASE, surprises, yearly_change
from emp_nb.sensory.reading import RANK_MIN, check_reading
from emp_nb.sensory.statements import geopolitical, novelty, substance, tone_change

def Paper(source, title, text, first_seen): return Document(source, title, text, "", None, first_seen)
words = lambda signs: [(phrase, sign) for sign, phrases in signs.items() for phrase in phrases.split("; ")]
NOUNS = [(t, s) for t, s in words(TOPICS) if t not in ("accommodative", "accommodative stance")]
SENTENCES = ("Inflation has risen.", "Growth has slowed.", "The Committee met today.", "Wages increased sharply.", "Unemployment declined further.", "Slack has diminished.", "Credit markets were calm.")


@pytest.fixture(scope="module")
def spx(): return load("spx")


def column(reading, name): return reading.features[:, reading.feature_names.index(name)]


@pytest.mark.parametrize("topic,sign", NOUNS)
def test_each_topic_turns_with_its_direction(topic, sign):
    assert hawkishness(f"The {topic} rose.") == sign == -hawkishness(f"The {topic} fell.")


@pytest.mark.parametrize("direction,sign", words(DIRECTIONS))
def test_each_direction_turns_with_its_topic(direction, sign):
    assert np.sign(hawkishness(f"Inflation was {direction}.")) == sign == -np.sign(hawkishness(f"Slack was {direction}."))


@pytest.mark.parametrize("denial", NEGATIONS.split("; "))
def test_a_denial_turns_what_it_covers_and_no_more(denial):
    assert hawkishness(f"There is {denial} rising inflation.") == -1
    assert hawkishness(f"There is {denial} one here, but inflation is rising.") == 1
    assert hawkishness(f"There is {denial} one in all of the large room with rising inflation.") == 1       # out of scope


@given(st.sampled_from("flow below glow plow lowland upstairs moreover growths".split()), st.sampled_from(("inflation", "demand")))
def test_words_inside_words_do_not_count(inner, topic): assert hawkishness(f"The {topic} of the {inner}.") == 0


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_gets_a_label_and_a_stance(text):
    said = split_sentences(text)
    assert len(classify(said)) == len(said) and (not said or -1 <= stance(said) <= 1)
    assert tone_change(text, text) == 0 and geopolitical(text)[0] in (True, False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=6), st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=6))
def test_a_change_of_tone_is_turned_by_time_and_lies_in_its_range(now, then):
    a, b = " ".join(now), " ".join(then)
    assert -2 <= tone_change(a, b) <= 2 and tone_change(a, b) == pytest.approx(-tone_change(b, a))
    fresh = novelty(substance(a), substance(b))
    assert ((fresh == 0) | (fresh > 1e-9)).all() and (fresh[[s in then for s in now]] < 1e-9).all()


def test_only_what_was_seen_is_known_and_zones_are_respected(spx):
    bars = spx[:600]
    seen = datetime.fromtimestamp(bars.time[300] / 1e9, UTC)
    read = lambda first_seen: why.read(bars, documents=[Paper("fed", "", "Inflation has risen.", first_seen)])
    for stamp in (int(bars.time[300]), seen, seen.astimezone(timezone(timedelta(hours=9)))):
        assert np.flatnonzero(np.isfinite(column(read(stamp), "tone")))[0] == 300 + RANK_MIN
        assert read(stamp).events["confirm_idx"].tolist() == [300]
    assert read(int(bars.time[300]) + 1).events["confirm_idx"].tolist() == [301]
    assert not read(int(bars.time[-1]) + 1).events.size


def test_a_document_of_tomorrow_changes_nothing_today(spx):
    bars = spx[:900]
    early = [Paper("fed", "", SENTENCES[k % 4], int(bars.time[20 * k])) for k in range(20)]
    late = [Paper("fed", "", "Inflation soared. " + SENTENCES[0], int(bars.time[500])), Paper("wire", "War", "Troops attacked.", int(bars.time[510]))]
    a, b = why.read(bars, documents=early), why.read(bars, documents=early + late)
    for name in ("lean", "alarm", "confidence", "features"): np.testing.assert_array_equal(getattr(a, name)[:500], getattr(b, name)[:500])
    assert (a.lean[500:] != b.lean[500:]).any()


def test_evidence_that_is_absent_has_no_vote(spx):
    credit = load("credit_spread")
    money = why.read(spx, macro={"credit": (credit.time, credit.close)})
    check_reading(money, len(spx))
    assert all(np.isnan(column(money, name)).all() for name in ("slope", "inflation", "surprise", "tone", "threats"))
    assert np.isfinite(column(money, "credit")[RANK_MIN:]).all() and np.isnan(why.read(spx).lean).all()
    score = -column(money, "credit")[RANK_MIN:]
    np.testing.assert_allclose(money.lean[RANK_MIN:], score / (abs(score) + 2))
    np.testing.assert_allclose(money.confidence[RANK_MIN:], score ** 2 / (4 + score ** 2))


def test_surprises_are_scaled_by_their_own_past_and_need_a_consensus(spx):
    rng, bars = np.random.default_rng(2), spx[:1500]
    rows = np.array([(bars.time[10 * k], "payrolls", a, 0. if k % 5 else np.nan, 1.) for k, a in enumerate(rng.standard_normal(140))], RELEASE)
    got, gaps = surprises(rows, {}), []
    for row, z in zip(rows, got):
        gap = row["actual"] - row["consensus"]
        assert np.isnan(z) if np.isnan(gap) or len(gaps) < 8 else z == pytest.approx(gap / np.sqrt(np.mean(np.square(gaps))))
        if not np.isnan(gap): gaps.append(gap)
    states = why.read(bars, releases=rows).events["state"]
    assert set(states) == {"no surprise", "above", "below"} and (states == "no surprise").sum() == np.isnan(got).sum()


def test_an_inverted_curve_is_an_event_once(spx):
    bars = spx[:400]
    slope = np.r_[np.full(100, 1.), np.full(50, -.2), np.full(250, .3)]
    events = why.read(bars, macro={"slope": (bars.time, slope)}).events
    turned = events[events["kind"] == "inversion"]
    assert turned["confirm_idx"].tolist() == [100, 150] and turned["state"].tolist() == ["inverted", "normal"]


def test_talk_of_conflict_spikes_against_its_own_past(spx):
    bars = spx[:1000]
    text = lambda k: "Tensions rose as troops massed." if k >= 700 or k % 20 == 0 else "The team won."
    reading = why.read(bars, documents=[Paper("wire", "News", text(k), int(t)) for k, t in enumerate(bars.time[:760])])
    threats, spikes = column(reading, "threats"), reading.events[reading.events["kind"] == "geopolitical"]
    assert threats[650:700].max() < 2.5 < threats[730] and "threats" in spikes["state"][spikes["confirm_idx"] >= 700]
    assert (column(reading, "acts")[RANK_MIN + 1:] == 1).all() and reading.lean[740] < reading.lean[690]


def test_memory_is_what_followed_and_only_what_was_complete(spx):
    bars = spx[:1200]
    reading = why.read(bars, documents=[Paper("fed", "", ("Inflation rose.", "Inflation fell.")[k % 2], int(bars.time[60 * k])) for k in range(1, 20)])
    memory, hawkish = column(reading, "memory"), reading.events["confirm_idx"][reading.events["state"] == "hawkish"]
    r2, variance = np.r_[0., np.diff(np.log(bars.close)) ** 2], np.zeros(1200)
    for t in range(1, 1200): variance[t] = variance[t - 1] + 2 / 65 * (r2[t] - variance[t - 1])
    for i, t in enumerate(hawkish):
        past = [np.log(bars.close[h + 20] / bars.close[h]) / np.sqrt(20 * variance[h]) for h in hawkish[:i]]
        if np.isfinite(reading.lean[t]): np.testing.assert_allclose(memory[t:t + 20], sum(past) / (len(past) + 4), rtol=1e-9)
        if np.isfinite(reading.lean[t]): assert memory[t + 20] == 0


def test_what_comes_too_late_or_broken_is_refused_and_leaves_no_trace(spx):
    bars, credit = spx[:400], load("credit_spread")
    feed = why.stream("SPX")
    feed.update(bars[:300], macro={"credit": (credit.time[credit.time <= bars.time[299]], credit.close[credit.time <= bars.time[299]])})
    good = (np.r_[bars.time[300]], np.r_[1.])
    for own, told in (({"macro": {"credit": (np.r_[bars.time[299]], np.r_[1.])}}, "must be new"), ({"documents": [Paper("fed", "", "x", int(bars.time[10]))]}, "must be new"),
                      ({"macro": {"credit": (good[0], np.r_[np.nan])}}, "finite"), ({"macro": {"gold": good}}, "slope, credit"), ({"documents": [Paper("fed", "", "x", None)]}, "first seen")):
        with pytest.raises(DataError, match=told): feed.update(bars[300:301], **own)
    after = feed.update(bars[300:])
    whole = why.read(bars, macro={"credit": (credit.time[credit.time <= bars.time[299]], credit.close[credit.time <= bars.time[299]])})
    np.testing.assert_array_equal(after.lean, whole.lean[300:])


def test_a_yearly_change_is_a_ratio(): assert yearly_change(np.r_[100., 110., 121.], 1) == pytest.approx([10., 10.])


def test_a_refusal_of_one_kind_leaves_what_waits_of_another(spx):
    bars, feed = spx[:400], why.stream("SPX")
    feed.update(bars[:300], documents=[Paper("fed", "", "Inflation has risen.", int(bars.time[300]))])
    late = np.array([(bars.time[5], "payrolls", 1., 0., 1.)], RELEASE)
    with pytest.raises(DataError, match="releases must be new"): feed.update(bars[300:301], releases=late)
    assert feed.update(bars[300:]).events["kind"].tolist() == ["statement"]


def test_a_stream_keeps_stamps_to_the_nanosecond(spx):
    bars, feed = spx[:400], why.stream("SPX")
    stamps, rates = np.r_[bars.time[10], bars.time[300] + 1], np.r_[1., 2.]
    parts = [feed.update(bars[:200], macro={"credit": (stamps, rates)}), feed.update(bars[200:300], macro={"slope": (bars.time[200:201], np.r_[1.])}), feed.update(bars[300:301]), feed.update(bars[301:])]
    whole = why.read(bars, macro={"credit": (stamps, rates), "slope": (bars.time[200:201], np.r_[1.])})
    np.testing.assert_array_equal(np.concatenate([p.features for p in parts]), whole.features)
    assert column(whole, "credit")[301] == 0 < column(whole, "credit")[302]           # seen first on the bar after 300


def test_the_feeds_of_banks_have_the_names_that_the_sense_listens_to(): assert tuple(BANK_FEEDS) == why.BANKS and all(feed.name == name for name, feed in BANK_FEEDS.items())

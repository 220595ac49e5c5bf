"""Rule trees: sound programs whatever is bred, one meaning in every interpreter, one execution for both kinds of genome."""
import pickle
import numpy as np
import pytest
from test_kernel import FEES, NAMES, market_like
from emp_nb.core import DataError
from emp_nb.evolution.evolve import best, evolve
from emp_nb.evolution.genome import clip, random, sentence, spec_for
from emp_nb.evolution.interpreter import rule_values
from emp_nb.evolution.kernel import _replay_reference, evaluate, evaluate_reference, replay
from emp_nb.evolution.rules import ARITY, CONSTANT, FEATURE, OPERATIONS, STEPS, Rules, depth_nb, phrase, rules_for, run_reference, sound, vary_programs

TRADES, SHARPE = NAMES.index("trades"), NAMES.index("sharpe")


def busy_rules(market, count, seed=3, depth=6):
    "Rules that trade often: low entries, tight levels, every regime expressed."
    spec = rules_for(market.feature_names, max_hold=40, depth=depth)
    drawn = random(spec, count, np.random.default_rng(seed))
    params = drawn.params.copy()
    for name, factor in (("long_entry", .3), ("short_entry", .3), ("stop", .3), ("take", .2), ("bias", .3)): params[:, spec.column(name)] *= factor
    for code in range(9): params[:, spec.column(f"regime_{code}")] = 1.
    return Rules(spec, clip(spec, params).params, drawn.programs)


def constant(value): return CONSTANT + int(round((value + 2) * STEPS))
def row_of(spec, *words): return np.array([[*words, *[0] * (spec.length - len(words))]], np.int16)


# ── programs ──

@pytest.mark.parametrize("depth", [1, 3, 6, 12])
def test_a_drawn_program_is_sound_and_not_too_deep(depth):
    spec = rules_for(("a", "b", "c"), depth=depth)
    programs = random(spec, 300, np.random.default_rng(depth)).programs
    assert programs.shape == (300, spec.length) and sound(programs, 3, depth).all()
    assert max(depth_nb(p) for p in programs) == min(depth, 6)
    words = programs[programs > 0]
    assert set(words[words < FEATURE]) == set(range(1, len(OPERATIONS))) and (words >= CONSTANT).any()


def test_generations_of_children_stay_sound_and_keep_their_variety():
    spec = rules_for(("a", "b", "c"), depth=5)
    rules, rng = random(spec, 200, np.random.default_rng(1)), np.random.default_rng(2)
    for _ in range(50): rules = Rules(spec, rules.params, vary_programs(rules, rules[rng.permutation(200)], rng))       # refuses what is not sound
    assert len(np.unique(rules.programs, axis=0)) > 100


def test_a_child_is_a_function_of_its_parents_and_the_generator():
    rules = random(rules_for(("a", "b")), 50, np.random.default_rng(1))
    first, again, other = (vary_programs(rules, rules[::-1], np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("words", [(16, 1), (16, 17), (16, 0, 17), (12,), (18,), (-3,), (16, 17, 1, 8, 8)])
def test_what_is_no_program_is_refused(words):
    spec = rules_for(("a", "b"), depth=2)
    with pytest.raises(DataError, match="one sound program"): Rules(spec, random(spec, 1, np.random.default_rng(1)).params, row_of(spec, *words))


def test_rules_travel_as_bytes_and_are_cut_and_joined_as_genomes_are():
    rules = random(rules_for(("a", "b")), 9, np.random.default_rng(1))
    for twin in (pickle.loads(pickle.dumps(rules)), rules[:4].joined(rules[4:])):
        np.testing.assert_array_equal(twin.programs, rules.programs)
        np.testing.assert_array_equal(twin.params, rules.params)
        assert twin.spec == rules.spec


def test_a_phrase_has_a_sign_for_every_operation():
    spelt = dict(add="(a + b)", sub="(a - b)", mul="(a · b)", div="(a / b)", max="max(a, b)", min="min(a, b)", neg="-a", abs="|a|", above="(a above b ? 1 : -1)")
    for word, name in list(enumerate(OPERATIONS))[1:]: assert phrase([FEATURE, FEATURE + 1][:ARITY[word]] + [word], ("a", "b")) == spelt[name]


# ── interpreter = reference ──

def test_the_interpreter_is_the_reference():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1100, 4)) * [1., 10., .1, 1.]
    features[7, 2] = np.nan
    rules = random(rules_for("abcd", scales=[1., .1, 10., 2.]), 40, rng)
    rows = np.r_[0:40, 505:520, 1090:1100]
    truth = np.array([[rules.signal(i)(row) for row in np.nan_to_num(features[rows]).tolist()] for i in range(40)])
    np.testing.assert_allclose(rule_values(features, rules, precision=np.float64)[:, rows], truth, rtol=1e-12, atol=1e-12)
    quick = rule_values(features, rules)
    assert np.isclose(quick[:, rows], truth, rtol=1e-3, atol=1e-3).mean() > .995
    np.testing.assert_array_equal(rule_values(features, rules, threads=3), quick)
    np.testing.assert_array_equal(rule_values(features[:600], rules), quick[:, :600])                                    # the future does not matter
    with pytest.raises(ValueError, match="threads"): rule_values(features, rules, threads=0)


def test_every_operation_on_every_kind_of_number():
    spec = rules_for(("a", "b"), depth=1)
    features = np.array([(a, b) for a in (-2., 0., .0005, 3., np.inf) for b in (-1., -.0005, 0., .002, 3.)])
    for word in range(1, len(OPERATIONS)):
        rules = Rules(spec, random(spec, 1, np.random.default_rng(1)).params, row_of(spec, *[FEATURE, FEATURE + 1][:ARITY[word]], word))
        truth = [run_reference(rules.programs[0], row) for row in np.nan_to_num(features).tolist()]
        np.testing.assert_array_equal(rule_values(features, rules, precision=np.float64)[0], truth, err_msg=OPERATIONS[word])


# ── one execution for both kinds ──

@pytest.mark.parametrize("close_only", [False, True])
def test_rules_are_executed_as_the_reference_says(close_only):
    market, other = market_like(1, close_only=close_only), market_like(2, rows=230, close_only=close_only)
    rules = busy_rules(market, 20)
    truth = evaluate_reference(market, rules, (other,), **FEES)
    np.testing.assert_allclose(evaluate(market, rules, (other,), precision=np.float64, **FEES), truth, rtol=1e-11, atol=1e-12)
    fast = evaluate(market, rules, (other,), **FEES)
    same = (truth[..., TRADES] == fast[..., TRADES]) & (abs(truth - fast)[..., SHARPE] <= .002)
    assert same.mean() >= .95 and truth[..., TRADES].sum() > 200
    pnl, position = replay(market, rules, with_position=True, **FEES)
    for i in range(5):
        expected = _replay_reference(market, rules, i, 2e-4)
        np.testing.assert_allclose(pnl[i], expected[0], rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(position[i], expected[1], rtol=1e-12)


def test_a_rule_that_is_a_weighted_sum_trades_as_the_weights_do():
    market = market_like(3, features=2)
    weights = spec_for(market.feature_names, max_hold=40)
    genes = random(weights, 1, np.random.default_rng(3)).params.copy()
    genes[0, :2], genes[0, weights.column("long_entry")] = [.75, -.5], .1
    genome, spec = clip(weights, genes), rules_for(market.feature_names, scales=[2 ** -.5] * 2, max_hold=40)
    rule = Rules(spec, genome.params[:, 2:], row_of(spec, constant(.75), FEATURE, 3, constant(-.5), FEATURE + 1, 3, 1))
    ours, theirs = (evaluate(market, g, precision=np.float64, **FEES) for g in (rule, genome))
    assert theirs[0, 0, TRADES] > 3
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.jit
def test_the_result_is_bitwise_the_same_for_any_cut_and_any_threads():
    market = market_like(5)
    rules = busy_rules(market, 300)
    whole = evaluate(market, rules, threads=1, **FEES)
    np.testing.assert_array_equal(np.concatenate([evaluate(market, rules[k:k + 70], threads=2, **FEES) for k in range(0, 300, 70)]), whole)


def test_a_score_that_is_no_number_holds_no_position():
    market = market_like(6, features=1)
    spec = rules_for(market.feature_names, depth=7)
    large = [constant(1.9), *[constant(.0015), 4] * 4]                          # 1.9 / .0015 / .0015 / .0015 / .0015
    huge = [*large, *large, 3, *large, *large, 3, 3]                            # to the fourth power: more than float32 holds
    rules = Rules(spec, random(spec, 1, np.random.default_rng(1)).params, row_of(spec, *huge, *huge, 2))
    assert np.isnan(rule_values(market.features, rules)).all()
    assert evaluate(market, rules, **FEES)[0, 0, TRADES] == 0


def test_genes_without_programs_are_refused_by_name():
    market = market_like(7)
    spec = rules_for(market.feature_names)
    with pytest.raises(ValueError, match="no gene"): evaluate(market, clip(spec, random(spec, 2, np.random.default_rng(1)).params), **FEES)


def test_a_rule_reads_as_a_sentence():
    spec = rules_for(("what.trend", "what.adx"))
    rules = Rules(spec, random(spec, 1, np.random.default_rng(1)).params, row_of(spec, FEATURE, constant(.5), 2, FEATURE + 1, 4))
    assert " + ((what.trend - 0.50) / what.adx); buy" in sentence(rules, 0)


# ── a search that grows rules ──

@pytest.mark.jit
def test_a_search_over_rules_learns_repeats_itself_and_resumes():
    market, kept = market_like(11, rows=600, features=3), []
    spec = rules_for(market.feature_names, max_hold=40, depth=4)
    run = dict(population=40, seed=5, progress=False, **FEES)
    whole = evolve(market, spec, generations=8, checkpoint=kept.append, **run)
    assert whole.history["best"][-1] > whole.history["best"][0] and isinstance(best(whole), Rules)
    assert sound(whole.tried.programs, 3, 4).all() and len(np.unique(whole.tried.programs, axis=0)) > 100
    again = evolve(market, spec, generations=8, resume=kept[3], **run)
    np.testing.assert_array_equal(again.tried.programs, whole.tried.programs)
    np.testing.assert_array_equal(again.tried_objectives, whole.tried_objectives)


@pytest.mark.jit
@pytest.mark.parametrize("other", [dict(scales=[1., 1., 2.]), dict(scales=[1.] * 3, depth=5)])
def test_a_snapshot_of_rules_continues_no_search_on_other_scales_or_depths(other):
    market, kept, run = market_like(11, features=3), [], dict(population=8, generations=2, seed=5, progress=False, **FEES)
    evolve(market, rules_for(market.feature_names, scales=[1.] * 3), checkpoint=kept.append, **run)
    with pytest.raises(ValueError, match="search that made it"): evolve(market, rules_for(market.feature_names, **other), resume=kept[0], **run)

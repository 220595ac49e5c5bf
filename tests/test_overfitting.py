"""Against luck: Hansen's test and the probability of overfitting, each beside an independent way to the same number."""
from itertools import combinations
import numpy as np
import pytest
from arch.bootstrap import SPA
from emp_nb.evolution.overfitting import pbo, spa, stationary_counts_nb


def returns(seed, strategies=30, bars=300, skill=0.):
    x = .01 * np.random.default_rng(seed).standard_t(5, (strategies, bars))
    x[3] += skill
    return x


@pytest.mark.parametrize("seed", (1, 2, 3))
@pytest.mark.parametrize("studentize", (True, False))
def test_spa_equals_a_walk_through_every_drawn_history(seed, studentize):
    x = returns(seed, skill=.0015)
    found = spa(x, block_bars=8, resamples=150, rng=np.random.default_rng(seed), studentize=studentize)
    counts = stationary_counts_nb(np.random.default_rng(seed), 150, 300, 8.)
    drawn = np.array([[sum(np.repeat(row, c.astype(int))) / 300 for row in x] for c in counts])
    mean = x.mean(axis=1)
    deviation = np.sqrt(300) * np.sqrt(((drawn - mean) ** 2).mean(axis=0))
    unit = deviation if studentize else 1.
    top = max((np.sqrt(300) * mean / unit).max(), 0)
    centres = np.maximum(mean, 0), np.where(mean >= -deviation / np.sqrt(300) * np.sqrt(2 * np.log(np.log(300))), mean, 0), mean
    worse = [(np.maximum((np.sqrt(300) * (drawn - c) / unit).max(axis=1), 0) >= top * (1 - 1e-12)).sum() for c in centres]
    assert (found.p_lower, found.p_value, found.p_upper) == tuple((1 + w) / 151 for w in worse)
    assert found.statistic == pytest.approx(top, rel=1e-12)


@pytest.mark.parametrize("skill", (0., .001, .002))
def test_spa_without_studentising_agrees_with_arch_up_to_the_draw(skill):
    x = returns(7, 40, 500, skill)
    ours = spa(x, block_bars=6, resamples=3000, rng=np.random.default_rng(1), studentize=False)
    theirs = SPA(np.zeros(500), -x.T, block_size=6, reps=3000, bootstrap="stationary", seed=2)
    theirs.compute()
    for mine, name in ((ours.p_lower, "lower"), (ours.p_value, "consistent"), (ours.p_upper, "upper")):
        assert abs(mine - theirs.pvalues[name]) < 4 * np.sqrt(2 * max(mine * (1 - mine), .001) / 3000) + .002


def test_a_run_begins_anywhere_and_lasts_as_long_as_it_should():
    counts = stationary_counts_nb(np.random.default_rng(4), 4000, 120, 10.)
    assert (counts.sum(axis=1) == 120).all() and abs(counts.mean(axis=0) - 1).max() < .12
    lag = [np.mean([np.corrcoef(counts[:, t], counts[:, (t + k) % 120])[0, 1] for t in range(0, 120, 10)]) for k in (1, 5, 10)]
    alone = stationary_counts_nb(np.random.default_rng(4), 4000, 120, 1.)
    assert .85 < lag[0] < .95 and lag[0] > lag[1] > lag[2] and alone.var() == pytest.approx(1 - 1 / 120, abs=.02)     # runs of one are the plain bootstrap


@pytest.mark.parametrize("parts", (2, 4, 6))
def test_pbo_equals_its_definition(parts):
    x = returns(11, 9, 121, .002)
    edges, below = np.arange(parts + 1) * 121 // parts, []
    for half in combinations(range(parts), parts // 2):
        inside = np.concatenate([np.arange(edges[k], edges[k + 1]) for k in half])
        outside = np.setdiff1d(np.arange(121), inside)
        best = np.argmax(x[:, inside].mean(axis=1) / x[:, inside].std(axis=1))
        there = x[:, outside].mean(axis=1) / x[:, outside].std(axis=1)
        below.append((there <= there[best]).sum() <= (len(x) + 1) / 2)
    assert pbo(x, parts) == np.mean(below)


def test_scale_of_the_returns_does_not_matter():
    x = returns(5, skill=.001)
    assert spa(x, block_bars=5, rng=np.random.default_rng(0)).p_value == spa(128 * x, block_bars=5, rng=np.random.default_rng(0)).p_value
    assert pbo(x, 8) == pbo(128 * x, 8)


def test_nothing_that_moves_is_no_evidence():
    still = np.zeros((4, 64))
    assert spa(still, block_bars=5, rng=np.random.default_rng(0)).p_value == 1 and pbo(still, 4) == 1

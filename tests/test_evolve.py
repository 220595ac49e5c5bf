"""The search: sorting against its definition, bounds, determinism, interruption, and that it beats luck."""
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import pytest
from conftest import ROOT
from test_fitness import FEES, SPEC, market
from emp_nb.jobs.artefacts import Checkpoint
from emp_nb.evolution.evolve import Nsga2, best, crowding_nb, evolve, pareto_rank, survivors
from emp_nb.evolution.fitness import weighted
from emp_nb.evolution.genome import clip


def rank_by_definition(scores):
    beats = (scores[:, None] >= scores).all(2) & (scores[:, None] > scores).any(2)
    rank, left, k = np.full(len(scores), -1), np.ones(len(scores), bool), 0
    while left.any():
        front = left & ~beats[left].any(0)
        rank[front], left, k = k, left & ~front, k + 1
    return rank


def crowding_by_definition(scores, rank):
    out = np.zeros(len(scores))
    for front in range(rank.max() + 1):
        rows = np.flatnonzero(rank == front)
        for c in range(scores.shape[1]):
            order = rows[np.argsort(scores[rows, c], kind="stable")]
            out[order[[0, -1]]] = np.inf
            span = scores[order[-1], c] - scores[order[0], c]
            for a, i, b in zip(order, order[1:], order[2:]):
                if span > 0: out[i] += (scores[b, c] - scores[a, c]) / span
    return out


@pytest.mark.parametrize("seed", range(12))
def test_fronts_and_crowding_equal_their_definitions(seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((int(rng.integers(1, 90)), int(rng.integers(1, 5))))
    if seed % 3 == 0: scores = scores.round(1)
    rank = pareto_rank(scores)
    np.testing.assert_array_equal(rank, rank_by_definition(scores))
    np.testing.assert_allclose(crowding_nb(scores, rank), crowding_by_definition(scores, rank), rtol=1e-12)


def test_survivors_take_whole_fronts_before_any_part_of_the_next():
    scores = np.random.default_rng(5).random((60, 3))
    rows, rank, _ = survivors(scores, 30)
    assert len(set(rows)) == 30 and (np.diff(rank) >= 0).all()
    assert set(np.flatnonzero(pareto_rank(scores) < rank[-1])) <= set(rows)


def test_children_stay_inside_every_domain_and_grid():
    search, rng = Nsga2(SPEC, 40, seed=1), np.random.default_rng(2)
    for _ in range(5):
        asked = search.ask()
        np.testing.assert_array_equal(clip(SPEC, asked.params).params, asked.params)
        search.tell(rng.random((40, 4)))


def test_a_dominating_genome_is_never_lost():
    search = Nsga2(SPEC, 20, seed=3)
    for g in range(6):
        asked, scores = search.ask(), np.random.default_rng(g).random((20, 4))
        if g == 0: scores[11], champion = 2., asked.params[11]
        search.tell(scores)
    assert (search.state[0].params == champion).all(1).any()


@pytest.mark.jit
def test_the_result_is_the_same_bit_by_bit_for_any_executor():
    args = dict(population=140, generations=3, seed=5, scenarios=(market(8),), progress=False, **FEES)
    alone = evolve(market(1), SPEC, **args)
    for workers in (1, 3):
        with ThreadPoolExecutor(workers) as pool: other = evolve(market(1), SPEC, executor=pool, **args)
        for name in ("objectives", "front", "front_metrics", "history", "tried_objectives"):
            np.testing.assert_array_equal(getattr(other, name), getattr(alone, name), err_msg=name)
        np.testing.assert_array_equal(other.tried.params, alone.tried.params)
    assert (evolve(market(1), SPEC, **args | dict(seed=6)).tried.params != alone.tried.params).any()


@pytest.mark.jit
def test_ctrl_c_keeps_the_last_whole_generation_and_says_so():
    args = dict(population=16, seed=5, progress=False, **FEES)
    whole = evolve(market(1), SPEC, generations=3, **args)
    pressed = evolve(market(1), SPEC, generations=9, callback=lambda row: row["generation"] == 2 and signal.raise_signal(signal.SIGINT), **args)
    assert pressed.interrupted and not whole.interrupted and len(pressed.history) == 3
    np.testing.assert_array_equal(pressed.history, whole.history)
    np.testing.assert_array_equal(pressed.population.params, whole.population.params)


class Pressed:
    "An executor during whose first task somebody presses Ctrl-C."
    def map(self, task, items): signal.raise_signal(signal.SIGINT)


def test_ctrl_c_before_any_generation_passes_through():
    with pytest.raises(KeyboardInterrupt): evolve(market(1), SPEC, population=8, generations=2, seed=5, progress=False, executor=Pressed(), **FEES)


@pytest.mark.jit
def test_the_log_holds_every_genome_and_the_winner_is_its_best():
    result = evolve(market(1), SPEC, population=24, generations=6, seed=2, progress=False, **FEES)
    fitness = weighted(result.tried_objectives, result.weights)
    assert len(result.tried) == 24 * 6 and result.history["best"][-1] == fitness.max() and (np.diff(result.history["best"]) >= 0).all()
    np.testing.assert_array_equal(best(result).params[0], result.tried.params[fitness.argmax()])
    assert result.market_digest == market(1).digest and result.front_metrics.shape[0] == len(result.front)


@pytest.mark.jit
def test_evolution_beats_random_search_at_equal_evaluations():
    better = 0
    for seed in range(5):
        args = dict(seed=seed, progress=False, **FEES)
        evolved = evolve(market(20 + seed), SPEC, population=40, generations=12, **args)
        drawn = evolve(market(20 + seed), SPEC, population=480, generations=1, **args)
        better += evolved.history["best"][-1] > drawn.history["best"][-1]
    assert better >= 4


@pytest.mark.jit
def test_progress_is_shown_or_silent(capfd):
    args = dict(population=8, generations=2, seed=1, **FEES)
    evolve(market(1), SPEC, progress=False, **args)
    assert capfd.readouterr() == ("", "")
    evolve(market(1), SPEC, progress=True, **args)
    shown = capfd.readouterr().err
    assert "best=" in shown and "median=" in shown and "diversity=" in shown


@pytest.mark.jit
def test_the_search_is_the_same_bit_by_bit_for_any_block():
    args = dict(population=70, generations=2, seed=5, progress=False, **FEES)
    alone = evolve(market(1), SPEC, **args)
    with ThreadPoolExecutor(2) as pool:
        for block in (1, 7, 64, 500):
            np.testing.assert_array_equal(evolve(market(1), SPEC, executor=pool, block=block, **args).tried_objectives, alone.tried_objectives)


class Sender:
    "An executor as a remote one is: the task and its arguments travel as bytes, and are what a cluster would scatter."
    def map(self, task, blocks):
        self.bound = task.args
        return [pickle.loads(pickle.dumps(task))(pickle.loads(pickle.dumps(block))) for block in blocks]


def test_a_task_carries_the_markets_and_travels_as_bytes():
    args, sender, worlds = dict(population=12, generations=2, seed=5, progress=False, **FEES), Sender(), (market(8),)
    alone, sent = evolve(market(1), SPEC, scenarios=worlds, **args), evolve(market(1), SPEC, scenarios=worlds, executor=sender, block=5, **args)
    np.testing.assert_array_equal(sent.tried_objectives, alone.tried_objectives)
    assert sender.bound[0].digest == market(1).digest and sender.bound[1][0] is worlds[0]


@pytest.mark.parametrize("stop", [1, 3])
def test_a_snapshot_continues_bit_by_bit(stop):
    args, kept = dict(population=16, seed=5, progress=False, **FEES), []
    whole = evolve(market(1), SPEC, generations=4, checkpoint=lambda s: kept.append(s), **args)
    again = evolve(market(1), SPEC, generations=4, resume=kept[stop - 1], **args)
    for name in ("objectives", "front", "front_metrics", "history", "tried_objectives"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name), err_msg=name)
    np.testing.assert_array_equal(again.tried.params, whole.tried.params)
    assert len(kept) == 4 and len(evolve(market(1), SPEC, generations=4, resume=kept[-1], **args).history) == 4
    for other in (dict(seed=6), dict(cost_bps=2.), dict(weights=(.25, .25, .25, .25))):
        with pytest.raises(ValueError, match="search that made it"): evolve(market(1), SPEC, generations=4, resume=kept[0], **args | other)


KILLED = """
import os, signal, sys
sys.path.insert(0, "tests")
from test_evolve import FEES, SPEC, market
from emp_nb.evolution.evolve import evolve
from emp_nb.jobs.artefacts import Checkpoint
kept = Checkpoint(sys.argv[1], "evolve", market(1).digest)
def save(snapshot):
    kept.save(snapshot)
    if snapshot["history"].size == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
evolve(market(1), SPEC, population=16, generations=6, seed=5, progress=False, checkpoint=save, resume=kept.load(), **FEES)
"""


@pytest.mark.process
def test_a_search_killed_twice_ends_as_if_it_had_not_been(tmp_path):
    for stop in (2, 4):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(stop)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == -signal.SIGKILL
    args, kept = dict(population=16, generations=6, seed=5, progress=False, **FEES), Checkpoint(tmp_path, "evolve", market(1).digest)
    assert kept.load()["history"].size == 4
    whole, again = evolve(market(1), SPEC, **args), evolve(market(1), SPEC, resume=kept.load(), **args)
    np.testing.assert_array_equal(again.tried_objectives, whole.tried_objectives)
    np.testing.assert_array_equal(again.population.params, whole.population.params)

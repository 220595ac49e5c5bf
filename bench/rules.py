"""Rule trees: 500 programs over 5 000 bars against gplearn, on the same trees.

    make bench
    python bench/rules.py --repeats 9 --seed 1

gplearn draws the trees, half and half with depths 4 to 6, over 20 features and constants in [-1, 1); each is translated word by word into a program of EMP, so both
work on the same formulas and the results are compared before any clock starts. Contestants take turns; the figure is the median over the turns, warm, the fastest
beside it. gplearn runs in float64 on one core: its `n_jobs` sends whole fits to processes, not the trees of one evaluation. EMP runs in float32, as its search
does, on one core and on all, and in float64. The last row is the whole backtest of 500 rules, orders, stops and metrics included.
"""
import argparse
import statistics
import warnings
from functools import partial
import numpy as np
from gplearn._program import _Program
from gplearn.functions import _function_map
from sklearn.utils import check_random_state
from timing import turns
from emp_nb.evolution.genome import random
from emp_nb.evolution.interpreter import rule_values
from emp_nb.evolution.kernel import evaluate
from emp_nb.evolution.market import Market
from emp_nb.evolution.rules import CONSTANT, FEATURE, OPERATIONS, STEPS, Rules, rules_for

P, T, F = 500, 5000, 20
NAMES = tuple(f"f{k}" for k in range(F))
FUNCTIONS = [_function_map[name] for name in ("add", "sub", "mul", "div", "max", "min", "neg", "abs")]


def word_of(token):
    "The word of EMP for a token of gplearn."
    if isinstance(token, (int, np.integer)): return FEATURE + int(token)
    if isinstance(token, float): return CONSTANT + round((token + 2.) * STEPS)
    return OPERATIONS.index(token.name)


def trees_of(seed):
    "500 trees as gplearn draws them, with their constants moved to the nearest that EMP can write."
    arities = {n: [f for f in FUNCTIONS if f.arity == n] for n in (1, 2)}
    state, trees = check_random_state(seed), []
    while len(trees) < P:
        tree = _Program(function_set=FUNCTIONS, arities=arities, init_depth=(4, 6), init_method="half and half", n_features=F, const_range=(-1., 1.), metric=None,
                        p_point_replace=.05, parsimony_coefficient=0., random_state=state)
        tree.program = [round(token * STEPS) / STEPS if isinstance(token, float) else token for token in tree.program]
        if len(tree.program) > 1: trees.append(tree)
    return trees


def postfix(program):
    "A prefix program as words in postfix order."
    words = iter(program)
    def tree():
        token = next(words)
        return [part for _ in range(getattr(token, "arity", 0)) for part in tree()] + [word_of(token)]
    return tree()


def rules_of(trees, rng):
    "The trees as Rules of EMP with random genes."
    spec = rules_for(NAMES, depth=6)
    programs = np.zeros((P, spec.length), np.int16)
    for row, tree in zip(programs, trees): row[:len(tree.program)] = postfix(tree.program)
    return Rules(spec, random(spec, P, rng).params, programs)


def market_of(features, rng):
    "A drawn market of closes on these features."
    ohlc = np.column_stack([np.full((T, 3), np.nan), .01 * rng.standard_t(5, T)])
    return Market("DRAWN", np.arange(T) * 86_400_000_000_000, 252., features, NAMES, ohlc, np.full(T, -1), np.arange(T) > 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    features, trees = rng.normal(size=(T, F)), trees_of(given.seed)
    rules = rules_of(trees, rng)
    market = market_of(features, rng)
    def gplearn(): return np.array([tree.execute(features) for tree in trees])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = gplearn(), rule_values(features, rules, precision=np.float64)
        off = abs(ours - theirs) / (1 + abs(theirs))
        print(f"{P} trees, {(rules.programs > 0).sum() / P:.1f} words each, deepest {max(tree.depth_ for tree in trees)}, {T} bars; float64 differs from gplearn by at most {np.nanmax(off):.1e}")
        contestants = {"gplearn": gplearn, "EMP float64, one core": partial(rule_values, features, rules, precision=np.float64, threads=1),
                       "EMP float32, one core": partial(rule_values, features, rules, threads=1), "EMP float32, all cores": partial(rule_values, features, rules),
                       "EMP whole backtest": partial(evaluate, market, rules, cost_bps=1., slippage_bps=1.)}
        spent = dict(zip(contestants, turns(*contestants.values(), repeats=given.repeats)))
    base = statistics.median(spent["gplearn"])
    for name, each in spent.items(): print(f"{name:24} {1e3 * statistics.median(each):8.1f} ms (fastest {1e3 * min(each):.1f}){base / statistics.median(each):8.1f}x")


if __name__ == "__main__": main()

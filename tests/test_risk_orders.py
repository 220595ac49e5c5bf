"""Ten thousand random lives of an account: whatever is asked, filled, cancelled or priced, no committed order leaves a hard limit breached.

What stands after each commit is measured here again from returns, prices and orders alone; no number of `check` is believed."""
import itertools, math
from collections import Counter
from dataclasses import replace
import numpy as np
import pytest
from emp_nb.core import DataError
from emp_nb.risk.book import Book, Order
from emp_nb.risk.brake import brake_start, brake_step, brake_unlock
from emp_nb.risk.exposures import instruments
from emp_nb.risk.limits import Limits, check
from emp_nb.risk.regime import RegimeStream
from emp_nb.risk.sizing import size

SEQUENCES, SYMBOLS, TOLERANCE = 10_000, tuple(f"S{k}" for k in range(6)), 1e-9
RULES = Limits(max_position=.05, max_gross=.20, max_net=.12, max_beta=.07, max_sector=.09, max_asset_class=.14, warn_cluster=.055, max_cluster=.065, max_exit_days=3., participation=.1, max_es=.0025,
               max_drawdown=.03, price_collar=.03, max_orders_per_s=4., kill_switch=True, drawdown_half=.01, drawdown_quarter=.02, drawdown_flat=.025)
SECTOR, CLASS = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
PRICES = np.array([10., 20., 30., 40., 50., 60.])
ADV = np.array([.08, .08, .03, .08, .015, .08]) * 1e6 / (.3 * PRICES)            # what three days can sell, as a share of NAV


class World:
    "Facts about six symbols in one regime, and the same facts worked out again for the judge."
    def __init__(self, seed, common, unknown=False):
        rng = np.random.default_rng(seed)
        self.market = .009 * rng.standard_t(5, 600)
        returns = common * self.market[:, None] * np.array([1.2, 1.1, 1., .9, -.4, .2]) + .007 * rng.standard_normal((600, 6))
        names = [s for s in SYMBOLS if not (unknown and s == "S5")]
        self.instruments = instruments(returns, SYMBOLS, market=self.market, tail_days=500, cluster_days=60, cluster_correlation=.6, sector={s: "abc"[g] for s, g in zip(SYMBOLS, SECTOR) if s in names},
                                       asset_class={s: "xy"[c] for s, c in zip(SYMBOLS, CLASS)}, adv=dict(zip(SYMBOLS, ADV)))
        self.beta = np.array([np.polyfit(self.market[-250:], r, 1)[0] for r in returns[-250:].T])
        x, m = returns[-60:], self.market[-60:]
        left = np.array([c - np.polyval(np.polyfit(m, c, 1), m) for c in x.T])
        self.label = self.instruments.cluster
        self.correlations = [np.maximum(np.corrcoef(y), 0) * (self.label[:, None] == self.label) for y in (x.T, left)]
        mean = [np.sort(-returns[t:t + 250].mean(axis=1)) for t in range(351)]
        start = int(np.argmax([(y[-1] + y[-2] + .5 * y[-3]) / 2.5 for y in mean]))
        self.tail, self.stressed, self.unknown = returns[-500:], returns[start:start + 250], unknown


class Account:
    "One account, its market and its clock; every event is a method."
    def __init__(self, rng, worlds):
        self.rng, self.worlds, self.world = rng, worlds, worlds[0]
        self.prices, self.held = PRICES.copy(), np.zeros(6)
        if rng.random() < .4: self.held = rng.uniform(-.06, .06, 6) * (rng.random(6) < .5) * 1e6 / PRICES        # some begin with a book, over its limits or not
        self.cash, self.open, self.times, self.now, self.killed, self.committed = 1e6 - self.held @ PRICES, [], [], 10**10, "", 0
        best = 1e6 * rng.choice([1., 1., 1.008, 1.015, 1.022, 1.0253])
        self.brake, self.regime, self.vix, self.age = brake_step(brake_step(brake_start(), best, RULES), 1e6, RULES), RegimeStream(), 15., 0
        self.look()

    def nav(self): return self.cash + sum(q * p for q, p in zip(self.held.tolist(), self.prices.tolist()))
    def price(self, o): return self.prices[SYMBOLS.index(o.symbol)]

    def book(self):
        return Book(self.nav(), {s: q for s, q in zip(SYMBOLS, self.held) if q}, dict(zip(SYMBOLS, self.prices)), tuple(self.open))

    # events

    def move(self):
        self.prices = self.prices * np.exp(self.rng.normal(0, .015, 6))

    def crash(self):
        self.prices = self.prices * np.exp(-self.rng.uniform(.05, .35) * (self.held > 0) + self.rng.uniform(.05, .35) * (self.held < 0))

    def flip(self):
        self.world, self.vix = self.worlds[self.rng.integers(len(self.worlds))], float(self.rng.choice([11., 18., 24., 35.]))
        self.look()

    def stale(self):
        self.age = int(self.rng.integers(0, 5))
        self.look()

    def look(self):
        "The regime of one more close; where it is unknown the account sizes as in a storm."
        seen = float(self.regime.update(self.vix, 22., vix_age=self.age).multiplier[0])
        self.multiplier = .6 if math.isnan(seen) else seen

    def pause(self): self.now += int(self.rng.integers(0, 3 * 10**9))

    def close(self):
        self.brake = brake_step(self.brake, self.nav(), RULES)
        if self.brake.locked and self.rng.random() < .2: self.brake = brake_unlock(self.brake, "a person")

    def switch(self): self.killed = "" if self.killed else "killed by the monitor: a test"

    def fill(self):
        if not self.open: return
        k = int(self.rng.integers(len(self.open)))
        o, part = self.open[k], float(self.rng.choice([1., self.rng.random()]))
        i, q = SYMBOLS.index(o.symbol), part * o.qty
        self.held[i] += o.direction * q
        self.cash -= o.direction * q * self.prices[i]
        if part < 1 and o.qty - q > 0: self.open[k] = replace(o, qty=o.qty - q)
        else: del self.open[k]

    def cancel(self):
        if self.open: del self.open[int(self.rng.integers(len(self.open)))]

    def blind(self):
        "A price is lost: nothing may be sent until it is back."
        i, before = int(self.rng.integers(6)), self.prices.copy()
        self.prices[i] = self.rng.choice([math.nan, 0., -1., math.inf])
        with pytest.raises(DataError): check(self.book(), [Order(SYMBOLS[i], "buy", 1., math.nan, self.now)], limits=RULES, instruments=self.world.instruments, killed=self.killed)
        self.prices = before

    def order(self):
        "Orders sized by regime, freshness and brake; whatever passes is committed, and the judge looks."
        if len(self.open) > 2: return
        book, orders = self.book(), []
        share = size(1., .12, vol_target=.10, multiplier=self.multiplier, brake=1., drawdown=book.drawdown, vix_fresh=self.age == 0).size
        for _ in range(int(self.rng.integers(1, 4))):
            i, side = int(self.rng.integers(6)), ("buy", "sell")[self.rng.integers(2)]
            qty = share * float(self.rng.exponential(.05)) * 1e6 / self.prices[i]
            if self.rng.random() < .3 and self.held[i]: side, qty = "sell" if self.held[i] > 0 else "buy", abs(self.held[i])
            limit = self.prices[i] * float(self.rng.uniform(.95, 1.05)) if self.rng.random() < .3 else math.nan
            orders.append(Order(SYMBOLS[i], side, max(qty, 1e-3), limit, self.now))
        decision = check(book, orders, limits=RULES, brake=self.brake, instruments=self.world.instruments, sent=self.times_gone(), killed=self.killed)
        assert decision.allowed == all(q == o.qty for q, o in zip(decision.size, orders))
        sent = [replace(o, qty=q) for o, q in zip(orders, decision.size) if q > 0]
        before = self.measured() if sent else None
        for o in sent:
            self.open.append(o)
            self.times.append(o.time)
            self.judge(o, before)
        self.committed += len(sent)
        return decision

    # the judge

    def times_gone(self):
        gone = Counter(self.times) - Counter(o.time for o in self.open)
        return [t for t in gone.elements() if t > self.now - 10**9]

    def measured(self):
        "What stands at worst, of every hard limit: worked out from positions, open orders and returns."
        nav = self.nav()
        w = self.held * self.prices / nav
        moves = np.zeros((len(self.open), 6))
        for k, o in enumerate(self.open): moves[k, SYMBOLS.index(o.symbol)] = o.direction * o.qty * self.price(o) / nav
        high, low = w + np.maximum(moves, 0).sum(axis=0), w + np.minimum(moves, 0).sum(axis=0)
        worst = np.maximum(np.abs(high), np.abs(low)) * ((high != 0) | (low != 0))
        world, subsets = self.world, np.array(list(itertools.product((0., 1.), repeat=len(self.open))))
        books = w + subsets @ moves
        tail, stressed = np.partition(books @ world.tail.T, 4)[:, :5], np.sort(np.partition(books @ world.stressed.T, 2)[:, :3])
        squares = [np.bincount(world.label, worst * (r @ worst)).max() for r in world.correlations]
        return {"position": worst.max(), "gross": worst.sum(), "net": np.abs(books.sum(axis=1)).max(), "beta": np.abs(books @ world.beta).max(), "sector": np.bincount(SECTOR, worst).max(),
                "class": np.bincount(CLASS, worst).max(), "cluster": math.sqrt(max(squares)), "exit": (worst * nav / self.prices / (.1 * ADV)).max(), "es": -tail.mean(axis=1).min(),
                "stress": -((stressed[:, 0] + stressed[:, 1] + .5 * stressed[:, 2]) / 2.5).min(), "worst": worst, "low": low, "high": high}

    def judge(self, o, before):
        "No limit is broken by this commit: within it, or no further out than before the orders came."
        now, nav = self.measured(), self.nav()
        below = 1 - nav / max(self.brake.reference, nav)
        steps = 0. if below >= .025 else .25 if below >= .02 else .5 if below >= .01 else 1.
        factor = min(self.brake.factor, steps)
        top = {"position": RULES.max_position, "gross": RULES.max_gross * factor, "net": RULES.max_net, "beta": RULES.max_beta, "sector": RULES.max_sector, "class": RULES.max_asset_class,
               "cluster": RULES.max_cluster, "exit": RULES.max_exit_days, "es": RULES.max_es, "stress": max(0., (RULES.max_drawdown - below) / 2)}
        for name, limit in top.items(): assert now[name] <= max(limit, before[name]) + TOLERANCE, (name, now[name], limit, before[name], o)
        i = SYMBOLS.index(o.symbol)
        crossed = now["high"][i] > TOLERANCE if o.direction > 0 else now["low"][i] < -TOLERANCE
        if self.killed or factor == 0 or self.world.unknown and (i == 5 or before["worst"][5] > 0): assert not crossed, "killed, flat or blind: closing only"
        assert math.isnan(o.limit) or abs(o.limit / self.price(o) - 1) <= RULES.price_collar + TOLERANCE
        assert sum(t > o.time - 10**9 for t in self.times) <= RULES.max_orders_per_s


EVENTS = dict(order=.42, fill=.20, cancel=.06, move=.08, crash=.02, flip=.06, stale=.03, pause=.06, close=.04, switch=.015, blind=.015)


@pytest.fixture(scope="module")
def worlds(): return [World(1, .6), World(2, 1.6), World(3, .2), World(4, .8, unknown=True)]


def test_no_sequence_of_orders_leaves_a_hard_limit_breached_by_a_commit(worlds):
    names, shares = list(EVENTS), np.array(list(EVENTS.values())) / sum(EVENTS.values())
    seen, binding, verdicts, committed = Counter(), Counter(), Counter(), 0
    for seed in range(SEQUENCES):
        rng = np.random.default_rng(seed)
        account = Account(rng, worlds)
        for k in rng.choice(len(names), size=min(60, 3 + int(rng.exponential(4.5))), p=shares):
            name, decision = names[k], getattr(account, names[k])()
            seen[name] += 1
            if name != "order" or decision is None: continue
            verdicts.update(c.verdict for c in decision.checks)
            binding.update(c.limit for c in decision.checks if c.verdict in ("breach", "unknown"))
        committed += account.committed
    assert committed > SEQUENCES and min(seen.values()) > 500, (committed, seen)
    assert set(verdicts) == {"pass", "warn", "reduces", "breach", "unknown"}, verdicts
    assert len(binding) == 14 and min(binding.values()) >= 30, binding             # every limit said no, often


def test_the_judge_finds_a_breach(worlds):
    "The test can fail: an order past each limit, committed without asking, is found."
    for symbol, side, weight in (("S0", "buy", .06), ("S4", "sell", .04)):
        account = Account(np.random.default_rng(0), worlds)
        account.killed = "" if symbol == "S0" else "killed"
        before, o = account.measured(), Order(symbol, side, weight * 1e6 / account.prices[SYMBOLS.index(symbol)], math.nan, account.now)
        account.open.append(o)
        with pytest.raises(AssertionError): account.judge(o, before)

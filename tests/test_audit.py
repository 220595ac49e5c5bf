"""The audit log: every way to tamper with it is found, and the kill switch opens for a person who quotes the kill."""
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
import numpy as np
import pytest
import sqlalchemy as sa
from emp_nb.core import DataError
from emp_nb.live.audit import GENESIS, Entry, canonical, chain_problem, entry_hash, link
from emp_nb.live.store import Store
from emp_nb.risk.book import Book, Order
from emp_nb.risk.limits import Limits, check

FIELDS = [f.name for f in fields(Entry)]


@pytest.fixture
def store(tmp_path):
    s = Store("sqlite:///ledger.sqlite", tmp_path)
    for k in range(12): s.log("decision" if k % 3 else "note", {"k": k, "x": [k * .1, None, float("nan")]}, who=f"user {k % 2}")
    yield s
    s.close()


def rows(store): return [tuple(getattr(e, n) for n in FIELDS) for e in store.entries()]


def tampered(rng, before):
    "One random change of the rows, as somebody with the database could make it: what was done, and the new rows."
    k, j = sorted(rng.choice(len(before), 2, replace=False))
    kind = rng.choice(["edit", "remove", "truncate", "swap", "renumber", "insert", "append"])
    after = [list(r) for r in before]
    if kind == "edit":
        name = int(rng.integers(1, len(FIELDS)))
        after[k][name] = {"body": '{"k":99}', "prev": "0" * 63 + "1", "hash": "f" * 64}.get(FIELDS[name], after[k][name] + "x")
    if kind == "remove": del after[k]
    if kind == "truncate": del after[k + 1:]
    if kind == "swap": after[k][1:], after[j][1:] = after[j][1:], after[k][1:]
    if kind == "renumber": del after[k]; after = [[n + 1, *r[1:]] for n, r in enumerate(after)]
    if kind in ("insert", "append"):
        place = k + 1 if kind == "insert" else len(after)
        forged = link(place + 1, after[place - 1][-1], "2026-01-05T09:30:00+00:00", "decision", "somebody", {"allowed": True})
        after = [*after[:place], [getattr(forged, n) for n in FIELDS], *([r[0] + 1, *r[1:]] for r in after[place:])]
    return kind, after


def test_every_kind_of_tampering_is_found(store):
    before, kinds = rows(store), set()
    assert store.audit_problem() == "" and store.killed() == ""
    for seed in range(300):
        kind, after = tampered(np.random.default_rng(seed), before)
        if [tuple(r) for r in after] == before: continue
        kinds.add(kind)
        with store._db.begin() as c:
            c.execute(sa.text("DELETE FROM audit"))
            for r in after: c.execute(sa.text("INSERT INTO audit VALUES (:seq, :time, :kind, :who, :body, :prev, :hash)"), dict(zip(FIELDS, r)))
        problem = store.audit_problem()
        assert problem, (seed, kind)
        assert "does not verify" in Store(store.url, store._db.url.database.rsplit("/", 1)[0]).killed(), "a log that was tampered with stops trading"
    assert kinds == {"edit", "remove", "truncate", "swap", "renumber", "insert", "append"}


def test_a_chain_rewritten_whole_is_found_by_an_anchor_alone(store):
    anchor, entries = store.head(), store.entries()
    forged = []
    for e in entries: forged.append(link(e.seq, forged[-1].hash if forged else GENESIS, e.time, e.kind, e.who, json.loads(e.body) if e.seq != 5 else {"k": 99}))
    with store._db.begin() as c:
        for e in forged: c.execute(sa.text("UPDATE audit SET body = :body, prev = :prev, hash = :hash WHERE seq = :seq"), {"body": e.body, "prev": e.prev, "hash": e.hash, "seq": e.seq})
        c.execute(sa.text("UPDATE audit_head SET hash = :hash"), {"hash": forged[-1].hash})
    assert store.audit_problem() == "" and "written anew" in store.audit_problem(anchors=[anchor])
    assert "removed at the end" in store.audit_problem(anchors=[(13, "a" * 64)])


def test_writers_queue_for_one_chain(store):
    others = [Store(store.url, store._db.url.database.rsplit("/", 1)[0]) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool: list(pool.map(lambda k: others[k % 4].log("note", {"k": k}), range(40)))
    assert store.audit_problem() == "" and store.head()[0] == 52


def test_only_the_hash_of_the_kill_in_force_and_a_name_re_arm(store):
    first = store.kill("prices froze", who="monitor")
    second = store.kill("loss limit", who="monitor")
    for person, reason, kill, words in (("", "ok", second.hash, "only a person"), ("A", "", second.hash, "with a reason"), ("A", "ok", first.hash, "must quote the kill in force"), ("A", "ok", "", "must quote")):
        with pytest.raises(DataError, match=words): store.rearm(person, reason, kill)
    assert "loss limit" in store.killed() and store.head()[0] == 14, "a refusal writes nothing"
    with pytest.raises(DataError, match="Store.rearm"): store.log("rearm", {"kill": second.hash})
    store.rearm("A. Officer", "checked against two vendors", second.hash)
    assert store.killed() == "" and store.audit_problem() == ""
    with pytest.raises(DataError, match="no kill is in force"): store.rearm("A. Officer", "again", second.hash)


def test_a_decision_is_logged_whole_and_the_switch_reaches_it(store):
    inf = float("inf")
    limits = Limits(.05, 1.5, inf, inf, inf, inf, inf, inf, inf, .1, inf, inf, inf, inf, True, .01, .02, .025)
    book, order = Book(1e6, {}, {"AAA": 10.}), Order("AAA", "buy", 100., float("nan"), 0)
    assert check(book, [order], limits=limits, killed=store.killed()).allowed
    store.kill("a test")
    decision = check(book, [order], limits=limits, killed=store.killed())
    assert not decision.allowed and "a test" in decision.reasons[0]
    said = json.loads(store.log("decision", {"decision": decision, "orders": [order]}).body)
    assert said["decision"]["checks"][0] == {"limit": "position", "order": 0, "symbol": "AAA", "value": .001, "threshold": .05, "verdict": "pass", "size": 100.} and said["orders"][0]["limit"] == "NaN"


def test_the_canonical_text_does_not_depend_on_order_or_type():
    assert canonical({"b": np.float64(.1), "a": np.array([1, 2])}) == canonical({"a": (1, 2), "b": .1}) == '{"a":[1,2],"b":0.1}'
    e = link(1, GENESIS, "2026-01-05T09:30:00+00:00", "note", "me", {"x": 1})
    assert entry_hash(e) == e.hash and entry_hash(replace(e, hash="")) == e.hash and chain_problem([e], (1, e.hash)) == ""
    with pytest.raises(DataError, match="got set"): canonical({1})
    with pytest.raises(DataError, match="somebody"): link(1, GENESIS, "", "note", "", {})

"""How well planted manipulation is found in real order flow, and how often honest flow is accused.

    make bench
    python bench/anomaly.py --tapes 8 --seed 1 --half tune

The tape is the half hour of BTC/USD orders that ships in the wheel of ob-analytics (GPL-2+; only its data are read, at run time). Every tape gets one episode
of each pattern and intensity, planted by a seed. Thresholds were set on minutes 0-15 (--half tune); what counts is measured on minutes 15-30, which is the default.
Printed: episodes by kind and intensity, precision, PR-AUC, ten-second windows by side with their prevalence, an ECOD baseline on the same windows,
alerts an hour on the untouched tape, decoys, and the giveaway test. Without ob-analytics nothing is measured and the program says so.
"""
import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from emp_nb.data.orderflow import ADD, BUY, CANCEL, PATTERNS, SELL, TRADE, OrderFlow, inject, touch, with_accounts
from emp_nb.sensory.anomaly import ecod
from emp_nb.sensory.episodes import ALPHA, detect
from emp_nb.sensory.tape import pumps

SECOND = 1_000_000_000
WINDOW = 10 * SECOND


def real_tape():
    """Half an hour of BTC/USD orders of 2026-05-02 as OrderFlow with ids and without accounts; None where ob-analytics is not installed.

    A created row is an ADD without what its order took at once; a deleted row with a size left is a CANCEL at the price of its ADD (the row names
    the price of its last amendment); a trade names the resting order and the side of the younger one. The deletes that the capture adds at its end are left out."""
    home = find_spec("ob_analytics")
    if home is None: return None
    orders, trades = (pd.read_csv(Path(home.submodule_search_locations[0], "_sample_data", name)) for name in ("orders.csv.gz", "trades.csv"))
    bought = (trades["side"] == "buy").to_numpy()
    taker, maker = np.where(bought, (trades["buy_order_id"], trades["sell_order_id"]), (trades["sell_order_id"], trades["buy_order_id"]))
    made, gone = (orders[orders["action"] == action] for action in ("created", "deleted"))
    gone = gone[gone["exchange_timestamp"] < orders["exchange_timestamp"].max()]
    gone = gone.assign(price=gone["id"].map(made.set_index("id")["price"])).dropna(subset="price")
    left = made["volume"] - made["id"].map(trades["amount"].groupby(taker).sum()).fillna(0)
    side = lambda rows: np.where(rows["direction"] == "bid", BUY, SELL)
    order = lambda rows, kind, size: pd.DataFrame({"time": rows["exchange_timestamp"], "place": rows.index, "kind": kind, "side": side(rows), "price": rows["price"], "size": size, "order_id": rows["id"]})
    trade = pd.DataFrame({"time": trades["exchange_timestamp"], "place": pd.Series(made.index, made["id"])[taker].to_numpy(), "kind": TRADE, "side": np.where(bought, BUY, SELL),
                          "price": trades["price"], "size": trades["amount"], "order_id": maker})
    rows = pd.concat([order(made, ADD, left), order(gone, CANCEL, gone["volume"]), trade])
    rows = rows[(rows["size"] > 1e-9) & (rows["price"] > 0)].sort_values(["time", "place"], kind="stable")
    return OrderFlow(rows["time"].to_numpy() * 1_000_000, *(rows[name].to_numpy() for name in ("kind", "side", "price", "size", "order_id")), np.full(len(rows), -1))


def planted(tape, seed, patterns=PATTERNS):
    "The tape with accounts and, in each half, one episode of each pattern and intensity (of pumps, whose trades would soon outnumber the tape's, one intensity by turns), and the truth."
    rng, truth = np.random.default_rng(seed), []
    flow = with_accounts(tape, rng)
    for pattern in patterns:
        for intensity in (1 + seed % 3,) if pattern == "pump_and_dump" else (1, 2, 3):
            flow, episodes_in = inject(flow, pattern, rng, intensity, 2)
            truth.append(episodes_in)
    return flow, np.concatenate(truth)


def overlap(a, b):
    "Intersection over union of the spans of two sets of episodes: (A, B)."
    both = np.minimum(a["end"][:, None], b["end"]) - np.maximum(a["start"][:, None], b["start"])
    either = np.maximum(a["end"][:, None], b["end"]) - np.minimum(a["start"][:, None], b["start"])
    return np.maximum(both, 0) / np.maximum(either, 1)


FAMILY = {"layering": "spoof", "pump_and_dump": "ignition"}       # one offence over one level or several; one push, long or short


def matches(found, truth, least=.3):
    "True where an alert and a planted episode of one family overlap enough: (A, B)."
    family = lambda rows: np.array([FAMILY.get(k.removesuffix("-like"), k.removesuffix("-like")) for k in rows["kind"]], "U24")
    return (overlap(found, truth) >= least) & (family(found)[:, None] == family(truth))


def pr_auc(score, hit, total):
    "Average precision of alerts ranked by score, when `total` can be found."
    order = np.argsort(-score, kind="stable")
    hits = hit[order].cumsum()
    return float((hits / np.arange(1, hits.size + 1) * hit[order]).sum() / max(total, 1))


def windows_of(spans, begin, count, values=None):
    "Largest value (1 unless given) of the spans that touch each window of ten seconds and each side: (count, 2)."
    out = np.zeros((count, 2))
    for i, span in enumerate(spans):
        rows = slice(max(int((span["start"] - begin) // WINDOW), 0), int((span["end"] - begin) // WINDOW) + 1)
        for j, side in enumerate((BUY, SELL)):
            if span["side"] in (0, side): out[rows, j] = np.maximum(out[rows, j], 1 if values is None else values[i])
    return out


def alerts_of(flow, alpha):
    "What the detectors of messages and of the tape report, in the order of its confirmation."
    found = np.concatenate([detect(flow, alpha=alpha), pumps(flow)])
    return found[np.argsort(found["confirm"], kind="stable")]


def traits(flow, begin, count):
    "What a screen would show of each window and side, for ECOD: (count, 2, 8), of messages, sizes, trades, prices and senders."
    window, edges = (flow.time - begin) // WINDOW, touch(flow)
    frame = flow.to_frame().assign(window=window, away=np.nan_to_num(abs(flow.price / np.nanmean(edges, axis=1) - 1)))[(window >= 0) & (window < count)]
    out = np.zeros((count, 2, 8))
    for j, side in enumerate((BUY, SELL)):
        rows = frame[frame["side"] == side]
        groups = rows.groupby("window")
        table = pd.DataFrame({"adds": (rows["kind"] == ADD).groupby(rows["window"]).sum(), "cancels": (rows["kind"] == CANCEL).groupby(rows["window"]).sum(),
                              "trades": (rows["kind"] == TRADE).groupby(rows["window"]).sum(), "size": groups["size"].sum(), "largest": groups["size"].max(),
                              "width": groups["price"].max() - groups["price"].min(), "away": groups["away"].mean(),
                              "loudest": groups["account"].agg(lambda a: np.bincount(a).max() / a.size)})
        out[:, j] = table.reindex(range(count)).fillna(0.)
    return out


def tape_scores(tape, seed, half):
    "One planted tape: alerts at any chance, truth, matches, and for each window and side the truth, our score at ALPHA, our rank score, and ECOD's."
    flow, truth = planted(tape, seed)
    span = (0, 90) if half == "tune" else (90, 180)
    begin = tape.time[0] + span[0] * WINDOW
    inside = lambda rows: rows[(rows["start"] >= begin) & (rows["start"] < tape.time[0] + span[1] * WINDOW)]
    found, truth = inside(alerts_of(flow, .5)), inside(truth)
    told = found[found["p"] <= ALPHA]
    strange = ecod(traits(flow, begin, 90).reshape(180, 8)).reshape(90, 2)
    return found, truth, matches(found, truth), windows_of(truth, begin, 90), windows_of(told, begin, 90), windows_of(found, begin, 90, found["score"]), strange


def measure(tape, tapes, seed, half):
    "A dictionary of the figures over several planted tapes."
    runs = [tape_scores(tape, seed + k, half) for k in range(tapes)]
    found, truth = (np.concatenate([run[i] for run in runs]) for i in (0, 1))
    hit = np.concatenate([run[2].any(axis=1) for run in runs])
    told = found["p"] <= ALPHA
    caught = np.concatenate([run[2][run[0]["p"] <= ALPHA].any(axis=0) for run in runs])
    bad, said, score, strange = (np.concatenate([run[i].ravel() for run in runs]) for i in (3, 4, 5, 6))
    recall = pd.DataFrame({"kind": truth["kind"], "intensity": truth["score"].astype(int), "caught": caught}).pivot_table(index="kind", columns="intensity", values="caught", aggfunc="mean")
    kinds = pd.DataFrame({"kind": found["kind"][told], "hit": hit[told]}).groupby("kind")["hit"].agg(["size", "mean"])
    return {"episodes": len(truth), "alerts": int(told.sum()), "precision": hit[told].mean(), "recall": caught.mean(), "recall by kind": recall, "precision by kind": kinds,
            "PR-AUC of alerts": pr_auc(found["score"], hit, len(truth)), "prevalence": bad.mean(), "accuracy": (bad == said).mean(), "window precision": bad[said > 0].mean(),
            "false-positive rate": said[bad == 0].mean(), "window recall": said[bad == 1].mean(), "PR-AUC of windows": average_precision_score(bad, score), "PR-AUC of ECOD": average_precision_score(bad, strange)}


def joined_with(flow, rows):
    "The messages with others (second, kind, side, price, size, order, account) put in by time; orders of the others are counted from 1."
    columns = [np.array(c) for c in zip(*rows)]
    new = OrderFlow(flow.time[0] + (columns[0] * 1000).round().astype(np.int64) * 1_000_000, *columns[1:5], columns[5] + flow.order_id.max(), columns[6])
    both = [np.r_[getattr(flow, name), getattr(new, name)] for name in ("time", "kind", "side", "price", "size", "order_id", "account")]
    return OrderFlow(*(column[np.argsort(both[0], kind="stable")] for column in both))


def decoys(tape, seed):
    """Alerts that honest neighbours of crime cause: a market maker who shows six usual orders on three levels of both sides, pulls them all the time and is filled now and then, and
    news that makes thirty accounts buy in three seconds, after which the price does not come back."""
    rng = np.random.default_rng(seed)
    flow = with_accounts(tape, rng)
    edges, usual, rows = touch(flow), np.median(flow.size[flow.kind == ADD]), []
    mid = lambda second: edges[np.searchsorted(flow.time, flow.time[0] + int(second * SECOND)) - 1]
    maker = 5000
    for second in np.arange(5., 1780., 1.):
        for side, best in zip((BUY, SELL), mid(second)):
            for level in range(3):
                rows.append((second + rng.uniform(0, .1), ADD, side, best - side * level, 6 * usual, len(rows) // 2 * 2 + 1, maker))
                rows.append((second + rng.uniform(.6, .9), CANCEL, side, best - side * level, 6 * usual, rows[-1][5], maker))
    for second in rng.uniform(10., 1780., 240):
        side = int(rng.choice([BUY, SELL]))
        price, order = mid(second)[0 if side == BUY else 1], 1_000_000 + len(rows)
        rows += [(second, ADD, side, price, usual, order, maker), (second + .3, TRADE, -side, price, usual, order, int(rng.integers(2000)))]
    for start in (400., 1000., 1500.):
        for k, second in enumerate(np.sort(rng.uniform(start, start + 3., 30))):
            order = 2_000_000 + len(rows)
            rows += [(second, ADD, SELL, mid(start)[1] + k, usual, order, 6000 + k), (second + .01, TRADE, BUY, mid(start)[1] + k, usual, order, 7000 + k)]
    found = alerts_of(joined_with(flow, rows), ALPHA)
    news = np.isin(found["account"], np.r_[6000:6030, 7000:7030]) | ((found["kind"] == "pump_and_dump") & (np.min(abs((found["start"][:, None] - tape.time[0]) / SECOND - [400, 1000, 1500]), axis=1) < 30))
    return {"market maker": int((found["account"] == maker).sum()), "news": int(news.sum())}


def giveaway(tape, seeds, each=True):
    """AUC of telling planted messages from others by the fields of one message, learnt on the tapes of one half of the seeds, tried on those of the other, and the other way round: of each field, of all
    together, and with the order's number, which is a clock and so knows where on the tape the few episodes of the learnt half lay."""
    tables = []
    for seed in seeds:
        flow, own = planted(tape, seed)[0], with_accounts(tape, np.random.default_rng(seed))          # the same draw as in `planted`
        key = lambda f: pd.util.hash_pandas_object(f.to_frame()[["kind", "side", "price", "size", "account"]].reset_index(), index=False).to_numpy()
        new = ~np.isin(key(flow), key(own))
        table = pd.DataFrame({"kind": flow.kind, "side": flow.side, "price": flow.price, "size": flow.size, "account": flow.account, "order": flow.order_id, "millisecond": flow.time // 1_000_000 % 1000, "new": new})
        tables.append(table[new | (np.random.default_rng(seed).random(len(new)) < 2 * new.mean())])
    halves = pd.concat(tables[::2]), pd.concat(tables[1::2])
    def auc(columns):
        scores = []
        for learn, trial in (halves, halves[::-1]):
            model = HistGradientBoostingClassifier(max_iter=50, random_state=0).fit(learn[columns], learn["new"])
            scores.append(roc_auc_score(trial["new"], model.predict_proba(trial[columns])[:, 1]))
        return float(np.mean(scores))
    fields = [name for name in tables[0].columns[:-1] if name != "order"]
    single = {name: auc([name]) for name in [*fields, "order"]} if each else {}
    return {**single, "all fields": auc(fields), "and the order's number": auc([*fields, "order"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tapes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    given = parser.parse_args()
    tape = real_tape()
    if tape is None: sys.exit("no real order-level tape: install ob-analytics 0.1.0, whose wheel carries it")
    quiet = alerts_of(with_accounts(tape, np.random.default_rng(given.seed)), ALPHA)
    print(f"{len(tape)} messages, {(tape.kind == TRADE).sum()} trades; untouched: {len(quiet) * 2} alerts an hour {dict(zip(*np.unique(quiet['kind'], return_counts=True)))}; decoys: {decoys(tape, given.seed)}")
    for name, value in measure(tape, given.tapes, given.seed, given.half).items(): print(f"{name}:\n{value.round(2).to_string()}" if isinstance(value, pd.DataFrame) else f"{name}: {value:.3f}")
    print("giveaway AUC:", {name: round(value, 3) for name, value in giveaway(tape, range(given.seed, given.seed + given.tapes)).items()})


if __name__ == "__main__": main()

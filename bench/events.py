"""What six senses made of the days that everybody remembers, with the controls that keep six copies of |return| from passing.

    make bench

Nine days of the S&P 500 are given. Ten more are picked by a rule: the largest moves in volatilities known the day before, sixty bars or more from the nine and from each other.
An alarm fires when at most 1 % of past days had one as high. Agreement is the mean pairwise rank correlation of alarms twenty bars either side, beside 200 random windows.
"""
import numpy as np
import pandas as pd
from emp_nb.data.catalog import load
from emp_nb.jobs.perception import packaged_world, perceived
from emp_nb.measures import ewm_volatility, log_returns
from emp_nb.sensory.cortex import fires
from emp_nb.sensory.evidence import weigh, window_agreement

REMEMBERED = ("2008-09-29", "2008-10-09", "2008-10-15", "2008-11-20", "2008-12-01", "2010-05-06", "2011-08-08", "2015-08-24", "2018-02-05")


def picked(close, taken, count=10, apart=60):
    "Rows of the largest moves in volatilities known before, `apart` bars from those taken and from each other."
    r = log_returns(close)
    size = np.nan_to_num(abs(r) / np.r_[np.nan, ewm_volatility(r, 32)[:-1]])
    size[:600], rows = 0., list(taken)                          # every sense has a past by then
    for row in np.argsort(-size):
        if min(abs(row - t) for t in rows) >= apart: rows.append(int(row))
        if len(rows) == len(taken) + count: return np.sort(rows[len(taken):])


def main():
    bars = load("spx")
    seen = perceived(bars, **packaged_world())
    day = pd.DatetimeIndex(seen.time).strftime("%Y-%m-%d")
    alarms = np.column_stack([seen.features[:, seen.feature_names.index(f"{s}.alarm")] for s in seen.senses])
    fired, of_chaos, of_all = np.flatnonzero(np.isin(day, REMEMBERED)), fires(alarms[:, seen.senses.index("chaos")]), fires(seen.alarm)
    for title, rows in (("nine days that everybody remembers", fired), ("ten days by rule", picked(bars.close, fired))):
        agreed = window_agreement(alarms, rows)
        print(f"{title}: CHAOS fires on {of_chaos[rows].sum()} of {len(rows)}, the perception on {of_all[rows].sum()}; agreement {np.nanmean(agreed):.2f} (target > .7), confidence {np.nanmean(seen.confidence[rows]):.2f} (target > .8)")
        for t, a in zip(rows, agreed): print(f"  {day[t]}  CHAOS {'fires' if of_chaos[t] else '-':5}  perception {'fires' if of_all[t] else '-':5}  agreement {a:+.2f}  confidence {seen.confidence[t]:.2f}")
    worth = weigh(seen, bars.close, fired, rng=np.random.default_rng(7))
    print(f"agreement in 200 random windows {worth['agreement']['anywhere']:.2f}; CHAOS fires on {of_chaos.mean():.2%} of all days, alarm 1 on {np.mean(alarms[:, -1] >= 1):.2%}")
    print("alarm beyond the size of the move, and R2 from the other senses: " + ", ".join(f"{o['sense']} {o['beyond_the_move']:+.2f} {o['r2_from_others']:+.2f}" for o in worth["own"]))
    for r in worth["foresight"]:
        print(f"|r| > 2 volatilities within {r['bars_ahead']} bar(s), {r['forecast']}: balanced accuracy {r['balanced_accuracy']:.3f} (aim .7), Brier {r['brier']:.4f}, skill over {r['against']} {r['skill']:+.4f} ({r['skill_low']:+.4f} to {r['skill_high']:+.4f})")


if __name__ == "__main__": main()

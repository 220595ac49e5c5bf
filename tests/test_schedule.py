"""The schedule as an operator sees it: due times on real clocks, real schedulers and kernels, some of them killed."""
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo
import pytest
from conftest import EMP, notebook
from emp_nb.core import DataError
from emp_nb.jobs import runner, schedule
from emp_nb.jobs.schedule import CronJob, around, fire, scheduled, state
from emp_nb.live.store import ledger

SOUND = {"name": "tick", "job": "count", "cron": "30 17 * * 1-5", "zone": "America/New_York", "deadline_s": 60}
DUE = datetime(2025, 11, 24, 22, 30, tzinfo=UTC)


@pytest.fixture
def home(home):
    "A home with one job, `count`, that leaves a mark in a file each time it is executed; that file is part of what it reads, so it is never reused."
    (home / "pipelines").mkdir()
    (home / "marks.txt").write_text("")
    notebook(home / "pipelines/count.ipynb", f'marks: str = "{home}/marks.txt"  # a file\nwho: str = "tick"  # entry\nwait: float = 0.0  # seconds\nfail: bool = False  # whether to\nout: str = "."  # folder',
             "import os, time\nwith open(marks, 'a') as f: f.write(f'{who} {os.getpid()}\\n')\ntime.sleep(wait)\nif fail: raise ValueError('as asked')")
    return home


def listed(home, *entries):
    "Entries, each over a sound one, as the door reads them."
    (home / "pipelines/schedule.yaml").write_text(json.dumps({"entries": [SOUND | e for e in entries]}))
    return scheduled()


def marks(home): return [line.split() for line in (home / "marks.txt").read_text().splitlines()]


def until(fact, timeout_s=90):
    "The first true answer of `fact`, asked again and again."
    end = time.monotonic() + timeout_s
    while not (found := fact()):
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(.05)
    return found


def rows(status=None):
    "Rows of the ledger, oldest first."
    store = ledger()
    found = [r for r in reversed(store.runs(limit=100)) if status in (None, r.status)]
    store.close()
    return found


# -- the list -------------------------------------------------------------------------------------------------------------------------------------

def test_the_shipped_schedule_is_sound_and_serves_the_daily_pipeline():
    found = scheduled()
    assert list(found) == ["daily", "severe-stress"] and found["daily"].job == "daily"


@pytest.mark.parametrize("entries, says", [
    ([{"job": "cont"}], "'cont' is none; jobs are count"), ([{"job": "daily"}], "daily.yaml"), ([{"job": 3}], "the name of a job"), ([{"cron": "99 * * * *"}], "'99 * * * *'"), ([{"cron": "0 0 30 2 *"}], "come due"), ([{"cron": 5}], "got 5"),
    ([{"zone": "Mars/Olympus"}], "'Mars/Olympus'"), ([{"zone": 1}], "IANA"), ([{"parameters": {"m": 1}}], "does not know parameter 'm'"), ([{"parameters": {"wait": "long"}}], "must be float"), ([{"parameters": []}], "name: value"),
    ([{"deadline_s": -1}], "got -1"), ([{"deadline_s": True}], "got True"), ([{"retries": 11}], "from 0 to 10"), ([{"cpu": 0}], "processors > 0"), ([{"memory": "lots"}], "'lots'"), ([{"name": "Ä"}], "name must be"),
    ([{"colour": "red"}], "write it so"), ([{}, {}], "tick stands there twice"), ([{"after": "tick"}], "list of names"), ([{"after": ["tock"]}], "waits for 'tock'"), ([{"after": ["tick"]}], "in a circle: tick -> tick"),
    ([{"after": ["b"]}, {"name": "b", "cron": "0 1 * * *"}], "give both the same")])
def test_what_cannot_run_is_refused_with_what_arrived(home, entries, says):
    with pytest.raises(DataError) as e: listed(home, *entries)
    assert says in str(e.value)


@pytest.mark.parametrize("text", ["entries: 3", "nothing", "entries: [", "- 1"])
def test_a_file_that_is_no_list_is_refused(home, text):
    (home / "pipelines/schedule.yaml").write_text(text)
    with pytest.raises(DataError, match=r"schedule\.yaml"): scheduled()


def test_without_a_file_nothing_is_scheduled_and_the_scheduler_says_so(home):
    assert scheduled() == {}
    with pytest.raises(DataError, match="has none; add one"): schedule.serve({})


def test_daily_takes_its_parameters_from_its_own_file(home):
    (home / "pipelines/daily.yaml").write_text("steps:\n  - {job: count}\n  - {job: count, parameters: {wait: 0.1}}\n")
    with pytest.raises(DataError, match="daily takes no parameters"): listed(home, {"job": "daily", "parameters": {"wait": 1.}})
    assert [request[-6:] for _, _, request in schedule.work(listed(home, {"job": "daily"})["tick"], DUE)] == ["step 1", "step 2"]


# -- due times ------------------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("zone, day", [("America/New_York", "2026-03-08"), ("America/New_York", "2026-11-01"), ("Europe/London", "2026-03-29"), ("Europe/London", "2026-10-25"), ("Australia/Lord_Howe", "2026-10-03")])
@pytest.mark.parametrize("cron", ["30 1 * * *", "30 2 * * *", "15 1-3 * * *", "*/20 * * * *", "0 * * * *", "0 30 1 * * *"])
def test_around_a_change_of_the_clock_every_moment_agrees_with_the_walk_forward(zone, day, cron):
    entry, start = CronJob("a", "count", cron, 60, zone=zone), datetime.fromisoformat(f"{day}T00:00Z") - timedelta(days=1)
    walk = [around(entry, start)[0]]
    while walk[-1] < start + timedelta(days=4): walk.append(around(entry, walk[-1])[1])
    assert walk == sorted(set(walk))
    for k in range(3 * 24 * 2):
        now = start + timedelta(minutes=30 * k + 7)
        assert around(entry, now) == (max(t for t in walk if t <= now), min(t for t in walk if t > now)), now


def test_a_daily_time_comes_once_a_day_also_when_the_clock_jumps():
    for day, time_of_day in (("2026-03-07", 2), ("2026-10-31", 1)):
        entry, now, found = CronJob("a", "count", f"30 {time_of_day} * * *", 60, zone="America/New_York"), datetime.fromisoformat(f"{day}T00:00Z"), []
        for _ in range(4): found.append(now := around(entry, now)[1])
        local = [t.astimezone(ZoneInfo("America/New_York")).date() for t in found]
        assert [b - a for a, b in zip(local, local[1:])] == [timedelta(days=1)] * 3


# -- one due time ---------------------------------------------------------------------------------------------------------------------------------

def test_a_due_time_is_served_once_and_the_next_one_again(home):
    entries = listed(home, {})
    assert [fire(entries, "tick", d) for d in (DUE, DUE, DUE + timedelta(days=1))] == ["done"] * 3
    assert len(marks(home)) == 2 and [r.request for r in rows()] == ["tick 2025-11-24T22:30:00Z", "tick 2025-11-25T22:30:00Z"]


def test_failures_are_tried_again_with_pauses_and_no_more_than_allowed(home, monkeypatch):
    monkeypatch.setattr(schedule, "_PAUSE_S", .4)
    entries = listed(home, {"parameters": {"fail": True}, "retries": 1}, {"name": "behind", "after": ["tick"]})
    assert fire(entries, "tick", DUE) == fire(entries, "tick", DUE) == fire(entries, "behind", DUE) == "failed"
    tick, again, behind = rows()
    assert datetime.fromisoformat(again.started) - datetime.fromisoformat(tick.ended) >= timedelta(seconds=.2)
    assert len(marks(home)) == 2 and "as asked" in again.error and "tick must be done first and failed" in behind.error
    late = runner.run("count", {"fail": True}, request="tick 2025-11-24T22:30:00Z", tries=2)
    assert late.status == "failed" and "may be tried 2 times and was" in late.error and len(marks(home)) == 2


def test_pauses_double_up_to_five_minutes_and_spread():
    assert [schedule.pause_s(n, .5) for n in (0, 1, 2, 3, 9)] == [0., 2., 4., 8., 300.]
    assert schedule.pause_s(3, 0.) == 4. and schedule.pause_s(3, .999) < 12.


def test_a_run_past_its_deadline_is_interrupted_recorded_and_not_tried_for_ever(home):
    entries = listed(home, {"parameters": {"wait": 60.}, "deadline_s": 5})
    assert fire(entries, "tick", DUE) == "failed"
    (row,) = rows()
    assert row.status == "interrupted" and "longer than its deadline of 5 s" in row.error and row.duration_s < 20
    for _, pid in marks(home):
        with pytest.raises(ProcessLookupError): os.kill(int(pid), 0)


def test_a_deadline_rings_in_the_main_thread_only():
    def hurry():
        with runner.deadline(.05): time.sleep(.2)
        return "in time"
    with pytest.raises(runner.DeadlinePassed, match="0.05 s"): hurry()
    with ThreadPoolExecutor(1) as pool: assert pool.submit(hurry).result() == "in time"
    assert signal.getitimer(signal.ITIMER_REAL) == (0., 0.)


def test_one_who_comes_while_another_is_at_it_leaves(home):
    entries = listed(home, {})
    store = ledger()
    store.claim("count", "tick 2025-11-24T22:30:00Z", "somebody's")
    assert fire(entries, "tick", DUE) == "running" and marks(home) == []
    held = runner.run("count", request="tick 2025-11-24T22:30:00Z", tries=1)
    assert held.status == "running" and held.content == "somebody's"
    store.close()


def test_a_refusal_before_the_start_is_a_row_too(home):
    notebook(home / "pipelines/next.ipynb", 'count: str = "count(wait=9.0)"  # a count run\nout: str = "."  # folder', "print(count)")
    assert fire(listed(home, {"job": "next"}), "tick", DUE) == "failed"
    assert "there is no finished run of it; first `emp run count" in rows()[0].error


# -- the scheduler, in processes that are killed ------------------------------------------------------------------------------------------------------

@contextmanager
def serving(home, n=1):
    "`n` schedulers under way; their jobs have sessions of their own and are ended by the test that starts long ones."
    running = [subprocess.Popen([EMP, "schedule"], stderr=open(home / f"log{i}", "a")) for i in range(n)]
    try: yield running
    finally:
        for p in running: p.kill(); p.wait()


def drained(*schedulers):
    "Exit codes after SIGTERM."
    for p in schedulers: p.send_signal(signal.SIGTERM)
    return [p.wait(90) for p in schedulers]


@pytest.mark.process
def test_two_schedulers_fire_on_time_and_once_and_drain(home):
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=20)
    entries = listed(home, {"cron": f"{due:%S %M %H} * * *", "zone": "UTC"})
    assert fire(entries, "tick", around(entries["tick"], datetime.now(UTC))[0]) == "done"        # yesterday's was not missed
    with serving(home, 2) as both:
        until(lambda: len(rows("done")) == 2)
        assert drained(*both) == [0, 0]
    done = rows()
    assert [r.status for r in done] == ["done"] * 2 and len(marks(home)) == 2 and done[1].request == f"tick {due:%Y-%m-%dT%H:%M:%SZ}"
    assert 0 <= (datetime.fromisoformat(done[1].started) - due).total_seconds() < 3
    assert subprocess.run([EMP, "runs"], capture_output=True, text=True).stdout.count(" done ") == 2


@pytest.mark.process
def test_what_is_killed_is_done_once_all_the_same(home):
    sound = {"retries": 1, "cpu": .1}
    listed(home, *(sound | {"name": n, "parameters": {"who": n, "wait": w}} for n, w in (("orphan", 10.), ("victim", 9.), ("frail", 9.))))
    with serving(home) as (first,):
        pids = until(lambda: len(marks(home)) == 3 and {who: int(pid) for who, pid in marks(home)})
        first.kill()
        os.kill(next(r.pid for r in rows() if r.request.startswith("victim ")), signal.SIGKILL)
        os.kill(pids["frail"], signal.SIGKILL)
    with serving(home) as (second,):
        until(lambda: len(rows("done")) == 3)
        assert drained(second) == [0]
    left = {n: [(r.status, r.error) for r in rows() if r.request.startswith(f"{n} ")] for n in ("orphan", "victim", "frail")}
    assert [s for s, _ in left["orphan"]] == ["done"], "a job outlives its scheduler and is not started again"
    assert [s for s, _ in left["victim"]] == ["interrupted", "done"] and "taken over" in left["victim"][0][1]
    assert [s for s, _ in left["frail"]] == ["failed", "done"] and "kernel of the job died" in left["frail"][0][1]
    assert sorted(who for who, _ in marks(home)) == ["frail", "frail", "orphan", "victim", "victim"]


@pytest.mark.process
def test_the_first_sigterm_drains_and_the_second_interrupts(home):
    listed(home, {"parameters": {"wait": 60.}})
    with serving(home) as (scheduler,):
        until(lambda: marks(home))
        scheduler.send_signal(signal.SIGTERM)
        time.sleep(1.)
        assert scheduler.poll() is None and rows()[0].status == "running"
        assert drained(scheduler) == [0]
    entry = scheduled()["tick"]
    assert rows()[0].status == "interrupted" and state(ledger(), entry, around(entry, datetime.now(UTC))[0]) == "open"

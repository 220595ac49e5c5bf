"""Fetching from servers that are slow, wrong, cut short, down, flapping and hostile: an answer or a sentence, in time, and never a request to anywhere else."""
import json
import subprocess
import sys
import threading
import time
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from feeds_server import Server, answer, conditional, failing, flapping, only_connections_to, redirect, slow, truncated, zipped
from hostile import GOOD, HOSTILE, item, rss
from emp_nb.core import BreakerOpen, DataError, SourceError
from emp_nb.data import fetch as room
from emp_nb.data import vendors
from emp_nb.data.catalog import load
from emp_nb.data.fetch import Client, Feed, Origin, Vendor, bars, documents, fetch
from emp_nb.data.feeds import parse_feed

VIX_CSV = b"DATE,OPEN,HIGH,LOW,CLOSE\n" + b"".join(b"%s,20,22,19,21\n" % d.strftime("%m/%d/%Y").encode() for d in pd.bdate_range("2024-01-02", periods=40))


@pytest.fixture
def server():
    made = Server()
    with only_connections_to(made.home) as went:
        yield made
        assert set(went) <= {made.home}
    made.close()


@pytest.fixture
def client(server, tmp_path):
    def make(folder="a", **changed):
        limits = dict(deadline_s=4.5, max_bytes=4_000_000, cache_max_bytes=50_000_000, rate_per_s=1000., breaker_failures=2, breaker_rest_s=60., allowed=[server.home])
        return Client(tmp_path / folder, **(limits | changed))
    return make


def raw(server, *paths, name="raw"): return Origin(name, tuple(server.url(p) for p in paths), lambda body, now, charset: body)


# -- what is asked --------------------------------------------------------------------------------------------------------------------------------

def test_a_known_answer_is_asked_for_conditionally_and_comes_from_disk(server, client):
    server.pages["/"] = conditional(GOOD)
    first, second = (fetch(raw(server, "/"), client=client()) for _ in range(2))
    assert first.value == second.value == GOOD and not second.stale
    assert "If-None-Match" not in server.asked[0][1] and server.asked[1][1]["If-None-Match"] == '"v1"' and "If-Modified-Since" in server.asked[1][1]


def test_requests_to_one_host_keep_the_rate(server, client):
    server.pages["/"] = GOOD
    limited, start = client(rate_per_s=4.), time.monotonic()
    for _ in range(7): fetch(raw(server, "/"), client=limited)
    assert time.monotonic() - start >= .7 and len(server.asked) == 7        # four at once, then one every quarter of a second


def test_one_flap_is_invisible_and_a_refusal_is_not_repeated(server, client):
    server.pages |= {"/flap": flapping(GOOD, 503, 200), "/no": failing(403)}
    assert not fetch(raw(server, "/flap"), client=client()).stale and server.paths() == ["/flap"] * 2
    with pytest.raises(SourceError, match="status must be 200, got 403"): fetch(raw(server, "/no"), client=client())
    assert server.paths().count("/no") == 1


def test_gzip_is_read_and_a_redirect_followed(server, client):
    server.pages |= {"/z": zipped(GOOD), "/r": redirect("/z")}
    assert fetch(raw(server, "/r"), client=client()).value == GOOD


# -- who answers ----------------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong", [slow(6), truncated(GOOD * 9), failing(500), failing(404), b"<html>down</html>", redirect("http://10.0.0.1/")],
                         ids=["slow", "truncated", "broken", "missing", "wrong", "private"])
def test_the_next_source_answers_within_five_seconds_and_is_marked_stale(server, client, wrong):
    server.pages |= {"/one": wrong, "/two": GOOD}
    start = time.monotonic()
    found = documents(Feed("bank", (server.url("/one"), server.url("/two"))), client=client())
    assert time.monotonic() - start < 5
    assert found.stale and found.source == server.url("/two") and len(found.value) == 1 and len(found.failed) == 1 and "/one" in found.failed[0]


def test_the_disk_answers_last_with_its_age(server, client):
    server.pages["/"] = GOOD
    fetch(raw(server, "/"), client=client())
    server.pages["/"] = failing()
    time.sleep(.2)
    found = fetch(raw(server, "/"), client=client())
    assert found.value == GOOD and found.stale and .2 <= found.age_s < 5 and "500" in found.failed[0]


def test_a_wrong_body_never_replaces_a_good_copy(server, client):
    feed = Feed("bank", (server.url("/"),))
    server.pages["/"] = GOOD
    documents(feed, client=client())
    server.pages["/"] = b"<html>maintenance</html>"
    assert documents(feed, client=client()).stale
    assert len(documents(feed, client=client()).value) == 1


def test_a_server_that_is_down_costs_little_and_the_packaged_set_answers(server, client):
    gone = server
    gone.close()
    vix = Vendor("VIX", (gone.url("/"),), vendors.parse_cboe, lambda: load("vix"))
    start, found = time.monotonic(), bars(vix, client=client())
    assert time.monotonic() - start < 5 and found.stale and np.isnan(found.age_s) and len(found.value) == 1259 and "packaged" in found.source
    with pytest.raises(SourceError, match="none did"): bars(Vendor("VIX", vix.urls, vix.parse), client=client())


# -- the breaker ----------------------------------------------------------------------------------------------------------------------------------

def test_the_breaker_opens_half_opens_and_closes(server, client):
    server.pages["/"] = failing()
    broken, origin = client(breaker_rest_s=.6), raw(server, "/")
    for _ in range(2):
        with pytest.raises(SourceError) as e: fetch(origin, client=broken)
        assert not isinstance(e.value, BreakerOpen)
    asked = len(server.asked)
    with pytest.raises(BreakerOpen, match="left alone"): fetch(origin, client=broken)
    assert len(server.asked) == asked                           # open: nothing is sent
    time.sleep(.7)
    with pytest.raises(SourceError): fetch(origin, client=broken)
    assert len(server.asked) > asked                            # half open: one call went out, failed,
    with pytest.raises(BreakerOpen): fetch(origin, client=broken)
    server.pages["/"], _ = GOOD, time.sleep(.7)
    for _ in range(2): assert fetch(origin, client=broken).value == GOOD        # and the next one closed it


# -- documents ------------------------------------------------------------------------------------------------------------------------------------

def test_first_seen_is_never_rewritten_and_a_correction_is_another_document(server, client):
    feed = Feed("bank", (server.url("/"),))
    server.pages["/"] = rss(item(b"A"))
    first = documents(feed, client=client()).value
    server.pages["/"] = rss(item(b"A") + item(b"A", b"corrected"))
    second = documents(feed, client=client()).value             # another client, the same file
    assert second[0] == first[0] and second[1].text == "corrected" and second[1].first_seen > first[0].first_seen
    server.pages["/"] = rss(b"")
    third = documents(feed, client=client())
    assert third.value == second and documents(feed, second[1].first_seen, client=client()).value == second[1:]


def test_documents_seen_before_outlive_the_kept_answer(server, client):
    feed = Feed("bank", (server.url("/"),))
    server.pages["/"] = GOOD
    first = documents(feed, client=client())
    for kept in client().responses.folder.glob("*.answer"): kept.unlink()
    server.pages["/"] = failing()
    lost = documents(feed, client=client())
    assert lost.value == first.value and lost.stale and np.isnan(lost.age_s) and "500" in lost.failed[0]


def test_many_threads_see_a_document_once(server, client):
    server.pages["/"], shared = GOOD, client()
    found = []
    work = [threading.Thread(target=lambda: found.append(documents(Feed("bank", (server.url("/"),)), client=shared).value)) for _ in range(8)]
    for w in work: w.start()
    for w in work: w.join()
    assert len(found) == 8 and len(set(found)) == 1 and len(found[0]) == 1


# -- harm -----------------------------------------------------------------------------------------------------------------------------------------

@pytest.mark.process
def test_hostile_documents_cost_no_crash_no_memory_and_no_request_elsewhere():
    run = subprocess.run([sys.executable, "hostile.py"], cwd=ROOT / "tests", env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    report = json.loads(run.stdout)
    assert len(HOSTILE) >= 30 and report["elsewhere"] == [] and report["connections"] >= len(HOSTILE)
    for name, (_, due) in HOSTILE.items():
        found = report["found"][name]
        assert found == due if due is not None else isinstance(found, str) and " must " in found or "public addresses" in found, (name, found)
    assert report["cost_mb"] < 100, (report["cost_mb"], report["peak_mb"])       # the test server's copies among it; importing pandas takes 140 before


def test_a_name_that_leads_to_a_private_address_is_refused(server, client, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda host, port, *_, **__: [(2, 1, 6, "", (ip, port)) for ip in ("8.8.8.8", "10.0.0.7")])
    with pytest.raises(SourceError, match="leads to 10.0.0.7"): fetch(Origin("x", ("http://rebind.example/",), bytes), client=client())
    assert server.asked == []


def test_the_guard_itself_sees_a_request_elsewhere(server, client):
    with only_connections_to(server.home) as went:
        with pytest.raises(SourceError): fetch(Origin("x", ("http://8.8.8.8/",), bytes), client=client())
    assert set(went) == {"8.8.8.8:80"}
    with only_connections_to() as went:
        with pytest.raises(SourceError, match="has none"): fetch(Origin("x", ("http://bank.example/",), bytes), client=client("b"))
    assert set(went) == {"look-up bank.example"}


def test_a_key_in_the_address_stays_out_of_sentences(server, client, caplog):
    server.pages["/v2"] = failing()
    caplog.set_level("DEBUG", "httpx")
    room.logging.getLogger("httpx").setLevel("WARNING")
    with pytest.raises(SourceError) as e: fetch(raw(server, "/v2?api_key=hush"), client=client())
    assert "hush" not in str(e.value) + caplog.text and server.paths()[0].endswith("hush")


# -- vendors --------------------------------------------------------------------------------------------------------------------------------------

KLINES = json.dumps([[t * 60_000, "100", "103", "99", "102", "7", t * 60_000 + 59_999, "0", 1, "0", "0", "0"] for t in range(5)]).encode()
EIA = json.dumps({"response": {"total": "2", "data": [{"period": d, "series": "RWTC", "value": v, "units": "$/BBL"} for d, v in (("2024-01-03", "72.97"), ("2024-01-02", "70.62"))]}}).encode()
FORMS = {
    "cboe": (VIX_CSV, vendors.VIX.parse, 40),
    "fred": (b"observation_date,DGS10\n2024-01-04,3.99\n2024-01-05,.\n2024-01-08,4.01\n", vendors.fred("DGS10").parse, 2),
    "treasury": (b'Date,"1 Mo","10 Yr"\n01/03/2024,5.54,3.91\n01/02/2024,5.55,3.95\n', vendors.treasury(2024, "10 Yr").parse, 2),
    "eia": (EIA, vendors.eia("RWTC", "k").parse, 2),
    "exchange": (KLINES, vendors.exchange_candles("BTCUSDT").parse, 5),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_vendors_form_becomes_bars_and_every_wrong_form_a_sentence(name, server, client):
    body, parse, rows = FORMS[name]
    server.pages |= {"/ok": body, "/html": b"<html>maintenance</html>", "/empty": b"", "/json": b'{"code": 0}', "/half": truncated(body), "/cut": body[:len(body) // 3]}
    vendor = lambda path: Vendor(name, (server.url(path),), parse)
    found = bars(vendor("/ok"), client=client(breaker_failures=100)).value
    assert len(found) == rows and (np.diff(found.time) > 0).all()
    for path in ("/html", "/empty", "/json", "/half"):
        with pytest.raises(SourceError, match=" must "): bars(vendor(path), client=client(breaker_failures=100))


def test_depth_and_statements_come_through_the_same_door(server, client):
    server.pages |= {"/d": b'{"lastUpdateId":1,"bids":[["9","1"]],"asks":[["10","3"]]}', "/s": lambda h: answer(h, b"<h1>FOMC</h1><p>" + b"We raise rates. " * 9, Content_Type="text/html")}
    bids, asks = fetch(Origin("d", (server.url("/d"),), vendors.parse_depth), client=client()).value
    assert bids[0, 0] == 9 and asks[0, 1] == 3
    page = vendors.statement(server.url("/s"), "Fed", client=client()).value
    assert page.title == "FOMC" and page.published is None and page.first_seen > 1.7e18


def test_a_month_is_never_known_before_its_45_days():
    known = vendors.parse_fred("CPI", b"DATE,CPI\n2023-10-01,1\n2023-11-01,2\n", 0).to_frame().index
    assert [str(t.date()) for t in known] == ["2023-12-16", "2024-01-15"]


def test_an_open_candle_is_no_row():
    now = int(2.5 * 60e9)
    assert len(vendors.parse_candles("X", KLINES, now)) == 2


def test_only_two_sets_are_live_and_the_others_say_so():
    with pytest.raises(DataError, match="one of vix, wti"): vendors.live("spx")


def test_a_parser_is_deterministic(): assert parse_feed(GOOD, "a", 1) == parse_feed(GOOD, "a", 1)

"""Documents that want to do harm: {name: page for the server of feeds_server}, and what may come of each. Run as a program, it fetches them all and prints peak memory."""
import json
import re
import sys
import tempfile
from pathlib import Path
from feeds_server import Server, bomb, cut_zip, failing, only_connections_to, redirect, truncated

HEAD = b'<?xml version="1.0"?>'


def rss(inside: bytes, head: bytes = HEAD) -> bytes: return head + b"<rss version='2.0'><channel><title>t</title>" + inside + b"</channel></rss>"
def item(title=b"Rates", text=b"The bank raised rates.", more=b""): return b"<item><title>" + title + b"</title><description>" + text + b"</description>" + more + b"</item>"
def entities(*declared: bytes) -> bytes: return rss(item(b"&z;"), HEAD + b"<!DOCTYPE rss [" + b"".join(declared) + b"]>")


LAUGHS = [b'<!ENTITY a "ha">'] + [b'<!ENTITY %c "%s">' % (98 + k, b"&%c;" % (97 + k) * 10) for k in range(12)] + [b'<!ENTITY z "&m;">']
GOOD = rss(item())

# name: (page, documents that come of it; None where the answer must be refused)
HOSTILE = {
    "billion laughs": (entities(*LAUGHS), None),
    "quadratic blow-up": (entities(b'<!ENTITY z "' + b"x" * 100_000 + b'">'), None),
    "laughs in utf-16": (entities(*LAUGHS).decode().replace('version="1.0"', 'version="1.0" encoding="utf-16"').encode("utf-16"), None),
    "external file": (entities(b'<!ENTITY z SYSTEM "file:///etc/hostname">'), None),
    "external address": (entities(b'<!ENTITY z SYSTEM "http://169.254.169.254/latest/meta-data/">'), None),
    "parameter entity": (entities(b'<!ENTITY % p SYSTEM "http://10.0.0.1/x.dtd"> %p;'), None),
    "external dtd": (rss(item(), HEAD + b'<!DOCTYPE rss SYSTEM "http://10.0.0.1/rss.dtd">'), 1),
    "stylesheet": (rss(item(), HEAD + b'<?xml-stylesheet href="http://10.0.0.1/x.xsl" type="text/xsl"?>'), 1),
    "xinclude": (rss(item(more=b'<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="file:///etc/hostname" parse="text"/>')), 1),
    "cut in the middle": (truncated(rss(item() * 100)), None),
    "cut but well counted": (rss(item() * 100)[:2000], None),
    "cut gzip": (cut_zip(GOOD), None),
    "gzip bomb": (bomb(b"<rss>", 200_000_000, b"</rss>"), None),
    "unknown encoding": (GOOD.replace(b'version="1.0"', b'version="1.0" encoding="utf-7"', 1), None),
    "wrong encoding": (rss(item("Zürich".encode("latin-1")), b'<?xml version="1.0" encoding="utf-8"?>'), 1),
    "no encoding at all": (bytes(range(256)) * 1000, None),
    "gigantic entry": (rss(item(text=b"word " * 700_000)), 1),
    "gigantic attribute": (rss(b"<item x='" + b"y" * 3_000_000 + b"'><title>a</title></item>"), 1),
    "gigantic answer": (rss(item() * 60_000), None),
    "very many entries": (rss(b"".join(item(b"%d" % k) for k in range(20_000))), 500),
    "very many namespaces": (rss(b"".join(b"<item xmlns:n%d='urn:%d'><title>%d</title></item>" % (k, k, k) for k in range(5000))), 500),
    "very deep": (b"<rss>" + b"<a>" * 200_000, None),
    "deep by attribute": (b"<rss>" + b"<a b='>'>" * 5_000, None),
    "unclosed tags": (b"<" * 1_000_000, None),
    "duplicate ids": (rss((item(more=b"<guid>1</guid>") + item(b"Other", more=b"<guid>1</guid>")) * 50), 2),
    "future dates": (rss(item(more=b"<pubDate>Wed, 15 Jun 2199 18:00:00 GMT</pubDate>") + item(b"b", more=b"<pubDate>Wed, 15 Jun 9999 18:00:00 GMT</pubDate>")), 2),
    "no or odd dates": (rss(item() + item(b"b", more=b"<pubDate>yesterday</pubDate>") + item(b"c", more=b"<pubDate>31 Feb 2020 99:99:99</pubDate>")), 3),
    "html as xml": (b"<!doctype html><html><head><title>Down</title></head><body>" + b"<p>maintenance" * 50 + b"</body></html>", None),
    "redirect to a private address": (redirect("http://10.0.0.1/feed"), None),
    "redirect to the cloud's metadata": (redirect("http://169.254.169.254/latest/meta-data/"), None),
    "redirect to another port": (redirect("http://127.0.0.1:1/feed"), None),
    "redirect to a file": (redirect("file:///etc/hostname"), None),
    "redirect to a short number": (redirect("http://2130706433:1/"), None),
    "redirect in a circle": (None, None),
    "redirect without a place": (redirect(""), None),
    "empty": (b"", None),
    "forbidden": (failing(403), None),
}


def attack(folder) -> dict:
    "Fetch them all from a server of this process: {name: number of documents, or the sentence of the refusal} and where connections went."
    from emp_nb.core import SourceError
    from emp_nb.data.fetch import Client, Feed, documents
    server, found = Server(), {}
    for k, (page, _) in enumerate(HOSTILE.values()): server.pages[f"/{k}"] = redirect(server.url(f"/{k}")) if page is None else page
    client = Client(folder, deadline_s=4.5, max_bytes=4_000_000, cache_max_bytes=50_000_000, rate_per_s=1000., breaker_failures=1000, breaker_rest_s=60., allowed=[server.home])
    with only_connections_to(server.home) as went:
        for k, name in enumerate(HOSTILE):
            try: found[name] = len(documents(Feed(name, (server.url(f"/{k}"),)), client=client).value)
            except SourceError as e: found[name] = str(e)
    server.close()
    return {"found": found, "elsewhere": sorted({place for place in went if place != server.home}), "connections": len(went)}


def peak_mb() -> float: return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


if __name__ == "__main__":
    import emp_nb.data.fetch        # noqa: F401 -- what the libraries take is not the documents' doing
    libraries = peak_mb()
    with tempfile.TemporaryDirectory() as folder: report = attack(folder)
    json.dump(report | {"peak_mb": peak_mb(), "cost_mb": peak_mb() - libraries}, sys.stdout)

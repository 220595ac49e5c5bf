"""A real HTTP server on this machine whose paths say how it should fail, and a guard that sees every connection of the process."""
import gzip
import http.server
import socket
import threading
import time
import zlib
from contextlib import contextmanager


class Server:
    "Pages by path: bytes, or a function (request handler) -> None that answers by itself. `asked` lists (path, headers)."

    def __init__(self):
        self.pages, self.asked, outer = {}, [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append((self.path, dict(self.headers)))
                page = outer.pages.get(self.path.partition("?")[0])
                try: page(self) if callable(page) else answer(self, b"gone" if page is None else page, 404 if page is None else 200)
                except OSError: pass                # the client hung up, as it should

            def log_message(self, *args): pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": .05}, daemon=True).start()

    @property
    def home(self): return f"127.0.0.1:{self.http.server_port}"
    def url(self, path): return f"http://{self.home}{path}"
    def paths(self): return [path for path, _ in self.asked]

    def close(self):
        "May be called twice."
        if self.http.socket.fileno() < 0: return
        self.http.shutdown()
        self.http.server_close()


def answer(handler, body=b"", status=200, **headers):
    handler.send_response(status)
    for name, value in {"Content-Length": len(body), **{k.replace("_", "-"): v for k, v in headers.items()}}.items(): handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(body)


def slow(seconds, body=b"late"):
    def page(handler):
        time.sleep(seconds)
        answer(handler, body)
    return page


def truncated(body): return lambda handler: answer(handler, body[:len(body) // 2], Content_Length=len(body))
def failing(status=500): return lambda handler: answer(handler, b"no", status)
def redirect(to, status=302): return lambda handler: answer(handler, b"", status, Location=to)
def zipped(body): return lambda handler: answer(handler, gzip.compress(body, 9), Content_Encoding="gzip")
def bomb(head, size, tail=b""):
    "A gzip answer of `size` blanks between head and tail, made without holding it."
    pack = zlib.compressobj(9, wbits=31)
    parts = [pack.compress(head)] + [pack.compress(b" " * 1_000_000) for _ in range(size // 1_000_000)] + [pack.compress(tail), pack.flush()]
    return lambda handler: answer(handler, b"".join(parts), Content_Encoding="gzip")


def cut_zip(body): return lambda handler: answer(handler, gzip.compress(body)[:-12], Content_Encoding="gzip")


def flapping(body, *statuses):
    "One status after the other, the last for ever."
    left = list(statuses)
    def page(handler):
        status = left.pop(0) if len(left) > 1 else left[0]
        answer(handler, body if status == 200 else b"no", status)
    return page


def conditional(body, etag='"v1"'):
    def page(handler):
        same = handler.headers.get("If-None-Match") == etag
        answer(handler, b"" if same else body, 304 if same else 200, ETag=etag, Last_Modified="Wed, 15 Jun 2022 18:00:00 GMT")
    return page


@contextmanager
def only_connections_to(*allowed):
    "Within, every connection and every look-up of the process is recorded, and one to anywhere else is refused."
    went, connect, connect_ex, look_up = [], socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded(original):
        def inner(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                went.append(f"{address[0]}:{address[1]}")
                if went[-1] not in allowed: raise OSError(f"the guard refuses {address}")
            return original(self, address)
        return inner

    def looked_up(host, port, *args, **kwargs):
        name = host.decode() if isinstance(host, bytes) else host
        if not name or not all(c in "0123456789abcdef.:%" for c in name.lower()):
            went.append(f"look-up {name}")
            raise socket.gaierror(f"the guard refuses to look up {name}")
        return look_up(host, port, *args, **kwargs)

    socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = guarded(connect), guarded(connect_ex), looked_up
    try: yield went
    finally: socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = connect, connect_ex, look_up

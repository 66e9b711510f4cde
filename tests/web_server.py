"""A static file server on the loopback, for tests of pages that are served from a folder."""

import contextlib
import functools
import http.server
import threading


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `asked` of the server collects the paths."""

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def end_headers(self):
        for name, value in self.server.more_headers.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def serving(folder, **more_headers):
    """A context with the server: `url` is its address, `asked` the paths of requests so far."""
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.asked = []
    server.more_headers = {name.replace("_", "-"): value for name, value in more_headers.items()}
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

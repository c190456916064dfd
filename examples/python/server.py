"""A chat server with a thread for each request (threads).

    python server.py 5005 redis://localhost:6379/1
    curl localhost:5005 -d '{"sender": "anna", "message": "Hi!"}'

Several of them, on one machine or many, share the conversations of one Redis.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lock_store import LockError, LockStore


class Chat(BaseHTTPRequestHandler):
    #: One store for all threads, given by `main`.
    store: LockStore

    def do_POST(self) -> None:
        try:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)))
            sender, text = str(message["sender"]), str(message["message"])
        except (ValueError, KeyError, TypeError):
            self.answer(400, {"error": 'send {"sender": "anna", "message": "Hi!"}'})
            return
        try:
            with self.store.lock(sender, wait_timeout=30) as guard:
                time.sleep(0.05)  # the work
                reply = {"text": text, "ticket": guard.ticket_number}
        except LockError as error:
            # Worth another attempt, or not.
            self.answer(503 if error.is_retryable else 500, {"error": str(error)})
        else:
            self.answer(200, reply)

    def answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def main(port: int, url: str) -> None:
    Chat.store = LockStore.redis(url, lock_lifetime=10, keep_alive=True)
    Chat.store.connect().result()
    # Without this a SIGTERM would leave what is held to its lease.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with ThreadingHTTPServer(("127.0.0.1", port), Chat) as server:
        print(f"listening on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

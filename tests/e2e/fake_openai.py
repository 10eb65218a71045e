#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A tiny OpenAI-compatible server for tests and the demo: one model that streams fixed words.

    fake_openai.py [--port N] [--key KEY] [--log FILE]

Prints "listening on 127.0.0.1:PORT" when ready (port 0: any).  With a key, a request without
"Authorization: Bearer KEY" gets 401.  Each request's authorization state is written to the log as
"METHOD PATH ok|refused", never the key itself.
"""

import argparse
import hmac
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Hello", " from", " the", " fake", " model", "."]
BODY_MAX = 1 << 20


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def _record(self, outcome):
        if self.server.log_path:
            with self.server.log_lock, open(self.server.log_path, "a", encoding="utf-8") as log:
                log.write(f"{self.command} {self.path} {outcome}\n")

    def _authorized(self):
        if self.server.key is None:
            return True
        given = self.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self.server.key}".encode())

    def _json(self, status, value):
        data = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _gate(self):
        if self._authorized():
            self._record("ok")
            return True
        self._record("refused")
        self._json(401, {"error": {"message": "wrong API key", "type": "invalid_request_error"}})
        return False

    def do_GET(self):
        if not self._gate():
            return
        if self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": "fake", "object": "model"}]})
        else:
            self._json(404, {"error": {"message": f"no such path {self.path}"}})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if length > BODY_MAX:
            self.close_connection = True
            self._json(413, {"error": {"message": "body too large"}})
            return
        body = self.rfile.read(length)
        if not self._gate():
            return
        if self.path not in ("/v1/chat/completions", "/v1/responses"):
            self._json(404, {"error": {"message": f"no such path {self.path}"}})
            return
        try:
            stream = bool(json.loads(body or b"{}").get("stream"))
        except (ValueError, AttributeError):
            self._json(400, {"error": {"message": "the body is not a JSON object"}})
            return
        if self.path == "/v1/responses":
            self._respond()
        elif stream:
            self._stream()
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._json(200, {"id": "c1", "object": "chat.completion", "created": 0,
                             "model": "fake", "choices": [choice],
                             "usage": {"prompt_tokens": 1, "completion_tokens": len(WORDS),
                                       "total_tokens": 1 + len(WORDS)}})

    def _respond(self):
        """The events of the Responses API."""
        self._begin_events()
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "".join(WORDS), "annotations": []}]}
        usage = {"input_tokens": 1, "output_tokens": len(WORDS), "total_tokens": 1 + len(WORDS),
                 "input_tokens_details": None, "output_tokens_details": None}
        events = [{"type": "response.created", "response": {"id": "r1"}},
                  {"type": "response.output_item.added", "output_index": 0,
                   "item": {**item, "status": "in_progress", "content": []}},
                  *({"type": "response.output_text.delta", "item_id": "m1", "output_index": 0,
                     "content_index": 0, "delta": word} for word in WORDS),
                  {"type": "response.output_item.done", "output_index": 0, "item": item},
                  {"type": "response.completed",
                   "response": {"id": "r1", "output": [item], "usage": usage}}]
        for event in events:
            self._chunk(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _begin_events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _stream(self):
        self._begin_events()
        deltas = [({"role": "assistant", "content": word}, None) for word in WORDS]
        for delta, reason in deltas + [({}, "stop")]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            event = {"id": "c1", "object": "chat.completion.chunk", "created": 0,
                     "model": "fake", "choices": [choice]}
            self._chunk(f"data: {json.dumps(event)}\n\n")
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


def make_server(port=0, key=None, log_path=None):
    """A server bound to loopback; the caller runs serve_forever() and shutdown()."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.key = key
    server.log_path = log_path
    server.log_lock = threading.Lock()
    return server


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key-stdin", action="store_true")
    parser.add_argument("--log")
    options = parser.parse_args()
    key = sys.stdin.readline().strip() if options.key_stdin else None
    server = make_server(options.port, key, options.log)
    print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

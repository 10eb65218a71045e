# SPDX-License-Identifier: Apache-2.0
"""The wire format of Anthropic's Messages API over TLS, as far as an agent needs it: one model that
streams fixed words, and the token endpoint of a login.  A request with neither the right x-api-key
nor the token of the last login gets 401."""

import hmac
import json
import secrets
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Hello", " from", " the", " fake", " Claude", "."]
BODY_MAX = 8 << 20


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def _json(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status, kind, text):
        self._json(status, {"type": "error", "error": {"type": kind, "message": text}})

    def do_GET(self):
        self._error(404, "not_found_error", f"no such path {self.path}")

    do_HEAD = do_GET

    def _authorized(self):
        pairs = [("x-api-key", self.server.key)]
        if self.server.token:
            pairs.append(("Authorization", f"Bearer {self.server.token}"))
        return any(hmac.compare_digest(self.headers.get(name, "").encode(), value.encode())
                   for name, value in pairs)

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if length > BODY_MAX:
            self.close_connection = True
            self._error(413, "request_too_large", "body too large")
            return
        body = self.rfile.read(length)
        path = self.path.split("?")[0]
        if path == "/v1/oauth/token":
            self.server.token = f"sk-ant-oat01-{secrets.token_hex(16)}"
            self._json(200, {"access_token": self.server.token, "token_type": "Bearer",
                             "refresh_token": f"sk-ant-ort01-{secrets.token_hex(16)}",
                             "expires_in": 28800, "scope": "user:inference user:profile"})
            return
        right = self._authorized()
        with self.server.lock:
            self.server.asked.append((path, right))
        if not right:
            self._error(401, "authentication_error", "invalid x-api-key")
        elif path == "/v1/messages":
            self._answer(json.loads(body))
        elif path == "/v1/messages/count_tokens":
            self._json(200, {"input_tokens": 1})
        else:
            self._error(404, "not_found_error", f"no such path {self.path}")

    def _answer(self, request):
        message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [],
                   "model": request.get("model", "fake"), "stop_reason": None,
                   "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        if not request.get("stream"):
            self._json(200, {**message, "stop_reason": "end_turn",
                             "content": [{"type": "text", "text": "".join(WORDS)}]})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._event({"type": "message_start", "message": message})
        self._event({"type": "content_block_start", "index": 0,
                     "content_block": {"type": "text", "text": ""}})
        for word in WORDS:
            self._event({"type": "content_block_delta", "index": 0,
                         "delta": {"type": "text_delta", "text": word}})
        self._event({"type": "content_block_stop", "index": 0})
        self._event({"type": "message_delta", "usage": {"output_tokens": len(WORDS)},
                     "delta": {"stop_reason": "end_turn", "stop_sequence": None}})
        self._event({"type": "message_stop"})
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, event):
        data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Server:
    """On a port of loopback; `asked` holds (path, whether the key was right) of each request."""

    def __init__(self, cert, key_file, key):
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.key, self.http.token = key, None
        self.http.asked, self.http.lock = [], threading.Lock()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key_file)
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True,
                                               do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    @property
    def port(self):
        return self.http.server_address[1]

    @property
    def asked(self):
        return self.http.asked

    @property
    def token(self):
        return self.http.token

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

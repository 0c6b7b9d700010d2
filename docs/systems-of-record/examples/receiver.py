# Takes the documents of Hookline's http connector: HTTP_RECORD_SECRET=whsec_… python3 receiver.py
import base64, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["HTTP_RECORD_SECRET"].removeprefix("whsec_"))
notes = {}  # Yours is a table with thread_id as its primary key.

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body, header = self.rfile.read(int(self.headers["Content-Length"])), self.headers.get
        signed = f"{header('webhook-id')}.{header('webhook-timestamp')}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
        is_ours = any(hmac.compare_digest(expected, one) for one in header("webhook-signature", "").split())
        if not is_ours or abs(time.time() - int(header("webhook-timestamp"))) > 300:
            return self.answer(401)
        document = json.loads(body)
        data = document["data"]
        if document["type"] == "thread.written":  # Whole each time: the newest replaces the others.
            known = notes.get(data["thread_id"])
            if known is None or known["timestamp"] <= document["timestamp"]:
                notes[data["thread_id"]] = document
                print(data["thread_id"], len(data["messages"]), "messages", flush=True)
        elif document["type"] == "opt_out.changed":
            print("opted out" if data["opted_out"] else "opted in", data["phone"], flush=True)
        self.answer(204)  # Without people: the notes are about TextUs's own contacts.

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()

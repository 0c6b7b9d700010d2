// Takes the documents of Hookline's http connector: HTTP_RECORD_SECRET=whsec_… node receiver.mjs
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const key = Buffer.from(process.env.HTTP_RECORD_SECRET.replace(/^whsec_/, ""), "base64");
const notes = new Map(); // Yours is a table with thread_id as its primary key.
const same = (a, b) => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

const server = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray());
  const { "webhook-id": id, "webhook-timestamp": sent, "webhook-signature": signatures = "" } = request.headers;
  const expected = "v1," + createHmac("sha256", key).update(`${id}.${sent}.`).update(body).digest("base64");
  const isOurs = signatures.split(" ").some((one) => same(one, expected));
  if (!isOurs || Math.abs(Date.now() / 1000 - Number(sent)) > 300) return response.writeHead(401).end();
  const { type, timestamp, data } = JSON.parse(body);
  if (type === "thread.written") { // Whole each time: the newest replaces the others.
    const known = notes.get(data.thread_id);
    if (!known || known.timestamp <= timestamp) {
      notes.set(data.thread_id, { timestamp, data });
      console.log(data.thread_id, data.messages.length, "messages");
    }
  } else if (type === "opt_out.changed") {
    console.log(data.opted_out ? "opted out" : "opted in", data.phone);
  }
  response.writeHead(204).end(); // Without people: the notes are about TextUs's own contacts.
});
server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});

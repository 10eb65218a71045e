// SPDX-License-Identifier: Apache-2.0
// Says what Node's own HTTP server makes of requests; in and out are those of fuzz/http1_reader.c.
'use strict';
const http = require('http');
const { Duplex } = require('stream');

const hex = (text) => Buffer.from(text, 'latin1').toString('hex');

class Connection extends Duplex {
  _read() {}
  _write(chunk, encoding, done) { done(); }
  setTimeout() { return this; }
  setNoDelay() { return this; }
  setKeepAlive() { return this; }
}

function run(input) {
  return new Promise((resolve) => {
    const seen = { requests: [], end: 'clean' };
    const server = http.createServer({
      maxHeaderSize: 65536, requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0,
      requireHostHeader: false });
    server.timeout = 0;
    const take = (request, response) => {
      const one = { method: hex(request.method), target: hex(request.url),
        fields: request.rawHeaders.map(hex), body: '', whole: false };
      seen.requests.push(one);
      request.on('data', (data) => { one.body += data.toString('hex'); });
      request.on('end', () => { one.whole = true; if (response) response.end(); });
    };
    server.on('request', take);
    server.on('checkContinue', take);
    server.on('checkExpectation', take);
    server.on('connect', (request) => { take(request, null); seen.requests.at(-1).whole = true; seen.end = 'tunnel'; });
    server.on('clientError', () => { seen.end = 'refused'; });
    const connection = new Connection();
    connection.on('error', () => {});
    server.emit('connection', connection);
    connection.push(input);
    // All of it is parsed in the turns that follow; the end of the stream is not sent, since it
    // would make an error of what only waits.
    let turns = 0;
    const wait = () => {
      if (++turns < 12) { setImmediate(wait); return; }
      resolve(seen);
      connection.destroy();
    };
    setImmediate(wait);
  });
}

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const all = Buffer.concat(chunks);
  const lines = [];
  for (let at = 0; at < all.length;) {
    const length = all.readUInt32LE(at);
    lines.push(JSON.stringify(await run(all.subarray(at + 4, at + 4 + length))));
    at += 4 + length;
  }
  process.stdout.write(lines.join('\n') + '\n');
}
process.on('uncaughtException', (error) => { process.stderr.write(String(error.stack)); process.exit(1); });
main();

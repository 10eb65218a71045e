// SPDX-License-Identifier: Apache-2.0
// An HTTP/2 origin by Node.js: node http2_origin.js CERT KEY, or without arguments in plain text.
// Prints its port.
'use strict';
const http2 = require('http2');
const fs = require('fs');
const [cert, key] = process.argv.slice(2).map((name) => fs.readFileSync(name));
const settings = {enableConnectProtocol: true};
const server = cert ? http2.createSecureServer({cert, key, settings})
  : http2.createServer({settings});
let refused = false;
let sessions = 0;
const waiting = [];

function echo(stream, headers) {
  let len = 0;
  let trailers = {};
  stream.on('trailers', (t) => { trailers = {...t}; });
  stream.on('data', (chunk) => { len += chunk.length; });
  stream.on('end', () => {
    if (stream.destroyed) return;
    stream.respond({':status': 200, 'content-type': 'application/json'});
    stream.end(headers[':method'] === 'HEAD' ? undefined
      : JSON.stringify({headers, len, trailers, sessions}));
  });
}

const routes = {
  // The wire format of gRPC: length-prefixed messages, the status in the trailers.
  '/svc.Echo/Say': (stream) => {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('end', () => {
      stream.respond({':status': 200, 'content-type': 'application/grpc'},
        {waitForTrailers: true});
      stream.on('wantTrailers', () => stream.sendTrailers(
        {'grpc-status': '0', 'grpc-message': 'fine'}));
      stream.end(Buffer.concat(chunks));
    });
  },
  '/hints': (stream) => {
    stream.additionalHeaders({':status': 103, link: '</a.css>; rel=preload'});
    stream.respond({':status': 200});
    stream.end('hinted');
  },
  // The second event leaves only after another stream has asked for it.
  '/sse': (stream) => {
    stream.respond({':status': 200, 'content-type': 'text/event-stream'});
    stream.write('data: one\n\n');
    waiting.push(() => stream.end('data: two\n\n'));
  },
  '/go': (stream) => {
    waiting.splice(0).forEach((go) => go());
    stream.respond({':status': 200});
    stream.end('gone');
  },
  '/reset': (stream) => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR),
  '/refuse-once': (stream, headers) => {
    if (refused) { echo(stream, headers); return; }
    refused = true;
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  },
  '/goaway': (stream) => {
    stream.session.goaway(0);
    stream.respond({':status': 200});
    stream.end('last');
  },
  '/early': (stream) => { // answers without reading the body
    stream.respond({':status': 413});
    stream.end('too much');
  },
};

server.on('session', () => { sessions++; });
server.on('sessionError', () => {});
server.on('stream', (stream, headers) => {
  const path = headers[':path'];
  stream.on('error', () => {});
  if (headers[':method'] === 'CONNECT') { // RFC 8441
    stream.respond({':status': 200});
    stream.write(`auth:${headers.authorization} `);
    stream.on('data', (chunk) => stream.write(Buffer.from(chunk).reverse()));
    stream.on('end', () => stream.end());
  } else if (path.startsWith('/big/')) {
    let left = Number(path.slice(5));
    const block = Buffer.alloc(1 << 16, 'x');
    stream.respond({':status': 200});
    const more = () => {
      while (left > 0) {
        const n = Math.min(left, block.length);
        left -= n;
        if (!stream.write(block.subarray(0, n))) { stream.once('drain', more); return; }
      }
      stream.end();
    };
    more();
  } else {
    (routes[path] || echo)(stream, headers);
  }
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

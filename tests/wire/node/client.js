// A client in another language: it knows protos/avlab/v1/executor.proto and docs/wire.md, and nothing of avlab's code.
//
//   node client.js host:port protos        prints one JSON object with what it has seen
'use strict';

const crypto = require('crypto');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, protos] = process.argv.slice(2);
const definition = loader.loadSync(path.join(protos, 'avlab/v1/executor.proto'), {
  keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true,
});
const { Executor } = grpc.loadPackageDefinition(definition).avlab.v1;
const executor = new Executor(address, grpc.credentials.createInsecure(), {
  'grpc.max_receive_message_length': 70 << 20,
});

const WINDOW = 4;
const FRAMES = 40;
const SIZE = [640, 360];
const SMALL = [160, 90];

const unary = (method, request) => new Promise((resolve, reject) => {
  executor[method](request, (error, reply) => (error ? reject(error) : resolve(reply)));
});

const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');

/** An item with one picture of one colour; its planes, here one of RGB, are the payload. */
function picture(number, [width, height]) {
  const pixels = Buffer.alloc(width * height * 3);
  for (let at = 0; at < pixels.length; at += 3) pixels.set(colour(number), at);
  const meta = {
    format: 'rgb24', size: [width, height], pts: number, dts: null, base: [1, 30], duration: 1,
    colors: [2, 2, 2, 2], picture: 0, key: false,
  };
  return {
    item: {
      input: number, mode: 'PROCESS', codec: 'av.VideoFrame', meta: Buffer.from(JSON.stringify(meta)), sizes: [pixels.length],
      pts: number, time_base_numerator: 1, time_base_denominator: 30, track: 'video', seq: number - 1,
    },
    payload: pixels,
  };
}

const colour = (number) => [number * 5, 255 - number * 5, 128];

/** One session: what its outputs and its end were. `next(granted)` gives the messages that may be sent now. */
function session(method, open, next) {
  return new Promise((resolve, reject) => {
    const seen = { opened: null, outputs: [], failure: null, logs: '', most: 0, ended: false };
    const call = executor[method]();
    let acked = 0;
    const send = (granted) => {
      const messages = next(granted, seen);
      if (messages.length) call.write({ messages });
    };
    call.on('data', (batch) => {
      for (const message of batch.messages) {
        switch (message.kind) {
          case 'opened':
            seen.opened = message.opened;
            send(message.opened.window);
            break;
          case 'item':
            seen.outputs.push({ ...message.item, payload: message.payload });
            seen.most = Math.max(seen.most, message.item.ordinal - acked);
            acked = message.item.ordinal;
            call.write({ messages: [{ credit: { acked } }] });
            send(message.item.granted);
            break;
          case 'credit':
            send(message.credit.granted);
            break;
          case 'log':
            seen.logs += message.payload.toString();
            break;
          case 'failure':
            if (!seen.ended) seen.failure = seen.failure || message.failure; // a later one tells of the worker's end
            break;
          default: // what a later version may add
        }
      }
    });
    call.on('error', reject);
    call.on('end', () => resolve(seen));
    seen.end = () => { seen.ended = true; call.write({ messages: [{ end: {} }] }); };
    call.write({ messages: [{ open: { window: WINDOW, session: crypto.randomBytes(16).toString('hex'), ...open } }] });
  });
}

/** Frames through the registered node Resize. */
async function stream() {
  let sent = 0;
  let flushed = false;
  const bundle = { kind: 'NODE', name: 'Resize', config: Buffer.from(JSON.stringify({ width: SMALL[0], height: SMALL[1] })), wire: 1 };
  const seen = await session('StreamNode', { bundle }, (granted, so_far) => {
    const messages = [];
    while (sent < Math.min(granted, FRAMES)) messages.push(picture(++sent, SIZE));
    if (sent === FRAMES && !flushed && granted > FRAMES) {
      flushed = true;
      messages.push({ item: { input: FRAMES + 1, mode: 'FLUSH' } });
    }
    const last = so_far.outputs[so_far.outputs.length - 1];
    if (last && last.last && last.input === FRAMES + 1) so_far.end();
    return messages;
  });
  const frames = seen.outputs.filter((output) => output.codec);
  return {
    opened: seen.opened, failure: seen.failure, frames: frames.length, most: seen.most,
    ordinals: seen.outputs.map((output) => output.ordinal),
    pts: frames.map((output) => output.pts),
    bases: [...new Set(frames.map((output) => `${output.time_base_numerator}/${output.time_base_denominator}`))],
    tracks: [...new Set(frames.map((output) => output.track))],
    sizes: [...new Set(frames.map((output) => JSON.stringify(JSON.parse(output.meta).size)))],
    bytes: [...new Set(frames.map((output) => output.payload.length))],
    wrong: frames.filter((output) => output.payload.length !== SMALL[0] * SMALL[1] * 3
      || output.payload.some((value, at) => Math.abs(value - colour(output.input)[at % 3]) > 2)).length,
  };
}

/** Frames through Resize, all at once; then this side's half of the call is closed, and nothing is acknowledged any more. */
function halfClosed() {
  return new Promise((resolve, reject) => {
    const seen = { pts: [], last: 0, failure: null };
    const call = executor.StreamNode();
    const bundle = { kind: 'NODE', name: 'Resize', config: Buffer.from('{"width":16}'), wire: 1 };
    call.on('data', (batch) => {
      for (const message of batch.messages) {
        if (message.kind === 'opened') {
          for (let number = 1; number <= FRAMES; number += 1) call.write({ messages: [picture(number, [32, 18])] });
          call.write({ messages: [{ item: { input: FRAMES + 1, mode: 'FLUSH' } }] });
          call.end();
        } else if (message.kind === 'item') {
          if (message.item.codec) seen.pts.push(message.item.pts);
          if (message.item.last) seen.last = message.item.input;
        } else if (message.kind === 'failure') seen.failure = message.failure;
      }
    });
    call.on('error', reject);
    call.on('status', (status) => resolve({ ...seen, status: status.code }));
    call.write({ messages: [{ open: { window: WINDOW, session: crypto.randomBytes(16).toString('hex'), grace: 30, bundle } }] });
  });
}

/** One frame in one call. */
async function execute() {
  const bundle = { kind: 'NODE', name: 'Resize', config: Buffer.from('{"width":16}'), wire: 1 };
  const reply = await unary('ExecuteNode', { messages: [{ open: { bundle, window: WINDOW } }, picture(1, [32, 18])] });
  const outputs = reply.messages.filter((message) => message.kind === 'item');
  return outputs.map((message) => ({ codec: message.item.codec, size: JSON.parse(message.item.meta).size, bytes: message.payload.length }));
}

/** Source text of another language: sent as a blob, run there, called by name. */
async function source() {
  const text = 'class Counter:\n    total = 0\n    def add(self, n):\n        print("adding", n)\n        self.total += n\n        return self.total\n';
  const blob = Buffer.from(JSON.stringify({ text, filename: '<node>', name: 'Counter', state: {}, args: [], kwargs: {} }));
  const name = sha256(blob);
  const before = (await unary('HasBlobs', { names: [name] })).names;
  const put = await new Promise((resolve, reject) => {
    const call = executor.PutBlobs((error, reply) => (error ? reject(error) : resolve(reply.names)));
    const half = blob.length >> 1;
    for (const [start, end] of [[0, half], [half, blob.length]]) {
      call.write({ messages: [{ blob: { name, offset: start, size: blob.length }, payload: blob.subarray(start, end) }] });
    }
    call.end();
  });
  const after = (await unary('HasBlobs', { names: [name] })).names;
  let sent = 0;
  const seen = await session('StreamObject', { bundle: { kind: 'SOURCE', name: 'Counter', object: name, wire: 1 } }, (granted, so_far) => {
    if (so_far.outputs.length === 3) so_far.end();
    if (sent >= 3 || sent > so_far.outputs.length) return [];
    sent += 1;
    return [{ item: { input: sent, mode: 'CALL', method: 'add', codec: 'json', meta: Buffer.from(String(sent)) } }];
  });
  return {
    before, put: put.length, after: after.length, failure: seen.failure, logs: seen.logs,
    results: seen.outputs.map((output) => JSON.parse(output.meta)),
  };
}

/** What is refused, and how it says so. */
async function refused() {
  const bundle = { kind: 'NODE', name: 'NoSuchNode', wire: 1 };
  const unknown = await session('StreamNode', { bundle }, () => []);
  const late = await session('StreamNode', { bundle: { kind: 'NODE', name: 'Resize', wire: 99 } }, () => []);
  return { unknown: unknown.failure, late: late.failure };
}

async function main() {
  const about = await unary('Describe', {});
  const result = {
    about: { wire: about.wire, tier: about.tier, nodes: about.nodes, tiers: about.tiers.map((tier) => tier.name) },
    stream: await stream(), halfClosed: await halfClosed(), execute: await execute(), source: await source(), refused: await refused(),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  executor.close();
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});

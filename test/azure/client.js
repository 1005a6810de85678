// One request a line on standard input, one answer a line on standard output, one after
// the other:
//
//   {"client": "service", "call": "getEnrollmentGroup", ...}
//   {"result": ..., "error": {"name", "message", "result"}, "seen": [...]}
//
// "client" names the file beside this one that drives that SDK, the other members are
// its own. "seen" is what went over the wire meanwhile (wire.js). The first line holds
// the settings of wire.js.
'use strict';
const readline = require('readline');
const wire = require('./wire');

const limit = 20000; // ms; no call of a test takes nearly as long

const clients = {
  device: () => require('./device'),
  service: () => require('./service'),
  registry: () => require('./registry'),
  management: () => require('./management'),
};

async function perform(request) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(Object.assign(new Error('the SDK did not settle'), { name: 'Unsettled' })), limit);
  });
  try {
    return await Promise.race([clients[request.client]().perform(request), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function answer(request) {
  wire.forget();
  const said = {};
  try {
    said.result = await perform(request);
  } catch (err) {
    said.error = { name: err.name, message: String(err.message), result: err.result };
  }
  said.seen = wire.seen();
  return JSON.stringify(said, plain);
}

// plain leaves out what SDK objects keep for themselves, and writes bytes as base64.
function plain(key, value) {
  if (key.startsWith('_')) return undefined;
  const own = this[key]; // value may have been asked for its own JSON already
  return own instanceof Uint8Array ? Buffer.from(own).toString('base64') : value;
}

async function main() {
  let settled = false;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const said = JSON.parse(line);
    if (!settled) {
      wire.settle(said);
      settled = true;
      continue;
    }
    process.stdout.write((await answer(said)) + '\n');
  }
  process.exit(0); // kept connections would hold it
}

main();

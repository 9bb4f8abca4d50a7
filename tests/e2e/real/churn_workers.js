// A node program with threads: workers with heaps of their own, and memory that all share. Prints digests.
'use strict';
const crypto = require('crypto');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

const kWorkers = 3;

function churn({ number, count, shared }) {
  let state = number * 7919 + 1;
  const next = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0);
  let items = [];
  for (let i = 0; i < count; i++) {
    const key = next();
    items.push({ key, name: `item-${key}`, data: [key, key / 3, `t${key % 97}`] });
    if (i % 50000 === 49999) items = items.filter((item) => item.key % 5 !== 0);
  }
  const hash = crypto.createHash('sha256');
  for (const item of items) {
    if (item.name !== `item-${item.key}` || item.data[1] !== item.key / 3) throw new Error(`item ${item.key} is wrong`);
    hash.update(item.name);
  }
  const words = new Int32Array(shared);
  for (let i = number; i < words.length; i += kWorkers) Atomics.add(words, i, i);
  return `${items.length} ${hash.digest('hex')}`;
}

if (isMainThread) {
  const shared = new SharedArrayBuffer(8 << 20);
  const results = [];
  let left = kWorkers;
  for (let number = 0; number < kWorkers; number++) {
    const worker = new Worker(__filename, { workerData: { number, count: Number(process.argv[2]) / kWorkers, shared } });
    worker.on('message', (text) => { results[number] = text; });
    worker.on('error', (error) => { console.error(error); process.exit(1); });
    worker.on('exit', () => {
      if (--left > 0) return;
      const words = new Int32Array(shared);
      for (let i = 0; i < words.length; i++) if (words[i] !== i) { console.error(`word ${i} is wrong`); process.exit(1); }
      console.log(results.join('\n'));
    });
  }
} else {
  parentPort.postMessage(churn(workerData));
}

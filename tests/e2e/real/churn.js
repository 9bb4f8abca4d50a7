// A node program with a heap that is used: objects, strings, maps, typed arrays. Prints digests.
'use strict';
const crypto = require('crypto');
const count = Number(process.argv[2]);
let state = 12345;
const next = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0);
const items = new Map();
for (let i = 0; i < count; i++) {
  const key = next() * 4096 + (next() & 4095);
  items.set(key, { name: `item-${key}`, tags: [i, key % 1000, `t${i % 97}`], weight: key / 3 });
}
// One in a hundred: to sort all names would touch all of the heap at random some ten million times.
const names = [...items.values()].filter((item) => item.tags[0] % 100 === 0).map((item) => item.name).sort();
const hash = crypto.createHash('sha256');
for (const name of names) hash.update(name);
for (const [key, item] of items) {
  if (item.name !== `item-${key}` || item.weight !== key / 3) throw new Error(`item ${key} is wrong`);
}
const numbers = new Float64Array(count * 8);
for (let i = 0; i < numbers.length; i++) numbers[i] = next();
numbers.sort();
hash.update(Buffer.from(numbers.buffer));
console.log(items.size, hash.digest('hex'));

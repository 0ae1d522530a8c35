// Measures BullMQ on the Redis at a unix socket and prints one line of JSON with its figures.
//
//   node bullmq.mjs SOCKET fill  COUNT BATCH            addBulk of COUNT jobs, BATCH a call, 4 calls in flight
//   node bullmq.mjs SOCKET drain COUNT CONCURRENCY KEEP one worker; the clock runs from the first start to the last settle
//   node bullmq.mjs SOCKET idle  COUNT                  one job at a time on an idle queue: enqueue to start
//
// KEEP is `keep` (finished jobs stay, as ours do) or `remove`.

import { Queue, Worker } from 'bullmq';

const [socket, mode, countText, ...rest] = process.argv.slice(2);
const count = Number(countText);
const connection = { path: socket, maxRetriesPerRequest: null };
const payload = { pad: 'x'.repeat(190) }; // 200 bytes as JSON
const queueName = 'bench';

async function fill(batchText) {
  const queue = new Queue(queueName, { connection });
  await queue.waitUntilReady();
  const batch = Number(batchText);
  let left = count;
  const started = performance.now();
  const producer = async () => {
    while (left > 0) {
      const size = Math.min(batch, left);
      left -= size;
      await queue.addBulk(Array.from({ length: size }, () => ({ name: 'noop', data: payload })));
    }
  };
  await Promise.all(Array.from({ length: 4 }, producer));
  const seconds = (performance.now() - started) / 1000;
  await queue.close();
  return { seconds, per_second: count / seconds };
}

async function drain(concurrencyText, keep) {
  let first;
  let settled = 0;
  const handler = async () => { first ??= performance.now(); };
  const worker = new Worker(queueName, handler, {
    connection,
    concurrency: Number(concurrencyText),
    ...(keep === 'remove' ? { removeOnComplete: { count: 0 } } : {}),
    autorun: false,
  });
  await worker.waitUntilReady();
  const done = new Promise((resolve) => {
    worker.on('completed', () => { settled += 1; if (settled === count) resolve(performance.now()); });
  });
  worker.run();
  const last = await done;
  await worker.close();
  const seconds = (last - first) / 1000;
  return { seconds, per_second: count / seconds };
}

async function idle() {
  const queue = new Queue(queueName, { connection });
  let started;
  const worker = new Worker(queueName, async () => { started(performance.now()); }, { connection });
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
  const latencies = [];
  for (let i = 0; i < count; i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 20)); // let the worker go idle between two jobs
    const begin = new Promise((resolve) => { started = resolve; });
    const asked = performance.now();
    await queue.add('noop', payload);
    latencies.push((await begin) - asked);
  }
  await worker.close();
  await queue.close();
  latencies.sort((a, b) => a - b);
  const at = (q) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))];
  return { p50_ms: at(0.5), p99_ms: at(0.99) };
}

const modes = { fill, drain, idle };
const figures = await modes[mode](...rest);
process.stdout.write(`${JSON.stringify(figures)}\n`);
process.exit(0);

/**
 * `npm run bench:live`: many live streams on one server, in a process of its own. Half of them follow
 * all that a customer does, half one order each, a few everything. It places orders by schedule,
 * measures from the 201 to the event, and fails when a stream has lost, doubled or mixed up anything.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type EventStream, openEventStream, type Received } from '../tests/event-stream-client.ts';
import { openEnding, programDataDir, startTestProgram } from '../tests/running-program.ts';
import { openShop, until } from '../tests/shop-client.ts';

const { values: flags } = parseArgs({
  options: {
    url: { type: 'string' },
    streams: { type: 'string', default: '5000' },
    orders: { type: 'string', default: '1000' },
    rate: { type: 'string', default: '50' },
    smoke: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (flags.help) {
  console.log(`Usage: npm run bench:live [-- OPTIONS]

  --url ADDRESS   a system that runs already, for whom every caller is operator, and that nobody else
                  uses meanwhile (default: one of its own, in a temporary folder)
  --streams N     streams that are open at once (default 5000)
  --orders N      orders that are placed while all of them are open (default 1000)
  --rate R        orders a second, by schedule (default 50)
  --smoke         50 streams and 50 orders, without judging the times

Examples:
  npm run bench:live
  npm run bench:live -- --streams 1000 --rate 100`);
  process.exit(0);
}
const streamsWanted = flags.smoke ? 50 : Number(flags.streams);
const measuredOrders = flags.smoke ? 50 : Number(flags.orders);
const rate = Number(flags.rate);
const wholeStreams = Math.min(5, Math.ceil(streamsWanted / 10));
const customers = Math.floor((streamsWanted - wholeStreams) / 2);
const orderStreams = streamsWanted - wholeStreams - customers;
const openedAtOnce = 32;
const arriveWithinMs = 60_000;
const limitP99Ms = 1_000;

const ending = openEnding();
const run = Date.now().toString(36);
const failures: string[] = [];
let passed = false;

try {
  const address = flags.url ?? (await startTestProgram(ending, await programDataDir(ending))).address;
  passed = await bench(address);
} finally {
  await ending.end();
}
process.exitCode = passed ? 0 : 1;

async function bench(address: string): Promise<boolean> {
  const shop = openShop(address);
  const sku = `LIVE-${run}`;
  const customerOf = (n: number): string => `live-${run}-${n % customers}`;
  await shop.putProduct(sku);
  await shop.adjustStock(sku, 1_000_000);
  await inParallel(customers, (n) => shop.putCustomer(customerOf(n)));
  const before = await serverFigures(address);

  const whole: Seen[] = [];
  const ofCustomers: Seen[] = [];
  const ofOrders: Seen[] = [];
  /** By id of the event: when one of the streams that show everything had it. */
  const arrivals = { whole: new Map<string, number>(), customers: new Map<string, number>() };
  const everything: Received[] = [];
  const opening = performance.now();
  await inParallel(wholeStreams, async (n) => {
    whole[n] = await follow(`${address}/v1/live`, (event) => {
      if (n !== 0) return;
      everything.push(event);
      arrivals.whole.set(event.data.id as string, performance.now());
    });
  });
  await inParallel(customers, async (n) => {
    ofCustomers[n] = await follow(`${address}/v1/live?customerId=${customerOf(n)}`, (event) =>
      arrivals.customers.set(event.data.id as string, performance.now()),
    );
  });
  console.log(
    `${wholeStreams + customers} streams of events opened in ${((performance.now() - opening) / 1_000).toFixed(1)} s`,
  );

  const answered = new Map<string, number>();
  const place = async (n: number): Promise<Record<string, string>> => {
    const orderId = `live-${run}-${n}`;
    const reply = await shop.send({ orderId, customerId: customerOf(n), sku });
    answered.set(orderId, performance.now());
    if (reply.status !== 201) failures.push(`order ${orderId} was answered ${reply.status}`);
    return { 'consistency-token': reply.headers.get('consistency-token') ?? '', prefer: 'wait=5' };
  };
  const completedAt = createHistogram();
  await bySchedule(orderStreams, Math.max(rate, 100), async (n) => {
    const token = await place(n);
    const at = performance.now();
    const seen = await follow(
      `${address}/v1/orders/live-${run}-${n}/live`,
      ({ data }) => {
        if (data.status === 'completed') record(completedAt, performance.now() - at);
      },
      token,
    );
    ofOrders.push(seen);
  });
  await allCompleted(everything, orderStreams);
  const during = await serverFigures(address);
  console.log(`${during.streams} streams open; ${(during.rssMb - before.rssMb).toFixed(0)} MB more than before them`);

  const began = performance.now();
  await bySchedule(measuredOrders, rate, (n) => place(orderStreams + n));
  await allCompleted(everything, orderStreams + measuredOrders);
  const took = (performance.now() - began) / 1_000;
  const after = await serverFigures(address);
  const cpu = ((after.cpuSeconds - during.cpuSeconds) / took) * 100;

  // Whoever is a little later than the first gets a moment.
  const headId = whole[0]!.stream.lastEventId;
  await Promise.all(whole.map(({ stream }) => stream.until(() => stream.lastEventId === headId, arriveWithinMs)));
  const expected = expectedIds(everything);
  await Promise.all(ofCustomers.map((seen, n) => seen.has(expected.ofCustomers.get(customerOf(n))?.length ?? 0)));
  for (const { ids } of whole)
    check(
      'a stream of everything',
      ids,
      everything.map(({ data }) => data.id as string),
    );
  ofCustomers.forEach(({ ids }, n) =>
    check('a stream of a customer', ids, expected.ofCustomers.get(customerOf(n)) ?? []),
  );
  for (const { ids, stream } of ofOrders) {
    const first = Number(ids[0]);
    check(
      'a stream of an order',
      ids,
      Array.from({ length: 4 - first }, (_, n) => String(first + n)),
    );
    stream.close();
  }
  for (const { stream } of [...whole, ...ofCustomers]) stream.close();

  const measured = everything.filter(({ data }) => data.type === 'OrderPlaced').slice(orderStreams);
  const [toWhole, toCustomers] = [createHistogram(), createHistogram()];
  for (const { data } of measured) {
    const at = answered.get(data.data.orderId as string) ?? 0;
    record(toWhole, arrivals.whole.get(data.id as string)! - at);
    record(toCustomers, (arrivals.customers.get(data.id as string) ?? Infinity) - at);
  }
  console.log(`
${streamsWanted} streams open, ${measuredOrders} orders in ${took.toFixed(1)} s (${everything.length} events in all)

from the 201 to          p50 ms    p99 ms    max ms
OrderPlaced, everything${row(toWhole)}
OrderPlaced, a customer${row(toCustomers)}
completed, an order    ${row(completedAt)}   (while the streams were being opened)

server: ${before.rssMb.toFixed(0)} MB before the streams, ${during.rssMb.toFixed(0)} MB with all of them, ${after.rssMb.toFixed(0)} MB after the orders; ${cpu.toFixed(0)} % of a core; ${after.cutOff} cut off
${failures.length} failures`);
  for (const failure of failures.slice(0, 5)) console.error(failure);
  const inTime = flags.smoke || [toWhole, toCustomers].every((one) => one.percentile(99) / 1e3 <= limitP99Ms);
  return failures.length === 0 && after.cutOff === 0 && inTime;
}

type Seen = { readonly stream: EventStream; readonly ids: string[]; has(count: number): Promise<void> };

/** Keeps of each event only its id: the positions in the log, or the version of an order. */
async function follow(
  url: string,
  onEvent: (event: Received) => void,
  headers: Record<string, string> = {},
): Promise<Seen> {
  const stream = await openEventStream(url, headers);
  if (stream.status !== 200) throw new Error(`${url} was answered ${stream.status}: ${stream.body}`);
  const ids: string[] = [];
  stream.onEvent = (event) => {
    stream.events.length = 0;
    if (event.event === 'error') failures.push(JSON.stringify(event.data));
    ids.push(event.event === 'order' ? event.id : (event.data.id as string));
    onEvent(event);
  };
  // From here on nothing is missed.
  if (!url.includes('/orders/')) await stream.until(() => stream.lastEventId !== '');
  return { stream, ids, has: (count) => stream.until(() => ids.length >= count, arriveWithinMs) };
}

async function allCompleted(everything: readonly Received[], orders: number): Promise<void> {
  await until(
    `${orders} orders are completed and shipped`,
    async () => {
      let shipped = 0;
      for (const { data } of everything) if (data.type === 'StockShipped') shipped += 1;
      return shipped >= orders ? true : null;
    },
    arriveWithinMs,
  );
}

/** What each customer's stream has to show, from what a stream of everything has shown. */
function expectedIds(everything: readonly Received[]): { readonly ofCustomers: ReadonlyMap<string, string[]> } {
  const owners = new Map<string, string>();
  for (const { data } of everything) {
    if (data.type === 'OrderPlaced') owners.set(data.data.orderId as string, data.data.customerId as string);
  }
  const ofCustomers = new Map<string, string[]>();
  for (const { data } of everything) {
    const owner = owners.get(data.stream.slice(data.stream.indexOf('-') + 1) as string);
    if (owner === undefined) continue;
    const ids = ofCustomers.get(owner) ?? [];
    ids.push(data.id as string);
    ofCustomers.set(owner, ids);
  }
  return { ofCustomers };
}

/** Each once, and those of one service in order: `ordering-0-17`. Services come as they come. */
function check(what: string, seen: readonly string[], expected: readonly string[]): void {
  const byService = (ids: readonly string[]): string =>
    JSON.stringify(
      ['catalog', 'ordering', 'inventory', 'payments', ''].map((service) =>
        ids.filter((id) => id.replace(/-?\d.*$/, '') === service),
      ),
    );
  if (byService(seen) === byService(expected)) return;
  failures.push(`${what} shows ${seen.length} events instead of ${expected.length}: ${seen.slice(0, 20).join(' ')}`);
}

async function serverFigures(address: string) {
  const text = await (await fetch(`${address}/metrics`)).text();
  const figure = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? NaN);
  return {
    rssMb: figure('process_resident_memory_bytes') / 1_048_576,
    cpuSeconds: figure('process_cpu_seconds_total'),
    streams: figure('twofold_live_streams'),
    cutOff: figure('twofold_live_streams_cut_off_total'),
  };
}

async function inParallel(count: number, work: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: openedAtOnce }, worker));
}

async function bySchedule(count: number, perSecond: number, work: (n: number) => Promise<unknown>): Promise<void> {
  const began = performance.now();
  const under: Promise<unknown>[] = [];
  for (let n = 0; n < count; n += 1) {
    const due = began + (n * 1_000) / perSecond;
    if (due > performance.now()) await delay(due - performance.now());
    under.push(work(n));
  }
  await Promise.all(under);
}

/** In microseconds. */
function record(histogram: RecordableHistogram, ms: number): void {
  if (ms === Infinity) failures.push('an order was not shown to its customer');
  else histogram.record(Math.max(1, Math.round(ms * 1e3)));
}

function row(histogram: RecordableHistogram): string {
  const us = [histogram.percentile(50), histogram.percentile(99), histogram.max];
  return us.map((one) => (one / 1e3).toFixed(1).padStart(10)).join('');
}

/** Sends a plan: customers, products and stock first, then the orders in time order, many in flight. */
import type { AdjustStockBody, PutCustomerBody, PutProductBody } from '#contracts/http.ts';
import { ImportError, Interrupted } from './import-error.ts';
import type { ImportJournal } from './import-journal.ts';
import { currency, type ImportPlan, orderBody, type PlannedOrder, type PlannedProduct } from './order-plan.ts';
import { pause } from './pause.ts';
import type { Progress } from '#platform/progress-bar.ts';
import { accepted, refusalText, type ShopClient, type ShopRequest } from './shop-client.ts';
import { systemPorts } from '#platform/ports.ts';

export type RunSettings = {
  /** Requests under way at once. */
  readonly inFlightMax: number;
  /** Seconds of the file per second; null: as fast as the server takes them. */
  readonly speed: number | null;
  /** Pieces of every product; null: what the file's orders ask for. */
  readonly stock: number | null;
  readonly stop: AbortSignal;
  readonly progress: Progress;
};

export type RefusedOrder = { readonly orderId: string; readonly refusal: string };

export type RunOutcome = {
  readonly sent: number;
  /** Acknowledged to an earlier run. */
  readonly resumed: number;
  readonly refused: readonly RefusedOrder[];
  readonly setUpMs: number;
  readonly ordersMs: number;
  /** Of the last order: what reads have to include. */
  readonly consistencyToken: string | undefined;
};

/** More refusals than this mean that something is wrong with all of them. */
const refusedOrdersMax = 100;
const journalSamplesMax = 16;

/**
 * Repeating it doubles nothing: every write carries a key made from the file's content. Rejects with an
 * ImportError where it cannot go on, with Interrupted once `stop` is aborted and all in flight are answered.
 */
export async function runImport(
  plan: ImportPlan,
  shop: ShopClient,
  journal: ImportJournal,
  settings: RunSettings,
): Promise<RunOutcome> {
  const { progress } = settings;
  if (!(await holdsJournalledOrders(plan, shop, journal))) {
    progress.say('the server does not have what the journal says it acknowledged: importing from the beginning');
    journal.forget();
  }
  const open = plan.orders.filter((order) => !journal.acknowledged.has(order.orderId));
  const resumed = plan.orders.length - open.length;
  if (resumed > 0) progress.say(`resuming: ${resumed} of ${plan.orders.length} orders were acknowledged before`);
  const beganMs = systemPorts.elapsed();
  // Without an order to look for, nothing shows that this server is the one that was set up.
  const stocked = journal.setUp && resumed > 0;
  const known = stocked ? undefined : await setUp(plan, shop, settings);
  if (!stocked) journal.markSetUp();
  const setUpMs = systemPorts.elapsed() - beganMs;
  const orders = await sendOrders(plan, open, shop, journal, settings, known);
  return { ...orders, resumed, setUpMs, ordersMs: systemPorts.elapsed() - beganMs - setUpMs };
}

/** Whether the server still has a sample of the orders it acknowledged: it may be a new one at the old address. */
async function holdsJournalledOrders(plan: ImportPlan, shop: ShopClient, journal: ImportJournal): Promise<boolean> {
  const listed = plan.orders.filter((order) => journal.acknowledged.has(order.orderId));
  const step = Math.max(1, (listed.length - 1) / (journalSamplesMax - 1));
  for (let at = 0; at < listed.length; at += step) {
    const { orderId } = listed[Math.round(at)]!;
    // A server that has just come back may still be reading its log.
    const path = `/v1/orders/${orderId}`;
    const answer = await shop.send({ method: 'GET', path, mayArrive: ['order-not-found'], arrivalMsMax: 3_000 });
    if (answer.code === 'order-not-found') return false;
    accepted(answer, `reading order ${orderId}`);
  }
  return true;
}

/** Resolves to a token that includes what was written, as far as one answer can. */
async function setUp(plan: ImportPlan, shop: ShopClient, settings: RunSettings): Promise<string | undefined> {
  const { progress, stop } = settings;
  const tasks: ((token: string | undefined) => Promise<string | undefined>)[] = [
    ...plan.customers.map(({ customerId, name, country }) => (token: string | undefined) => {
      const body: PutCustomerBody = country === '' ? { name } : { name, country };
      const idempotencyKey = keyOf(plan, 'customer', customerId);
      const path = `/v1/customers/${customerId}`;
      return write(shop, { method: 'PUT', path, body, idempotencyKey, consistencyToken: token });
    }),
    ...plan.products.map(
      (product) => (token: string | undefined) => stockProduct(plan, product, shop, settings, token),
    ),
  ];
  progress.begin('catalogue', tasks.length);
  // Each lane hands its last token to its next request, so that its last answer includes all it wrote.
  const tokens: (string | undefined)[] = Array.from({ length: settings.inFlightMax });
  await startInOrder(tasks, settings.inFlightMax, stop, async (task, lane) => {
    tokens[lane] = await task(tokens[lane]);
    progress.advance();
  });
  progress.end();
  let last: string | undefined;
  for (const token of tokens) {
    if (token === undefined) continue;
    const answer = await shop.send({ method: 'GET', path: '/v1/products?limit=1', consistencyToken: token });
    last = accepted(answer, 'reading the catalogue').consistencyToken ?? token;
  }
  return last;
}

async function stockProduct(
  plan: ImportPlan,
  { sku, name, pence, demand }: PlannedProduct,
  shop: ShopClient,
  { stock }: RunSettings,
  token: string | undefined,
): Promise<string | undefined> {
  const product: PutProductBody = { name, price: { amount: pence, currency } };
  const path = `/v1/products/${sku}`;
  const idempotencyKey = keyOf(plan, 'product', sku);
  const put = await write(shop, { method: 'PUT', path, body: product, idempotencyKey, consistencyToken: token });
  // The key leaves the quantity out: another --stock for the same file is refused instead of added.
  const adjustment: AdjustStockBody = { quantity: stock ?? demand, reason: `import ${plan.sha256.slice(0, 16)}` };
  const answer = await shop.send({
    method: 'POST',
    path: `${path}/stock-adjustments`,
    body: adjustment,
    idempotencyKey: keyOf(plan, 'stock', sku),
    consistencyToken: put,
  });
  if (answer.code === 'idempotency-key-reused') {
    throw new ImportError(
      `this file's stock was imported before with another --stock (${sku}): give the same again, nothing was added`,
    );
  }
  return accepted(answer, `stock of ${sku}`).consistencyToken ?? put;
}

async function write(shop: ShopClient, request: ShopRequest): Promise<string | undefined> {
  const answer = accepted(await shop.send(request), `${request.method} ${request.path}`);
  return answer.consistencyToken ?? request.consistencyToken;
}

async function sendOrders(
  plan: ImportPlan,
  open: readonly PlannedOrder[],
  shop: ShopClient,
  journal: ImportJournal,
  settings: RunSettings,
  known: string | undefined,
): Promise<Pick<RunOutcome, 'sent' | 'refused' | 'consistencyToken'>> {
  const { inFlightMax, speed, stop, progress } = settings;
  const refused: RefusedOrder[] = [];
  let consistencyToken = known;
  let sent = 0;
  const beganMs = systemPorts.elapsed();
  const firstMs = open[0]?.placedAtMs ?? 0;
  if (open.length === 0) return { sent, refused, consistencyToken };
  progress.begin('orders', open.length);
  try {
    await startInOrder(open, inFlightMax, stop, async (order) => {
      if (speed !== null) {
        await pause((order.placedAtMs - firstMs) / speed - (systemPorts.elapsed() - beganMs), stop);
        if (stop.aborted) throw new Interrupted();
      }
      const answer = await shop.send({
        method: 'POST',
        path: '/v1/orders',
        body: orderBody(order),
        idempotencyKey: keyOf(plan, 'order', order.orderId),
        consistencyToken: known,
        mayArrive: ['unknown-customer', 'unknown-product'],
      });
      if (answer.status < 300) {
        sent += 1;
        consistencyToken = answer.consistencyToken ?? consistencyToken;
        journal.acknowledge(order.orderId);
      } else {
        refused.push({ orderId: order.orderId, refusal: refusalText(answer) });
        if (refused.length > refusedOrdersMax) {
          throw new ImportError(`more than ${refusedOrdersMax} orders were refused, the last: ${refusalText(answer)}`);
        }
      }
      progress.advance();
    });
  } finally {
    progress.end();
    journal.flush();
  }
  return { sent, refused, consistencyToken };
}

/**
 * Starts `work` on the items in their order with at most `inFlightMax` under way. The first failure
 * starts no more, waits for those under way and rejects; so does `stop`, with Interrupted.
 */
async function startInOrder<T>(
  items: readonly T[],
  inFlightMax: number,
  stop: AbortSignal,
  work: (item: T, lane: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const runLane = async (_: unknown, lane: number): Promise<void> => {
    try {
      while (next < items.length && !failed && !stop.aborted) await work(items[next++]!, lane);
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(inFlightMax, items.length) }, runLane));
  const failures = lanes.filter((lane) => lane.status === 'rejected').map((lane) => lane.reason as unknown);
  if (failures.length > 0) throw failures.find((failure) => !(failure instanceof Interrupted)) ?? failures[0];
  if (stop.aborted && next < items.length) throw new Interrupted();
}

const keyOf = (plan: ImportPlan, kind: string, id: string): string =>
  `import-${plan.sha256.slice(0, 16)}-${kind}-${id}`;

/** The kinds of damage, each with what it has to be found as, and with nothing else. */
import { DatabaseSync } from 'node:sqlite';
import type { DatabaseOwner } from '#platform/settings.ts';
import { reservationStream, stockStream } from '#services/inventory/streams.ts';
import { offerStream, orderStream } from '#services/ordering/streams.ts';
import type { Finding } from '../../src/audit/check.ts';
import type { World } from './world.ts';

export type Kind = {
  readonly name: string;
  /** Before it is noted how all was before. */
  prepare?(world: World): Promise<unknown>;
  plant(world: World): Promise<unknown>;
  /** `check entity` of each finding. */
  finds(world: World): readonly string[] | Promise<readonly string[]>;
  /** What follows from it too: events that are not what they were tell another story. */
  also?(finding: Finding, world: World): boolean;
  /** `in-place`: then all is as it was before. `by-event`: then something has happened. Else by hand. */
  readonly settled: 'in-place' | 'by-event' | 'undone';
  /** Saved before and put back afterwards, where nothing repairs it. */
  readonly saves?: Readonly<Partial<Record<DatabaseOwner, readonly string[]>>>;
  undo?(world: World): Promise<unknown>;
  /** The clock of the audit is ahead. */
  readonly aheadMs?: number;
};

type Text = (world: World) => string;

/** Damage by a statement, repaired in place. */
const byStatement = (
  name: string,
  owner: DatabaseOwner,
  statement: Text,
  finds: Kind['finds'],
  also?: Kind['also'],
): Kind => ({
  name,
  plant: (world) => world.databases[owner].query('', statement(world)),
  finds,
  ...(also === undefined ? {} : { also }),
  settled: 'in-place',
});

const readRow = 'read-row-is-projection';
const sum = 'read-sums-add-up';
const product = 'read-product-is-sources';
const state = 'state-is-fold';
const inline = 'inline-table-is-fold';
const stock = 'stock-is-fold';

const completed: Text = ({ orders }) => `'${orders.completed}'`;

const readRows: readonly Kind[] = [
  byStatement(
    'an order is shown in another status',
    'queries',
    (w) => `update orders set status = 'cancelled' where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order is shown with another total',
    'queries',
    (w) => `update orders set total = total + 1 where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order is not shown',
    'queries',
    (w) => `delete from orders where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order is shown twice, under another id',
    'queries',
    (w) => `insert into orders select (jsonb_populate_record(o, '{"order_id": "doubled"}')).* from orders o
      where order_id = ${completed(w)}`,
    () => [`${readRow} queries/orders/doubled`],
  ),
  byStatement(
    'an order is shown in an older version',
    'queries',
    (w) => `update orders set version = version - 1 where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order is found by other words',
    'queries',
    (w) => `update placed_orders set words = array_to_tsvector('{other}') where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/placed_orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order is listed under another time',
    'queries',
    (w) => `update placed_orders set placed_at = placed_at - interval '3 hours' where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/placed_orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order is listed under another customer',
    'queries',
    (w) => `update placed_orders set customer_id = 'somebody' where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/placed_orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order that has ended is listed as open',
    'queries',
    (w) => `insert into open_orders select order_id, placed_at, total from orders where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/open_orders/${w.orders.completed}`],
  ),
  byStatement(
    'a failed order is not listed',
    'queries',
    (w) => `delete from unfulfilled_orders where order_id = '${w.orders.declined}'`,
    (w) => [`${readRow} queries/unfulfilled_orders/${w.orders.declined}`],
  ),
  byStatement(
    'a payment is shown as something else',
    'queries',
    (w) => `update order_payments set body = replace(body, 'captured', 'refunded') where order_id = ${completed(w)}`,
    (w) => [`${readRow} queries/order_payments/${w.orders.completed}`],
  ),
  {
    ...byStatement(
      'a history lacks an event',
      'queries',
      (w) => `delete from order_events where order_id = ${completed(w)} and type = 'StockReserved'`,
      async (w) => {
        const [row] = await w.databases.inventory.query<{ position: number }>(
          '',
          `select position from events where stream = $1 and type = 'StockReserved'`,
          [`reservation-${w.orders.completed}`],
        );
        return [`${readRow} queries/order_events/${w.orders.completed}/inventory-0-${row!.position}`];
      },
    ),
  },
  byStatement(
    'a history has an event that never was',
    'queries',
    (
      w,
    ) => `insert into order_events select order_id, 'ordering-0-999999', version, at, 'OrderRefunded', actor, causation, data
      from order_events where order_id = ${completed(w)} and type = 'OrderPlaced'`,
    (w) => [`${readRow} queries/order_events/${w.orders.completed}/ordering-0-999999`],
  ),
  byStatement(
    'a customer seems to have ordered more',
    'queries',
    (w) => `update customers set orders = orders + 1 where customer_id = '${w.customerId}'`,
    (w) => [`${sum} queries/customers/${w.customerId}`],
  ),
  byStatement(
    'a customer seems to have spent something else',
    'queries',
    (w) => `update customers set spent = '{"EUR":"1"}' where customer_id = '${w.customerId}'`,
    (w) => [`${sum} queries/customers/${w.customerId}`],
  ),
  byStatement(
    'a customer is shown under another name',
    'queries',
    (w) => `update customers set profile = '{"name":"Nobody"}' where customer_id = '${w.customerId}'`,
    (w) => [`${sum} queries/customers/${w.customerId}`],
  ),
  byStatement(
    'a customer is not shown',
    'queries',
    (w) => `delete from customers where customer_id = '${w.customerId}'`,
    (w) => [`${sum} queries/customers/${w.customerId}`],
  ),
  byStatement(
    'a customer is shown that nobody has registered',
    'queries',
    () => `insert into customers (customer_id, version, profile) values ('nobody', 1, '{"name":"Nobody"}')`,
    () => [`${sum} queries/customers/nobody`],
  ),
  byStatement(
    'sales are reported that never were',
    'queries',
    () => 'update sales_hours set revenue = revenue + 1 where id = (select min(id) from sales_hours)',
    async (w) => [`${sum} queries/sales_hours/${await firstHour(w)}`],
  ),
  byStatement(
    'an hour of sales is missing',
    'queries',
    () => 'delete from sales_hours where id = (select min(id) from sales_hours)',
    async (w) => [`${sum} queries/sales_hours/${await firstHour(w)}`],
  ),
  byStatement(
    'stock is shown that is not there',
    'queries',
    (w) => `update products set on_hand = on_hand + 1 where sku = '${w.sku}'`,
    (w) => [`${product} queries/products/${w.sku}`],
  ),
  byStatement(
    'a product is shown at another price',
    'queries',
    (w) => `update products set catalogue = replace(catalogue, ':1000', ':1') where sku = '${w.sku}'`,
    (w) => [`${product} queries/products/${w.sku}`],
  ),
  byStatement(
    'a product is not shown',
    'queries',
    (w) => `delete from products where sku = '${w.sku}'`,
    (w) => [`${product} queries/products/${w.sku}`],
  ),
  byStatement(
    'a product is shown that the catalogue does not have',
    'queries',
    () => `insert into products (sku, version, on_hand) values ('unheard-of', 0, 7)`,
    () => [`${product} queries/products/unheard-of`],
  ),
  {
    name: 'a checkpoint of a read model is set back',
    plant: async ({ databases: { queries } }) => {
      const back = `update checkpoints set position = position - 1 where consumer = 'payments-of-payments.0'`;
      await queries.query('', back);
    },
    async finds(w) {
      const text = 'select stream from events order by position desc limit 1';
      const [row] = await w.databases.payments.query<{ stream: string }>('', text);
      return [
        'consumer-stands-still queries/payments-of-payments.0',
        `${readRow} queries/order_payments/${row!.stream.slice('payment-'.length)}`,
      ];
    },
    settled: 'in-place',
    undo: (world) => world.catchUp(),
  },
];

/** While it is missing it cannot be asked for: of the orders that completed first. */
async function firstHour({ databases }: World): Promise<string> {
  const [row] = await databases.queries.query<{ id: string }>(
    '',
    `select to_char(date_trunc('hour', min(placed_at)), 'YYYY-MM-DD"T"HH24:00:00.000Z') || ' Germany EUR' as id
     from orders where status = 'completed'`,
  );
  return row!.id;
}

const states: readonly Kind[] = [
  byStatement(
    'a stored state is another',
    'ordering',
    (w) => `update streams set state = replace(state::text, 'completed', 'cancelled')::json
      where stream = 'order-${w.orders.completed}'`,
    (w) => [`${state} ordering.0/order-${w.orders.completed}`],
  ),
  byStatement(
    'an anchor that the audit keeps of a log is another',
    'audit',
    () => `update streams set state = regexp_replace(state::text, '"hash":"....', '"hash":"0000')::json
      where stream = 'anchors-logs'`,
    () => [`${state} audit.0/anchors-logs`],
    // An anchor that was never taken is what a log does not hold.
    ({ check }) => check === 'log-anchors',
  ),
  byStatement(
    'a stored state is missing',
    'payments',
    (w) => `delete from streams where stream = 'payment-${w.orders.completed}'`,
    (w) => [`${state} payments.0/payment-${w.orders.completed}`],
  ),
  byStatement(
    'a state is stored that no event made',
    'catalog',
    () => `insert into streams (stream, version, slot, state) values ('product-nothing', 1, 1, '{}')`,
    () => [`${state} catalog.0/product-nothing`],
  ),
  byStatement(
    'a stored state is of another version',
    'inventory',
    (w) => `update streams set version = version + 1 where stream = 'reservation-${w.orders.completed}'`,
    (w) => [`${state} inventory.0/reservation-${w.orders.completed}`],
  ),
  byStatement(
    'a state is in another slot',
    'ordering',
    (w) => `update streams set slot = (slot + 1) % 1024 where stream = 'customer-${w.customerId}'`,
    (w) => [`${state} ordering.0/customer-${w.customerId}`],
  ),
  byStatement(
    'a timer is set that nothing waits for',
    'ordering',
    (w) => `update streams set due_at = '2099-01-01' where stream = 'order-${w.orders.completed}'`,
    (w) => [`${state} ordering.0/order-${w.orders.completed}`],
  ),
  byStatement(
    'a reservation is lost: its state',
    'inventory',
    (w) => `delete from streams where stream = 'reservation-${w.orders.cancelled}'`,
    (w) => [`${state} inventory.0/reservation-${w.orders.cancelled}`],
  ),
  byStatement(
    'a reservation is lost: its row',
    'inventory',
    (w) => `delete from reservations where order_id = '${w.orders.cancelled}'`,
    (w) => [`${inline} inventory/reservations/${w.orders.cancelled}`],
  ),
  byStatement(
    'an order row has another total',
    'ordering',
    (w) => `update orders set total = total + 1 where order_id = ${completed(w)}`,
    (w) => [`${inline} ordering/orders/${w.orders.completed}`],
  ),
  byStatement(
    'an order row is there without an order',
    'ordering',
    (w) => `insert into orders values ('invented', 1, '${w.customerId}', 'completed', 1, 'EUR', now())`,
    () => [`${inline} ordering/orders/invented`],
  ),
  byStatement(
    'an order line has another quantity',
    'ordering',
    (w) => `update order_lines set quantity = quantity + 1 where order_id = ${completed(w)}`,
    (w) => [`${inline} ordering/order_lines/${w.orders.completed}/1`],
  ),
  byStatement(
    'an order line is missing',
    'ordering',
    (w) => `delete from order_lines where order_id = ${completed(w)}`,
    (w) => [`${inline} ordering/order_lines/${w.orders.completed}/1`],
  ),
  byStatement(
    'a customer row has another name',
    'ordering',
    (w) => `update customers set name = 'Nobody' where customer_id = '${w.customerId}'`,
    (w) => [`${inline} ordering/customers/${w.customerId}`],
  ),
  byStatement(
    'a product row of ordering has another price',
    'ordering',
    (w) => `update products set price = 1 where sku = '${w.sku}'`,
    (w) => [`${inline} ordering/products/${w.sku}`],
  ),
  byStatement(
    'a product row of the catalogue has another price',
    'catalog',
    (w) => `update products set price = 1 where sku = '${w.sku}'`,
    (w) => [`${inline} catalog/products/${w.sku}`],
  ),
  byStatement(
    'a capture is forgotten',
    'payments',
    (w) => `update payments set captured = 0 where order_id = ${completed(w)}`,
    (w) => [`${inline} payments/payments/${w.orders.completed}`],
  ),
  byStatement(
    'a row of stock is off by one',
    'inventory',
    (w) => `update stock set on_hand = on_hand + 1 where sku = '${w.sku}'`,
    (w) => [`${stock} inventory/stock/${w.sku}`],
  ),
  byStatement(
    'a state of stock is off by one',
    'inventory',
    (w) => `update streams set state = (state::jsonb || '{"onHand": 1}')::json where stream = 'stock-${w.sku}'`,
    (w) => [`${stock} inventory.0/stock-${w.sku}`],
  ),
  byStatement(
    'a state of stock is missing',
    'inventory',
    (w) => `delete from streams where stream = 'stock-${w.sku}'`,
    (w) => [`${stock} inventory.0/stock-${w.sku}`],
  ),
];

const logTables = ['events', 'batches', 'log_head', 'streams', 'checkpoints'] as const;

/** Damage to a log: other findings about the same order follow, because its story is another. */
const toLog = (
  name: string,
  owner: 'ordering' | 'inventory' | 'payments' | 'catalog',
  statement: Text,
  finds: readonly string[],
  also: Kind['also'] = (finding, w) => JSON.stringify(finding).includes(w.orders.completed),
): Kind => ({
  name,
  plant: (world) => world.databases[owner].query('', statement(world)),
  finds: () => finds,
  also,
  settled: 'undone',
  saves: { [owner]: logTables },
});

const logs: readonly Kind[] = [
  toLog(
    "an event's payload is edited",
    'ordering',
    (w) => `update events set data = replace(data::text, ':1000', ':1')::json
      where stream = 'order-${w.orders.completed}' and version = 1`,
    ['log-hash-chain ordering.0'],
    ({ orderId, entity }, w) =>
      orderId === w.orders.completed || entity.includes(w.customerId) || entity.includes('sales_hours'),
  ),
  toLog(
    'an event is deleted',
    'payments',
    (w) => `delete from events where stream = 'payment-${w.orders.completed}' and version = 1`,
    ['log-positions payments.0', 'log-hash-chain payments.0', 'log-versions payments.0'],
  ),
  toLog(
    'two events have changed places',
    'ordering',
    (w) => `update events e set type = o.type, data = o.data, origin = o.origin from events o
      where e.stream = 'order-${w.orders.completed}' and o.stream = e.stream and e.version + o.version = 5
        and e.version in (2, 3)`,
    ['log-hash-chain ordering.0'],
    ({ check, orderId }, w) => check === 'log-hash-chain' || orderId === w.orders.completed,
  ),
  toLog(
    'an event is in another slot',
    'catalog',
    () => 'update events set slot = (slot + 1) % 1024 where position = 1',
    ['log-slots catalog.0', 'log-hash-chain catalog.0'],
  ),
  toLog(
    'the tail of a log is cut off',
    'catalog',
    () => `with cut as (delete from events where position = (select max(position) from events)),
        last as (delete from batches where last_position = (select max(last_position) from batches) returning first_position)
      update log_head set position = first_position - 1, hash = (
        select hash from batches where batches.last_position = last.first_position - 1) from last`,
    ['log-anchors catalog.0', 'checkpoint-within-log queries/products-of-catalog.0'],
    ({ check, entity }) => check === 'checkpoint-within-log' || /\/(product|offer|listing)|products\//.test(entity),
  ),
  toLog(
    'the head is ahead of the events',
    'payments',
    () => 'update log_head set position = position + 1',
    ['log-hash-chain payments.0'],
    ({ check }) => ['log-positions', 'log-hash-chain', 'consumer-stands-still'].includes(check),
  ),
  toLog(
    'a hash is edited',
    'inventory',
    () => `update batches set hash = sha256(hash) where first_position = 1`,
    ['log-hash-chain inventory.0'],
    ({ check }) => check === 'log-hash-chain',
  ),
  {
    ...toLog(
      'a checkpoint is set beyond the log',
      'inventory',
      () => `update checkpoints set position = position + 10000 where consumer = 'inventory-of-ordering'`,
      ['checkpoint-within-log inventory/inventory-of-ordering'],
    ),
  },
  toLog(
    'more is sold than ever came in',
    'inventory',
    (w) => `update events set data = replace(data::text, '"quantity":20', '"quantity":1')::json
      where type = 'StockAdjusted' and stream = 'stock-${w.sku}'`,
    ['log-hash-chain inventory.0'],
    ({ check, entity }, w) => check === 'never-oversold' || (check === stock && entity.includes(w.sku)),
  ),
  {
    name: 'an order is shown in another status, and its log is damaged',
    async plant({ databases: { ordering, queries }, orders }) {
      const damage = `update events set data = '{}' where stream = $1 and version = 1`;
      await ordering.query('', damage, [`order-${orders.completed}`]);
      await queries.query('', `update orders set status = 'cancelled' where order_id = $1`, [orders.completed]);
    },
    finds: () => ['log-hash-chain ordering.0'],
    // What the row should be nobody can tell, nor what the sums should be that it is in.
    also: ({ check, orderId }, w) => check !== sum && orderId === w.orders.completed,
    settled: 'undone',
    saves: { ordering: logTables, queries: ['orders'] },
  },
];

const rogue = { actor: 'rogue', correlationId: 'rogue', causationId: 'rogue' };

const business: readonly Kind[] = [
  {
    name: 'stock is held for an order that has failed',
    plant: ({ bus, sku, orders }) =>
      bus('inventory').execute({
        reads: [],
        origin: rogue,
        run: (scope) => {
          const orderId = orders.outOfStock;
          const data = { orderId, lines: [{ sku, quantity: 1 }], expiresAt: '2099-01-01T00:00:00.000Z' };
          scope.record(reservationStream, orderId, { type: 'StockReserved', data }, stockRefs(sku));
        },
      }),
    finds: ({ orders }) => [
      `endings-agree ordering.0/order-${orders.outOfStock}`,
      `status-steps inventory.0/reservation-${orders.outOfStock}`,
    ],
    also: isBehind,
    settled: 'undone',
    saves: { inventory: [...logTables, 'stock', 'reservations'] },
  },
  {
    name: 'a failed order completes after all',
    plant: ({ bus, orders }) =>
      bus('ordering').execute({
        reads: [],
        origin: rogue,
        run: (scope) =>
          scope.record(orderStream, orders.declined, {
            type: 'OrderCompleted',
            data: { orderId: orders.declined, paymentId: 'pay' },
          }),
      }),
    // Inventory and payments have not heard of it: what they did is right as far as they know.
    finds: ({ orders }) => [`status-steps ordering.0/order-${orders.declined}`],
    also: isBehind,
    settled: 'undone',
    saves: { ordering: [...logTables, 'orders'] },
  },
  {
    name: 'a product is offered at another price than the catalogue says',
    async plant({ bus, sku, catchUp }) {
      await bus('ordering').execute({
        reads: [],
        origin: rogue,
        run: (scope) =>
          scope.record(offerStream, sku, {
            type: 'ProductOffered',
            data: { sku, name: 'Product', price: { amount: 1, currency: 'EUR' } },
          }),
      });
      await catchUp();
    },
    finds: ({ sku }) => [`copy-is-catalogue ordering.0/offer-${sku}`],
    settled: 'by-event',
  },
  {
    name: 'an order is charged twice at the provider',
    plant: ({ providerUrl, orders }) => charge(providerUrl, 'another-key', orders.completed),
    finds: ({ orders }) => [`charged-once provider/${orders.completed}/another-key`],
    settled: 'in-place',
  },
  {
    name: 'an order is charged whose payment was declined',
    plant: async ({ ledgerFile, orders }) =>
      inLedger(
        ledgerFile,
        `update charges set status = 'captured' where order_id = '${orders.declined}';
         update entries set kind = 'capture' where kind = 'decline' and order_id = '${orders.declined}'`,
      ),
    finds: ({ orders }) => [`ledger-agrees payments.0/payment-${orders.declined}`],
    settled: 'in-place',
  },
  {
    name: 'an order is charged that is not there',
    plant: ({ providerUrl }) => charge(providerUrl, 'ghost-key', 'ghost-order'),
    finds: () => ['effect-has-order provider/ghost-order/ghost-key'],
    settled: 'in-place',
  },
  {
    name: 'a capture is missing in the ledger of the provider',
    plant: async ({ ledgerFile, orders }) =>
      inLedger(
        ledgerFile,
        `update entries set kind = 'lost' where kind = 'capture' and order_id = '${orders.completed}' and key like 'pay-%'`,
      ),
    finds: ({ orders }) => [`ledger-agrees payments.0/payment-${orders.completed}`],
    settled: 'undone',
    undo: async ({ ledgerFile }) => inLedger(ledgerFile, `update entries set kind = 'capture' where kind = 'lost'`),
  },
  {
    name: 'the provider has another amount in its ledger',
    plant: async ({ ledgerFile, orders }) =>
      inLedger(
        ledgerFile,
        `update entries set amount = amount + 1 where kind = 'capture' and order_id = '${orders.completed}' and key like 'pay-%'`,
      ),
    finds: ({ orders }) => [`ledger-agrees payments.0/payment-${orders.completed}`],
    settled: 'undone',
    undo: async ({ ledgerFile, orders }) =>
      inLedger(
        ledgerFile,
        `update entries set amount = amount - 1 where kind = 'capture' and order_id = '${orders.completed}' and key like 'pay-%'`,
      ),
  },
  {
    name: 'a key is kept for too long',
    plant: ({ databases }) =>
      databases.ordering.query('', `update idempotency_keys set at = now() - interval '60 days'`),
    finds: () => ['keys-past-retention ordering/idempotency_keys'],
    settled: 'by-event',
  },
  {
    name: 'a message is passed over',
    plant: async (world) => {
      const { sku, customerId } = world;
      await world.running((shop) => shop.place({ orderId: 'unheard', customerId, sku }), ['ordering']);
      const text = `update checkpoints set position = $1 where consumer = 'inventory-of-ordering'`;
      const [head] = await world.databases.ordering.query<{ position: number }>('', 'select position from log_head');
      await world.databases.inventory.query('', text, [head!.position]);
    },
    finds: () => ['order-is-heard ordering.0/order-unheard'],
    also: isBehind,
    settled: 'undone',
    saves: { inventory: ['checkpoints'] },
    undo: (world) => world.comeToRest(),
  },
];

const openOrder = 'open-order';

/** Of an order that is open: its provider does not answer. */
const open: readonly Kind[] = [
  {
    name: 'a timer is deleted',
    async prepare(world) {
      const { sku, customerId } = world;
      await world.running(async (shop) => {
        await shop.place({ orderId: openOrder, customerId, sku, method: 'pm_down' });
        await shop.waitFor('the payment is requested', async () => {
          const rows = await world.databases.payments.query(
            '',
            `select from streams where stream = 'payment-${openOrder}'`,
          );
          return rows.length > 0;
        });
      });
      await world.catchUp();
    },
    plant: ({ databases }) =>
      databases.ordering.query('', `update streams set due_at = null where stream = 'order-${openOrder}'`),
    finds: () => [`${state} ordering.0/order-${openOrder}`],
    settled: 'in-place',
  },
  {
    name: 'an order is stuck, with its reservation and its payment',
    plant: async () => {},
    aheadMs: 2 * 3_600_000,
    finds: () => [
      `order-past-deadline ordering.0/order-${openOrder}`,
      `timer-overdue inventory.0/reservation-${openOrder}`,
      `payment-unsettled payments.0/payment-${openOrder}`,
    ],
    settled: 'by-event',
  },
];

/** Leaves a dead letter: ordering does not know the order either. */
const last: readonly Kind[] = [
  {
    name: 'stock is held for an order that is not there',
    async plant({ bus, sku, catchUp }) {
      await bus('inventory').execute({
        reads: [],
        origin: rogue,
        run: (scope) => {
          const data = { orderId: 'ghost', lines: [{ sku, quantity: 1 }], expiresAt: '2099-01-01T00:00:00.000Z' };
          scope.record(reservationStream, 'ghost', { type: 'StockReserved', data }, stockRefs(sku));
        },
      });
      await catchUp();
    },
    finds: () => ['effect-has-order inventory.0/reservation-ghost'],
    settled: 'by-event',
  },
];

/** What the read side has not shown yet, because it does not run. */
function isBehind({ check, entity }: Finding): boolean {
  return check === 'consumer-stands-still' && entity.startsWith('queries/');
}

const stockRefs = (sku: string) => [{ type: stockStream, id: sku }];

async function charge(providerUrl: string, key: string, orderId: string): Promise<void> {
  const body = JSON.stringify({ amount: 2_000, currency: 'EUR', method: 'pm_ok', orderId });
  const answer = await fetch(`${providerUrl}/charges/${key}`, { method: 'PUT', body });
  if (answer.status !== 201) throw new Error(await answer.text());
}

function inLedger(file: string, statement: string): void {
  const db = new DatabaseSync(file, { timeout: 1_000 });
  db.exec(statement);
  db.close();
}

export const kinds = { readRows, states, logs, business, open, last };

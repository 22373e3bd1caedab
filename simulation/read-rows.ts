/** I10: what the read side shows is what its projections make of all that has happened, told once more from the beginning. */
import { isDeepStrictEqual } from 'node:util';
import type { Consumer } from '#cqrs/consumer.ts';
import type { RecordedEvent } from '#cqrs/event-log.ts';
import { slotOfStream } from '#cqrs/event-log.ts';
import { type MemoryReadStore, memoryReadStore } from '#cqrs/memory-read-store.ts';
import type { Row } from '#cqrs/read-store.ts';
import { createReadModels } from '#services/queries/service.ts';
import { type Auditor, Violation } from './checks.ts';
import type { Done } from './clients.ts';
import { type Command, commandServices } from './plan.ts';

const { projections } = createReadModels({ database: null as never, cacheMb: 0 });

/** Compares all rows with those of a read store that hears one service after the other. */
export async function checkReadRows(auditor: Auditor, shown: MemoryReadStore): Promise<void> {
  const told = memoryReadStore();
  for (const service of commandServices) {
    const events = auditor.events[service].map(({ service: _service, ...event }): RecordedEvent => ({
      ...event,
      slot: slotOfStream(event.stream),
    }));
    if (events.length === 0) continue;
    for (const projection of projections.filter(({ services }) => services.includes(service))) {
      const consumer = `${projection.name}-of-${service}.0`;
      await told.checkpoints([consumer]);
      await told.apply([{ consumer, from: 0, to: events.length }], (rows) => projection.apply(service, events, rows));
    }
  }
  for (const table of new Set(projections.flatMap((projection) => projection.tables))) {
    const [is, should] = [shown.rowsOf(table), told.rowsOf(table)];
    if (is.length !== should.length) {
      throw new Violation('I10', `${table.name} has ${is.length} rows and should have ${should.length}`);
    }
    for (const [n, row] of is.entries()) {
      if (!isDeepStrictEqual(row, should[n])) {
        throw new Violation('I10', `${table.name}: ${JSON.stringify(row)} should be ${JSON.stringify(should[n])}`);
      }
    }
  }
  checkOrders(
    auditor,
    shown.rowsOf(projections.flatMap(({ tables }) => tables).find(({ name }) => name === 'orders')!),
  );
}

/** I12: what a client has done is shown under the token that it was given. */
export function checkOwnWrite(command: Command, { kept }: Done, shown: MemoryReadStore): void {
  const [name, key] = rowOf(command, kept.body as { orderId?: string });
  const table = projections.flatMap(({ tables }) => tables).find((one) => one.name === name)!;
  const row = shown.committed(table, [key]) as { version: number; stock_version: number } | undefined;
  const version = command.kind === 'adjust-stock' ? row?.stock_version : row?.version;
  if (version === undefined || version < kept.version!) {
    throw new Violation(
      'I12',
      `${name} ${key} is shown at version ${version}, and its client has made ${kept.version}`,
    );
  }
}

/** Whether a dead letter is named instead, as far as the process knows that is asked. */
export function isHeldBack(command: Command, { kept, positions }: Done, readSide: readonly Consumer[]): boolean {
  const streams = streamsOf(command, kept.body as { orderId?: string });
  return readSide.some(({ source, firstParked }) =>
    firstParked().some(
      ({ stream, position }) =>
        position <= (positions[source] ?? 0) && streams.some((one) => stream === one || stream.startsWith(`${one}-`)),
    ),
  );
}

/** The streams that the row is made of, by name or by type. */
function streamsOf(command: Command, body: { orderId?: string }): string[] {
  switch (command.kind) {
    case 'put-product':
      return [`product-${command.sku}`];
    case 'adjust-stock':
      return [`stock-${command.sku}`, 'reservation'];
    case 'put-customer':
      return [`customer-${command.customerId}`];
    case 'place-order':
    case 'cancel-order':
      return [`order-${body.orderId ?? command.orderId}`];
  }
}

function rowOf(command: Command, body: { orderId?: string }): [table: string, key: string] {
  switch (command.kind) {
    case 'put-product':
    case 'adjust-stock':
      return ['products', command.sku];
    case 'put-customer':
      return ['customers', command.customerId];
    case 'place-order':
    case 'cancel-order':
      return ['orders', body.orderId ?? command.orderId];
  }
}

/** What an order is shown as is what it is. */
function checkOrders(auditor: Auditor, rows: readonly Row[]): void {
  for (const row of rows) {
    const { order_id: orderId, status: shown } = row as { order_id: string; status: string };
    const { status } = auditor.stateOf<{ status: string }>('order', orderId)!;
    if (shown !== status) throw new Violation('I10', `order ${orderId} is shown as ${shown}, and is ${status}`);
  }
}

/** Two small read models of one log, in a database of their own, to be rebuilt. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { type Ports, systemPorts } from '#platform/ports.ts';
import { openDatabase } from '#platform/postgres.ts';
import { testDatabaseUrl } from '../../tests/database.ts';
import type { Consumer } from './consumer.ts';
import { entityOf } from './event-log.ts';
import { localFeed } from './feed.ts';
import { openMemoryLog } from './memory-log.ts';
import { checkpointSchemaFolder } from './postgres-log.ts';
import { postgresReadStore, readStoreOptions } from './postgres-read-store.ts';
import type { Projection } from './projection.ts';
import { startProjections } from './projections.ts';
import type { ReadTable } from './read-store.ts';
import { besideOptions, rebuild, type RebuildOptions, type RebuildReport } from './rebuild.ts';

const foreverMs = 30_000;

export type Counted = { readonly id: string; readonly times: number; readonly sum: number };
const countedTable: ReadTable<Counted> = {
  name: 'counted',
  key: ['id'],
  columns: { id: 'text', times: 'integer', sum: 'bigint' },
};
type Kind = { readonly kind: string; readonly times: number };
const kindsTable: ReadTable<Kind> = { name: 'kinds', key: ['kind'], columns: { kind: 'text', times: 'integer' } };

/** Counts the events of each stream, and adds up their positions; `kinds` only counts. */
export function counting(
  options: { version?: number; poison?: ReadonlySet<string>; times?: number } = {},
): Projection[] {
  const { version = 1, poison = new Set(), times = 1 } = options;
  return [
    {
      name: 'counted',
      version,
      services: ['orders'],
      tables: [countedTable],
      async apply(_service, events, rows) {
        if (events.some(({ stream }) => poison.has(stream))) throw new Error('more than can be folded');
        const ids = [...new Set(events.map(({ stream }) => entityOf(stream)))];
        const now = new Map<string, Counted>(
          await rows.load(
            countedTable,
            ids.map((id) => [id]),
          ),
        );
        for (const { stream, position } of events) {
          const id = entityOf(stream);
          const before = now.get(id) ?? { id, times: 0, sum: 0 };
          now.set(id, { id, times: before.times + times, sum: before.sum + position });
        }
        rows.put(countedTable, [...now.values()]);
      },
    },
    {
      name: 'kinds',
      version: 1,
      services: ['orders'],
      tables: [kindsTable],
      async apply(_service, events, rows) {
        const before = (await rows.load(kindsTable, [['order']])).get('order')?.times ?? 0;
        rows.put(kindsTable, [{ kind: 'order', times: before + events.length }]);
      },
    },
  ];
}

/** The clock of workers: nobody waits for their pauses. */
const timesFaster = 10;
const quick: Ports = {
  ...systemPorts,
  elapsed: () => systemPorts.elapsed() * timesFaster,
  after: (ms, act, options) => systemPorts.after(ms / timesFaster, act, options),
};

/** A log, a read database with what is counted of it, and workers that project. */
export async function counted(t: TestContext) {
  const url = await testDatabaseUrl(t, [checkpointSchemaFolder]);
  const live = openDatabase(url, { applicationName: 'test' });
  const beside = openDatabase(url, { ...besideOptions, applicationName: 'test' });
  const writing = openDatabase(url, { ...readStoreOptions, applicationName: 'test' });
  t.after(() => Promise.all([live.end(), beside.end(), writing.end()]));
  const create = [
    `create table counted (id text collate "C" primary key, times integer, sum bigint) with (fillfactor = 70)`,
    'create index counted_sum on counted (sum)',
    'create table kinds (kind text collate "C" primary key, times integer)',
  ];
  for (const text of create) await live.query('', text);
  const orders = openMemoryLog('orders.0');
  const versions = new Map<string, number>();
  const rows = (schema = 'public') => live.query<Counted>('', `select * from ${schema}.counted order by id`);
  const kinds = () => live.query<Kind>('', 'select * from kinds');
  const resumed: number[] = [];

  return {
    live,
    orders,
    resumed,
    start(projections = counting(), onResume: () => void = () => resumed.push(1)): Consumer {
      const consumer = startProjections({
        feed: localFeed(orders, quick),
        ports: quick,
        store: postgresReadStore(writing),
        projections,
        onResume,
        reportTrouble: () => {},
      });
      t.after(() => consumer.stop());
      return consumer;
    },
    async happen(count: number, idOf: (n: number) => string = (n) => String(n % 97)): Promise<void> {
      await orders.append({
        checks: [],
        events: Array.from({ length: count }, (_, n) => {
          const stream = `order-${idOf(n)}`;
          const version = (versions.get(stream) ?? 0) + 1;
          versions.set(stream, version);
          const origin = { actor: 'operator', correlationId: 'c', causationId: 'r' };
          return { stream, version, type: 'Placed', data: {}, at: '2026-01-01T00:00:00.000Z', origin };
        }),
        writes: [],
        keys: [],
        checkpoints: [],
      });
    },
    rebuild: (more: Partial<RebuildOptions> = {}): Promise<RebuildReport> =>
      rebuild({
        live,
        beside,
        projections: counting(),
        logs: new Map([['orders', orders]]),
        sharePercent: 100,
        checkOnly: false,
        onProgress: () => {},
        ...more,
      }),
    rows,
    kinds,
    /** How far each of `counting` has come, as its checkpoint says. */
    async positions(): Promise<Record<string, number>> {
      const read = await live.query<{ name: string; position: number }>(
        '',
        `select split_part(consumer, '-of-', 1) as name, position from checkpoints
         where consumer in ('counted-of-orders.0', 'kinds-of-orders.0')`,
      );
      return Object.fromEntries(read.map(({ name, position }) => [name, position]));
    },
    columnsOf: (schema: string) =>
      live.query<{ name: string; is: string }>(
        '',
        `select c.relname as name, coalesce(pg_get_indexdef(c.oid), c.reloptions::text) as is from pg_class c
         where c.relnamespace = $1::regnamespace and c.relname like 'counted%' order by 1`,
        [schema],
      ),
    /** Everything is what a fold of all events from scratch comes to. */
    async sumsAreRight(): Promise<void> {
      const events = await orders.read(0, 1_000_000);
      const expected = new Map<string, Counted>();
      for (const { stream, position } of events) {
        const id = entityOf(stream);
        const { times = 0, sum = 0 } = expected.get(id) ?? {};
        expected.set(id, { id, times: times + 1, sum: sum + position });
      }
      const found = await rows();
      assert.deepEqual(
        found,
        [...expected.values()].sort((a, b) => (a.id < b.id ? -1 : 1)),
      );
      assert.deepEqual(await kinds(), [{ kind: 'order', times: events.length }]);
    },
  };
}

export const reached = async (consumer: Consumer, position: number): Promise<void> =>
  assert.equal(await consumer.progress.reach(position, foreverMs * timesFaster), true, `did not reach ${position}`);

export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + foreverMs;
  while (!(await isSo())) {
    assert.ok(performance.now() < giveUpAt, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

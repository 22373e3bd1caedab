/** An audit to try things with: its log on a database of its own, beside a table of things that are, or are not, as they ought to be. */
import type { TestContext } from 'node:test';
import { publishedEvents } from '#contracts/event-types.ts';
import { createCommandBus } from '#cqrs/command-bus.ts';
import { createEventTypes } from '#cqrs/event-types.ts';
import { openPostgresLog } from '#cqrs/postgres-log.ts';
import { createLogger } from '#platform/logger.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import { testDatabase } from '../../tests/database.ts';
import type { Check, Finding, Walk } from './check.ts';
import { createRecording, type RecordingOptions } from './recording.ts';
import { auditSchema, auditTables } from './service.ts';

export const isAsItOughtToBe: Check = {
  name: 'thing-is-right',
  invariants: ['I0'],
  compares: 'A thing is as it ought to be.',
  cost: 'One row.',
  policy: 'automatic',
};

/** Waits are so many times shorter; `asked` are the times that were to be waited. */
export function hastyPorts(times = 500): Ports & { readonly asked: number[] } {
  const asked: number[] = [];
  return {
    ...systemPorts,
    asked,
    after(ms, act, options) {
      asked.push(ms);
      return systemPorts.after(ms / times, act, options);
    },
  };
}

export async function openAudit(t: TestContext, options: Partial<RecordingOptions> = {}) {
  const database = await testDatabase(t, auditSchema);
  const log = await openPostgresLog({
    database,
    source: 'audit.0',
    eventTypes: createEventTypes(publishedEvents.audit),
    inlineTables: auditTables,
  });
  t.after(() => log.close());
  await database.query(
    '',
    `create table things (id text primary key, ought integer not null, is_now integer not null, stubborn boolean not null default false)`,
  );
  const bus = createCommandBus({ log });
  const walk = thingsWalk(database);
  const ports = options.ports ?? hastyPorts();
  const recording = createRecording({
    bus,
    database,
    walks: [walk],
    policies: {},
    ports,
    logger: createLogger('silent'),
    ...options,
  });
  return {
    database,
    log,
    bus,
    walk,
    ports,
    recording,
    /** So many things that are right. */
    put: (count: number) =>
      database.query('', `insert into things select 't' || lpad(n::text, 4, '0'), n, n from generate_series(1, $1) n`, [
        count,
      ]),
    change: (id: string, to: number) => database.query('', 'update things set is_now = $2 where id = $1', [id, to]),
    statuses: async (): Promise<Record<string, string>> => {
      const rows = await database.query<{ entity: string; status: string }>(
        '',
        'select entity, status from divergences order by entity',
      );
      return Object.fromEntries(rows.map(({ entity, status }) => [entity, status]));
    },
    events: async (): Promise<string[]> => (await log.read(0, 1_000)).map(({ type }) => type),
  };
}

/** `beforeLookAt` is awaited before each look at one thing: the world may move on there. */
function thingsWalk(database: Database): Walk & { beforeLookAt(entity: string): Promise<unknown>; looks: string[] } {
  type Row = { readonly id: string; readonly ought: number; readonly is: number };
  const read = (where: string, values: readonly unknown[]): Promise<Row[]> =>
    database.query<Row>('', `select id, ought, is_now as is from things where ${where} order by id`, values);
  const findings = (rows: readonly Row[]): Finding[] =>
    rows
      .filter(({ ought, is }) => ought !== is)
      .map(({ id, ought, is }) => ({
        check: isAsItOughtToBe.name,
        entity: id,
        says: `${id} is not as it ought to be.`,
        expected: ought,
        found: is,
        repairs: ['re-project'],
      }));
  const walk = {
    name: 'things',
    checks: [isAsItOughtToBe],
    looks: [] as string[],
    beforeLookAt: async (_entity: string): Promise<unknown> => null,
    size: async () => (await read('true', [])).length,
    async look(after: string | null, entitiesMax: number) {
      const rows = (await read('id > $1', [after ?? ''])).slice(0, entitiesMax);
      return {
        looked: rows.length,
        findings: findings(rows),
        next: rows.length < entitiesMax ? null : rows.at(-1)!.id,
      };
    },
    async lookAt(entity: string) {
      await walk.beforeLookAt(entity);
      walk.looks.push(entity);
      return findings(await read('id = $1', [entity]));
    },
    async repair({ entity, found }: Finding) {
      const rows = await database.query<{ after: number; stubborn: boolean }>(
        '',
        `update things set is_now = case when stubborn then is_now else ought end
         where id = $1 and is_now = $2 returning is_now as after, stubborn`,
        [entity, found],
      );
      if (rows[0] === undefined) throw new Error('it is not as it was found');
      return { before: found, after: rows[0].after };
    },
  };
  return walk;
}

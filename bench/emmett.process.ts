/** The process of `emmett.ts`: it appends as its parent asks, one event to a new stream each time. */
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { eventData } from './append-contestants.ts';
import { inParallel } from './one-row-inserts.ts';

/** As far as it is used here. */
type EventStore = {
  appendToStream(
    stream: string,
    events: readonly { readonly type: string; readonly data: object }[],
    options: { readonly expectedStreamVersion: string },
  ): Promise<unknown>;
  readonly schema: { migrate(): Promise<unknown> };
  close(): Promise<void>;
};
type Package = { getPostgreSQLEventStore(url: string): EventStore };

const [installedIn = '', url = ''] = process.argv.slice(2);
const path = createRequire(`${installedIn}/`).resolve('@event-driven-io/emmett-postgresql');
const { getPostgreSQLEventStore } = (await import(pathToFileURL(path).href)) as Package;
const store = getPostgreSQLEventStore(url);
await store.schema.migrate();

const appendOne = (): Promise<unknown> =>
  store.appendToStream(`order-${randomUUID()}`, [{ type: 'OrderPlaced', data: eventData }], {
    expectedStreamVersion: 'STREAM_DOES_NOT_EXIST',
  });

process.on('message', ({ callers, seconds }: { callers: number; seconds: number }) => {
  inParallel(callers, seconds, appendOne).then(
    ({ perSecond, done }) => process.send!({ perSecond, done }),
    (error: unknown) => process.send!({ failed: String(error) }),
  );
});
process.once('disconnect', () => void store.close().finally(() => process.exit()));
process.send!('ready');

/** Reads one after the other over a few connections: how long each takes, and what it costs the system. */
import { Latencies, type Summary } from '../load/latencies.ts';
import { type Answer, headerOf } from '../load/answer-reader.ts';
import { type Connection, openConnection } from '../load/connection.ts';
import { usedBetween } from '../load/machine.ts';
import { microsPerRequest } from './order-load.ts';
import type { OwnSystem } from './own-system.ts';

export type Read = {
  readonly path: string;
  /** What an answer to it has in its body. */
  readonly has: string;
  /** How often; by default at least once. */
  readonly times?: number;
};

export type ReadBlock = Summary & {
  /** Processor time of the server and PostgreSQL, per read. */
  readonly micros: number;
};

const answerTimeoutMs = 30_000;

/**
 * Reads what `reads` has in its order and again from its beginning, for so long; `next` says where it went on from. Rejects at
 * a wrong answer.
 */
export async function readFor(
  system: OwnSystem,
  reads: { readonly list: readonly Read[]; next: number },
  { connections, seconds }: { readonly connections: number; readonly seconds: number },
): Promise<ReadBlock> {
  const used = usedBetween(system.pids, []);
  const latencies = new Latencies();
  used.begin();
  const end = performance.now() + seconds * 1_000;
  const next = (): Read => reads.list[reads.next++ % reads.list.length]!;
  await Promise.all(Array.from({ length: connections }, () => readOver(system, next, end, latencies)));
  used.end();
  const summary = latencies.of('read')!;
  return { ...summary, micros: microsPerRequest(used.rows(summary.count)) };
}

function readOver(
  { server, operatorToken }: OwnSystem,
  next: () => Read,
  end: number,
  latencies: Latencies,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const late = setTimeout(
    () => reject(new Error(`no end of reads after ${answerTimeoutMs / 1_000} s more than they have`)),
    end - performance.now() + answerTimeoutMs,
  );
  let asked = next();
  let sentMs = 0;
  const ask = (connection: Connection): void => {
    sentMs = performance.now();
    connection.send(
      `GET ${asked.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${operatorToken}\r\nAccept: application/json\r\n\r\n`,
    );
  };
  const connection = openConnection({ host: '127.0.0.1', port: server.port }, undefined, {
    opened: () => ask(connection),
    answered(answer) {
      latencies.record('read', performance.now() - sentMs);
      const wrong = wrongWith(asked, answer);
      if (wrong !== null) return reject(new Error(`${asked.path}: ${wrong}`));
      if (performance.now() >= end) return resolve();
      asked = next();
      ask(connection);
    },
    lost: (why) => reject(new Error(why)),
  });
  return promise.finally(() => {
    clearTimeout(late);
    connection.destroy();
  });
}

/** Null: nothing. */
function wrongWith({ has, times }: Read, { status, head, body }: Answer): string | null {
  const text = body.toString();
  if (status !== 200 || !headerOf(head, 'content-type')?.startsWith('application/json'))
    return `answered ${status} ${text}`;
  const found = text.split(has).length - 1;
  if (times === undefined ? found > 0 : found === times) return null;
  return `${found} × ${has} in ${text}`;
}

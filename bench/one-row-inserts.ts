/** Rows inserted one by one, each committed: what PostgreSQL does without anything of ours. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHistogram } from 'node:perf_hooks';
import { promisify } from 'node:util';
import { openDatabase } from '#platform/postgres.ts';
import type { Ending } from '../tests/running-program.ts';
import { assertAnswersAreDurable } from './durability.ts';

/** Times of single clients alone are taken where pgbench would have to write them down. */
export type Rate = { readonly perSecond: number; readonly p99Ms: number | null };

export type OneRowInserts = {
  /** What sends them: pgbench where it is installed, else this process. */
  readonly by: 'pgbench -M prepared' | 'Node, as there is no pgbench';
  /** By pgbench in whole seconds, as it takes them. */
  run(clients: number, seconds: number): Promise<Rate>;
};

const insertSql = `insert into rows (at, body) values (now(), 'some hundred bytes of a row that says what happened to an order, and why')`;
const clientsMax = 64;

/** Makes their table in the database. */
export async function openOneRowInserts(ending: Ending, url: string): Promise<OneRowInserts> {
  const database = openDatabase(url, { applicationName: 'bench', poolMax: clientsMax });
  ending.after(() => database.end());
  await database.query(
    'table',
    'create table rows (id bigserial primary key, at timestamptz not null, body text not null)',
  );
  const insert = (): Promise<unknown> => database.query('insert', insertSql);
  await assertAnswersAreDurable(url, insert);
  if (spawnSync('pgbench', ['--version']).error !== undefined)
    return { by: 'Node, as there is no pgbench', run: (clients, seconds) => inParallel(clients, seconds, insert) };
  return { by: 'pgbench -M prepared', run: (clients, seconds) => pgbench(url, clients, seconds) };
}

/** Callers that each begin anew when they are answered, for so long. */
export async function inParallel(
  callers: number,
  seconds: number,
  once: () => Promise<unknown>,
): Promise<{ readonly perSecond: number; readonly p99Ms: number; readonly done: number }> {
  const latencies = createHistogram();
  const start = performance.now();
  const end = start + seconds * 1_000;
  let done = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() < end) {
        const sent = process.hrtime.bigint();
        await once();
        latencies.record(process.hrtime.bigint() - sent);
        done += 1;
      }
    }),
  );
  return { perSecond: (done * 1_000) / (performance.now() - start), p99Ms: latencies.percentile(99) / 1e6, done };
}

async function pgbench(url: string, clients: number, seconds: number): Promise<Rate> {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-bench-'));
  try {
    const script = join(folder, 'insert.sql');
    writeFileSync(script, `${insertSql};\n`);
    const threads = clients > 1 ? '2' : '1';
    const length = String(Math.max(1, Math.round(seconds)));
    const asked = `-n -M prepared -c ${clients} -j ${threads} -T ${length} -f ${script}`.split(' ');
    const logged = clients === 1 ? ['-l', `--log-prefix=${join(folder, 'times')}`] : [];
    const { stdout } = await promisify(execFile)('pgbench', [...asked, ...logged, url]);
    const perSecond = Number(/tps = ([\d.]+)/.exec(stdout)?.[1]);
    if (!(perSecond > 0)) throw new Error(`pgbench said nothing of its rate: ${stdout}`);
    return { perSecond, p99Ms: clients === 1 ? p99Of(folder) : null };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Lines of client, number, and microseconds from there to the commit. */
function p99Of(folder: string): number {
  const file = readdirSync(folder).find((name) => name.startsWith('times'));
  const lines = readFileSync(join(folder, file!), 'utf8').trim().split('\n');
  const micros = lines.map((line) => Number(line.split(' ')[2])).sort((a, b) => a - b);
  return micros[Math.floor((micros.length - 1) * 0.99)]! / 1_000;
}

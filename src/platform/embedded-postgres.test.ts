import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { assertDurable, NotDurable, startEmbeddedPostgres, type EmbeddedPostgres } from './embedded-postgres.ts';
import { FolderInUse } from './folder-lock.ts';
import { createLogger } from './logger.ts';
import { startOf } from './other-process.ts';
import { PostgresFailed } from './postgres-leftovers.ts';
import { sharedBuffersMb } from './postgres-settings.ts';
import { openDatabase, type Database } from './postgres.ts';

// One folder for all tests, in their order, as one machine would have it; its name is not a tidy one.
const dataDir = mkdtempSync(join(tmpdir(), "twofold it's-"));
const logger = createLogger('silent');
const unexpected: Error[] = [];
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(dataDir, { recursive: true, force: true });
});

test('a server starts in an empty folder, with the databases asked for, and is durable', async () => {
  await using server = await start();
  await using orders = open(server, 'orders');
  await assertDurable(orders);
  const [row] = await orders.query<{ database: string; listens: string }>(
    'where-am-i',
    `select current_database() as database, current_setting('listen_addresses') as listens`,
  );
  assert.deepEqual(row, { database: 'orders', listens: '' });
  await orders.query('make', 'create table kept (note text)');
  await orders.query('fill', `insert into kept values ('first')`);
  assert.equal(server.location, dataDir);
});

test('its servers give way to who has work for them', { skip: !canWeighSessions() }, async () => {
  await using server = await start();
  await using orders = open(server, 'orders');
  const [row] = await orders.query<{ pid: number }>('pid', 'select pg_backend_pid() as pid');
  const batch = 3; // SCHED_BATCH, field 41 of proc_pid_stat(5)
  const policyOf = (pid: number): number =>
    Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')[38]);
  await until(async () => policyOf(server.pid) === batch && policyOf(row!.pid) === batch);
  assert.match(readFileSync(`/proc/${server.pid}/autogroup`, 'utf8'), /nice 10$/m);
});

test('PostgreSQL keeps of its tables what a quarter of the memory holds, and no more than 1 GB', async () => {
  const gb = 1_024 ** 3;
  assert.deepEqual(
    [0.0625, 0.5, 2, 4, 24].map((memory) => sharedBuffersMb(memory * gb)),
    [32, 128, 512, 1_024, 1_024],
  );
  await using server = await start();
  await using orders = open(server, 'orders');
  const [row] = await orders.query<{ megabytes: number }>(
    'buffers',
    `select setting::int * 8 / 1024 as megabytes from pg_settings where name = 'shared_buffers'`,
  );
  assert.equal(row!.megabytes, sharedBuffersMb(Math.min(totalmem(), process.constrainedMemory() || Infinity)));
});

test('the data survives a restart', async () => {
  await using server = await start();
  assert.deepEqual(await notes(server), ['first']);
});

test('the psql line works when pasted into a shell', { skip: !hasPsql() }, async () => {
  await using server = await start();
  const output = execFileSync('/bin/sh', ['-c', `${server.psql('orders')} -Atc 'select note from kept'`], {
    encoding: 'utf8',
  });
  assert.equal(output.trim(), 'first');
});

test('databases are told apart, upper case is Unicode, and text sorts by code point on every machine', async () => {
  await using server = await start();
  await using stock = open(server, 'stock');
  const [row] = await stock.query(
    'collation',
    `select to_regclass('kept') as kept, upper('äß') as upper, 'a' > 'B' as order`,
  );
  assert.deepEqual(row, { kept: null, upper: 'Äß', order: true });
});

test('a second program in the same folder is told which process is there', async () => {
  await using server = await start();
  await assert.rejects(
    start(),
    (error) => error instanceof FolderInUse && error.message.includes(`process ${process.pid}`),
  );
  assert.deepEqual(await notes(server), ['first']);
});

test('a server that is killed comes back by itself, with its data', async () => {
  await using server = await start();
  const { pid } = server;
  process.kill(pid, 'SIGKILL');
  await until(async () => server.pid !== pid && (await notes(server).catch(() => [])).length > 0);
  assert.deepEqual(await notes(server), ['first']);
});

test('a server that keeps dying is given up with a clear error', async () => {
  unexpected.length = 0;
  await using server = await start();
  for (let deaths = 0; unexpected.length === 0;) {
    assert.ok(deaths <= 6, 'not given up');
    if (server.pid === 0) await delay(5);
    else if (process.kill(server.pid, 'SIGKILL')) {
      deaths += 1;
      const { pid } = server;
      await until(async () => server.pid !== pid);
    }
  }
  assert.match(String(unexpected[0]), /ended with SIGKILL\..*after 5 restarts in a minute/s);
});

test('after the program was killed, the server it left behind is replaced', async () => {
  const { child, pid } = await startElsewhere();
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.notEqual(await startOf(pid), null);
  await using server = await start();
  assert.equal(await startOf(pid), null);
  assert.deepEqual(await notes(server), ['first']);
});

test('after everything was killed in the middle of a query, the folder starts again by itself', async () => {
  const { child, pid } = await startElsewhere();
  await using orders = open(
    { url: (name) => `postgresql://twofold@/${name}?host=${encodeURIComponent(join(dataDir, 'socket'))}` },
    'orders',
  );
  const sleeping = orders.query('sleep', 'select pg_sleep(1)').catch((error: Error) => error);
  await orders.query('write', `insert into kept values ('second')`);
  process.kill(pid, 'SIGKILL');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await using server = await start();
  await sleeping;
  assert.deepEqual(await notes(server), ['first', 'second']);
});

test('a pid file whose pid now belongs to another program does not keep the server from starting', async () => {
  const { uid, gid } = statSync(join(dataDir, 'postgres'));
  // Of the server's account: PostgreSQL takes a process of another account for none.
  const stranger = spawn('sleep', ['60'], { uid, gid, cwd: '/' });
  children.push(stranger);
  writeFileSync(join(dataDir, 'postgres/postmaster.pid'), `${stranger.pid}\n${dataDir}/postgres\n1\n5432\n`);
  writeFileSync(join(dataDir, 'socket/.s.PGSQL.5432.lock'), `${stranger.pid}\n`);
  writeFileSync(join(dataDir, 'twofold.lock'), JSON.stringify({ pid: process.pid, started: 'long ago' }));
  await using server = await start();
  assert.deepEqual(await notes(server), ['first', 'second']);
});

test('a pid file whose server is a zombie that nobody looks after does not keep the server from starting', async () => {
  const { uid, gid } = statSync(join(dataDir, 'postgres'));
  // The shell becomes a program that never asks after its child.
  const careless = spawn('sh', ['-c', 'sleep 0.05 & echo $!; exec sleep 60'], { uid, gid, cwd: '/' });
  children.push(careless);
  const [printed] = (await once(careless.stdout, 'data')) as [Buffer];
  const zombie = Number(printed.toString());
  while (!/^State:\s+Z/m.test(readFileSync(`/proc/${zombie}/status`, 'utf8'))) await delay(10);
  writeFileSync(join(dataDir, 'postgres/postmaster.pid'), `${zombie}\n${dataDir}/postgres\n1\n5432\n`);
  await using server = await start();
  assert.deepEqual(await notes(server), ['first', 'second']);
});

test('when the server does not start, the error shows what its log says', async () => {
  const file = join(dataDir, 'postgres/postgresql.auto.conf');
  const before = readFileSync(file);
  writeFileSync(file, 'no_such_setting = 1\n');
  try {
    await assert.rejects(start(), (error) => error instanceof PostgresFailed && /no_such_setting/.test(error.message));
  } finally {
    writeFileSync(file, before);
  }
  await using server = await start();
  assert.equal((await notes(server)).length, 2);
});

test('a log that has grown too large is moved aside at the start', async () => {
  const log = join(dataDir, 'postgres.log');
  writeFileSync(log, Buffer.alloc(17 * 1_024 * 1_024, '.'));
  await using server = await start();
  assert.ok(server.pid > 0);
  assert.ok(statSync(log).size < 100_000);
  assert.equal(statSync(`${log}.1`).size, 17 * 1_024 * 1_024);
});

test('a path too long for a socket gets one in the temporary folder', async () => {
  const long = join(dataDir, 'a-rather-long-name/'.repeat(6));
  mkdirSync(long, { recursive: true });
  const stop = new AbortController();
  await using server = await start(long, stop.signal);
  assert.match(decodeURIComponent(server.url('orders')), /twofold-[0-9a-f]{12}/);
  assert.equal((await open(server, 'orders').query('one', 'select 1')).length, 1);
  const socket = new URL(server.url('orders').replace('@/', '@x/')).searchParams.get('host') as string;
  await server.stop();
  rmSync(socket, { recursive: true });
});

test('a start that is given up leaves nothing running and the folder free', async () => {
  const folder = join(dataDir, 'given up');
  mkdirSync(folder);
  for (const sign of ['twofold.lock', `postgres.unfinished-${process.pid}`, 'postgres/postmaster.pid']) {
    const stop = new AbortController();
    const started = start(folder, stop.signal);
    started.catch(() => {});
    await until(async () => existsSync(join(folder, sign)));
    stop.abort();
    await assert.rejects(started, { name: 'AbortError' });
    assert.ok(!existsSync(join(folder, 'twofold.lock')));
    assert.ok(!existsSync(join(folder, 'postgres/postmaster.pid')));
  }
});

test('a connection whose commits do not wait for the disk is not durable, unless it need not be', async () => {
  await using server = await start();
  const hasty = openDatabase(server.url('orders'), { applicationName: 'test', asynchronousCommit: true });
  await assert.rejects(
    assertDurable(hasty),
    (error) => error instanceof NotDurable && /synchronous_commit = off/.test(error.message),
  );
  await assertDurable(hasty, { asynchronousCommit: true });
  await hasty.end();
});

async function start(folder = dataDir, signal?: AbortSignal): Promise<EmbeddedPostgres & AsyncDisposable> {
  const server = await startEmbeddedPostgres({
    dataDir: folder,
    databases: ['orders', 'stock'],
    onUnexpectedExit: (error) => unexpected.push(error),
    logger,
    givesWay: true,
    ...(signal && { signal }),
  });
  return Object.assign(server, { [Symbol.asyncDispose]: () => server.stop() });
}

/** The same in a process of its own, to be killed. */
async function startElsewhere() {
  const script = `
    import { startEmbeddedPostgres } from ${JSON.stringify(import.meta.resolve('./embedded-postgres.ts'))};
    import { createLogger } from ${JSON.stringify(import.meta.resolve('./logger.ts'))};
    const server = await startEmbeddedPostgres({
      dataDir: process.argv[1], databases: ['orders'], onUnexpectedExit() {}, logger: createLogger('silent'),
    });
    console.log(server.pid);
    setInterval(() => {}, 1_000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, dataDir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [line] = await once(child.stdout, 'data');
  return { child, pid: Number(line) };
}

function open(server: Pick<EmbeddedPostgres, 'url'>, database: string): Database & AsyncDisposable {
  const opened = openDatabase(server.url(database), { applicationName: 'test' });
  return Object.assign(opened, { [Symbol.asyncDispose]: () => opened.end() });
}

async function notes(server: EmbeddedPostgres): Promise<string[]> {
  await using orders = open(server, 'orders');
  return (await orders.query<{ note: string }>('notes', 'select note from kept order by note')).map(({ note }) => note);
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, 'the condition did not come true within 20 s');
    await delay(2);
  }
}

/** Linux that weighs sessions, with the command that tells it of one. */
function canWeighSessions(): boolean {
  return existsSync('/proc/self/autogroup') && runs('chrt');
}

function hasPsql(): boolean {
  return runs('psql');
}

function runs(command: string): boolean {
  try {
    execFileSync(command, ['--version']);
    return true;
  } catch {
    return false;
  }
}

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import { startSandboxProvider } from './sandbox-provider.ts';

type Entry = {
  seq: number;
  kind: string;
  key: string;
  charge: string;
  reference: string;
  amount: number;
  orderId: string;
};
type Body = Record<string, unknown> & { entries: Entry[]; next: number };

const start = (ledgerFile: string, more: object = {}) =>
  startSandboxProvider({ host: '127.0.0.1', port: 0, ledgerFile, ...more });

function ledgerFileFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-provider-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, 'not', 'yet', 'there.db');
}

async function providerFor(t: TestContext, more: object = {}) {
  const ledgerFile = ledgerFileFor(t);
  const provider = await start(ledgerFile, more);
  t.after(() => provider.stop());
  return { ...callsTo(provider), ledgerFile };
}

function callsTo({ url }: { url: string }) {
  const send = async (method: string, path: string, body?: unknown, signal?: AbortSignal) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const answer = await fetch(url + path, { method, ...(text && { body: text }), ...(signal && { signal }) });
    return { status: answer.status, body: (await answer.json()) as Body };
  };
  const charge = (key: string, method = 'pm_ok', amount = 1_999, signal?: AbortSignal) =>
    send('PUT', `/charges/${key}`, { amount, currency: 'EUR', method, orderId: `order-of-${key}` }, signal);
  const lookUp = (key: string) => send('GET', `/charges/${key}`);
  const voidCharge = (key: string) => send('POST', `/charges/${key}/void`);
  const refund = (key: string, chargeKey: string, amount: number, more: object = {}) =>
    send('PUT', `/refunds/${key}`, { charge: chargeKey, amount, ...more });
  const entries = async () => {
    const all: Entry[] = [];
    for (;;) {
      const { body } = await send('GET', `/ledger?after=${all.at(-1)?.seq ?? 0}&limit=100`);
      if (body.entries.length === 0) return all;
      all.push(...body.entries);
    }
  };
  return { url, send, charge, lookUp, voidCharge, refund, entries };
}

/** Asks again until the charge is as expected; fails after ten seconds. */
async function until(lookUp: () => Promise<{ body: Body }>, status: string): Promise<void> {
  const giveUpAt = Date.now() + 10_000;
  while ((await lookUp()).body.status !== status) assert.ok(Date.now() < giveUpAt, `never became ${status}`);
}

test('a charge is captured once and answered the same for ever', async (t) => {
  const { charge, lookUp, entries } = await providerFor(t);
  const first = await charge('p1');
  assert.equal(first.status, 201);
  const { reference } = first.body;
  assert.deepEqual(first.body, { key: 'p1', status: 'captured', reference, amount: 1_999, currency: 'EUR' });
  const second = await charge('p1');
  assert.deepEqual(second, { status: 200, body: first.body });
  const found = await lookUp('p1');
  assert.deepEqual(found, { status: 200, body: { ...first.body, orderId: 'order-of-p1', refunded: 0 } });
  const [entry, ...others] = await entries();
  assert.deepEqual(others, []);
  const { at, ...rest } = entry as Entry & { at: string };
  assert.ok(Math.abs(Date.parse(at) - Date.now()) < 60_000);
  const expected = {
    seq: 1,
    kind: 'capture',
    key: 'p1',
    charge: 'p1',
    orderId: 'order-of-p1',
    amount: 1_999,
    currency: 'EUR',
    reference,
  };
  assert.deepEqual(rest, expected);
});

test('fifty parallel charges under one key are one charge', async (t) => {
  const { charge, entries } = await providerFor(t);
  const answers = await Promise.all(Array.from({ length: 50 }, () => charge('p1')));
  assert.equal(answers.filter(({ status }) => status === 201).length, 1);
  assert.equal(new Set(answers.map(({ body }) => body.reference)).size, 1);
  assert.equal((await entries()).length, 1);
});

test('a key takes no other amount, currency, method or order', async (t) => {
  const { charge, send, entries } = await providerFor(t);
  await charge('p1');
  const same = { amount: 1_999, currency: 'EUR', method: 'pm_ok', orderId: 'order-of-p1' };
  assert.equal((await send('PUT', '/charges/p1', same)).status, 200);
  for (const other of [{ amount: 2_000 }, { currency: 'USD' }, { method: 'pm_slow' }, { orderId: 'another' }]) {
    const { status, body } = await send('PUT', '/charges/p1', { ...same, ...other });
    assert.deepEqual(
      { status, body },
      { status: 422, body: { key: 'p1', error: 'the key was used for another charge' } },
    );
  }
  assert.equal((await entries()).length, 1);
});

test('pm_declined is declined, again and again', async (t) => {
  const { charge, lookUp, entries } = await providerFor(t);
  const first = await charge('p1', 'pm_declined');
  assert.deepEqual(
    [first.status, first.body.status, first.body.reason],
    [201, 'declined', 'the payment method was declined'],
  );
  assert.deepEqual(await charge('p1', 'pm_declined'), { status: 200, body: first.body });
  assert.equal((await lookUp('p1')).body.status, 'declined');
  assert.deepEqual(
    (await entries()).map(({ kind }) => kind),
    ['decline'],
  );
});

test('pm_slow is captured at once and answered late, so that a void comes too late', async (t) => {
  const { charge, lookUp, voidCharge } = await providerFor(t, { slowMs: 300 });
  let answered = false;
  const begun = performance.now();
  const slow = charge('p1', 'pm_slow').finally(() => {
    answered = true;
  });
  await until(() => lookUp('p1'), 'captured');
  const tooLate = await voidCharge('p1');
  assert.equal(answered, false);
  assert.equal(tooLate.status, 409);
  const { status, body } = await slow;
  assert.ok(performance.now() - begun >= 290);
  assert.equal(status, 201);
  assert.deepEqual(tooLate.body, { key: 'p1', status: 'captured', reference: body.reference });
});

test('pm_reply_lost is captured but only a lookup tells', async (t) => {
  const { charge, lookUp, entries } = await providerFor(t, { holdMs: 100 });
  await assert.rejects(charge('p1', 'pm_reply_lost'), /fetch failed/);
  await assert.rejects(charge('p1', 'pm_reply_lost'), /fetch failed/);
  assert.equal((await lookUp('p1')).body.status, 'captured');
  assert.equal((await entries()).length, 1);
});

test('a lost reply is held until the caller gives up', async (t) => {
  const { charge, lookUp } = await providerFor(t);
  const caller = new AbortController();
  const lost = charge('p1', 'pm_reply_lost', 1_999, caller.signal);
  await until(() => lookUp('p1'), 'captured');
  caller.abort();
  await assert.rejects(lost, { name: 'AbortError' });
});

test('pm_flaky fails twice per key, across a restart, and charges then', async (t) => {
  const ledgerFile = ledgerFileFor(t);
  const before = await start(ledgerFile);
  assert.equal((await callsTo(before).charge('p1', 'pm_flaky')).status, 500);
  await before.stop();
  const after = await start(ledgerFile);
  t.after(() => after.stop());
  const { charge, lookUp, entries } = callsTo(after);
  assert.equal((await charge('p1', 'pm_flaky')).status, 500);
  assert.equal((await lookUp('p1')).status, 404);
  assert.equal((await charge('p1', 'pm_flaky')).status, 201);
  assert.equal((await charge('p1', 'pm_flaky')).status, 200);
  assert.equal((await charge('p2', 'pm_flaky')).status, 500);
  assert.equal((await entries()).length, 1);
});

test('pm_down never answers and never charges, and can be voided', async (t) => {
  const { charge, lookUp, voidCharge, entries } = await providerFor(t, { holdMs: 100 });
  await assert.rejects(charge('p1', 'pm_down'), /fetch failed/);
  assert.deepEqual(await lookUp('p1'), {
    status: 404,
    body: { key: 'p1', status: 'absent', error: 'there is no such charge' } as unknown as Body,
  });
  assert.equal((await voidCharge('p1')).status, 200);
  assert.deepEqual(
    (await entries()).map(({ kind }) => kind),
    ['void'],
  );
});

test('nothing can be charged under a voided key, whatever the method', async (t) => {
  const { charge, lookUp, voidCharge, entries } = await providerFor(t);
  const voided = { key: 'p1', status: 'voided' };
  assert.deepEqual(await voidCharge('p1'), { status: 200, body: voided });
  assert.deepEqual(await voidCharge('p1'), { status: 200, body: voided });
  for (const method of ['pm_ok', 'pm_declined', 'pm_slow', 'pm_reply_lost', 'pm_flaky', 'pm_down']) {
    assert.deepEqual(await charge('p1', method), { status: 409, body: voided }, method);
  }
  assert.deepEqual(await lookUp('p1'), { status: 200, body: voided });
  assert.deepEqual(
    (await entries()).map(({ kind, key, amount }) => ({ kind, key, amount })),
    [{ kind: 'void', key: 'p1', amount: null }],
  );
});

test('a void between two tries of a flaky charge ends it', async (t) => {
  const { charge, voidCharge } = await providerFor(t);
  assert.equal((await charge('p1', 'pm_flaky')).status, 500);
  assert.equal((await voidCharge('p1')).status, 200);
  assert.equal((await charge('p1', 'pm_flaky')).status, 409);
});

test('a declined charge has nothing to void', async (t) => {
  const { charge, voidCharge, entries } = await providerFor(t);
  await charge('p1', 'pm_declined');
  assert.deepEqual(await voidCharge('p1'), { status: 200, body: { key: 'p1', status: 'declined' } });
  assert.equal((await entries()).length, 1);
});

test('of a void and a charge that race, both sides hear of the same winner', async (t) => {
  const { charge, voidCharge, lookUp, entries } = await providerFor(t);
  const rounds = Array.from({ length: 200 }, async (_, round) => {
    const key = `p${round}`;
    const voiding = () => voidCharge(key);
    const charging = () => charge(key);
    const [first, second] = round % 2 === 0 ? [voiding, charging] : [charging, voiding];
    const answers = await Promise.all([first(), second()]);
    const winner = (await lookUp(key)).body.status;
    assert.deepEqual(
      answers.map(({ body }) => body.status),
      [winner, winner],
    );
    return winner;
  });
  const winners = await Promise.all(rounds);
  const kinds = (await entries()).map(({ kind }) => kind);
  assert.equal(kinds.length, 200);
  assert.equal(
    kinds.filter((kind) => kind === 'capture').length,
    winners.filter((winner) => winner === 'captured').length,
  );
});

test('a void that arrives while the charge is still being sent wins', async (t) => {
  const { url, voidCharge } = await providerFor(t);
  const body = JSON.stringify({ amount: 5, currency: 'EUR', method: 'pm_ok', orderId: 'o1' });
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  const head = `PUT /charges/p1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}`;
  socket.write(`${head}\r\n\r\n${body.slice(0, 5)}`);
  await once(socket, 'connect');
  assert.equal((await voidCharge('p1')).status, 200);
  socket.write(body.slice(5));
  let answer = '';
  for await (const chunk of socket) answer += chunk;
  assert.match(answer, /^HTTP\/1.1 409 [^]*"voided"/);
});

test('a refund is paid once, and its charge is refunded when nothing is left of it', async (t) => {
  const { charge, lookUp, refund, entries, voidCharge } = await providerFor(t);
  const { body: charged } = await charge('p1');
  const part = await refund('r1', 'p1', 999);
  assert.equal(part.status, 201);
  assert.deepEqual(part.body, { key: 'r1', status: 'refunded', reference: part.body.reference, amount: 999 });
  assert.deepEqual(await refund('r1', 'p1', 999), { status: 200, body: part.body });
  assert.deepEqual((await lookUp('p1')).body, { ...charged, orderId: 'order-of-p1', refunded: 999 });
  assert.equal((await refund('r2', 'p1', 1_000, { currency: 'EUR' })).status, 201);
  const { body: after } = await lookUp('p1');
  assert.deepEqual([after.status, after.refunded], ['refunded', 1_999]);
  assert.equal((await voidCharge('p1')).body.status, 'refunded');
  assert.deepEqual((await charge('p1')).body, charged);
  assert.deepEqual(
    (await entries()).map(({ kind, key, charge: of, amount, orderId }) => [kind, key, of, amount, orderId]),
    [
      ['capture', 'p1', 'p1', 1_999, 'order-of-p1'],
      ['refund', 'r1', 'p1', 999, 'order-of-p1'],
      ['refund', 'r2', 'p1', 1_000, 'order-of-p1'],
    ],
  );
});

test('never more is refunded than was captured', async (t) => {
  const { charge, refund, voidCharge, lookUp } = await providerFor(t);
  await charge('p1');
  await charge('p2', 'pm_declined');
  await voidCharge('p3');
  const parallel = await Promise.all(Array.from({ length: 20 }, (_, n) => refund(`r${n}`, 'p1', 500)));
  assert.equal(parallel.filter(({ status }) => status === 201).length, 3);
  assert.equal(parallel.filter(({ status }) => status === 422).length, 17);
  assert.equal((await lookUp('p1')).body.refunded, 1_500);
  assert.equal((await refund('r99', 'p2', 1)).body.error, 'the charge is declined');
  assert.equal((await refund('r99', 'p3', 0)).status, 422);
  assert.equal((await refund('r99', 'nowhere', 1)).status, 404);
  assert.equal((await refund('r99', 'p1', 1, { currency: 'USD' })).status, 422);
});

test('a refund key takes no other charge or amount', async (t) => {
  const { charge, refund } = await providerFor(t);
  await charge('p1');
  await charge('p2');
  await refund('r1', 'p1', 100);
  assert.equal((await refund('r1', 'p1', 101)).status, 422);
  assert.equal((await refund('r1', 'p2', 100)).status, 422);
});

test('an order for nothing can be charged and refunded', async (t) => {
  const { charge, refund, lookUp } = await providerFor(t);
  assert.equal((await charge('p1', 'pm_ok', 0)).status, 201);
  assert.equal((await refund('r1', 'p1', 0)).status, 201);
  assert.equal((await lookUp('p1')).body.status, 'refunded');
});

test('pm_refund_flaky refunds at the fourth try', async (t) => {
  const { charge, refund, entries } = await providerFor(t);
  await charge('p1', 'pm_refund_flaky');
  const tries = [];
  for (let n = 0; n < 5; n += 1) tries.push((await refund('r1', 'p1', 1_999)).status);
  assert.deepEqual(tries, [500, 500, 500, 201, 200]);
  assert.equal((await entries()).length, 2);
});

test('the summary counts captures and refunds per currency, however large', async (t) => {
  const { charge, refund, send } = await providerFor(t);
  const most = Number.MAX_SAFE_INTEGER;
  assert.deepEqual((await send('GET', '/ledger/summary')).body, {
    captures: 0,
    captured: [],
    refunds: 0,
    refunded: [],
  });
  await charge('p1');
  await charge('p2', 'pm_declined');
  await charge('p3');
  await refund('r1', 'p1', 99);
  for (const key of ['p4', 'p5']) {
    await send('PUT', `/charges/${key}`, { amount: most, currency: 'VND', method: 'pm_ok', orderId: 'o1' });
  }
  assert.deepEqual((await send('GET', '/ledger/summary')).body, {
    captures: 4,
    captured: [
      { amount: 3_998, currency: 'EUR' },
      { amount: most * 2, currency: 'VND' },
    ],
    refunds: 1,
    refunded: [{ amount: 99, currency: 'EUR' }],
  });
});

test('the ledger is read page by page, without holes', async (t) => {
  const { charge, send } = await providerFor(t);
  await Promise.all(Array.from({ length: 7 }, (_, n) => charge(`p${n}`)));
  const first = (await send('GET', '/ledger?limit=5')).body;
  const second = (await send('GET', `/ledger?after=${first.next}&limit=5`)).body;
  const third = (await send('GET', `/ledger?after=${second.next}`)).body;
  assert.deepEqual(
    [...first.entries, ...second.entries].map(({ seq }) => seq),
    [1, 2, 3, 4, 5, 6, 7],
  );
  assert.deepEqual(third, { entries: [], next: 7 });
});

test('what cannot be understood is refused and changes nothing', async (t) => {
  const { send, entries } = await providerFor(t);
  const good = { amount: 1, currency: 'EUR', method: 'pm_ok', orderId: 'o1' };
  const refusals: [string, string, unknown, number][] = [
    ['PUT', '/charges/p1', '{', 400],
    ['PUT', '/charges/p1', '', 400],
    ['PUT', '/charges/p1', '[]', 400],
    ['PUT', '/charges/p1', 'null', 400],
    ['PUT', '/charges/p1', { ...good, amount: 1.5 }, 400],
    ['PUT', '/charges/p1', { ...good, amount: -1 }, 400],
    ['PUT', '/charges/p1', { ...good, amount: '1' }, 400],
    ['PUT', '/charges/p1', { ...good, amount: 2 ** 53 }, 400],
    ['PUT', '/charges/p1', { ...good, currency: 'eur' }, 400],
    ['PUT', '/charges/p1', { ...good, orderId: '' }, 400],
    ['PUT', '/charges/p1', { ...good, more: 1 }, 400],
    ['PUT', '/charges/p1', { ...good, method: 'constructor' }, 422],
    ['PUT', '/refunds/r1', { charge: 'p1' }, 400],
    ['PUT', '/refunds/r1', { charge: 'p 1', amount: 1 }, 400],
    ['PUT', `/charges/${'k'.repeat(129)}`, good, 404],
    ['PUT', '/charges/p%201', good, 404],
    ['PUT', '/charges/', good, 404],
    ['POST', '/refunds/r1/void', undefined, 404],
    ['POST', '/charges/p1', good, 405],
    ['DELETE', '/charges/p1', undefined, 405],
    ['PUT', '/charges/p1/void', good, 405],
    ['PUT', '/charges/p1', { ...good, orderId: 'o'.repeat(20_000) }, 413],
    ['GET', '/charges/p1/void', undefined, 404],
    ['GET', '/refunds/r1', undefined, 404],
    ['GET', '/elsewhere', undefined, 404],
    ['GET', '//', undefined, 404],
    ['GET', '/ledger?after=x', undefined, 400],
    ['GET', '/ledger?after=-1', undefined, 400],
    ['GET', '/ledger?limit=0', undefined, 400],
    ['GET', '/ledger?limit=1001', undefined, 400],
  ];
  for (const [method, path, asked, expected] of refusals) {
    const { status, body } = await send(method, path, asked);
    assert.equal(status, expected, `${method} ${path} ${JSON.stringify(asked)}`);
    assert.equal(typeof body.error, 'string');
  }
  assert.deepEqual(await entries(), []);
  assert.deepEqual(await send('GET', '/healthz'), { status: 200, body: { status: 'ok' } as unknown as Body });
});

test('more open requests than allowed are turned away', async (t) => {
  const { charge, send } = await providerFor(t, { openRequestsMax: 2 });
  const callers = [new AbortController(), new AbortController()];
  // A probe may take the last place just when a charge arrives: that charge tries again until it is held.
  const hold = async (key: string, signal: AbortSignal) => {
    for (;;) assert.equal((await charge(key, 'pm_down', 1, signal)).status, 503);
  };
  const held = Promise.allSettled(callers.map(({ signal }, n) => hold(`p${n}`, signal)));
  const probed = async (status: number) => {
    const giveUpAt = Date.now() + 10_000;
    while ((await send('GET', '/healthz')).status !== status) assert.ok(Date.now() < giveUpAt, `never ${status}`);
  };
  await probed(503);
  assert.equal((await charge('p3')).status, 503);
  callers[0]!.abort();
  await probed(200);
  callers[1]!.abort();
  const names = (await held).map((settled) => settled.status === 'rejected' && (settled.reason as Error).name);
  assert.deepEqual(names, ['AbortError', 'AbortError']);
});

test('a charge that the disk does not take is answered 500 and is not charged', async (t) => {
  const { charge, lookUp, ledgerFile } = await providerFor(t);
  await charge('p1');
  const other = new DatabaseSync(ledgerFile);
  t.after(() => other.close());
  other.exec('begin immediate');
  const { status, body } = await charge('p2');
  assert.deepEqual([status, body.error], [500, 'the ledger cannot be written: database is locked']);
  other.exec('rollback');
  assert.equal((await lookUp('p2')).status, 404);
  assert.equal((await charge('p2')).status, 201);
});

test('a ledger that is damaged while in use is answered 500, and nothing half is kept', async (t) => {
  const { charge, lookUp, send, ledgerFile } = await providerFor(t);
  const other = new DatabaseSync(ledgerFile);
  t.after(() => other.close());
  other.exec('drop table entries');
  assert.equal((await send('GET', '/ledger')).status, 500);
  assert.equal((await charge('p1')).status, 500);
  assert.equal((await lookUp('p1')).status, 404);
});

test('a start on a taken port, or on a file that is no ledger, is refused', async (t) => {
  const ledgerFile = ledgerFileFor(t);
  const provider = await start(ledgerFile);
  t.after(() => provider.stop());
  const port = Number(new URL(provider.url).port);
  await assert.rejects(start(ledgerFile, { port }), { code: 'EADDRINUSE' });
  await assert.rejects(start(import.meta.filename), /not a database/);
});

test('stop cuts held and slow requests at once, and may be called twice', async (t) => {
  const provider = await start(ledgerFileFor(t), { slowMs: 60_000 });
  const { charge, lookUp } = callsTo(provider);
  const held = [charge('p1', 'pm_down'), charge('p2', 'pm_slow'), charge('p3', 'pm_reply_lost')];
  const settled = Promise.allSettled(held);
  await until(() => lookUp('p2'), 'captured');
  await until(() => lookUp('p3'), 'captured');
  const begun = performance.now();
  await provider.stop();
  await provider.stop();
  assert.deepEqual(
    (await settled).map(({ status }) => status),
    ['rejected', 'rejected', 'rejected'],
  );
  assert.ok(performance.now() - begun < 2_000);
});

test('callers who are gone before the commit leave no timer behind', async (t) => {
  const { url, charge } = await providerFor(t);
  const timersRunning = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const timers = timersRunning();
  await flood(url, 'pm_down');
  // Behind all others in the queue.
  assert.equal((await charge('last')).status, 201);
  const giveUpAt = Date.now() + 10_000;
  while (timersRunning() > timers) {
    assert.ok(Date.now() < giveUpAt, `${timersRunning() - timers} timers are left`);
    await new Promise(setImmediate);
  }
});

test('a stop in the middle of many commits leaves a ledger that goes on', async (t) => {
  const ledgerFile = ledgerFileFor(t);
  const provider = await start(ledgerFile);
  await flood(provider.url, 'pm_ok');
  // Answered in the turn of the event loop in which the flood was read.
  assert.equal((await callsTo(provider).send('GET', '/healthz')).status, 200);
  await provider.stop();
  const again = await start(ledgerFile);
  t.after(() => again.stop());
  const { charge, entries } = callsTo(again);
  await charge('last');
  const seqs = (await entries()).map(({ seq }) => seq);
  assert.ok(seqs.length > 1);
  assert.deepEqual(
    seqs,
    seqs.map((_, index) => index + 1),
  );
});

/** 9,000 charges, more than one commit takes, from 30 callers who give up as soon as they have sent them. */
async function flood(url: string, method: string): Promise<void> {
  const port = Number(new URL(url).port);
  const sockets = await Promise.all(
    Array.from({ length: 30 }, async () => {
      const socket = connect(port, '127.0.0.1');
      // Once answered, the connection is one that the server reads from in the same turn as from the others.
      socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
      await once(socket, 'data');
      return socket;
    }),
  );
  const body = JSON.stringify({ amount: 5, currency: 'EUR', method, orderId: 'o1' });
  const rest = `HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  for (const [caller, socket] of sockets.entries()) {
    socket.write(Array.from({ length: 300 }, (_, n) => `PUT /charges/p${caller}-${n} ${rest}`).join(''));
    socket.destroy();
  }
}

test('a provider on an IPv6 address gives a url that works', async (t) => {
  const provider = await start(ledgerFileFor(t), { host: '::1' });
  t.after(() => provider.stop());
  assert.equal((await callsTo(provider).send('GET', '/healthz')).status, 200);
});

test('after a SIGKILL the ledger has every answered charge exactly once', async (t) => {
  const ledgerFile = ledgerFileFor(t);
  const { url, child } = await startInChild(ledgerFile);
  const answered = new Map<string, string>();
  let sent = 0;
  const caller = async () => {
    const { charge } = callsTo({ url });
    for (;;) {
      sent += 1;
      const key = `p${sent}`;
      const answer = await charge(key).catch(() => undefined);
      if (answer === undefined) return;
      assert.equal(answer.status, 201);
      answered.set(key, String(answer.body.reference));
      if (answered.size === 1_000) child.kill('SIGKILL');
    }
  };
  await Promise.all(Array.from({ length: 32 }, caller));
  assert.ok(answered.size >= 1_000 && answered.size < sent);

  const provider = await start(ledgerFile);
  t.after(() => provider.stop());
  const { charge, entries } = callsTo(provider);
  const captured = new Map((await entries()).map(({ key, reference }) => [key, reference]));
  for (const [key, reference] of answered) assert.equal(captured.get(key), reference);
  // Whoever got no answer asks again under the same key, and is charged once in all.
  for (let n = 1; n <= sent; n += 1) {
    const { body } = await charge(`p${n}`);
    if (captured.has(`p${n}`)) assert.equal(body.reference, captured.get(`p${n}`));
  }
  const all = await entries();
  assert.equal(all.length, sent);
  assert.equal(new Set(all.map(({ key }) => key)).size, sent);
});

async function startInChild(ledgerFile: string) {
  const script = `
    import { startSandboxProvider } from ${JSON.stringify(import.meta.resolve('./sandbox-provider.ts'))};
    const ledgerFile = ${JSON.stringify(ledgerFile)};
    const provider = await startSandboxProvider({ host: '127.0.0.1', port: 0, ledgerFile });
    console.log(provider.url);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { url: line.toString().trim(), child };
}

/** SIGKILL, at any moment, of any of the processes: what was confirmed is there, and everything comes to its end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import type { OrderPlacedAnswer } from '#contracts/http.ts';
import { checkInvariants, untilAtRest } from '../invariants.ts';
import { programDataDir, startTestProgram } from '../running-program.ts';
import { newId, type OrderWish, type Problem, type Shop } from '../shop-client.ts';

const clients = 16;
const ordersPerKill = 300;
const retryPauseMs = 50;
/** What was under way when its process was killed is taken up after three of these. */
const env = { TWOFOLD_PAYMENT_TIMEOUT_MS: '700' };

test('whatever is killed while orders come in, no confirmed order is lost and none is left half done', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`SEED=${seed} repeats this`);
  const dataDir = await programDataDir(t);
  let program = await startTestProgram(t, dataDir, env);
  const { sku, customerId } = await program.shop.furnish(100_000);
  const placed: string[] = [];

  /** Lets the clients place their orders and `kill` strike among them; resolves once every order is answered. */
  async function placeOrdersWhile(kill: () => Promise<void>, round: number): Promise<void> {
    const methods = fc.sample(
      fc.constantFrom<NonNullable<OrderWish['method']>[]>(
        'pm_ok',
        'pm_ok',
        'pm_ok',
        'pm_declined',
        'pm_flaky',
        'pm_slow',
      ),
      { seed: seed + round, numRuns: ordersPerKill },
    );
    const [killAfter] = fc.sample(fc.integer({ min: 20, max: 200 }), { seed: seed + round, numRuns: 1 });
    let answered = 0;
    const otherwise: string[] = [];
    let killing: Promise<void> | undefined;
    await Promise.all(
      Array.from({ length: clients }, async () => {
        for (let method = methods.pop(); method !== undefined; method = methods.pop()) {
          const wish = { customerId, sku, method };
          const answer = await untilPlaced(() => program.shop, wish, otherwise);
          placed.push(answer.orderId);
          answered += 1;
          if (answered >= killAfter!) killing ??= kill();
        }
      }),
    );
    await killing;
    const counts = Object.entries(Object.groupBy(otherwise, (what) => what)).map(
      ([what, all]) => `${all!.length} ${what}`,
    );
    t.diagnostic(`killed after ${killAfter} of ${answered} orders; ${counts.join(', ')}`);
  }

  async function nothingIsLost(): Promise<void> {
    await untilAtRest(program.databaseUrls, 90_000);
    const violations = await checkInvariants(program.databaseUrls, program.providerUrl, { placed, refused: [] });
    assert.deepEqual(violations, []);
  }

  const restart = async (): Promise<void> => {
    program = await startTestProgram(t, dataDir, env);
  };

  await t.test('the program is killed, and started again', async () => {
    await placeOrdersWhile(async () => {
      process.kill(program.pids().node, 'SIGKILL');
      await program.ended();
      await restart();
    }, 1);
    await nothingIsLost();
  });

  await t.test('its PostgreSQL is killed, and brought back by the program', async () => {
    const before = program.pids().postgres;
    await placeOrdersWhile(async () => void process.kill(before, 'SIGKILL'), 2);
    await nothingIsLost();
    assert.notEqual(program.pids().postgres, before);
  });

  await t.test('its payment provider is killed, and brought back by the program', async () => {
    const before = program.pids().sandbox;
    await placeOrdersWhile(async () => void process.kill(before, 'SIGKILL'), 3);
    await nothingIsLost();
    assert.notEqual(program.pids().sandbox, before);
  });

  await t.test('everything is killed, and started again', async () => {
    await placeOrdersWhile(async () => {
      const { node, postgres, sandbox } = program.pids();
      for (const pid of [node, postgres, sandbox]) process.kill(pid, 'SIGKILL');
      await program.ended();
      await restart();
    }, 4);
    await nothingIsLost();
  });

  await t.test('told to stop, it stops, and all is there when it is started again', async () => {
    await program.stop();
    await restart();
    await nothingIsLost();
  });
});

/** Sends an order, with one key again and again, until it is answered. Notes in `otherwise` what came instead. */
async function untilPlaced(shop: () => Shop, wish: OrderWish, otherwise: string[]): Promise<OrderPlacedAnswer> {
  const headers = { 'idempotency-key': newId('key') };
  for (;;) {
    try {
      const reply = await shop().send<OrderPlacedAnswer & Pick<Problem, 'code' | 'detail'>>(wish, headers);
      if (reply.status === 201) return reply.body;
      const { code, detail } = reply.body;
      assert.ok(reply.status === 503 || code === 'idempotency-key-in-flight', `${reply.status} ${code}: ${detail}`);
      otherwise.push(code);
    } catch (error) {
      if (!isBroken(error)) throw error;
      otherwise.push('no answer');
    }
    await delay(retryPauseMs);
  }
}

/** What `fetch` rejects with when there is no connection, or it breaks. */
const isBroken = (error: unknown): boolean => error instanceof TypeError;

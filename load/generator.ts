/** A process of its own that sends requests by schedule, and tells how they were answered. Started by `generators.ts`. */
import { SignJWT } from 'jose';
import { hearFinalEvents } from './final-events.ts';
import { Latencies, unansweredMs } from './latencies.ts';
import type { Customer, FromGenerator, Plan, Second, ToGenerator, Totals } from './plan.ts';
import { limits, readMix, type RequestKind, staffShare } from './profiles.ts';
import { arrivals, randomOf } from './schedule.ts';
import { createSessions, type Job } from './sessions.ts';
import { createTraffic, readKindAt, type User } from './traffic.ts';

/** How often it looks what is due: what a timer can do. */
const tickMs = 1;
/** After the last request, for what is open. */
const drainMs = 16_000;
const examplesMax = 5;
const tokenHours = 12;

const tell = (message: FromGenerator): void => void process.send!(message);

process.once('disconnect', () => process.exit());
process.once('message', ({ plan }: Extract<ToGenerator, { kind: 'prepare' }>) => {
  prepare(plan).catch((error: unknown) => {
    tell({ kind: 'failed', why: (error as Error).message });
  });
});

async function prepare(plan: Plan): Promise<void> {
  const random = randomOf(plan.seed);
  const now = (): number => performance.now();
  const traffic = createTraffic({ ...plan, random, now });
  const [all, second] = [new Latencies(), new Latencies()];
  const counts = { offered: counter(), answered: counter(), errors: counter(), retries: counter() };
  let ordersPlaced = 0;
  const thisSecond = { ...nothing };
  const examples: string[] = [];
  /** Orders on their way to an end. */
  const open = new Map<string, Job>();
  let [measuredFromMs, measuredToMs] = [Infinity, Infinity];

  const fail = (job: Job, why: string): void => {
    thisSecond.errors += 1;
    counts.errors.add(`${job.sent.kind}: ${why}`);
    if (examples.length < examplesMax) examples.push(`${job.sent.kind}: ${why}\n${job.sent.bytes.split('\r\n', 1)[0]}`);
  };
  const record = (job: Job, ms: number): void => {
    const { kind } = job.sent;
    if (kind !== 'own write') second.record(kind === 'place' || kind === 'cancel' ? kind : 'reads', ms);
    if (job.counted) all.record(kind, ms);
  };

  const sessions = createSessions({
    ...plan,
    now,
    sending(job) {
      if (job.sent.kind === 'place') open.set(job.sent.orderId!, job);
    },
    answered(user, job, answer, wrong) {
      const at = now();
      thisSecond.answered += 1;
      record(job, at - job.dueAtMs);
      if (at >= measuredFromMs && at <= measuredToMs) counts.answered.add(job.sent.kind);
      if (wrong !== null) {
        fail(job, wrong);
        if (job.sent.kind === 'place') open.delete(job.sent.orderId!);
        return [];
      }
      if (at - job.dueAtMs <= mustMsOf(job.sent.kind)) thisSecond.good += 1;
      if (!job.sent.isCommand) return [];
      if (job.counted && job.sent.kind === 'place') ordersPlaced += 1;
      return traffic.after(user, job.sent, answer).map((sent) => {
        if (job.counted) counts.offered.add(sent.kind);
        return { sent, dueAtMs: at, counted: job.counted };
      });
    },
    ...(plan.takesNo === true && {
      turnedAway(job: Job) {
        thisSecond.answered += 1;
        thisSecond.shed += 1;
        second.record('turned away', now() - job.dueAtMs);
        if (job.sent.kind === 'place') open.delete(job.sent.orderId!);
      },
    }),
    repeated(job, why) {
      thisSecond.retries += 1;
      counts.retries.add(`${job.sent.kind}: ${why}`);
    },
    givenUp(job, why) {
      record(job, unansweredMs);
      fail(job, `unanswered, ${why}`);
    },
  });

  const bearers = await bearersOf(plan);
  const staff = plan.orderShare === 1 ? 0 : Math.max(1, Math.round(plan.connections * staffShare));
  const userAt = (n: number, bearer: string | undefined): User => {
    const { customerId } = plan.customers[n % plan.customers.length]!;
    const authorization = bearer === undefined ? [] : [`Authorization: Bearer ${bearer}`];
    return traffic.user(customerId, [`Host: ${plan.target.host}:${plan.target.port}`, ...authorization]);
  };
  const users = Array.from({ length: Math.max(1, plan.connections - staff) }, (_, n) =>
    userAt(n, bearers[n % bearers.length]),
  );
  const operators = Array.from({ length: staff }, (_, n) => userAt(n, plan.operatorToken));
  const final = hearFinalEvents(plan.target, plan.operatorToken, (orderId) => {
    const job = open.get(orderId);
    if (job === undefined) return;
    open.delete(orderId);
    const ms = performance.now() - job.dueAtMs;
    second.record('ends', ms);
    if (job.counted) all.record('ends', ms);
  });
  await final.begun;
  await sessions.open(users, 'customers');
  await sessions.open(operators, 'staff');
  tell({ kind: 'ready' });

  process.on('message', ({ kind }: ToGenerator) => {
    if (kind === 'begin') run();
    else if (kind === 'stop') end();
  });

  let end = (): void => process.exit();

  function run(): void {
    const beganMs = now();
    measuredFromMs = beganMs + plan.warmUpMs;
    measuredToMs = measuredFromMs + plan.measureMs;
    const next = arrivals({
      ratePerSecond: plan.requestsPerSecond,
      rampMs: plan.rampMs,
      steps: plan.steps ?? [],
      random,
    });
    let dueAtMs = beganMs + next();
    let tellAtMs = beganMs + 1_000;
    let ended = false;
    const ticking = setInterval(tick, tickMs);

    function tick(): void {
      const at = now();
      for (; dueAtMs <= at && dueAtMs < measuredToMs; dueAtMs = beganMs + next()) offer(dueAtMs);
      sessions.tick();
      if (at >= tellAtMs) {
        sessions.sweep();
        tellSecond(tellAtMs - measuredFromMs);
        tellAtMs += 1_000;
      }
      const { waiting, underWay } = sessions.figures();
      if (dueAtMs >= measuredToMs && waiting + underWay + open.size === 0) end();
      else if (at > measuredToMs + drainMs) end();
    }

    function offer(due: number): void {
      const counted = due >= measuredFromMs;
      thisSecond.offered += 1;
      if (counted) all.record('noticed late', now() - due);
      const kind = random() < plan.orderShare ? 'place' : readKindAt(random());
      if (counted) counts.offered.add(kind);
      if (kind === 'place') sessions.due('customers', due, counted, traffic.place);
      else sessions.due(isStaffs.has(kind) ? 'staff' : 'customers', due, counted, (user) => traffic.read(user, kind));
    }

    end = (): void => {
      if (ended) return;
      ended = true;
      clearInterval(ticking);
      sessions.close();
      final.close();
      tellSecond(tellAtMs - measuredFromMs);
      let ordersOpen = 0;
      for (const job of open.values()) {
        if (!job.counted) continue;
        ordersOpen += 1;
        all.record('ends', unansweredMs);
      }
      const totals: Totals = {
        offered: counts.offered.all(),
        answered: counts.answered.all(),
        errors: counts.errors.all(),
        examples,
        retries: counts.retries.all(),
        reopened: sessions.figures().reopened,
        ordersPlaced,
        ordersOpen,
        latencies: all.export(),
      };
      tell({ kind: 'done', totals });
    };
  }

  function tellSecond(atMs: number): void {
    const { waiting, underWay } = sessions.figures();
    const told: Second = { atMs, ...thisSecond, waiting, underWay, openOrders: open.size, latencies: second.export() };
    tell({ kind: 'second', second: told });
    second.reset();
    Object.assign(thisSecond, nothing);
  }
}

const nothing = { offered: 0, answered: 0, errors: 0, retries: 0, shed: 0, good: 0 };

const mustMsOf = (kind: RequestKind): number =>
  kind === 'place' || kind === 'cancel'
    ? limits.place.must
    : kind === 'own write'
      ? limits.freshness.must
      : limits.reads.must;

const isStaffs: ReadonlySet<string> = new Set(readMix.flatMap(({ name, staff }) => (staff ? [name] : [])));

function counter() {
  const byName = new Map<string, number>();
  return {
    add: (name: string): void => void byName.set(name, (byName.get(name) ?? 0) + 1),
    all: (): Readonly<Record<string, number>> => Object.fromEntries(byName),
  };
}

/** Of the customers, in their order; undefined where none is needed. */
function bearersOf({ callers, customers, operatorToken }: Plan): Promise<readonly (string | undefined)[]> {
  return Promise.all(
    customers.map(async ({ customerId, token }: Customer) => {
      if (callers.kind === 'open') return undefined;
      if (callers.kind === 'operator') return operatorToken;
      if (callers.kind === 'tokens') return token;
      return new SignJWT({ role: 'customer' })
        .setProtectedHeader({ alg: 'HS256' })
        .setSubject(customerId)
        .setIssuer(callers.issuer)
        .setAudience(callers.audience)
        .setExpirationTime(`${tokenHours}h`)
        .sign(new TextEncoder().encode(callers.secret));
    }),
  );
}

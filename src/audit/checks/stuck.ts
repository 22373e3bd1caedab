/** I20 and what leaks: whatever has been waiting for longer than anything healthy waits. */
import type { ShopServiceName } from '#contracts/service.ts';
import { entityOf } from '#cqrs/event-log.ts';
import type { Correction } from '#cqrs/correction.ts';
import { forgetKeys } from '#cqrs/postgres-log.ts';
import type { Projection } from '#cqrs/projection.ts';
import { sleep } from '#platform/ports.ts';
import { inventoryCorrections } from '#services/inventory/service.ts';
import { orderingCorrections } from '#services/ordering/service.ts';
import { paymentsCorrections } from '#services/payments/service.ts';
import type { Check, Finding, Mandate, Walk } from '../check.ts';
import { originOf } from '../corrections.ts';
import { auditedServices, headOf, typeOf, type WalkParts } from '../evidence.ts';
import { idIn } from '../repairs.ts';

const orderCheck: Check = {
  name: 'order-past-deadline',
  invariants: ['I20'],
  compares: 'No order is open for longer than a minute after its deadline.',
  cost: 'One index range per pass.',
  policy: 'ask',
};
const timerCheck: Check = {
  name: 'timer-overdue',
  invariants: ['I20'],
  compares: 'No timer of a reservation or a payment is overdue by more than a minute.',
  cost: 'One index range per pass.',
  policy: 'ask',
};
const paymentCheck: Check = {
  name: 'payment-unsettled',
  invariants: ['I20'],
  compares: 'No payment or refund is without an outcome for more than an hour.',
  cost: 'One index range, and the first event of each payment that is not settled.',
  policy: 'ask',
};
const consumerCheck: Check = {
  name: 'consumer-stands-still',
  invariants: ['I11'],
  compares: 'No consumer that is not paused stays where it is for 5 s while its source has events for it.',
  cost: 'One read per database; 5 s where somebody is behind.',
  policy: 'ask',
};
const keyCheck: Check = {
  name: 'keys-past-retention',
  invariants: ['I13'],
  compares: 'No idempotency key is kept for longer than the retention and two hours.',
  cost: 'One look-up per service.',
  policy: 'ask',
};

const overdueMs = 60_000;
const unsettledMs = 3_600_000;
const keysGraceMs = 2 * 3_600_000;
const standStillMs = 5_000;
const lookEveryMs = 250;
/** A reaction stores its checkpoint only with an effect, or after so many events without one. */
const idleEventsMax = 1_000;
/** More of one kind are found when these are settled. */
const listedMax = 1_000;

const parts = ['timers', 'payments', 'consumers', 'keys'] as const;
type Part = (typeof parts)[number];

export function stuckWalk(given: WalkParts, projections: readonly Projection[]): Walk {
  const { databases, sourceOf, ports, idempotencyRetentionHours } = given;
  const before = (ms: number): string => new Date(ports.now() - ms).toISOString();
  const services = auditedServices;
  /** A read model that the code does not have any more leaves its checkpoints. */
  const isProjected = (consumer: string): boolean =>
    ['projections', ...projections.map(({ name }) => name)].some((name) => consumer.startsWith(`${name}-of-`));

  async function overdueTimers(): Promise<Finding[]> {
    const found = await Promise.all(
      services.map(async (service) => {
        const rows = await databases[service].query<{ stream: string; due: string; state: string }>(
          'audit overdue',
          `select stream, to_json(due_at) #>> '{}' as due, state from streams
           where due_at < $1 and not exists (
             select from events f where f.stream = streams.stream and f.version = 1 and f.at < $3 and $4)
           order by due_at limit $2`,
          // A payment that has been open for so long is found as that.
          [before(overdueMs), listedMax, before(unsettledMs), service === 'payments'],
        );
        return rows.map(({ stream, due, state }): Finding => {
          const isOrder = typeOf(stream) === 'order';
          return {
            check: isOrder ? orderCheck.name : timerCheck.name,
            entity: `${sourceOf(service)}/${stream}`,
            ...(/^(order|reservation|payment)-/.test(stream) ? { orderId: entityOf(stream) } : {}),
            says: `${stream} has been due since ${due}.`,
            expected: 'nothing that is overdue by more than a minute',
            found: { dueAt: due, state: JSON.parse(state) as unknown },
            repairs: ['correct'],
          };
        });
      }),
    );
    return found.flat();
  }

  async function unsettledPayments(): Promise<Finding[]> {
    const rows = await databases.payments.query<{ stream: string; since: string; state: string }>(
      'audit unsettled',
      `select s.stream, to_json(e.at) #>> '{}' as since, s.state from streams s
       join events e on e.stream = s.stream and e.version = s.version
       join events f on f.stream = s.stream and f.version = 1
       where s.due_at is not null and f.at < $1 order by f.at limit $2`,
      [before(unsettledMs), listedMax],
    );
    return rows.map(({ stream, since, state }) => ({
      check: paymentCheck.name,
      entity: `${sourceOf('payments')}/${stream}`,
      orderId: entityOf(stream),
      says: `${stream} has no outcome yet; it was looked at last at ${since}.`,
      expected: 'an outcome within an hour',
      found: JSON.parse(state) as unknown,
      repairs: ['correct'],
    }));
  }

  type Standing = {
    readonly owner: string;
    readonly consumer: string;
    readonly position: number;
    readonly head: number;
  };

  /** Consumers that are not paused and have something to do. */
  async function behind(): Promise<Standing[]> {
    const reached = await Promise.all(
      ([...services, 'queries'] as const).map(async (owner) => {
        const rows = await databases[owner].query<{ consumer: string; position: number; source: string }>(
          'audit standing',
          `select consumer, position, source from checkpoints c where source is not null
             and not exists (select from consumer_pauses p where p.consumer = c.consumer and paused)
             and not exists (select from consumer_pauses p where p.consumer = 'projections-of-' || c.source and paused)`,
        );
        return rows.flatMap((row) => (owner === 'queries' && !isProjected(row.consumer) ? [] : [{ owner, ...row }]));
      }),
    );
    // After the checkpoints.
    const heads = new Map<string, number>(
      await Promise.all(
        services.map(async (service) => [sourceOf(service), await headOf(databases[service])] as const),
      ),
    );
    return reached.flat().flatMap(({ owner, consumer, position, source }) => {
      const head = heads.get(source) ?? 0;
      const idle = owner === 'queries' ? 0 : idleEventsMax;
      return head - position > idle ? [{ owner, consumer, position, head }] : [];
    });
  }

  let waitedMs = 0;

  async function standingConsumers(): Promise<Finding[]> {
    const first = await behind();
    const until = ports.elapsed() + standStillMs;
    let standing = first;
    while (standing.length > 0 && ports.elapsed() < until) {
      const beganMs = ports.elapsed();
      await sleep(ports, lookEveryMs);
      waitedMs += ports.elapsed() - beganMs;
      const now = await behind();
      standing = standing.filter((one) =>
        now.some(({ consumer, position }) => consumer === one.consumer && position === one.position),
      );
    }
    return standing.map(({ owner, consumer, position, head }) => ({
      check: consumerCheck.name,
      entity: `${owner}/${consumer}`,
      says: `${consumer} stands at ${position}, and its source is at ${head} or beyond.`,
      expected: { position: `beyond ${position} within ${standStillMs / 1_000} s` },
      found: { position },
      repairs: [],
    }));
  }

  async function oldKeys(): Promise<Finding[]> {
    const found = await Promise.all(
      services.map(async (service): Promise<Finding[]> => {
        const limit = before(idempotencyRetentionHours * 3_600_000 + keysGraceMs);
        const rows = await databases[service].query(
          'audit old keys',
          'select from idempotency_keys where at < $1 limit 1',
          [limit],
        );
        return rows.map(() => ({
          check: keyCheck.name,
          entity: `${service}/idempotency_keys`,
          says: `${service} keeps idempotency keys for longer than it is to.`,
          expected: `none that is older than ${idempotencyRetentionHours} h`,
          found: 'older ones',
          repairs: ['correct'],
        }));
      }),
    );
    return found.flat();
  }

  const looks: Readonly<Record<Part, () => Promise<Finding[]>>> = {
    timers: overdueTimers,
    payments: unsettledPayments,
    consumers: standingConsumers,
    keys: oldKeys,
  };

  return {
    name: 'stuck',
    checks: [orderCheck, timerCheck, paymentCheck, consumerCheck, keyCheck],
    size: async () => parts.length,
    waitedMs: () => waitedMs,

    async look(after) {
      const at = after === null ? 0 : parts.indexOf(after as Part);
      return { looked: 1, findings: await looks[parts[at]!](), next: parts[at + 1] ?? null };
    },

    async lookAt(entity) {
      const found = await Promise.all(partsOf(entity, services.map(sourceOf)).map((part) => looks[part]()));
      return found.flat().filter((finding) => finding.entity === entity);
    },

    ...(given.corrections === undefined
      ? {}
      : {
          repair: (finding, mandate) => repair(given, finding, mandate, before(idempotencyRetentionHours * 3_600_000)),
        }),
  };
}

/** Where `entity` may be found: a stream `ordering.0/order-42`, `ordering/idempotency_keys`, or a consumer. */
function partsOf(entity: string, sources: readonly string[]): readonly Part[] {
  if (sources.some((source) => entity.startsWith(`${source}/`))) return ['timers', 'payments'];
  return entity.endsWith('/idempotency_keys') ? ['keys'] : ['consumers'];
}

async function repair(
  { databases, corrections, providerUrl }: WalkParts,
  finding: Finding,
  mandate: Mandate,
  keysBefore: string,
): Promise<Correction> {
  const { buses } = corrections!;
  const origin = originOf(finding, mandate);
  if (finding.check === keyCheck.name) {
    const service = finding.entity.split('/')[0] as ShopServiceName;
    const forgotten = await forgetKeys(databases[service], keysBefore);
    return { before: finding.found, after: { forgotten } };
  }
  const id = idIn(finding.entity);
  switch (typeOf(finding.entity.split('/')[1]!)) {
    case 'order':
      return orderingCorrections(buses.ordering).failOverdueOrder(id, origin);
    case 'reservation':
      return inventoryCorrections(buses.inventory).expireReservation(id, origin);
    default: {
      const payments = paymentsCorrections(buses.payments, providerUrl);
      return payments.settle(id, origin).finally(() => payments.close());
    }
  }
}

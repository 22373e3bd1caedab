/** What happens in the world of a seed, decided beforehand, so that a failure can be made smaller piece by piece. */
import type { ShopServiceName } from '#contracts/service.ts';
import { type Random, seededRandom } from './random.ts';
import type { Stage } from './simulated-postgres.ts';

export type Role = ShopServiceName | 'queries';

export const commandServices = ['catalog', 'ordering', 'inventory', 'payments'] as const;

/** How the world is set up. */
export type Setting = {
  /** The processes by name, and the services that each carries. */
  readonly processes: Readonly<Record<string, readonly Role[]>>;
  readonly orderDeadlineSeconds: number;
  readonly reservationTtlSeconds: number;
  readonly paymentTimeoutMs: number;
  readonly paymentAttemptsMax: number;
  readonly appendTimeoutMs: number;
  readonly cachedStreamsMax: number;
  readonly batchWorksMax: number;
  /** How far the clock of each process is ahead from the start. */
  readonly skewsMs: Readonly<Record<string, number>>;
  /** What an operator does first about an order that inventory could not take: gives it up instead of trying again. */
  readonly discards: boolean;
  /** How often the bus does to a batch what an at-least-once bus may do. */
  readonly busNoise: number;
};

type Sent = {
  readonly atMs: number;
  readonly caller: string;
  /** Commands that share a key are one request, or a reused key. Null: it is sent once, without a key. */
  readonly key: string | null;
  /** Sent twice at once, as by a double click. */
  readonly twice: boolean;
};
export type Command = Sent &
  (
    | { readonly kind: 'put-product'; readonly sku: string; readonly name: string; readonly amount: number }
    | {
        readonly kind: 'adjust-stock';
        readonly sku: string;
        readonly quantity: number;
        readonly ifMatch: number | null;
      }
    | {
        readonly kind: 'put-customer';
        readonly customerId: string;
        readonly name: string;
        readonly ifMatch: number | null;
      }
    | {
        readonly kind: 'place-order';
        readonly orderId: string;
        readonly customerId: string;
        readonly lines: readonly { readonly sku: string; readonly quantity: number }[];
        readonly method: string;
      }
    | { readonly kind: 'cancel-order'; readonly orderId: string; readonly ifMatch: number | null }
  );

type Lasting = { readonly atMs: number; readonly forMs: number };
export type Fault = Lasting &
  (
    | { readonly kind: 'crash'; readonly process: string }
    | { readonly kind: 'crash-at'; readonly process: string; readonly stage: Stage; readonly nth: number }
    | { readonly kind: 'pause'; readonly process: string }
    /** Stopped and taken for dead: another one is started in its place, and then it goes on. */
    | { readonly kind: 'replace'; readonly process: string }
    | { readonly kind: 'database-down'; readonly service: ShopServiceName }
    | { readonly kind: 'database-restart'; readonly service: ShopServiceName }
    | { readonly kind: 'connections-cut'; readonly service: ShopServiceName }
    | { readonly kind: 'database-slow'; readonly service: ShopServiceName; readonly slowMs: number }
    | { readonly kind: 'database-stalls'; readonly service: ShopServiceName; readonly stallMs: number }
    | { readonly kind: 'answers-lost'; readonly service: ShopServiceName; readonly probability: number }
    | { readonly kind: 'bus-down'; readonly service: ShopServiceName }
    | { readonly kind: 'bus-storm'; readonly service: ShopServiceName }
    | { readonly kind: 'provider-down' }
    | { readonly kind: 'provider-slow'; readonly slowMs: number }
    | { readonly kind: 'provider-failing'; readonly probability: number }
    | { readonly kind: 'provider-answers-lost'; readonly probability: number }
    | { readonly kind: 'clock-jump'; readonly process: string; readonly byMs: number }
    | { readonly kind: 'requests-lost'; readonly probability: number }
    /** A stream that no transaction can write, as by a check of a table that a bug runs into. */
    | { readonly kind: 'poison'; readonly service: Role; readonly stream: string }
    /** The process is replaced by one of an older version, which does not know a type of event. */
    | { readonly kind: 'older-version'; readonly process: string; readonly type: string }
    | { readonly kind: 'consumer-paused'; readonly service: ShopServiceName; readonly consumer: string }
    | { readonly kind: 'read-database-down' }
    | { readonly kind: 'read-answers-lost'; readonly probability: number }
  );

export type Plan = {
  readonly seed: number;
  readonly setting: Setting;
  readonly commands: readonly Command[];
  readonly faults: readonly Fault[];
  /** When the last fault is mended, at the latest. */
  readonly healAtMs: number;
};

/** The world of a seed. */
export function planOf(seed: number): Plan {
  const random = seededRandom(seed, 'plan');
  const setting = settingOf(random);
  const healAtMs = random.whole(12_000, 24_000);
  const rushAtMs = random.chance(rushProbability) ? random.whole(2_000, healAtMs - 3_000) : null;
  const commands = commandsOf(random, healAtMs, rushAtMs);
  const faults = [...faultsOf(random, setting, healAtMs), ...troubleOf(random, rushAtMs)];
  return { seed, setting, commands, faults, healAtMs };
}

/** Those services that no fault of the plan touches: neither their processes nor their databases. */
export function undisturbed({ setting, faults }: Pick<Plan, 'setting' | 'faults'>): ShopServiceName[] {
  return commandServices.filter((service) =>
    faults.every((fault) => {
      if ('process' in fault) return !setting.processes[fault.process]!.includes(service);
      return !('service' in fault) || fault.service !== service || fault.kind.startsWith('bus');
    }),
  );
}

/** A rush for one product: writers get in each other's way until one has to decide alone. */
const rushProbability = 0.08;
const rushSize = 40;

const skus = ['tea', 'pot', 'cup'] as const;
const methods = ['pm_ok', 'pm_ok', 'pm_ok', 'pm_ok', 'pm_declined'] as const;

function settingOf(random: Random): Setting {
  const processes = processesOf(random);
  const skewed = random.chance(0.3);
  return {
    processes,
    orderDeadlineSeconds: random.pick([0.3, 6, 12, 20, 30]),
    reservationTtlSeconds: random.pick([0.2, 3, 8, 15, 25]),
    paymentTimeoutMs: random.pick([400, 1_000, 2_000]),
    paymentAttemptsMax: random.whole(2, 4),
    appendTimeoutMs: random.pick([1_000, 3_000, 15_000]),
    cachedStreamsMax: random.pick([2, 8, 200]),
    batchWorksMax: random.pick([1, 3, 1_000]),
    skewsMs: Object.fromEntries(Object.keys(processes).map((name) => [name, skewed ? random.whole(-5_000, 5_000) : 0])),
    discards: random.chance(0.5),
    busNoise: random.pick([0, 0.1, 0.3]),
  };
}

function processesOf(random: Random): Record<string, readonly Role[]> {
  const draw = random.next();
  const processes: Record<string, readonly Role[]> =
    draw < 0.15
      ? { all: [...commandServices, 'queries'] }
      : draw < 0.3
        ? { front: ['catalog', 'ordering'], back: ['inventory', 'payments', 'queries'] }
        : Object.fromEntries([...commandServices, 'queries' as const].map((service) => [service, [service]]));
  if (draw < 0.3 || random.chance(0.3)) {
    // A second process of some service: they compete for its log and its messages.
    const service = random.pick(['ordering', 'inventory', 'payments'] as const);
    processes[`${service}-2`] = [service];
  }
  return processes;
}

function commandsOf(random: Random, healAtMs: number, rushAtMs: number | null): Command[] {
  const commands: Command[] = [];
  const products = skus.slice(0, random.whole(1, 3));
  const customers = ['ada', 'emmy'].slice(0, random.whole(1, 2));
  let keys = 0;
  const sent = (atMs: number, caller = 'operator'): Sent => ({
    atMs,
    caller,
    key: random.chance(0.8) ? `key-${(keys += 1)}` : null,
    twice: random.chance(0.1),
  });

  for (const sku of products) {
    commands.push({
      ...sent(random.whole(0, 300)),
      kind: 'put-product',
      sku,
      name: sku,
      amount: random.whole(1, 9) * 100,
    });
    const quantity = random.pick([2, 5, 10, 30]);
    commands.push({ ...sent(random.whole(100, 1_500)), kind: 'adjust-stock', sku, quantity, ifMatch: null });
  }
  for (const customerId of customers) {
    commands.push({ ...sent(random.whole(0, 500)), kind: 'put-customer', customerId, name: customerId, ifMatch: null });
  }
  const orders = random.whole(2, 9);
  for (let n = 1; n <= orders; n += 1) {
    const atMs = random.whole(300, Math.max(healAtMs - 3_000, 1_000));
    const customerId = random.pick(customers);
    const orderId = `o${n}`;
    const caller = random.chance(0.5) ? 'operator' : `customer:${customerId}`;
    const lines = Array.from({ length: random.whole(1, 3) }, () => ({
      sku: random.pick(products),
      quantity: random.whole(1, 3),
    }));
    const placed: Command = {
      ...sent(atMs, caller),
      kind: 'place-order',
      orderId,
      customerId,
      lines,
      method: random.pick(methods),
    };
    commands.push(placed);
    if (random.chance(0.1) && placed.key !== null) {
      // The same key with another body, a moment later.
      commands.push({ ...placed, atMs: atMs + random.whole(0, 3_000), orderId: `${orderId}-other`, twice: false });
    }
    if (random.chance(0.45)) {
      // At any moment of the order's life, mostly an early one.
      const delay = random.chance(0.7) ? random.whole(0, 400) : random.whole(0, 12_000);
      const ifMatch = random.chance(0.15) ? random.whole(1, 3) : null;
      const canceller = random.chance(0.1) ? 'customer:mallory' : caller;
      commands.push({ ...sent(atMs + delay, canceller), kind: 'cancel-order', orderId, ifMatch });
    }
  }
  for (let n = random.below(6); n > 0; n -= 1) {
    const atMs = random.whole(500, healAtMs);
    const sku = random.pick(products);
    const ifMatch = random.chance(0.3) ? random.whole(1, 6) : null;
    const one = random.below(3);
    if (one === 0) {
      commands.push({ ...sent(atMs), kind: 'put-product', sku, name: `${sku} new`, amount: random.whole(1, 9) * 100 });
    } else if (one === 1) {
      commands.push({
        ...sent(atMs),
        kind: 'adjust-stock',
        sku,
        quantity: random.pick([-8, -4, -2, -1, 1, 3]),
        ifMatch,
      });
    } else {
      const customerId = random.pick(customers);
      commands.push({ ...sent(atMs), kind: 'put-customer', customerId, name: `${customerId} ${n}`, ifMatch });
    }
  }
  if (rushAtMs !== null) {
    for (let n = 0; n < rushSize; n += 1) {
      const rushed = { ...sent(rushAtMs + random.below(60)), twice: false };
      const key = random.chance(0.5) ? rushed.key : null;
      commands.push({ ...rushed, key, kind: 'adjust-stock', sku: products[0]!, quantity: 1, ifMatch: null });
    }
  }
  return commands.sort((a, b) => a.atMs - b.atMs);
}

const poisons = [
  (orderId: string) => ({ service: 'inventory' as const, stream: `reservation-${orderId}` }),
  (orderId: string) => ({ service: 'ordering' as const, stream: `order-${orderId}` }),
  (orderId: string) => ({ service: 'payments' as const, stream: `payment-${orderId}` }),
  () => ({ service: 'ordering' as const, stream: 'offer-tea' }),
  (orderId: string) => ({ service: 'queries' as const, stream: `order-${orderId}` }),
] as const;
const olderTypes = [
  'ProductAdded',
  'StockReserved',
  'OrderPlaced',
  'OrderReserved',
  'PaymentCaptured',
  'OrderCancelled',
];
const consumers = [
  { service: 'inventory', consumer: 'inventory-of-ordering' },
  { service: 'ordering', consumer: 'ordering-of-inventory' },
  { service: 'ordering', consumer: 'ordering-of-payments' },
  { service: 'payments', consumer: 'payments-of-ordering' },
] as const;
/** What a rush may run into. */
function troubleOf(random: Random, rushAtMs: number | null): Fault[] {
  if (rushAtMs === null) return [];
  const lasting = { atMs: rushAtMs, forMs: 2_000, service: 'inventory' as const };
  const trouble: Fault[] = [
    { ...lasting, kind: 'database-stalls', stallMs: 500 },
    { ...lasting, kind: 'connections-cut' },
    { ...lasting, kind: 'answers-lost', probability: 0.3 },
  ];
  return trouble.filter(() => random.chance(0.4));
}

const stages = ['sent', 'locked', 'committed', 'visible', 'answered'] as const;

function faultsOf(random: Random, { processes }: Setting, healAtMs: number): Fault[] {
  const faults: Fault[] = [];
  // One world in ten is a quiet one.
  const count = random.chance(0.1) ? 0 : random.whole(1, 10);
  const names = Object.keys(processes);
  for (let n = 0; n < count; n += 1) {
    const atMs = random.whole(0, healAtMs - 500);
    const forMs = Math.min(
      Math.round(random.pick([50, 300, 1_000, 4_000, 16_000]) * random.between(0.5, 1.5)),
      healAtMs - atMs,
    );
    const lasting = { atMs, forMs };
    const service = random.pick(commandServices);
    const process = random.pick(names);
    const probability = random.pick([0.1, 0.3, 0.7]);
    const kinds: Fault[] = [
      { ...lasting, kind: 'crash', process },
      { ...lasting, kind: 'crash-at', process, stage: random.pick(stages), nth: random.whole(1, 6) },
      { ...lasting, kind: 'pause', process },
      { ...lasting, kind: 'replace', process },
      { ...lasting, kind: 'database-down', service },
      { ...lasting, kind: 'database-restart', service },
      { ...lasting, kind: 'connections-cut', service },
      { ...lasting, kind: 'database-slow', service, slowMs: random.pick([20, 300, 2_000]) },
      { ...lasting, kind: 'database-stalls', service, stallMs: random.pick([50, 500, 3_000]) },
      { ...lasting, kind: 'answers-lost', service, probability },
      { ...lasting, kind: 'bus-down', service },
      { ...lasting, kind: 'bus-storm', service },
      { ...lasting, kind: 'provider-down' },
      { ...lasting, kind: 'provider-slow', slowMs: random.pick([300, 2_000, 6_000]) },
      { ...lasting, kind: 'provider-failing', probability },
      { ...lasting, kind: 'provider-answers-lost', probability },
      {
        ...lasting,
        kind: 'clock-jump',
        process,
        byMs: random.pick([-600_000, -20_000, -3_000, 3_000, 20_000, 600_000]),
      },
      { ...lasting, kind: 'requests-lost', probability },
      { ...lasting, kind: 'poison', ...random.pick(poisons)(`o${random.whole(1, 4)}`) },
      { ...lasting, kind: 'older-version', process, type: random.pick(olderTypes) },
      { ...lasting, kind: 'consumer-paused', ...random.pick(consumers) },
      { ...lasting, kind: 'read-database-down' },
      { ...lasting, kind: 'read-answers-lost', probability },
    ];
    faults.push(random.pick(kinds));
  }
  return faults;
}

/** The system as a graph: what runs, what flows between, how much of it, and how far behind. */
import { TopologyView } from '#contracts/http.ts';
import type { QueryRoute } from '#contracts/routes.ts';
import type { Service } from '#contracts/service.ts';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import { serviceOf } from '#cqrs/event-log.ts';
import { quantileMs } from '#platform/durations.ts';
import type { Ports } from '#platform/ports.ts';
import type { Freshness } from './freshness.ts';

/** What runs in this process. */
export type RunningPart = {
  readonly name: string;
  readonly consumers: readonly Consumer[];
  /** Of a command service. */
  readonly bus?: CommandBus;
  readonly outside?: Service['outside'];
  /** Of the query service. */
  readonly readModels?: readonly string[];
};

export type TopologyOptions = {
  readonly ports: Ports;
  readonly parts: readonly RunningPart[];
  readonly freshness: Freshness;
  /** Reads that were answered since the start, and those that wait. */
  reads(): { readonly answered: number; readonly waiting: number };
};

export type Topology = { readonly route: QueryRoute; stop(): void };

type Node = TopologyView['nodes'][number];
type Edge = TopologyView['edges'][number];

/** An edge as it is followed: `passed` is what has come through since the start. */
type Followed = {
  readonly edge: Pick<Edge, 'from' | 'to' | 'kind' | 'name'>;
  passed(): number;
  look(): Promise<Omit<Edge, 'from' | 'to' | 'kind' | 'name' | 'ratePerSecond'>>;
};

const sampleEveryMs = 1_000;
const rateSamples = 10;
const freshnessSamples = 60;

type Sample = {
  readonly atMs: number;
  readonly passed: readonly number[];
  readonly shown: ReadonlyMap<string, Float64Array>;
};

/** Takes a sample every second until it is stopped. */
export function createTopology(options: TopologyOptions): Topology {
  const { ports, freshness } = options;
  const samples: Sample[] = [];
  /** How the events of the last minute were shown, by source. */
  const lastMinute = (source: string): Float64Array | undefined => {
    const before = samples[0]?.shown.get(source);
    return freshness.bySource.get(source)?.counts.map((count, at) => count - (before?.[at] ?? 0));
  };
  const followed = options.parts.flatMap((part) => edgesOf(part, options, lastMinute));
  const sample = (): Sample => ({
    atMs: ports.elapsed(),
    passed: followed.map(({ passed }) => passed()),
    shown: new Map([...freshness.bySource].map(([source, { counts }]) => [source, counts.slice()])),
  });
  samples.push(sample());
  const stop = ports.every(sampleEveryMs, () => {
    samples.push(sample());
    if (samples.length > freshnessSamples) samples.shift();
  });

  async function look(): Promise<TopologyView> {
    const now = sample();
    const then = samples.at(-rateSamples) ?? samples[0]!;
    const seconds = Math.max(now.atMs - then.atMs, 1) / 1_000;
    return {
      nodes: nodesOf(options.parts),
      edges: await Promise.all(
        followed.map(async ({ edge, look: lookAt }, at) => ({
          ...edge,
          ratePerSecond: rounded(Math.max(0, now.passed[at]! - then.passed[at]!) / seconds),
          ...(await lookAt()),
        })),
      ),
    };
  }

  return {
    route: {
      method: 'GET',
      url: '/v1/ops/topology',
      summary: 'What runs, what flows between, how much of it, and how far behind; as far as this process knows',
      tag: 'operations',
      audience: 'operator',
      answers: { 200: TopologyView },
      caughtUp: async () => true,
      positions: () => nowhere,
      read: async () => ({ bytes: JSON.stringify(await look()) }),
    },
    stop,
  };
}

function edgesOf(
  { name, consumers, bus, outside, readModels }: RunningPart,
  { ports, reads }: TopologyOptions,
  lastMinute: (source: string) => Float64Array | undefined,
): Followed[] {
  const edges: Followed[] = consumers.map((consumer) => ({
    edge: { from: serviceOf(consumer.source), to: name, kind: 'events', name: consumer.name },
    passed: () => consumer.progress.position,
    look: async () => {
      const paused = consumer.paused();
      return {
        lagEvents: consumer.head() - consumer.progress.position,
        lagSeconds: await lagSecondsOf(consumer, ports),
        parked: consumer.parked(),
        ...(paused === null ? {} : { paused }),
        ...(readModels === undefined ? {} : { freshness: freshnessOf(lastMinute(consumer.source)) }),
      };
    },
  }));
  if (bus !== undefined)
    edges.push({
      edge: { from: 'gateway', to: name, kind: 'requests', name: 'commands' },
      passed: () => bus.statistics().works,
      look: async () => ({ lagEvents: bus.statistics().queued, lagSeconds: 0 }),
    });
  if (readModels !== undefined)
    edges.push({
      edge: { from: 'gateway', to: name, kind: 'requests', name: 'queries' },
      passed: () => reads().answered,
      look: async () => ({ lagEvents: reads().waiting, lagSeconds: 0 }),
    });
  if (outside !== undefined)
    edges.push({
      edge: { from: name, to: outside.name, kind: 'calls', name: outside.name },
      passed: () => outside.statistics().calls,
      look: async () => {
        const { open, oldestMs } = outside.statistics();
        return { lagEvents: open, lagSeconds: rounded(oldestMs / 1_000) };
      },
    });
  return edges;
}

function nodesOf(parts: readonly RunningPart[]): Node[] {
  const running = parts.map((part): Node => {
    const troubles = part.consumers.flatMap((consumer) => {
      const trouble = consumer.trouble();
      return trouble === null ? [] : `${consumer.name} since ${trouble.since}: ${trouble.message}`;
    });
    const status =
      troubles.length > 0 ? 'failing' : part.consumers.some((one) => one.paused() !== null) ? 'paused' : 'up';
    return {
      id: part.name,
      kind: part.readModels === undefined ? 'command-service' : 'query-service',
      name: part.name,
      status,
      ...(troubles.length === 0 ? {} : { detail: troubles.join('; ') }),
      ...(part.readModels === undefined ? {} : { readModels: [...part.readModels] }),
    };
  });
  const here = new Set(parts.map(({ name }) => name));
  const heard = new Set(
    parts
      .flatMap(({ consumers }) => consumers.map(({ source }) => serviceOf(source)))
      .filter((name) => !here.has(name)),
  );
  const elsewhere = (kind: Node['kind'], name: string): Node => ({ id: name, kind, name, status: 'elsewhere' });
  return [
    { id: 'gateway', kind: 'gateway', name: 'gateway', status: 'up' },
    ...running,
    ...[...heard].map((name) => elsewhere('command-service', name)),
    ...parts.flatMap(({ outside }) => (outside === undefined ? [] : elsewhere('payment-provider', outside.name))),
  ];
}

async function lagSecondsOf(consumer: Consumer, ports: Ports): Promise<number | null> {
  try {
    const since = await consumer.waitingSince();
    return since === null ? 0 : rounded(Math.max(0, ports.now() - Date.parse(since)) / 1_000);
  } catch {
    // Its log is out of reach: how old what waits there is, nobody here can say.
    return null;
  }
}

function freshnessOf(counts: Float64Array | undefined): Exclude<Edge['freshness'], undefined> {
  const events = counts?.reduce((sum, count) => sum + count, 0) ?? 0;
  if (counts === undefined || events === 0) return null;
  return { events, p50Ms: rounded(quantileMs(counts, 0.5)!), p99Ms: rounded(quantileMs(counts, 0.99)!) };
}

const rounded = (value: number): number => Math.round(value * 1_000) / 1_000;

const nowhere = {};

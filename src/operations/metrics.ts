/** What Prometheus reads: how far each consumer is behind, what the buses and the cache do, and the process itself. */
import { collectDefaultMetrics, Gauge, type Metric, Registry } from '@prometheus-io/client';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import type { Timers } from '#cqrs/timers.ts';
import { durationBoundsMs, type Durations } from '#platform/durations.ts';
import type { Freshness } from './freshness.ts';

export type MetricsOptions = {
  readonly consumers: readonly Consumer[];
  /** By service. */
  readonly buses: ReadonlyMap<string, CommandBus>;
  readonly timers: readonly Timers[];
  readonly cacheStats:
    | (() => { readonly hits: number; readonly misses: number; readonly entries: number; readonly bytes: number })
    | null;
  /** What the gateway counts. */
  readonly requests: {
    readonly underWay: number;
    readonly waiting: number;
    readonly searching: number;
    readonly bodyBytes: number;
    readonly shed: Readonly<Record<string, { readonly reads: number; readonly commands: number }>>;
    answered(): readonly (Readonly<Record<'method' | 'route' | 'status', string>> & {
      readonly durations: Durations;
    })[];
  };
  readonly freshness: Freshness;
  /** Null: the audit does not run here. */
  readonly audit: (() => Promise<AuditFigures>) | null;
  liveStreams(): { readonly open: number; readonly opened: number; readonly cutOff: number };
};

type AuditFigures = {
  readonly open: Readonly<Record<string, number>>;
  readonly looked: Readonly<Record<string, number>>;
  readonly secondsSinceRound: number | null;
  readonly workedSeconds: number;
  readonly periodKept: boolean;
};

/** How often the library looks how late the event loop is. At every 10 ms, its default, that is an eighth of what an idle system does. */
const eventLoopLookEveryMs = 50;

/** Of the library's own: each goes over all open connections whenever somebody looks, which with 10,000 stands in the way of everyone. */
const listsOfConnections = [
  'process_open_fds',
  'nodejs_active_handles',
  'nodejs_active_handles_total',
  'nodejs_active_requests',
  'nodejs_active_requests_total',
  'nodejs_active_resources',
  'nodejs_active_resources_total',
];

/** `text()` is the exposition format 0.0.4. Figures are read when they are asked for. */
export function createMetrics(options: MetricsOptions): { text(): Promise<string> } {
  const { consumers, buses, timers, cacheStats, requests, freshness, liveStreams, audit } = options;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: eventLoopLookEveryMs });
  for (const name of listsOfConnections) registry.removeSingleMetric(name);
  const gauge = (
    name: string,
    help: string,
    labelNames: string[],
    collect: (gauge: Gauge<string>) => void | Promise<void>,
  ): void => {
    const made: Gauge<string> = new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect: () => collect(made),
    });
  };

  histogram(
    registry,
    'twofold_http_request_duration_seconds',
    'From the head of a request to its answer, by route',
    () => requests.answered().map(({ durations, ...labels }) => ({ labels, durations })),
  );
  gauge('twofold_http_requests_under_way', 'Requests that are not answered yet, live streams included', [], (made) =>
    made.set(requests.underWay),
  );
  gauge('twofold_http_requests_waiting', 'Requests that wait for what their Consistency-Token names', [], (made) =>
    made.set(requests.waiting),
  );
  gauge('twofold_http_requests_searching', 'Requests that wait until others have asked the database', [], (made) =>
    made.set(requests.searching),
  );
  gauge('twofold_http_body_bytes', 'Of the larger bodies on their way, as announced', [], (made) =>
    made.set(requests.bodyBytes),
  );
  gauge(
    'twofold_http_requests_shed_total',
    'Requests turned away since the start, by the line that was too long for them',
    ['line', 'kind'],
    (made) => {
      for (const [line, kinds] of Object.entries(requests.shed))
        for (const [kind, count] of Object.entries(kinds)) made.set({ line, kind }, count);
    },
  );
  histogram(
    registry,
    'twofold_freshness_seconds',
    'From an event being recorded to its being shown by reads, of every event that this process has applied',
    () => [...freshness.bySource].map(([source, durations]) => ({ labels: { source }, durations })),
  );
  gauge(
    'twofold_consumer_position',
    'Position up to which a consumer has applied its source',
    ['consumer', 'source'],
    (made) => {
      for (const { name, source, progress } of consumers) made.set({ consumer: name, source }, progress.position);
    },
  );
  gauge(
    'twofold_consumer_lag_events',
    'Events that a consumer has not applied yet, as far as known',
    ['consumer', 'source'],
    (made) => {
      for (const consumer of consumers) {
        made.set({ consumer: consumer.name, source: consumer.source }, consumer.head() - consumer.progress.position);
      }
    },
  );
  gauge(
    'twofold_consumer_failing',
    '1 while a consumer keeps failing on the same batch',
    ['consumer', 'source'],
    (made) => {
      for (const consumer of consumers)
        made.set({ consumer: consumer.name, source: consumer.source }, consumer.trouble() === null ? 0 : 1);
    },
  );
  gauge(
    'twofold_consumer_paused',
    '1 while a consumer takes no events, by itself or because an operator said so',
    ['consumer'],
    (made) => {
      for (const consumer of consumers) made.set({ consumer: consumer.name }, consumer.paused() === null ? 0 : 1);
    },
  );
  gauge(
    'twofold_parked_messages',
    'Messages that a consumer could not apply, and those behind them',
    ['consumer'],
    (made) => {
      for (const consumer of consumers) made.set({ consumer: consumer.name }, consumer.parked());
    },
  );
  gauge('twofold_bus_queued_commands', 'Commands that wait for their batch', ['service'], (made) => {
    for (const [service, bus] of buses) made.set({ service }, bus.statistics().queued);
  });
  gauge('twofold_bus_commands_total', 'Commands recorded since the start', ['service'], (made) => {
    for (const [service, bus] of buses) made.set({ service }, bus.statistics().works);
  });
  gauge('twofold_bus_batches_total', 'Batches sent to the log since the start', ['service'], (made) => {
    for (const [service, bus] of buses) made.set({ service }, bus.statistics().batches);
  });
  gauge('twofold_bus_conflicts_total', 'Streams that another writer had changed first', ['service'], (made) => {
    for (const [service, bus] of buses) made.set({ service }, bus.statistics().conflicts);
  });
  gauge('twofold_timers_overdue', 'Streams that were due at the last look', [], (made) => {
    made.set(timers.reduce((sum, timer) => sum + timer.overdue(), 0));
  });
  if (cacheStats !== null) {
    gauge('twofold_cache', 'The cache of answers', ['figure'], (made) => {
      for (const [figure, value] of Object.entries(cacheStats()))
        if (typeof value === 'number') made.set({ figure }, value);
    });
  }
  gauge('twofold_live_streams', 'Live streams that are open', [], (made) => made.set(liveStreams().open));
  gauge('twofold_live_streams_opened_total', 'Live streams opened since the start', [], (made) =>
    made.set(liveStreams().opened),
  );
  gauge(
    'twofold_live_streams_cut_off_total',
    'Live streams cut off since the start, as their readers were too slow',
    [],
    (made) => made.set(liveStreams().cutOff),
  );
  if (audit !== null) auditGauges(audit, gauge);
  return { text: () => registry.metrics() };
}

type AddGauge = (
  name: string,
  help: string,
  labelNames: string[],
  collect: (gauge: Gauge<string>) => void | Promise<void>,
) => void;

/** As the database says: they are the same in all processes. */
function auditGauges(audit: () => Promise<AuditFigures>, gauge: AddGauge): void {
  // A database that does not answer leaves out these figures, and no others.
  const when = async (show: (figures: AuditFigures) => void): Promise<void> => audit().then(show, () => {});
  gauge('twofold_audit_divergences_open', 'Divergences that are open', ['check'], (made) =>
    when(({ open }) => {
      for (const [check, count] of Object.entries(open)) made.set({ check }, count);
    }),
  );
  gauge(
    'twofold_audit_looked_entities',
    'Entities that the rolling audit has looked at in this round, or the last',
    ['walk'],
    (made) =>
      when(({ looked }) => {
        for (const [walk, count] of Object.entries(looked)) made.set({ walk }, count);
      }),
  );
  gauge('twofold_audit_seconds_since_round', 'Since the rolling audit has looked at everything', [], (made) =>
    when(({ secondsSinceRound }) => {
      if (secondsSinceRound !== null) made.set(secondsSinceRound);
    }),
  );
  gauge(
    'twofold_audit_worked_seconds_total',
    'Time that the rolling audit has worked, its databases included: its rate is its share of a core',
    [],
    (made) => when(({ workedSeconds }) => made.set(workedSeconds)),
  );
  gauge('twofold_audit_period_kept', '0: the rolling audit does not come round within its period', [], (made) =>
    when(({ periodKept }) => made.set(periodKept ? 1 : 0)),
  );
}

type Series = { readonly labels: Readonly<Record<string, string>>; readonly durations: Durations };

/** A histogram of what is counted already: the library's own costs 0.3 µs per duration, which the fastest reads would feel. */
function histogram(registry: Registry, name: string, help: string, series: () => readonly Series[]): void {
  const values = ({ labels, durations }: Series): object[] => {
    let sum = 0;
    const buckets = [...durationBoundsMs, Infinity].map((boundMs, at) => {
      sum += durations.counts[at]!;
      const le = boundMs === Infinity ? '+Inf' : boundMs / 1_000;
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: sum };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: durations.sumMs / 1_000 },
      { metricName: `${name}_count`, labels, value: sum },
    ];
  };
  const metric = { name, help, type: 'histogram', aggregator: 'sum' };
  registry.registerMetric({
    ...metric,
    get: async () => ({ ...metric, values: series().flatMap(values) }),
  } as unknown as Metric);
}

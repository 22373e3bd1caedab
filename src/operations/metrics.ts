/** What Prometheus reads: how far each consumer is behind, what the buses and the cache do, and the process itself. */
import { collectDefaultMetrics, Gauge, Registry } from '@prometheus-io/client';
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Consumer } from '#cqrs/consumer.ts';
import type { Timers } from '#cqrs/timers.ts';

export type MetricsOptions = {
  readonly consumers: readonly Consumer[];
  /** By service. */
  readonly buses: ReadonlyMap<string, CommandBus>;
  readonly timers: readonly Timers[];
  readonly cacheStats:
    | (() => { readonly hits: number; readonly misses: number; readonly entries: number; readonly bytes: number })
    | null;
  liveStreams(): { readonly open: number; readonly opened: number; readonly cutOff: number };
};

/** `text()` is the exposition format 0.0.4. Figures are read when they are asked for. */
export function createMetrics({ consumers, buses, timers, cacheStats, liveStreams }: MetricsOptions): {
  text(): Promise<string>;
} {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const gauge = (name: string, help: string, labelNames: string[], collect: (gauge: Gauge<string>) => void): void => {
    const made: Gauge<string> = new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect: () => collect(made),
    });
  };

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
  return { text: () => registry.metrics() };
}

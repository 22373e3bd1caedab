/** What a system says of itself while it is under load: how far its read side is behind, and how fresh its reads are. */
import { shownWithin } from '../bench/shown-events.ts';
import { type Shop, until } from '../tests/shop-client.ts';

/** Milliseconds; by upper bound of the buckets in which the system counts. Null: nothing was counted. */
export type Freshness = {
  readonly events: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly allShown: boolean;
};

/** By upper bound, so many events were shown within so many milliseconds. */
type Shown = ReadonlyMap<number, number>;

const lookEveryMs = 1_000;
const answerTimeoutMs = 5_000;
const shownTimeoutMs = 10_000;

export type MetricsWatch = ReturnType<typeof watchMetrics>;

/** Asks `/metrics` once a second for what the system says of itself. */
export function watchMetrics(shop: Shop) {
  let latest: { readonly lagEvents: number | null; readonly freshnessP99: number | null } = {
    lagEvents: null,
    freshnessP99: null,
  };
  let before: Shown | null = null;
  let asking = false;
  const timer = setInterval(() => void look(), lookEveryMs);

  async function look(): Promise<void> {
    if (asking) return;
    asking = true;
    try {
      const text = await metricsOf(shop);
      const shown = shownWithin(text);
      latest = {
        lagEvents: lagOf(text),
        freshnessP99: before === null ? null : (freshnessOf(before, shown, true)?.p99 ?? null),
      };
      before = shown;
    } catch {
      latest = { lagEvents: null, freshnessP99: null };
    } finally {
      asking = false;
    }
  }

  return {
    latest: () => latest,
    shown: async (): Promise<Shown | null> => shownWithin(await metricsOf(shop).catch(() => '')),
    /** Of all events since `shownBefore`, once all are shown. */
    async freshness(shownBefore: Shown | null): Promise<Freshness | null> {
      if (shownBefore === null || shownBefore.size === 0) return null;
      const allShown = await isCaughtUp(shop, shownTimeoutMs);
      return freshnessOf(shownBefore, shownWithin(await metricsOf(shop).catch(() => '')), allShown);
    },
    close: () => clearInterval(timer),
  };
}

/** Waits until no consumer is behind; resolves to false when one still is after `timeoutMs`. */
export async function isCaughtUp(shop: Shop, timeoutMs: number): Promise<boolean> {
  const look = async (): Promise<true | null> => (lagOf(await metricsOf(shop)) === 0 ? true : null);
  return until('no consumer is behind', look, timeoutMs).catch(() => false);
}

const metricsOf = async (shop: Shop): Promise<string> =>
  (await shop.request<string>('GET', '/metrics', { timeoutMs: answerTimeoutMs })).body;

/** Events that the consumer which is furthest behind has not applied. */
function lagOf(metrics: string): number | null {
  const lags = [...metrics.matchAll(/^twofold_consumer_lag_events\{[^}]*\} (\d+)$/gm)].map(([, lag]) => Number(lag));
  return lags.length === 0 ? null : Math.max(...lags);
}

function freshnessOf(before: Shown, after: Shown, allShown: boolean): Freshness | null {
  const between = [...after].map(([bound, count]) => [bound, count - (before.get(bound) ?? 0)] as const);
  const events = between.at(-1)?.[1] ?? 0;
  if (events === 0) return null;
  const within = (share: number): number => between.find(([, count]) => count >= share * events)?.[0] ?? Infinity;
  return { events, p50: within(0.5), p99: within(0.99), p999: within(0.999), allShown };
}

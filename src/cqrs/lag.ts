/** How far consumers are behind in time, for whoever could give them less to do. */
import type { Ports } from '#platform/ports.ts';
import type { Consumer } from './consumer.ts';

/** What of a consumer tells how far it is behind. */
export type Followed = Pick<Consumer, 'head' | 'paused' | 'trouble'> & {
  readonly progress: { readonly position: number };
};

const lookEveryMs = 50;
/** Whoever has not moved for so long has another trouble than too much to do. */
const standsAfterMs = 5_000;
/** The head at so many moments of the past is remembered. */
const marksMax = 200;

/**
 * Watches `consumers`; what it returns says, in milliseconds, for how long the event has been waiting that was heard of
 * first and is not applied yet, of the consumer that is furthest behind. It looks when it is asked, to within 50 ms.
 * A consumer that is paused, failing or stuck does not count, nor until it has caught up again: that is no reason for
 * others to do less.
 *
 * Promises:
 * - a consumer is behind for as long as the first event that it has not applied has been waiting
 * - a consumer that stands does not count until it has caught up
 */
export function watchLag(consumers: readonly Followed[], ports: Ports): () => number {
  const watched = consumers.map(watchOne);
  let lookedMs = -Infinity;
  let behindMs = 0;
  return () => {
    const nowMs = ports.elapsed();
    if (nowMs - lookedMs >= lookEveryMs) {
      lookedMs = nowMs;
      behindMs = 0;
      for (const one of watched) behindMs = Math.max(behindMs, one(nowMs));
    }
    return behindMs;
  };
}

function watchOne(consumer: Followed): (nowMs: number) => number {
  let marks: { readonly atMs: number; readonly head: number }[] = [];
  let position = consumer.progress.position;
  let movedMs = 0;
  let stood = false;
  return (nowMs) => {
    if (consumer.progress.position !== position) {
      position = consumer.progress.position;
      movedMs = nowMs;
    }
    const head = consumer.head();
    if (head <= position) {
      marks = [];
      stood = false;
      return 0;
    }
    marks = marks.filter((mark) => mark.head > position);
    if (marks.length < marksMax && head > (marks.at(-1)?.head ?? position)) marks.push({ atMs: nowMs, head });
    const sinceMs = marks[0]!.atMs;
    stood ||= consumer.paused() !== null || consumer.trouble() !== null;
    stood ||= nowMs - Math.max(sinceMs, movedMs) > standsAfterMs;
    return stood ? 0 : nowMs - sinceMs;
  };
}

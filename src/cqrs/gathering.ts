/** Larger batches for those who can wait for a moment: much of what a batch costs is the same for one event as for fifty. */
import { type Ports, sleep } from '#platform/ports.ts';
import type { Feed } from './feed.ts';
import type { Progress } from './progress.ts';

/**
 * `feed` for a consumer: its batches begin `everyMs` apart. A full one is followed at once by the next, and what somebody waits for
 * (`progress`, of the consumer) is fetched at once. After a pause the first event is given as it comes, and what is read one by one
 * has waited long enough.
 *
 * Promises:
 * - batches begin apart, and what happens in between goes together
 * - after a pause the first event is given at once
 * - a full batch is followed by the next at once
 * - who waits for an event waits for no batch to gather
 * - what is read one by one is given at once
 * - an interrupt ends the gathering, and nothing is waited for after it
 */
export function gathering(
  feed: Feed,
  options: { readonly ports: Ports; readonly everyMs: number; progress(): Pick<Progress, 'onWait'> },
): Feed {
  const { ports, everyMs } = options;
  let begunMs = -Infinity;
  let underWay: AbortController | null = null;
  let interrupts = 0;

  async function gather(): Promise<void> {
    const pauseMs = everyMs - (ports.elapsed() - begunMs);
    if (pauseMs <= 0) return;
    const ended = new AbortController();
    underWay = ended;
    const unheed = options.progress().onWait(() => ended.abort());
    await sleep(ports, pauseMs, ended.signal);
    unheed();
    underWay = null;
  }

  return {
    ...feed,
    interrupt() {
      interrupts += 1;
      underWay?.abort();
      feed.interrupt();
    },
    async next(position, limit, waitMs) {
      if (limit === 1) return feed.next(position, limit, waitMs);
      const interruptsBefore = interrupts;
      await gather();
      const delivered = await feed.next(position, limit, interrupts === interruptsBefore ? waitMs : 0);
      if (delivered.length > 0) begunMs = delivered.length < limit ? ports.elapsed() : -Infinity;
      return delivered;
    },
  };
}

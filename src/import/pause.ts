import { sleep, systemPorts } from '#platform/ports.ts';

/** A timer fires at once for anything above 2^31 - 1 ms (25 days), and a slow `--speed` waits longer than that. */
const sliceMsMax = 3_600_000;

/** Resolves after `ms`, or as soon as `stop` is aborted. */
export async function pause(ms: number, stop: AbortSignal): Promise<void> {
  const endMs = systemPorts.elapsed() + ms;
  for (let leftMs = ms; leftMs > 0 && !stop.aborted; leftMs = endMs - systemPorts.elapsed()) {
    await sleep(systemPorts, Math.min(leftMs, sliceMsMax), stop);
  }
}

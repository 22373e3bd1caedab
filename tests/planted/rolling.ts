/** The rolling audit over a world that stands still: the real rounds at their default share, by a clock that is in a hurry. */
import { loadSettings } from '#platform/settings.ts';
import { type Ports, systemPorts } from '#platform/ports.ts';
import type { Finding, Walk } from '../../src/audit/check.ts';
import { type RoundsState, walkRounds } from '../../src/audit/rounds.ts';

export type Round = {
  /** What was found and found again, as it would be recorded. */
  readonly found: readonly Finding[];
  /** By its clock, from the beginning of the round: until enough was found, or the round was over. */
  readonly tookMs: number;
};

/** What a round over this world has to take no longer than. */
export const periodMs = 5 * 60_000;

const { auditSharePercent } = loadSettings({});
/** As in the process of the walks. */
const pieceEntitiesMax = 500;
/** While it waits its clock goes so much faster: rests at 5 % take as long as the work. */
const hurry = 20;

/** Goes round until `isEnough` says so of what is found, or everything has been looked at once. */
export async function goRound(
  walksBy: (ports: Ports) => readonly Walk[],
  aheadMs: number,
  isEnough: (found: readonly Finding[]) => boolean,
): Promise<Round> {
  const ports = inAHurry(aheadMs);
  const found: Finding[] = [];
  const stop = new AbortController();
  const begunMs = ports.elapsed();
  let tookMs = 0;
  const end = (): void => {
    if (!stop.signal.aborted) tookMs = ports.elapsed() - begunMs;
    stop.abort();
  };
  const troubles: unknown[] = [];
  await walkRounds(
    {
      walks: walksBy(ports),
      recorder: {
        async confirmed(findings) {
          found.push(...findings);
          if (isEnough(found)) end();
          return [];
        },
        async gone() {},
        open: async () => [],
      },
      ports,
      sharePercent: auditSharePercent,
      pieceEntitiesMax,
      walksAtOnceMax: 1,
      checks: [],
      signal: stop.signal,
      reportTrouble: (_walk, error) => troubles.push(error),
      periodMs,
      // What changed last is not looked at before its turn: the round alone has to find it.
      changes: async () => '',
      samples: () => [],
    },
    null,
    ({ ended, walks }: RoundsState) => {
      if (!ended || Object.keys(walks).length === 0) return;
      troubles.push(...Object.values(walks).flatMap(({ trouble }) => trouble ?? []));
      end();
    },
  );
  if (troubles.length > 0) throw new AggregateError(troubles, 'the rolling audit had trouble');
  return { found, tookMs };
}

function inAHurry(aheadMs: number): Ports {
  let skippedMs = 0;
  return {
    ...systemPorts,
    now: () => systemPorts.now() + aheadMs + Math.floor(skippedMs),
    elapsed: () => systemPorts.elapsed() + skippedMs,
    after: (ms, act, options) =>
      systemPorts.after(
        ms / hurry,
        () => {
          skippedMs += ms - ms / hurry;
          act();
        },
        options,
      ),
  };
}

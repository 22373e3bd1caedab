/** I2 and I17, of the events of one stream: their versions, the order in which they stand, and their slots. */
import { slotOfStream } from '#cqrs/event-log.ts';
import type { Check, Finding } from '../check.ts';
import type { Fact } from '../evidence.ts';

export const versionsCheck: Check = {
  name: 'log-versions',
  invariants: ['I2'],
  compares: 'The versions of a stream are 1, 2, 3 … in the order of positions.',
  cost: 'The events are at hand.',
  policy: 'ask',
};
export const slotsCheck: Check = {
  name: 'log-slots',
  invariants: ['I17'],
  compares: 'Each event is in the slot of its entity.',
  cost: 'The events are at hand.',
  policy: 'ask',
};

/** `events` are all of `stream`, by version; `moved`: events of other streams count in its versions too, and only their order can be told. */
export function versionFindings(
  source: string,
  stream: string,
  events: readonly Fact[],
  moved: boolean,
): Omit<Finding, 'orderId'>[] {
  const slot = slotOfStream(stream);
  const findings: Omit<Finding, 'orderId'>[] = [];
  let versionBefore = 0;
  let positionBefore = 0;
  for (const event of events) {
    const { position, version } = event;
    const isNext = moved || version === versionBefore + 1;
    if (!isNext || position < positionBefore) {
      const [expected, found] = isNext
        ? [`version ${versionBefore} at a position before that of ${version}`, `at ${positionBefore}`]
        : [`version ${version - 1} before ${version}`, versionBefore === 0 ? 'none' : `${versionBefore}`];
      findings.push(findingOf(versionsCheck, source, event, expected, found));
    }
    if (event.slot !== slot) findings.push(findingOf(slotsCheck, source, event, `${slot}`, `${event.slot}`));
    versionBefore = version;
    positionBefore = position;
  }
  return findings;
}

const findingOf = (
  check: Check,
  source: string,
  { stream, position }: Fact,
  expected: string,
  found: string,
): Omit<Finding, 'orderId'> => ({
  check: check.name,
  entity: `${source}@${position}`,
  says: `${source} is not what it was when it was written at ${position}, of ${stream}. Only a backup can bring back what it was.`,
  expected,
  found,
  repairs: [],
});

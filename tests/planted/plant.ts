/** Plants one kind of damage, has it found and settled, and says what was not as it has to be. */
import type { DatabaseOwner } from '#platform/settings.ts';
import type { Finding } from '../../src/audit/check.ts';
import type { Kind } from './kinds.ts';
import { periodMs } from './rolling.ts';
import type { World } from './world.ts';

export type Outcome = {
  readonly kind: string;
  /** What it was found as. */
  readonly checks: readonly string[];
  readonly passMs: number;
  /** Until the rolling audit had found it, from the beginning of a round. */
  readonly roundMs: number;
  readonly settledBy: string;
  /** Empty: all was as it has to be. */
  readonly problems: readonly string[];
};

export async function plant(world: World, kind: Kind): Promise<Outcome> {
  const problems: string[] = [];
  await kind.prepare?.(world);
  const before = await world.dump();
  const putBack = await save(world, kind);
  await kind.plant(world);

  // Before the pass: it may be that what is planted is only now known by name.
  const expected = await kind.finds(world);
  const begun = performance.now();
  const findings = await world.fullPass(kind.aheadMs);
  const passMs = performance.now() - begun;
  const isFound = (one: string, finding: Finding): boolean =>
    nameOf(finding) === one || (kind.also !== undefined && nameOf(finding).startsWith(one));
  const judge = (by: readonly Finding[], where: string): void => {
    const missed = expected.filter((one) => !by.some((finding) => isFound(one, finding)));
    problems.push(...missed.map((one) => `missed${where}: ${one}`));
    for (const finding of by) {
      if (expected.some((one) => isFound(one, finding)) || kind.also?.(finding, world) === true) continue;
      problems.push(`not planted${where}: ${nameOf(finding)}: ${JSON.stringify(finding)}`);
    }
  };
  judge(findings, '');

  const round = await world.goRound(
    (found) => expected.every((one) => found.some((finding) => isFound(one, finding))),
    kind.aheadMs,
  );
  judge(round.found, ' by the rolling audit');
  if (round.tookMs > periodMs) problems.push(`the rolling audit took ${round.tookMs} ms`);

  // The checks of the logs are tested where they are.
  const confirmed = findings.filter(({ check }) => !isOfLog.test(check));
  for (const finding of confirmed) {
    const again = await world.lookAt(finding, kind.aheadMs);
    if (!again.some((one) => nameOf(one) === nameOf(finding))) problems.push(`not seen again: ${nameOf(finding)}`);
  }

  const repaired: string[] = [];
  if (kind.settled !== 'undone') {
    for (const finding of findings.filter(({ repairs }) => repairs.length > 0)) {
      await world
        .repair(finding, kind.aheadMs)
        .catch((error: Error) => problems.push(`${nameOf(finding)}: ${error.message}`));
      repaired.push(finding.repairs[0]!);
    }
    if (kind.settled === 'by-event') await world.comeToRest();
  }
  await putBack();
  await kind.undo?.(world);

  const left = [...(await world.fullPass(kind.aheadMs))];
  for (const finding of confirmed) left.push(...(await world.lookAt(finding, kind.aheadMs)));
  problems.push(...left.map((finding) => `left: ${nameOf(finding)}: ${JSON.stringify(finding)}`));
  if (kind.settled !== 'by-event' && kind.undo === undefined) problems.push(...differing(before, await world.dump()));
  const settledBy = kind.settled === 'undone' ? 'by hand' : [...new Set(repaired)].join(', ');
  return {
    kind: kind.name,
    checks: [...new Set(findings.map(({ check }) => check))],
    passMs,
    roundMs: round.tookMs,
    settledBy,
    problems,
  };
}

const isOfLog = /^(anchor|batch|beyond|checkpoint|head|positions|slot|version)-|^slot$/;

const nameOf = ({ check, entity }: Finding): string => `${check} ${entity}`;

/** Copies of the tables, and what puts them back. */
async function save({ databases }: World, { saves = {} }: Kind): Promise<() => Promise<void>> {
  const saved = Object.entries(saves).flatMap(([owner, tables]) =>
    tables.map((table) => ({ sql: databases[owner as DatabaseOwner], table })),
  );
  for (const { sql, table } of saved) await sql.query('', `create table saved_${table} as table ${table}`);
  return async () => {
    for (const { sql, table } of saved) {
      await sql.transaction(async (one) => {
        await one.query('', 'set local session_replication_role = replica');
        await one.query('', `delete from ${table}`);
        await one.query('', `insert into ${table} select * from saved_${table}`);
        await one.query('', `drop table saved_${table}`);
      });
    }
  };
}

/** Byte by byte. */
function differing(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string[] {
  return [...before].flatMap(([table, rows]) => {
    const now = after.get(table);
    if (now === rows) return [];
    const [old, fresh] = [rows.split('\n'), (now ?? '').split('\n')];
    const changed = [
      ...old.filter((row) => !fresh.includes(row)).map((row) => `- ${row}`),
      ...fresh.filter((row) => !old.includes(row)).map((row) => `+ ${row}`),
    ];
    return [`${table} is not as it was before:\n${changed.slice(0, 6).join('\n')}`];
  });
}

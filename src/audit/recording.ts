/**
 * What is found becomes a divergence in the audit's own log, and what may be repaired without asking is. Runs in a
 * process that has the log, and the means to repair.
 */
import type { CommandBus } from '#cqrs/command-bus.ts';
import type { Refusal } from '#cqrs/decider.ts';
import type { Origin } from '#cqrs/event-log.ts';
import type { Logger } from '#platform/logger.ts';
import { type Ports, sleep, timeNow } from '#platform/ports.ts';
import type { Database } from '#platform/postgres.ts';
import type { Check, Finding, Mandate, Walk } from './check.ts';
import { auditActor, divergence, type DivergenceCommand, mayRepairByItself, type Divergence } from './divergence.ts';
import { bounded, divergenceIdOf, fingerprintOf, seenOf } from './finding.ts';
import { divergenceStream } from './streams.ts';
import type { DivergenceName, Recorder } from './walking.ts';

export type RecordingOptions = {
  readonly bus: CommandBus;
  /** Of the audit. */
  readonly database: Database;
  /** Those that can repair: each check is one of a walk's. */
  readonly walks: readonly Walk[];
  /** By check: what the settings say instead of its own policy. */
  readonly policies: Readonly<Record<string, Check['policy']>>;
  readonly ports: Ports;
  readonly logger: Logger;
};

/** What came of settling a divergence. */
export type Settlement = { readonly done: true } | { readonly refused: Refusal };

export type Recording = Recorder & {
  /** What holds of a check. */
  policyOf(check: Check): Check['policy'];
  /**
   * Repairs what diverges, if it is still what is recorded, and looks whether that holds. `refused`:
   * `divergence-changed`, `strategy-not-possible`, `repair-failed`.
   */
  repair(id: string, mandate: Mandate, origin: Origin): Promise<Settlement>;
};

/** Of one check. More of them are one trouble, and not many: they are counted and not recorded. */
const openPerCheckMax = 1_000;
/** Of one check, by itself. */
const repairsPerHourMax = 1_000;
const hourMs = 3_600_000;
/** What a repair has set going may take a moment to arrive. */
const looksAfterRepair = 3;
const lookAfterRepairMs = 500;

export function createRecording(options: RecordingOptions): Recording {
  const { bus, database, walks, policies, ports, logger } = options;
  const walkOf = (check: string): Walk | undefined =>
    walks.find((walk) => walk.checks.some(({ name }) => name === check));
  const policyOf = (check: Check): Check['policy'] => policies[check.name] ?? check.policy;
  const repairedAt = new Map<string, number[]>();
  const toldFull = new Set<string>();

  async function execute(id: string, command: DivergenceCommand, origin: Origin) {
    const done = await bus.execute<{ before: Divergence; after: Divergence; refused?: Refusal }>({
      reads: [{ type: divergenceStream, id }],
      origin,
      run(scope) {
        const before = scope.state(divergenceStream, id);
        const decision = divergence.decide(command, before);
        if ('refused' in decision) return { before, after: before, refused: decision.refused };
        for (const event of decision.accepted) scope.record(divergenceStream, id, event);
        return { before, after: scope.state(divergenceStream, id) };
      },
    });
    return { ...done.result, recorded: done.events.length > 0 };
  }

  async function fullChecks(): Promise<string[]> {
    const rows = await database.query<{ check: string }>(
      'full checks',
      `select check_name as check from divergences where status = 'open' group by check_name having count(*) >= $1`,
      [openPerCheckMax],
    );
    const full = rows.map(({ check }) => check);
    for (const check of full.filter((one) => !toldFull.has(one)))
      logger.error(
        { check, openPerCheckMax },
        'as many divergences of a check are open as are recorded: further ones are only counted',
      );
    toldFull.clear();
    for (const check of full) toldFull.add(check);
    return full;
  }

  async function record(finding: Finding): Promise<Divergence> {
    const seen = seenOf(finding);
    const { divergenceId: id, check, entity, says } = seen;
    const { after, recorded } = await execute(id, { type: 'See', seen, at: timeNow(ports) }, originOf(id));
    if (recorded) logger.warn({ divergence: id, check, entity }, says);
    return after;
  }

  /** Those that are recorded; of a check that is full only what is recorded already. */
  async function known(findings: readonly Finding[], full: readonly string[]): Promise<Finding[]> {
    if (!findings.some(({ check }) => full.includes(check))) return [...findings];
    const ids = findings.map(divergenceIdOf);
    const rows = await database.query<{ id: string }>(
      'known divergences',
      'select id from divergences where id = any($1)',
      [ids],
    );
    const there = new Set(rows.map(({ id }) => id));
    return findings.filter((finding, n) => !full.includes(finding.check) || there.has(ids[n]!));
  }

  /** Whether there is room for one more within the hour. */
  function takesRepair(check: string): boolean {
    const since = ports.elapsed() - hourMs;
    const times = (repairedAt.get(check) ?? []).filter((at) => at > since);
    repairedAt.set(check, times);
    if (times.length >= repairsPerHourMax) return false;
    times.push(ports.elapsed());
    return true;
  }

  async function repairNow(finding: Finding, mandate: Mandate, origin: Origin): Promise<Settlement> {
    const id = divergenceIdOf(finding);
    const walk = walkOf(finding.check)!;
    const fail = async (error: unknown): Promise<Settlement> => {
      const trouble = (error instanceof Error ? error.message : String(error)).slice(0, 1_000) || 'it failed';
      logger.warn({ divergence: id, check: finding.check, entity: finding.entity, err: error }, 'a repair has failed');
      await execute(id, { type: 'RecordFailure', ...mandate, trouble, at: timeNow(ports) }, origin);
      return {
        refused: { code: 'repair-failed', detail: `${trouble.replace(/\.$/, '')}. The divergence stays open.` },
      };
    };
    let change: { readonly before: unknown; readonly after: unknown };
    try {
      change = await walk.repair!(finding, mandate);
      if (!(await holds(walk, finding))) throw new Error('it is there again after the repair');
    } catch (error) {
      return fail(error);
    }
    const { refused } = await execute(
      id,
      {
        type: 'RecordRepair',
        ...mandate,
        before: bounded(change.before),
        after: bounded(change.after),
        at: timeNow(ports),
      },
      origin,
    );
    return refused === undefined ? { done: true } : { refused };
  }

  async function holds(walk: Walk, { check, entity }: Finding): Promise<boolean> {
    for (let look = 1; ; look += 1) {
      const found = await walk.lookAt(entity);
      if (!found.some((one) => one.check === check && one.entity === entity)) return true;
      if (look === looksAfterRepair) return false;
      await sleep(ports, lookAfterRepairMs * look);
    }
  }

  return {
    policyOf,

    async confirmed(findings) {
      const full = await fullChecks();
      const taken = await known(findings, full);
      const states = await Promise.all(taken.map(record));
      await database.query(
        'divergences seen',
        'update divergences set last_seen = greatest(last_seen, $2) where id = any($1)',
        [taken.map(divergenceIdOf), timeNow(ports)],
      );
      for (const [n, finding] of taken.entries()) {
        const walk = walkOf(finding.check);
        const check = walk?.checks.find(({ name }) => name === finding.check);
        if (walk?.repair === undefined || check === undefined || policyOf(check) !== 'automatic') continue;
        if (!mayRepairByItself(states[n]!, timeNow(ports)) || !takesRepair(finding.check)) continue;
        const mandate = {
          strategy: finding.repairs[0]!,
          by: auditActor,
          reason: `policy of ${finding.check}: automatic`,
        };
        await repairNow(finding, mandate, originOf(divergenceIdOf(finding)));
      }
      return full;
    },

    async gone(names) {
      for (const name of names) {
        const id = divergenceIdOf(name);
        await execute(id, { type: 'Miss', at: timeNow(ports) }, originOf(id));
      }
    },

    open: (checks) =>
      database.query<DivergenceName>(
        'open divergences',
        `select check_name as check, entity from divergences where status = 'open' and check_name = any($1)
         order by check_name, entity`,
        [checks],
      ),

    async repair(id, mandate, origin) {
      const rows = await database.query<{ state: string }>(
        'divergence',
        'select state from divergences where id = $1',
        [id],
      );
      const state = rows[0] === undefined ? divergence.initial : (JSON.parse(rows[0].state) as Divergence);
      if (state.status !== 'open') return settledAlready(state);
      const { check, entity, repairs, fingerprint } = state.seen;
      const walk = walkOf(check);
      if (walk?.repair === undefined || !repairs.includes(mandate.strategy))
        return notPossible(mandate.strategy, repairs);
      const finding = (await walk.lookAt(entity)).find((one) => one.check === check && one.entity === entity);
      if (finding === undefined) {
        await execute(id, { type: 'Miss', at: timeNow(ports) }, origin);
        return changed('It is not there any more.');
      }
      if (fingerprintOf(finding) !== fingerprint) {
        await execute(id, { type: 'See', seen: seenOf(finding), at: timeNow(ports) }, origin);
        return changed('Something else is found there now: look at it again.');
      }
      return repairNow(finding, mandate, origin);
    },
  };
}

const originOf = (id: string): Origin => ({ actor: auditActor, correlationId: id, causationId: id });

const settledAlready = (state: Divergence): Settlement => {
  const decision = divergence.decide({ type: 'Accept', at: '', by: '', reason: '' }, state);
  if ('refused' in decision) return decision;
  throw new Error('a divergence that is open is not settled');
};

const changed = (detail: string): Settlement => ({ refused: { code: 'divergence-changed', detail } });

const notPossible = (strategy: string, repairs: readonly string[]): Settlement => ({
  refused: {
    code: 'strategy-not-possible',
    detail: `${strategy} is not possible here; there is ${[...repairs, 'accept'].join(', ')}.`,
    strategies: [...repairs, 'accept'],
  },
});

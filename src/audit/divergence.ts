/** The rules of a divergence: found, perhaps repaired, accepted or gone, and found again. */
import type { DivergenceEvent, DivergenceFound } from '#contracts/audit.ts';
import { accept, type Decider, type Refusal, refuse } from '#cqrs/decider.ts';
import type { Mandate } from './check.ts';

/** What a look has found, as it is recorded. */
export type Seen = Omit<DivergenceFound['data'], 'at'>;

/** What was done about it, or tried; the latest last. */
export type Act = {
  readonly what: 'repaired' | 'repair-failed' | 'accepted';
  readonly at: string;
  readonly by: string;
  readonly reason: string;
  readonly strategy?: Mandate['strategy'];
  readonly before?: unknown;
  readonly after?: unknown;
  /** Why it failed. */
  readonly trouble?: string;
};

export type Divergence =
  | { readonly status: 'none' }
  | {
      readonly status: 'open' | 'repaired' | 'accepted' | 'gone';
      readonly seen: Seen;
      /** RFC 3339. */
      readonly firstSeen: string;
      /** Since when it has this status. */
      readonly since: string;
      /** When it was found as what it is recorded as. */
      readonly seenAt: string;
      /** When `audit` has repaired it, or tried to: within a day, the latest last. */
      readonly automaticRepairs: readonly string[];
      readonly acts: readonly Act[];
    };

export type DivergenceCommand =
  /** A look has confirmed it. */
  | { readonly type: 'See'; readonly seen: Seen; readonly at: string }
  /** A look does not find it any more. */
  | { readonly type: 'Miss'; readonly at: string }
  | ({
      readonly type: 'RecordRepair';
      readonly at: string;
      readonly before: unknown;
      readonly after: unknown;
    } & Mandate)
  | ({ readonly type: 'RecordFailure'; readonly at: string; readonly trouble: string } & Mandate)
  | { readonly type: 'Accept'; readonly at: string; readonly by: string; readonly reason: string };

/** Who repairs without being asked. */
export const auditActor = 'audit';
/** Of one divergence, within a day: what does not hold then waits for an operator. */
const automaticRepairsMax = 3;
const dayMs = 86_400_000;
const actsMax = 20;
/** A divergence that is found as something else each time is recorded no more often than this. */
const changedEveryMs = 60_000;

export const divergence: Decider<Divergence, DivergenceCommand, DivergenceEvent> = {
  initial: { status: 'none' },

  evolve(state, event): Divergence {
    const { type, data } = event;
    switch (type) {
      case 'DivergenceFound':
      case 'DivergenceReopened':
      case 'DivergenceChanged': {
        const { at, ...seen } = data;
        if (state.status === 'none')
          return { status: 'open', seen, firstSeen: at, since: at, seenAt: at, automaticRepairs: [], acts: [] };
        const since = type === 'DivergenceChanged' ? state.since : at;
        return { ...state, status: 'open', seen, since, seenAt: at };
      }
      case 'DivergenceGone':
        return settled(state, 'gone', data.at);
      case 'DivergenceRepaired': {
        const { at, by, reason, strategy, before, after } = data;
        const act: Act = { what: 'repaired', at, by, reason, strategy, before, after };
        return settled(withAct(state, act), 'repaired', at);
      }
      case 'DivergenceAccepted': {
        const { at, by, reason } = data;
        return settled(withAct(state, { what: 'accepted', at, by, reason }), 'accepted', at);
      }
      case 'RepairFailed': {
        const { at, by, reason, strategy, trouble } = data;
        return withAct(state, { what: 'repair-failed', at, by, reason, strategy, trouble });
      }
    }
  },

  decide(command, state) {
    switch (command.type) {
      case 'See':
        return see(command.seen, command.at, state);
      case 'Miss':
        return state.status === 'open'
          ? accept({ type: 'DivergenceGone', data: { ...nameOf(state.seen), at: command.at } })
          : accept();
      case 'RecordRepair': {
        if (state.status !== 'open') return refuse(isSettled(state.status));
        const { type: _type, ...repair } = command;
        return accept({ type: 'DivergenceRepaired', data: { ...nameOf(state.seen), ...repair } });
      }
      case 'RecordFailure': {
        if (state.status !== 'open') return refuse(isSettled(state.status));
        const { type: _type, ...failure } = command;
        return accept({ type: 'RepairFailed', data: { ...nameOf(state.seen), ...failure } });
      }
      case 'Accept': {
        if (state.status !== 'open') return refuse(isSettled(state.status));
        const { at, by, reason } = command;
        return accept({ type: 'DivergenceAccepted', data: { ...nameOf(state.seen), at, by, reason } });
      }
    }
  },
};

/** Whether `audit` may repair it once more without being asked. */
export function mayRepairByItself(state: Divergence, now: string): boolean {
  if (state.status !== 'open' || state.seen.repairs.length === 0) return false;
  return withinADay(state.automaticRepairs, now).length < automaticRepairsMax;
}

function see(seen: Seen, at: string, state: Divergence) {
  const data = { ...seen, at };
  if (state.status === 'none') return accept<DivergenceEvent>({ type: 'DivergenceFound', data });
  const isSame = state.seen.fingerprint === seen.fingerprint;
  switch (state.status) {
    case 'open': {
      const isNews = !isSame && Date.parse(at) - Date.parse(state.seenAt) >= changedEveryMs;
      return isNews ? accept<DivergenceEvent>({ type: 'DivergenceChanged', data }) : accept<DivergenceEvent>();
    }
    // What was accepted is accepted for as long as it is that.
    case 'accepted':
      return isSame ? accept<DivergenceEvent>() : accept<DivergenceEvent>({ type: 'DivergenceReopened', data });
    case 'repaired':
    case 'gone':
      return accept<DivergenceEvent>({ type: 'DivergenceReopened', data });
  }
}

const nameOf = ({ divergenceId, orderId }: Seen): Pick<Seen, 'divergenceId' | 'orderId'> => ({
  divergenceId,
  ...(orderId === undefined ? {} : { orderId }),
});

const isSettled = (status: Divergence['status']): Refusal => ({
  code: 'divergence-settled',
  detail: status === 'none' ? 'There is no such divergence.' : `The divergence is ${status}.`,
  divergenceState: status,
});

function settled(state: Divergence, status: 'repaired' | 'accepted' | 'gone', at: string): Divergence {
  return state.status === 'none' ? state : { ...state, status, since: at };
}

function withAct(state: Divergence, act: Act): Divergence {
  if (state.status === 'none') return state;
  const acts = [...state.acts, act].slice(-actsMax);
  if (act.by !== auditActor) return { ...state, acts };
  return { ...state, acts, automaticRepairs: [...withinADay(state.automaticRepairs, act.at), act.at] };
}

const withinADay = (times: readonly string[], now: string): string[] =>
  times.filter((time) => Date.parse(now) - Date.parse(time) < dayMs);

/** Given/when/then for deciders. What holds for every rule is checked by the way: see `given`. */
import assert from 'node:assert/strict';
import type { Decider, Decision, Refusal } from './decider.ts';

type Expectation<Event> = {
  /** Exactly these events follow; the same command again yields no further event. */
  then(...events: Event[]): void;
  /** These events follow, and events of the same types each time the command comes: what it counts or adds up has happened again. */
  thenEachTime(...events: Event[]): void;
  /** Refused with this code; further members of the refusal are compared where given. The same command again is refused alike. */
  thenRefused(code: string, members?: Readonly<Record<string, unknown>>): void;
};

/**
 * The state that `events` lead to. Whatever is tried from there fails when `decide` or `evolve`
 * changes anything that it was given, or when a decision would not survive as JSON.
 */
export function given<State, Command, Event, Refused extends Refusal>(
  decider: Decider<State, Command, Event, Refused>,
  ...events: Event[]
): { readonly state: State; when(command: Command): Expectation<Event> } {
  const pure = purely(decider);
  const state = events.reduce(pure.evolve, pure.initial);
  return {
    state,
    when(command) {
      const accepted = (decision: Decision<Event, Refused>): readonly Event[] => {
        assert.ok('accepted' in decision, `refused: ${JSON.stringify(decision)}`);
        return decision.accepted;
      };
      const typesOf = (of: readonly Event[]): unknown[] => of.map((event) => (event as { type?: unknown }).type);
      const after = (of: readonly Event[]): State => of.reduce(pure.evolve, state);
      return {
        // oxlint-disable-next-line unicorn/no-thenable -- given, when, then: nobody awaits it
        then(...expected) {
          const first = accepted(pure.decide(command, state));
          assert.deepEqual(first, expected);
          const again = pure.decide(command, after(first));
          assert.ok('refused' in again || again.accepted.length === 0, `twice: ${JSON.stringify(again)}`);
        },
        thenEachTime(...expected) {
          const first = accepted(pure.decide(command, state));
          assert.deepEqual(first, expected);
          assert.deepEqual(typesOf(accepted(pure.decide(command, after(first)))), typesOf(first));
        },
        thenRefused(code, members = {}) {
          const decision = pure.decide(command, state);
          assert.ok('refused' in decision, `accepted: ${JSON.stringify(decision)}`);
          const { refused } = decision;
          assert.equal(refused.code, code);
          assert.notEqual(refused.detail, '');
          for (const [name, value] of Object.entries(members)) assert.deepEqual(refused[name], value, name);
          assert.deepEqual(pure.decide(command, state), decision);
        },
      };
    },
  };
}

/** The same decider, failing when it changes what it was given, or decides on what is no plain JSON. */
export function purely<State, Command, Event, Refused>(
  decider: Decider<State, Command, Event, Refused>,
): Decider<State, Command, Event, Refused> {
  return {
    initial: decider.initial,
    evolve: (state, event) => unchanged([state, event], () => decider.evolve(state, event)),
    decide(command, state) {
      const decision = unchanged([command, state], () => decider.decide(command, state));
      assert.deepEqual(JSON.parse(JSON.stringify(decision)), decision, 'a decision is not plain JSON');
      return decision;
    },
  };
}

/** Compares before and after: a state may hold a Map, which freezing would not guard. */
function unchanged<Result>(inputs: unknown[], work: () => Result): Result {
  const before = structuredClone(inputs);
  const result = work();
  assert.deepEqual(inputs, before, 'a rule has changed what it was given');
  return result;
}

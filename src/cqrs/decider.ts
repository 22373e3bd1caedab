/**
 * The rules of a service, as one type. Pure: no clock, ids, randomness or I/O; whatever a rule needs
 * arrives inside the command. (The shape is Jérémie Chassaing's decider.)
 */

/** What every event of the domain looks like before it is recorded. */
export type DomainEvent = { readonly type: string; readonly data: object };

/**
 * A refusal is a value that states a fact. `code` is a key of the problem registry; further members
 * travel to the client as they are.
 */
export type Refusal = { readonly code: string; readonly detail: string; readonly [member: string]: unknown };

/** Either the events that follow from a command (none: it changed nothing), or why it was refused. */
export type Decision<Event, Refused = Refusal> =
  | { readonly accepted: readonly Event[] }
  | { readonly refused: Refused };

/**
 * `decide` says what follows from a command in a state; `evolve` what a state becomes by an event.
 * The same command decided twice yields no further event.
 */
export type Decider<State, Command, Event, Refused = Refusal> = {
  readonly initial: State;
  evolve(state: State, event: Event): State;
  decide(command: Command, state: State): Decision<Event, Refused>;
};

/**
 * The command is accepted, and these events follow from it.
 *
 * Promises:
 * - what follows from a command comes in the order in which it was named, and may be nothing
 */
export const accept = <Event>(...events: Event[]): { accepted: Event[] } => ({ accepted: events });

/**
 * The command is refused, and this is why.
 *
 * Promises:
 * - a refusal is a value that says why
 */
export const refuse = <Refused>(refused: Refused): { refused: Refused } => ({ refused });

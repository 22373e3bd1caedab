/**
 * Named steps at which a test can have this process die, to see what a crash just there leaves behind:
 * with `TWOFOLD_FAILPOINT=log-committed:3` it kills itself by SIGKILL when it comes to that step for the
 * third time. Without the variable every step is a call of an empty function, which costs nothing.
 */
import { writeSync } from 'node:fs';
import { systemPorts } from './ports.ts';

/** Each step, and what has happened by then. A test holds that every one stands in the code, and none is missing here. */
export const failpoints = {
  'command-answering': 'a command is decided and recorded, its client has no answer',
  'batch-decided': 'a batch of commands is decided, nothing is sent to the log',
  'batch-appended': 'a batch is recorded, none of its commands is told',
  'log-sending': 'a batch is about to be sent to the database',
  'log-sent': 'a batch has left for the database, no answer is read',
  'log-committed': 'the database has confirmed a batch, no listener has heard of it',
  'alone-committing': 'a command decided under the lock of the head is written, not committed',
  'alone-committed': 'a command decided under the lock of the head is committed',
  'reaction-deciding': 'a service has read the events of another, nothing is decided',
  'reaction-appended':
    'what a service does about events is recorded with its checkpoint, its position in memory is the old one',
  'projection-reading': 'the read side has read events, no transaction is open',
  'projection-committing': 'rows of the read side are folded, the statement with them and the checkpoint is not sent',
  'projection-sent': 'rows and checkpoint of the read side have left for its database, no answer is read',
  'projection-committed': 'rows and checkpoint of the read side are committed, the cache holds the old rows',
  'rebuild-begun': 'empty tables stand beside those of the read models, nothing is read',
  'rebuild-compared': 'read models are rebuilt and compared, the old ones answer',
  'rebuild-switching': 'writers of the read models are held, nothing is switched',
  'rebuild-switched': 'rebuilt read models answer, nobody is told',
  'timer-due': 'timers are due, nobody is told',
  'timer-told': 'what was due has been acted on, the round of timers is not over',
  'charge-sending': 'an intent to charge is recorded, the provider has not been asked',
  'charge-answered': 'the provider has answered a charge, nothing of it is recorded',
  'lookup-answered': 'the provider has said what became of a charge, nothing of it is recorded',
  'refund-sending': 'a refund is owed, the provider has not been asked',
  'refund-answered': 'the provider has given the money back, nothing of it is recorded',
  'ledger-committing': 'the sandbox provider has worked on requests, its ledger is not committed',
  'ledger-committed': 'the ledger of the sandbox provider is committed, nobody has an answer',
  'migration-applied': 'a migration is applied, and not remembered',
  'migration-committed': 'a migration is applied and remembered, later ones are not',
  'postgres-initialised': 'the data folder of the embedded PostgreSQL is made beside its place',
  'postgres-launched': 'the embedded PostgreSQL answers, its databases are not created',
} as const;

export type Failpoint = keyof typeof failpoints;

type Plan = { readonly name: Failpoint; readonly nth: number };

/** `name:nth` as in TWOFOLD_FAILPOINT, counted from 1; undefined when no step has that name, or nothing is counted. */
export function parseFailpoint(text: string): Plan | undefined {
  const [, name = '', nth = '0'] = /^([a-z-]+):([1-9]\d{0,8})$/.exec(text) ?? [];
  return Object.hasOwn(failpoints, name) ? { name: name as Failpoint, nth: Number(nth) } : undefined;
}

// What cannot be understood stops the start where the settings are read.
const plan = parseFailpoint(process.env['TWOFOLD_FAILPOINT'] ?? '');
let hits = 0;

/** Does not return when this is the step, and the time, at which the process is to die. */
export const failpoint: (name: Failpoint) => void = plan === undefined ? () => {} : (name) => dieAt(plan, name);

/** The same, once what this turn of the event loop has written to its sockets is on its way. */
export const failpointOnceSent: (name: Failpoint) => void =
  plan === undefined ? () => {} : (name) => systemPorts.soon(() => dieAt(plan, name));

function dieAt(planned: Plan, name: Failpoint): void {
  if (name !== planned.name) return;
  hits += 1;
  if (hits !== planned.nth) return;
  try {
    writeSync(2, `failpoint ${name}:${hits} reached\n`);
  } catch {
    // Nobody reads it.
  }
  process.kill(process.pid, 'SIGKILL');
  // Not one more statement, however long the signal takes.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

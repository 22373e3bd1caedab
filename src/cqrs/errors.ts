/** Operating errors of the engine room: each has a stable code, and the cause where there is one. */

export type EngineErrorCode =
  /** The database did not answer in time; whether the batch was recorded may be unknown. */
  | 'log-unavailable'
  /** The queue of commands is full: nothing was done. */
  | 'overloaded'
  /** Another worker has moved this consumer's checkpoint, or its rows were replaced. */
  | 'consumer-fenced'
  /** A rebuild of this read database is under way already. */
  | 'rebuild-running'
  /** What was asked of a rebuild cannot be done: the message says why. */
  | 'rebuild-refused'
  /** The read model was projected by another version of its code. */
  | 'read-model-version'
  /** The idempotency key belongs to another request. */
  | 'idempotency-key-reused'
  /** A position is missing in a log that has none missing. */
  | 'log-gap'
  /** A log ends before what its consumer has applied, or lives in another epoch: it was restored from a backup. */
  | 'source-went-back'
  /** The database belongs to another log. */
  | 'wrong-log';

/**
 * Something outside the rules stood in the way.
 *
 * Promises:
 * - an operating error is told by its code, and keeps its cause
 * - what stands in the way of a command becomes a refusal with its code
 */
export class EngineError extends Error {
  readonly code: EngineErrorCode;

  constructor(code: EngineErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'EngineError';
    this.code = code;
  }
}

/**
 * Whether it is an operating error with this code.
 *
 * Promises:
 * - an operating error is told by its code, and keeps its cause
 */
export const isEngineError = (error: unknown, code: EngineErrorCode): boolean =>
  error instanceof EngineError && error.code === code;

/** What ends an import early. The message is the one line that the user gets to see. */
export class ImportError extends Error {
  override readonly name = 'ImportError';
}

/** The user asked to stop: nothing is wrong, and what was begun may be unanswered. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor() {
    super('stopped on request');
  }
}

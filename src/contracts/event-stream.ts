/** Server-sent events as they go over the wire (HTML Living Standard, section 9.2). */

/**
 * One event. `data` has no line breaks, as JSON has none. Without an `event` it is a `message`, which
 * is what clients get that asked for no name.
 */
export function eventFrame(id: string | null, event: string | null, data: Buffer | string): Buffer {
  const head = `${id === null ? '' : `id: ${id}\n`}${event === null ? '' : `event: ${event}\n`}data: `;
  const body = typeof data === 'string' ? Buffer.from(data) : data;
  return Buffer.concat([Buffer.from(head), body, frameEnd]);
}

const frameEnd = Buffer.from('\n\n');

/** Moves the id from which a client resumes, without an event. */
export const idFrame = (id: string): Buffer => Buffer.from(`id: ${id}\n\n`);

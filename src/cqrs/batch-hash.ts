/**
 * The hash of a batch of events, chained to that of the batch before: what the function `append` stores, made
 * once more outside of the database.
 */
import { createHash } from 'node:crypto';

/** That of a log without batches. */
export const hashOfNothing = '0'.repeat(64);

/**
 * The hash of the batch that begins at `firstPosition`, in hexadecimal digits; `content` is the JSON of its events as
 * `append` is given it.
 *
 * Promises:
 * - each batch of events is chained to the one before, and the head knows the last hash
 */
export function chainedHash(previousHash: string, firstPosition: number, content: string): string {
  const position = Buffer.alloc(8);
  position.writeBigInt64BE(BigInt(firstPosition));
  return createHash('sha256').update(previousHash, 'hex').update(position).update(content).digest('hex');
}

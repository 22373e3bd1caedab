import { crc32 } from 'node:zlib';

/** How many slots there are, for ever: shards, workers and partitions own ranges of them. */
const slotCount = 1_024;

/**
 * The slot of an entity's id, 0 to 1,023.
 *
 * Promises:
 * - the slot of an id never changes: stored events depend on it
 * - ids spread over all slots
 */
export const slotOf = (id: string): number => crc32(id) % slotCount;

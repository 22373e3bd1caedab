import { crc32 } from 'node:zlib';

/** How many slots there are, for ever: shards, workers and partitions own ranges of them. */
const slotCount = 1_024;

/** The slot of an entity's id, 0 to 1,023. Stable across versions: stored events depend on it. */
export const slotOf = (id: string): number => crc32(id) % slotCount;

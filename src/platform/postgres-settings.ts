/** How the PostgreSQL is set that the program starts itself. */
import { totalmem } from 'node:os';
import { socketPort } from './postgres-leftovers.ts';

const settings = {
  // Only the socket, and only in a folder that nobody else can enter: therefore `trust` is enough.
  listen_addresses: '',
  unix_socket_permissions: '0700',
  port: String(socketPort),
  cluster_name: 'twofold',
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  max_connections: '200',
  // Also the default, and what a backup of the running server needs.
  wal_level: 'replica',
  // A backup that hangs ends when it has kept back so much of the log: it must not fill the disk of the shop.
  max_slot_wal_keep_size: '16GB',
  // With it, whoever is the first to change a page after a checkpoint compresses it, and then everybody is.
  wal_compression: 'off',
  // Else each new file of the log is written twice, the first time with zeros, while every commit waits.
  wal_init_zero: 'off',
  max_wal_size: '2GB',
  checkpoint_timeout: '15min',
  random_page_cost: '1.1',
  effective_io_concurrency: '64',
  autovacuum_naptime: '10s',
  // 3,000 rows of a table are read to know it instead of 30,000: all that is asked goes by key or by a known index, and
  // new tables are looked at again every few seconds.
  default_statistics_target: '10',
  // Our queries are short and many: workers of one query would only take the cores from the others, and
  // the memory they share is 64 MB in a container, where such a query fails.
  max_parallel_workers_per_gather: '0',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %d ',
};

/**
 * What PostgreSQL keeps of its tables by itself. Of a table that does not fit, pages are written by whoever needs their
 * place, commands among them; it is taken as it is needed, so that a quarter costs nobody anything who has little.
 *
 * Promises:
 * - a quarter of the memory there is, and no more than 1 GB
 */
export const sharedBuffersMb = (memoryBytes: number): number =>
  Math.round(Math.min(Math.max(memoryBytes / 4 / 1_048_576, sharedBuffersMbMin), sharedBuffersMbMax));

const sharedBuffersMbMin = 32;
const sharedBuffersMbMax = 1_024;

/** Of the machine, or what a container leaves of it. */
const memoryBytes = (): number => Math.min(totalmem(), process.constrainedMemory() || Infinity);

/** As `-c` takes them, but for where its socket is. */
export const serverSettings = (): Record<string, string> => ({
  ...settings,
  shared_buffers: `${sharedBuffersMb(memoryBytes())}MB`,
});

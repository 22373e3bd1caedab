/** What can be known to go wrong before anything is started: said at once, with what to do about it. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, resolve } from 'node:path';
import { openDatabase } from './postgres.ts';

/** Nothing has been started; the message says why it would not have worked and what to do. */
export class PreflightFailed extends Error {
  override readonly name = 'PreflightFailed';
}

export type PreflightOptions = {
  readonly host: string;
  /** 0: any free one, which there always is. */
  readonly port: number;
  readonly dataDir: string;
  /** Existing databases, by the name of the setting that gives their URL. */
  readonly databaseUrls?: Readonly<Record<string, string>>;
  readonly diskBytesMin?: number;
  readonly memoryBytesMin?: number;
  readonly nodeVersion?: string;
};

/** Rejects with PreflightFailed, or resolves to warnings: what works, but may not work well. */
export async function preflight(options: PreflightOptions): Promise<string[]> {
  const {
    diskBytesMin = 500 * mebibyte,
    memoryBytesMin = 400 * mebibyte,
    nodeVersion = process.versions.node,
  } = options;
  if (Number.parseInt(nodeVersion, 10) < nodeMajorMin) {
    throw new PreflightFailed(
      `Twofold needs Node ${nodeMajorMin} or newer, and this is ${nodeVersion}. \`npm start\` brings the right one; without npm, \`node bin/twofold.js\` finds it.`,
    );
  }
  await assertPortFree(options.host, options.port);
  await assertDiskFree(options.dataDir, diskBytesMin);
  for (const [name, url] of Object.entries(options.databaseUrls ?? {})) await assertReachable(name, url);

  const free = process.availableMemory();
  if (free >= memoryBytesMin) return [];
  return [
    `Only ${inMebibytes(free)} of memory are free; with less than ${inMebibytes(memoryBytesMin)} it may be slow or be killed.`,
  ];
}

const nodeMajorMin = 24;
const mebibyte = 1_024 * 1_024;
const portsTriedMax = 20;

const inMebibytes = (bytes: number): string => `${Math.floor(bytes / mebibyte)} MB`;

async function assertPortFree(host: string, port: number): Promise<void> {
  const obstacle = await tryPort(host, port);
  if (obstacle === null) return;
  if (obstacle === 'EADDRINUSE') {
    let other = port + 1;
    while (other < port + portsTriedMax && (await tryPort(host, other)) !== null) other += 1;
    throw new PreflightFailed(
      `Port ${port} on ${host} is taken, by another program or another Twofold. ` +
        `Choose another with --port ${other} or TWOFOLD_PORT=${other}, or any free one with --port 0.`,
    );
  }
  if (obstacle === 'EACCES') {
    throw new PreflightFailed(
      `Port ${port} may not be used by this account. Choose one from 1024 on with --port or TWOFOLD_PORT.`,
    );
  }
  throw new PreflightFailed(
    `TWOFOLD_HOST (--host) is "${host}", which is not an address of this machine (${obstacle}).`,
  );
}

/** Null when the port can be listened on, otherwise the code of the error. */
async function tryPort(host: string, port: number): Promise<string | null> {
  if (port > 65_535) return 'ERANGE';
  const server = createServer();
  try {
    server.listen({ host, port });
    await once(server, 'listening');
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  } finally {
    server.close();
  }
}

async function assertDiskFree(dataDir: string, bytesMin: number): Promise<void> {
  let folder = resolve(dataDir);
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder);
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytesMin) return;
  throw new PreflightFailed(
    `Only ${inMebibytes(bavail * bsize)} of disk are free at ${folder}, and ${inMebibytes(bytesMin)} are needed. ` +
      'Make room, or choose another folder with --data-dir or TWOFOLD_DATA_DIR.',
  );
}

async function assertReachable(name: string, url: string): Promise<void> {
  const database = openDatabase(url, { applicationName: 'twofold preflight', poolMax: 1 });
  try {
    await database.query('ping', 'select 1');
  } catch (error) {
    const { message, code } = error as { message: string; code?: string };
    throw new PreflightFailed(
      `The database of ${name} cannot be used: ${message || code}. Check the URL, and that the server runs.`,
      {
        cause: error,
      },
    );
  } finally {
    await database.end();
  }
}

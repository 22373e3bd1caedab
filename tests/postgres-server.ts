/** The PostgreSQL of a test run: real, of its own, gone afterwards. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { createLogger } from '#platform/logger.ts';

export type TestServer = {
  /** The address of its database `name`, whether or not that exists. */
  url(name: string): string;
  /** Resolves once neither process nor folder is left. */
  stop(): Promise<void>;
};

/** Starts a server with an empty data folder below the temporary folder. Takes one to two seconds. */
export async function startTestServer(): Promise<TestServer> {
  const dataDir = await mkdtemp(join(tmpdir(), 'twofold-test-'));
  const postgres = await startEmbeddedPostgres({
    dataDir,
    databases: [],
    logger: createLogger('warn'),
    onUnexpectedExit(error) {
      throw error;
    },
  });
  return {
    url: postgres.url,
    async stop() {
      await postgres.stop();
      await rm(dataDir, { recursive: true });
      if (postgres.location !== dataDir) await rm(postgres.location, { recursive: true });
    },
  };
}

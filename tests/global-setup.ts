/** One PostgreSQL for a whole test run: started before the first file, stopped after the last, also when interrupted. */
import { startTestServer, type TestServer } from './postgres-server.ts';

let server: TestServer | undefined;

export async function globalSetup(): Promise<void> {
  server = await startTestServer();
  process.env['TEST_POSTGRES_URL'] = server.url('postgres');
}

export async function globalTeardown(): Promise<void> {
  await server?.stop();
}

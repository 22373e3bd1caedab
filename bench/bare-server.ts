/** What Node's HTTP costs by itself: a bare `http.createServer` in a process of its own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { Ending } from '../tests/running-program.ts';

export type Server = { readonly port: number; readonly pid: number };

/** To a GET it answers `body`, the same to everyone; to anything else, with 201, what it was sent. */
export async function startBareServer(ending: Ending, body = ''): Promise<Server> {
  const child = fork(`${import.meta.dirname}/bare-server.process.ts`);
  const exit = once(child, 'exit');
  ending.after(async () => {
    child.kill();
    await exit;
  });
  child.send(body);
  const [port] = (await once(child, 'message')) as [number];
  return { port, pid: child.pid! };
}

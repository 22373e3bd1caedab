/** Work in the background: what nobody waits for lets everything else on the machine go first. */
import { constants, setPriority } from 'node:os';
import { commandLineOf } from './other-process.ts';

/** Gives the process the lowest priority there is. It may not be allowed: then it works like any other. */
export function stepBack(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_LOW);
  } catch {
    // Not ours to say; it is a courtesy.
  }
}

/** The same for the server of a connection over a local socket: `pid` as PostgreSQL has told it. */
export async function stepBackServer(pid: number): Promise<void> {
  // In a container next door its pid may be that of another process here.
  if ((await commandLineOf(pid)).startsWith('postgres: ')) stepBack(pid);
}

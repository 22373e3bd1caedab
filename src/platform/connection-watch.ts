/**
 * Connections that nothing comes over any more, though something should: the host is gone, or the network drops what is
 * sent, and nobody says so. Left alone, the operating system sends again for some fifteen minutes before it gives up.
 */
import type { Socket } from 'node:net';
import type { PoolClient } from 'pg';
import type { Ports } from './ports.ts';

const lookEveryMs = 1_000;
const goodbyeMs = 5_000;

/**
 * Closes a connection over which nothing has come for `silenceMaxMs` while a statement is under way: all that wait on
 * it fail. A goodbye that nobody answers is waited for a few seconds. Watches each connection that is given to it.
 *
 * Time is counted in looks, so that time in which this process did not run counts as one, however long: what came
 * meanwhile waits in the socket. For the same reason the last look leaves the event loop a turn to take it out.
 *
 * One look a second costs nothing that can be measured. pg's `query_timeout`, a timer for each statement, cost 4 to 12 % of
 * this process's time for 20,000 quick ones (by turns; the script was not kept), counts how long one waits for those before it in the pipeline, and fails all
 * that are under way in a process that was stopped.
 */
export function connectionWatch(
  silenceMaxMs: (client: PoolClient) => number,
  ports: Ports,
): (client: PoolClient) => void {
  const watched = new Map<PoolClient, { heardBytes: number; silentLooks: number }>();
  let cancel = (): void => {};

  function look(client: PoolClient, heard: { heardBytes: number; silentLooks: number }): void {
    const stream = socketOf(client);
    const awaitsAnswer = isUnderWay(client) || stream.writableEnded;
    heard.silentLooks = awaitsAnswer && stream.bytesRead === heard.heardBytes ? heard.silentLooks + 1 : 0;
    heard.heardBytes = stream.bytesRead;
    // What the first of them found may have just been sent.
    const silentMs = (heard.silentLooks - 1) * lookEveryMs;
    if (silentMs < (stream.writableEnded ? goodbyeMs : silenceMaxMs(client))) return;
    ports.soon(() => {
      if (stream.bytesRead === heard.heardBytes) stream.destroy(new Error(`nothing came for ${silentMs / 1_000} s`));
    });
  }

  return (client) => {
    // One timer for all of them: each would wake an idle process once a second.
    if (watched.size === 0) {
      cancel = ports.every(lookEveryMs, () => {
        for (const [one, heard] of watched) look(one, heard);
      });
    }
    watched.set(client, { heardBytes: socketOf(client).bytesRead, silentLooks: 0 });
    client.once('end', () => {
      watched.delete(client);
      if (watched.size === 0) cancel();
    });
  };
}

/** Closes a connection at once, whatever is under way over it: pg by itself waits for the answers. */
export function abandonConnection(client: PoolClient): void {
  const isBusy = isUnderWay(client);
  client.release(true);
  if (isBusy) socketOf(client).destroy();
}

/** The socket of a connection that is made: with TLS, what goes over it in plain. */
export const socketOf = (client: PoolClient): Socket => (client as unknown as Wire).connection.stream;

const isUnderWay = (client: PoolClient): boolean => !(client as unknown as Wire).readyForQuery;

/** What pg has and its types do not: where bytes go, and whether all that was sent is answered. */
type Wire = { readonly readyForQuery: boolean; readonly connection: { readonly stream: Socket } };

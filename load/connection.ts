/** One keep-alive connection with one request under way at most: no more than a generator needs, so that it costs little. */
import { connect, type Socket } from 'node:net';
import { type Answer, AnswerReader } from './answer-reader.ts';

export type Target = { readonly host: string; readonly port: number };

export type ConnectionEvents = {
  /** It can be used. */
  opened(): void;
  /** The answer to what was sent last. */
  answered(answer: Answer): void;
  /** It is gone, or was never there: `why` in a few words. Nothing follows. */
  lost(why: string): void;
};

export type Connection = {
  /** Sends the bytes of one request, given as latin1. */
  send(request: string): void;
  /** Ends it without a further word. */
  destroy(): void;
};

// What arrives is taken in the turn in which it is read, so that all connections can share the memory for it.
const arriving = Buffer.allocUnsafeSlow(65_536);

/** Opens a connection, from `localAddress` if it is given. */
export function openConnection(
  { host, port }: Target,
  localAddress: string | undefined,
  events: ConnectionEvents,
): Connection {
  const reader = new AnswerReader();
  let gone = false;
  const lose = (why: string): void => {
    if (gone) return;
    gone = true;
    socket.destroy();
    events.lost(why);
  };
  const take = (answer: Answer | null): void => {
    if (answer === null || gone) return;
    events.answered(answer);
    if (!answer.keepAlive) lose('closed by the server');
  };
  const socket: Socket = connect({
    host,
    port,
    noDelay: true,
    ...(localAddress === undefined ? {} : { localAddress }),
    onread: {
      buffer: arriving,
      callback(bytes: number, buffer: Uint8Array): boolean {
        try {
          take(reader.take((buffer as Buffer).subarray(0, bytes)));
        } catch (error) {
          lose((error as Error).message);
        }
        return true;
      },
    },
  });
  socket.on('connect', () => events.opened());
  socket.on('error', (error: NodeJS.ErrnoException) => lose(error.code ?? error.message));
  socket.on('close', () => {
    try {
      take(reader.close());
    } catch (error) {
      lose((error as Error).message);
    }
    lose('closed by the server');
  });
  return {
    send: (request) => void socket.write(request, 'latin1'),
    destroy() {
      gone = true;
      socket.destroy();
    },
  };
}

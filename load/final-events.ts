/** Hears over live streams when each order comes to its end, whoever asks for it meanwhile. */
import { type ClientRequest, request } from 'node:http';
import type { Target } from './connection.ts';

export type FinalEvents = {
  /** Resolves once nothing that happens from then on is missed. Rejects when a stream is refused. */
  readonly begun: Promise<void>;
  close(): void;
};

// By type, so that neither side pays for the others; a stream takes one.
const finalTypes = ['OrderCompleted', 'OrderFailed', 'OrderCancelled'] as const;
const comeBackMs = 200;

/** Calls `ended` with the id of each order that is final. A stream that breaks goes on from where it was. */
export function hearFinalEvents(
  target: Target,
  bearer: string | undefined,
  ended: (orderId: string) => void,
): FinalEvents {
  let closed = false;
  const open = new Set<ClientRequest>();

  function hear(type: string, lastEventId: string, begun: () => void, refused: (error: Error) => void): void {
    if (closed) return;
    let lastId = lastEventId;
    let lostAlready = false;
    const sent = request({
      ...target,
      path: `/v1/live?type=${type}`,
      agent: false,
      headers: {
        accept: 'text/event-stream',
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
        ...(lastId === '' ? {} : { 'last-event-id': lastId }),
      },
    });
    open.add(sent);
    const lost = (): void => {
      if (lostAlready) return;
      lostAlready = true;
      open.delete(sent);
      if (!closed) setTimeout(hear, comeBackMs, type, lastId, begun, refused);
    };
    sent.on('error', lost).on('close', lost);
    sent.on('response', (response) => {
      if (response.statusCode !== 200) {
        refused(new Error(`/v1/live was answered ${response.statusCode}`));
        response.resume();
        return;
      }
      begun();
      let rest = '';
      response.setEncoding('utf8').on('error', lost).on('close', lost);
      response.on('data', (text: string) => {
        const frames = (rest + text).split('\n\n');
        rest = frames.pop()!;
        for (const frame of frames) {
          lastId = /^id: ?(.*)$/m.exec(frame)?.[1] ?? lastId;
          const orderId = /^data:.*"orderId":"([^"]+)"/m.exec(frame)?.[1];
          if (orderId !== undefined) ended(orderId);
        }
      });
    });
    sent.end();
  }

  return {
    begun: Promise.all(
      finalTypes.map((type) => new Promise<void>((resolve, reject) => hear(type, '', resolve, reject))),
    ).then(() => {}),
    close() {
      closed = true;
      for (const sent of open) sent.destroy();
    },
  };
}

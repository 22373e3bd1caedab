/**
 * Streams of server-sent events: who may open one and how many, heartbeats, readers that are too slow,
 * and the end of all of them when the server stops. What is streamed, the routes know.
 */
import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { eventFrame, idFrame } from '#contracts/event-stream.ts';
import { problems } from '#contracts/problems.ts';
import type { EventSink, LiveStream, StreamRoute } from '#contracts/routes.ts';
import { systemPorts } from '#platform/ports.ts';
import { answerProblem, answerStream, pathOf, problemBody } from './answers.ts';
import { type Consistency, headerOf, requestToken } from './consistency.ts';
import { answerRefusal, logFailure, problemOf } from './refusals.ts';
import { traceOf } from './trace-context.ts';

export type LiveStreamOptions = {
  /** Open at once, of all callers. */
  readonly streamsMax: number;
  /** Open at once, of one customer; 0: no limit. */
  readonly streamsPerCustomerMax: number;
  readonly heartbeatMs: number;
  /** A reader for whom more waits is cut off; it may resume. */
  readonly waitingBytesMax: number;
  readonly logger: Logger;
};

export type LiveStreams = {
  handler(
    route: StreamRoute,
    consistency: Consistency,
  ): (request: FastifyRequest, reply: FastifyReply) => Promise<void>;
  /** Streams open now; opened, and cut off because their readers were too slow, since the start. */
  statistics(): { readonly open: number; readonly opened: number; readonly cutOff: number };
  /** Ends every stream, and lets none begin any more. */
  end(): void;
};

/** How long a client waits before it comes back after its connection has ended. */
const retryMs = 2_000;
/** What a timer can wait: 24 days. */
const timerMsMax = 2 ** 31 - 1;

export function createLiveStreams(options: LiveStreamOptions): LiveStreams {
  const { logger } = options;
  const connections = new Set<ServerResponse>();
  const openByCustomer = new Map<string, number>();
  const counts = { open: 0, opened: 0, cutOff: 0 };
  let ended = false;

  /** Takes a place that is free again once the answer has ended; or answers why there is none. */
  function takePlace(request: FastifyRequest, reply: FastifyReply): boolean {
    const { caller, scope } = request.identity;
    const limit = caller.role === 'customer' ? options.streamsPerCustomerMax : 0;
    const mine = openByCustomer.get(scope) ?? 0;
    if (ended || counts.open >= options.streamsMax) {
      const why = ended ? 'The server is about to stop.' : `${options.streamsMax} live streams are open already.`;
      answerProblem(request, reply, 'overloaded', why);
      return false;
    }
    if (limit > 0 && mine >= limit) {
      answerProblem(request, reply, 'too-many-streams', `${mine} live streams of this caller are open already.`);
      return false;
    }
    counts.open += 1;
    if (limit > 0) openByCustomer.set(scope, mine + 1);
    reply.raw.once('close', () => {
      counts.open -= 1;
      const left = (openByCustomer.get(scope) ?? 0) - 1;
      if (left > 0) openByCustomer.set(scope, left);
      else openByCustomer.delete(scope);
    });
    return true;
  }

  async function open(
    request: FastifyRequest,
    reply: FastifyReply,
    route: StreamRoute,
    consistency: Consistency,
  ): Promise<void> {
    const token = requestToken(request);
    if (token === null)
      return answerProblem(
        request,
        reply,
        'malformed-consistency-token',
        'The Consistency-Token is not one that an answer gave.',
      );
    if (!takePlace(request, reply)) return;
    if (token !== undefined && !(await consistency.reached(request, reply, route, token, {}))) return;
    const query = request.query as { readonly lastEventId?: string };
    // The header is the newer of the two: a browser that comes back adds it to the address it began with.
    const lastEventId = headerOf(request, 'last-event-id') || query.lastEventId;
    const { params, identity } = request;
    const stream = await route.open({ params, query, caller: identity.caller, lastEventId } as never);
    if ('refused' in stream) {
      const { refused } = stream;
      const pointed = refused.code === 'malformed-event-id' && lastEventId === query.lastEventId;
      const errors = [{ pointer: '/lastEventId', detail: 'cannot be resumed from' }];
      return answerRefusal(request, reply, pointed ? { ...refused, errors } : refused);
    }
    if (ended) {
      stream.close();
      return answerProblem(request, reply, 'overloaded', 'The server is about to stop.');
    }
    // Who has gone meanwhile has closed the response.
    if (reply.raw.destroyed) {
      stream.close();
      return void reply.hijack();
    }
    begin(request, reply, stream);
  }

  function begin(request: FastifyRequest, reply: FastifyReply, stream: LiveStream): void {
    const response = answerStream(request, reply);
    // A client that goes between two writes is no failure.
    response.on('error', () => {});
    let closed = false;
    let onDrain: (() => void) | null = null;
    response.on('drain', () => onDrain?.());

    const cutOff = (): void => {
      counts.cutOff += 1;
      response.destroy();
    };

    const sink: EventSink = {
      get closed() {
        return closed || response.destroyed || response.writableEnded;
      },
      write(frames) {
        if (sink.closed) return;
        if (response.writableLength > options.waitingBytesMax) return cutOff();
        response.write(frames);
      },
      drained: () =>
        sink.closed || !response.writableNeedDrain
          ? Promise.resolve()
          : new Promise((resolve) => {
              onDrain = resolve;
            }),
      fail(error) {
        if (sink.closed) return;
        const code = problemOf(error);
        logFailure(logger, request, code, error);
        const body = problemBody(code, problems[code].explanation, pathOf(request), traceOf(request).traceId);
        response.end(eventFrame(null, 'error', body));
      },
    };

    let sentBefore = -1;
    const stopBeating = systemPorts.every(options.heartbeatMs, () => {
      if (sink.closed) return;
      const waiting = response.writableLength;
      const sent = (response.socket?.bytesWritten ?? 0) - waiting;
      // It has not taken a byte of what waits for as long as a heartbeat.
      if (waiting > 0 && sent === sentBefore) return cutOff();
      sentBefore = sent;
      const id = stream.resumeId();
      sink.write(id === null ? heartbeat : Buffer.concat([heartbeat, idFrame(id)]));
    });
    const { expiresAtMs = Infinity } = request.identity;
    const leftMs = Math.max(0, expiresAtMs - systemPorts.now());
    const cancelExpiry =
      leftMs > timerMsMax
        ? () => {}
        : systemPorts.after(leftMs, () => sink.fail({ code: 'unauthenticated' }), { quiet: true });

    connections.add(response);
    counts.opened += 1;
    response.once('close', () => {
      closed = true;
      connections.delete(response);
      stopBeating();
      cancelExpiry();
      stream.close();
      onDrain?.();
    });
    response.write(`retry: ${retryMs}\n\n`);
    stream.start(sink);
  }

  return {
    handler: (route, consistency) => (request, reply) => open(request, reply, route, consistency),
    statistics: () => ({ ...counts }),
    end() {
      ended = true;
      // A reader that does not take what it was sent is not waited for: to the server that closes, its connection is idle.
      for (const response of connections) response.end();
    },
  };
}

const heartbeat = Buffer.from(': still here\n\n');

/**
 * Reads of single resources that are in memory, answered before the framework sees them: of what a hot read costs more than the
 * bare server, the framework is the larger half. And before anybody is turned away, which costs as much. Only a request about
 * which there is nothing to decide is answered here, byte for byte as the framework's handler would; every other goes on to it.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { QueryRoute } from '#contracts/routes.ts';
import { systemPorts } from '#platform/ports.ts';
import type { Access } from './access.ts';
import { isMeant } from './admission.ts';
import { describe, JSON_TYPE, requestIdOf, send } from './answers.ts';
import { comeFirst } from './before-framework.ts';
import { tokenEncoder } from './consistency.ts';
import type { Limits } from './limits.ts';
import { parseEntityTags } from './preconditions.ts';
import { hasAlready, headersOf } from './queries.ts';
import type { RequestFigures, RouteTimes } from './request-figures.ts';

export type HotReadsOptions = {
  readonly access: Access;
  readonly limits: Limits;
  readonly figures: RequestFigures;
  /** Requests under way at once: when there are as many, somebody else says so. */
  readonly requestsMax: number;
};

export type HotReads = {
  /** From now on what `route` keeps is answered here; all answers are counted in `times`. */
  add(route: QueryRoute, times: RouteTimes): void;
  /** From now on nothing is: connections are told that they end. */
  stop(): void;
};

/** Puts itself before whoever answers the requests of `server`. */
export function answerHotReads(server: Server, options: HotReadsOptions): HotReads {
  const { access, limits, figures, requestsMax } = options;
  /** By all of an address but its last step. */
  const byFolder = new Map<string, (id: string, request: IncomingMessage, response: ServerResponse) => boolean>();

  comeFirst(server, (request, response, goOn) => {
    const url = request.url!;
    const idAt = url.lastIndexOf('/') + 1;
    const answer = request.method === 'GET' ? byFolder.get(url.slice(0, idAt)) : undefined;
    if (answer === undefined || !answer(url.slice(idAt), request, response)) goOn(request, response);
  });

  return {
    add(route, times) {
      const { kept } = route;
      if (kept === undefined) return;
      const encode = tokenEncoder();
      byFolder.set(route.url.slice(0, route.url.lastIndexOf('/') + 1), (id, request, response) => {
        const sinceMs = systemPorts.elapsed();
        const { headers } = request;
        if (headers.host === undefined || headers['consistency-token'] !== undefined) return false;
        const identity = access.known(headers.authorization);
        if (identity === undefined || limits.apply(identity) || !isMeant(identity, route.audience)) return false;
        const ifNoneMatch = headers['if-none-match'];
        const known = ifNoneMatch === undefined ? undefined : parseEntityTags(ifNoneMatch);
        if (known === null || figures.underWay >= requestsMax) return false;
        // Before the look: the answer may show more than its token says, never less.
        const applied = encode(route.positions());
        const shown = kept(id, identity.caller);
        if (shown === undefined) return false;
        const answered = headersOf(shown, applied);
        const isNews = !hasAlready(known, shown);
        if (isNews) describe(answered, JSON_TYPE, shown.bytes);
        const status = isNews ? 200 : 304;
        times.record(status, sinceMs);
        send(response, requestIdOf(request), status, answered, isNews ? shown.bytes : undefined);
        return true;
      });
    },

    stop: () => byFolder.clear(),
  };
}

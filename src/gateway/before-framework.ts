/** What sees a request before the framework does. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** Puts `look` before whoever answers the requests of `server`: it answers, or lets `goOn`. Who comes last sees them first. */
export function comeFirst(
  server: Server,
  look: (request: IncomingMessage, response: ServerResponse, goOn: Answer) => void,
): void {
  const [goOn, ...more] = server.listeners('request') as Answer[];
  if (goOn === undefined || more.length > 0) throw new Error('a server has one who answers its requests');
  server.removeAllListeners('request');
  server.on('request', (request, response) => look(request, response, goOn));
}

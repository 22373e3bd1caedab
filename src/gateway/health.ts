/** What the house asks: is the process alive, is it ready for traffic, what does it count. */
import type { FastifyInstance } from 'fastify';
import type { Admission } from './admission.ts';
import { answer, JSON_TYPE } from './answers.ts';

export type Readiness = { readonly ready: boolean; readonly reasons: readonly string[]; readonly details?: object };

type HealthOptions = {
  readonly admission: Admission;
  readiness(): Promise<Readiness>;
  /** Prometheus text. */
  metrics(): Promise<string>;
};

const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const headers = () => ['Cache-Control', 'no-store'];

export function mountHealth(app: FastifyInstance, { admission, readiness, metrics }: HealthOptions): void {
  app.get('/livez', (request, reply) => answer(request, reply, 200, JSON_TYPE, headers(), '{"status":"alive"}'));

  app.get('/readyz', async (request, reply) => {
    const { ready, reasons, details } = await readiness();
    answer(request, reply, ready ? 200 : 503, JSON_TYPE, headers(), JSON.stringify({ ready, reasons, details }));
  });

  app.get('/metrics', { onRequest: admission.admitOperatorAlways }, async (request, reply) => {
    answer(request, reply, 200, METRICS_TYPE, headers(), await metrics());
  });
}

/** `/openapi.json` for programs, `/docs` for people. */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import type { Route } from '#contracts/routes.ts';
import { answer, JSON_TYPE } from './answers.ts';
import { describeApi } from './api-description.ts';

/** Expects the security headers of pages to be set by its surroundings. */
export async function mountDocumentation(app: FastifyInstance, routes: readonly Route[]): Promise<void> {
  const document = describeApi(routes);
  const bytes = Buffer.from(JSON.stringify(document));
  app.get('/openapi.json', (request, reply) =>
    answer(request, reply, 200, JSON_TYPE, ['Cache-Control', 'no-cache'], bytes),
  );
  await app.register(swagger, { mode: 'static', specification: { document: document as never } });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { url: '/openapi.json', deepLinking: true },
  });
}

/** Where the `type` of a problem leads: what it means and what to do, for people and for programs. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { problems, type ProblemCode } from '#contracts/problems.ts';
import { answerProblem, isProblemCode } from './answers.ts';

const codes = Object.keys(problems) as ProblemCode[];

export function mountProblemPages(app: FastifyInstance): void {
  app.get('/problems', (request, reply) =>
    wantsPage(request, reply)
      ? reply.type('text/html; charset=utf-8').send(page('Problems', codes.map(entry).join('\n')))
      : reply.send({ items: codes.map(explained) }),
  );

  app.get<{ Params: { code: string } }>('/problems/:code', (request, reply) => {
    const { code } = request.params;
    if (!isProblemCode(code))
      return answerProblem(request, reply, 'not-found', 'There is no problem of this name. GET /problems lists them.');
    return wantsPage(request, reply)
      ? reply.type('text/html; charset=utf-8').send(page(code, entry(code)))
      : reply.send(explained(code));
  });
}

/** A browser names text/html; whoever names nothing gets JSON. */
function wantsPage(request: FastifyRequest, reply: FastifyReply): boolean {
  reply.header('vary', 'Accept');
  return /\btext\/html\b/i.test(request.headers.accept ?? '');
}

const explained = (code: ProblemCode) => ({ type: `/problems/${code}`, code, ...problems[code] });

const entry = (code: ProblemCode): string => {
  const { status, title, explanation } = problems[code];
  return `<h2><a href="/problems/${code}">${escapeHtml(title)}</a></h2>
<p><code>${code}</code>, status ${status}</p>
<p>${escapeHtml(explanation)}</p>`;
};

const page = (title: string, content: string): string => `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title} · Twofold</title></head>
<body>
${content}
<p><a href="/problems">All problems</a> · <a href="/docs">API</a></p>
</body>
</html>
`;

const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

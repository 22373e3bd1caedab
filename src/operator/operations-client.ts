/** The operations of a running system, over its HTTP API, for the commands of an operator. */
import { type Command, InvalidArgumentError } from 'commander';
import type { JobView } from '#contracts/http.ts';
import { Progress } from '#platform/progress-bar.ts';
import { sleep, systemPorts } from '#platform/ports.ts';

export type ConnectionOptions = { readonly url: URL; readonly token?: string; readonly json?: true };

/** The system could not be asked, or would not do it; the message is for the user, as it is. */
export class OperationFailed extends Error {
  override readonly name = 'OperationFailed';
  /** Of the problem with which the system has answered. */
  readonly code: string | undefined;

  constructor(message: string, options: { readonly cause?: unknown; readonly code?: string | undefined } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : {});
    this.code = options.code;
  }
}

const answerTimeoutMs = 30_000;
const askEveryMs = 300;
/** A job is asked for again while the system is away for a moment. */
const patienceMs = 15_000;

/** The options that all commands of an operator have. */
export const connectionOptions = (command: Command): Command =>
  command
    .option('--url <address>', 'address of the server', addressOf, new URL('http://127.0.0.1:8080'))
    .option('--token <jwt>', "an operator's token (default: $TWOFOLD_TOKEN)")
    .option('--json', 'print the outcome as JSON on stdout');

/** Resolves to the body of a 2xx. Rejects with OperationFailed. */
export async function ask<Body>(
  { url, token = process.env['TWOFOLD_TOKEN'] }: ConnectionOptions,
  method: 'GET' | 'POST',
  path: string,
  body?: object,
): Promise<Body> {
  let response: Response;
  const tooLate = new AbortController();
  const cancel = systemPorts.after(answerTimeoutMs, () =>
    tooLate.abort(new Error(`no answer within ${answerTimeoutMs} ms`)),
  );
  try {
    response = await fetch(new URL(path, url), {
      method,
      signal: tooLate.signal,
      headers: {
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    const cause = (error as Error).cause ?? error;
    throw new OperationFailed(
      `${url.origin} does not answer (${(cause as Error).message || String(cause)}). Is the system running? \`twofold up\` starts it; --url says where it is.`,
      { cause: error },
    );
  } finally {
    cancel();
  }
  const answer = (await response.json().catch(() => ({}))) as { code?: string; detail?: string };
  if (response.ok) return answer as Body;
  const hint =
    response.status === 401
      ? ' Give --token, or set TWOFOLD_TOKEN; `twofold token --role operator --sub me` prints one.'
      : '';
  throw new OperationFailed(
    `${answer.detail ?? `${url.origin} answers ${response.status}`} (${answer.code ?? response.status})${hint}`,
    { code: answer.code },
  );
}

/** Shows how far the job has come until it has ended. */
export async function follow(connection: ConnectionOptions, job: JobView): Promise<JobView> {
  const bar = new Progress(process.stderr);
  let phase: string | undefined;
  let seen = job;
  let lostSince: number | null = null;
  while (seen.state === 'running') {
    if (seen.phase !== undefined && seen.phase !== phase) {
      if (phase !== undefined) bar.end();
      phase = seen.phase;
      bar.begin(phase, Math.max(seen.of, 1));
    }
    if (phase !== undefined) bar.reach(seen.done);
    await sleep(systemPorts, askEveryMs);
    try {
      seen = await ask<JobView>(connection, 'GET', `/v1/ops/jobs/${job.id}`);
      lostSince = null;
    } catch (error) {
      lostSince ??= systemPorts.elapsed();
      if (systemPorts.elapsed() - lostSince > patienceMs) throw error;
    }
  }
  if (phase !== undefined) {
    bar.reach(Math.max(seen.of, 1));
    bar.end();
  }
  return seen;
}

function addressOf(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new InvalidArgumentError('Give an address such as http://127.0.0.1:8080.');
  return url;
}

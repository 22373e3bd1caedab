/** Bodies: JSON in UTF-8, at most 1 MiB, and nothing that a database could not store. */
import { isUtf8 } from 'node:buffer';
import type { FastifyInstance } from 'fastify';
import { escapePointer, type FieldError, InvalidInput } from './schema-compiler.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Of the body as it came; 0 without one. */
    bodyBytes: number;
  }
}

export const bodyBytesMax = 1_048_576;

/** Makes JSON the only content type that `app` takes. */
export function takeJsonOnly(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    const body = bytes as Buffer;
    request.bodyBytes = body.length;
    const { 'content-type': type = '', 'content-encoding': encoding } = request.headers;
    if (!JSON_TYPE.test(type) || (encoding !== undefined && encoding !== 'identity')) {
      done(refusal('unsupported-media-type'));
    } else if (!isUtf8(body)) {
      done(refusal('malformed-json'));
    } else if (body.length === 0) {
      done(null, {});
    } else {
      void parse(request, body.toString('utf8'), (error, value) => {
        if (error) return done(error);
        const fault = SUSPICIOUS.test(body.toString('latin1')) ? unstorableText(value) : null;
        if (fault === null) done(null, value);
        else done(new InvalidInput(() => [fault]));
      });
    }
  });
}

/** Whatever other parameters it has: they mean nothing to JSON (RFC 8259, 11). */
const JSON_TYPE =
  /^application\/json[ \t]*(?:;[ \t]*(?:charset[ \t]*=[ \t]*("?)utf-?8\1|(?!charset[ \t]*=)[\w!#$%&'*+.^`|~-]+=(?:[\w!#$%&'*+.^`|~-]+|"[^"\\]*"))?[ \t]*)*$/i;

/** An error that the failure handler answers with the problem `code`. */
const refusal = (code: string): Error => Object.assign(new Error(code), { code });

/** JSON may escape U+0000 and halves of surrogate pairs; PostgreSQL takes neither in text. */
const SUSPICIOUS = /\\u(?:0000|d[89a-f][0-9a-f]{2})/i;

/** Walks without recursion: at this point nothing bounds how deep a body is. */
function unstorableText(body: unknown): FieldError | null {
  const left: { readonly value: unknown; readonly pointer: string }[] = [{ value: body, pointer: '' }];
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { value, pointer } = next;
    if (typeof value === 'string') {
      if (value.includes('\0') || !value.isWellFormed()) {
        return { pointer, detail: 'has U+0000 or half a surrogate pair, which text cannot have' };
      }
    } else if (value !== null && typeof value === 'object') {
      for (const [name, field] of Object.entries(value))
        left.push({ value: field, pointer: `${pointer}/${escapePointer(name)}` });
    }
  }
  return null;
}

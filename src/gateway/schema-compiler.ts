/**
 * Input against its schema. Nothing is coerced, added or removed in a body; a query, where all is
 * text, has its numbers, booleans and defaults made first. What is wrong is told field by field.
 */
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { NOT_BLANK } from '#contracts/values.ts';
import { formats } from './formats.ts';

/** `pointer` is a JSON pointer into the body, or to a parameter. */
export type FieldError = { readonly pointer: string; readonly detail: string };

/** Thrown for input that does not fit. `explain` says where and why; the larger the body, the fewer errors it looks for. */
export class InvalidInput extends Error {
  readonly explain: (bodyBytes: number) => readonly FieldError[];

  constructor(explain: (bodyBytes: number) => readonly FieldError[]) {
    super('the input does not fit its schema');
    this.explain = explain;
  }
}

type RequestPart = { readonly schema: object; readonly httpPart?: string };
/** What the framework takes for a validator: it answers true, or an error. */
type Validator = (data: unknown) => true | { readonly error: InvalidInput };

const errorsMax = 20;
/** Up to this size a body is searched for every error; the first must do for a larger one, which may have thousands. */
const thoroughBodyBytesMax = 16 * 1_024;

/** A validator for one part of a request, in the form in which the framework asks for it. */
export function compileSchema({ schema, httpPart }: RequestPart): Validator {
  const validate = quick.compile(schema);
  const prepare = httpPart === 'querystring' ? queryReader(schema) : null;
  let validateAll: ValidateFunction | null = null;

  return (data) => {
    prepare?.(data as Record<string, unknown>);
    if (validate(data)) return true;
    const first = validate.errors ?? [];
    return {
      error: new InvalidInput((bodyBytes) => {
        if (bodyBytes > thoroughBodyBytesMax) return describe(first);
        validateAll ??= thorough.compile(schema);
        validateAll(data);
        return describe(validateAll.errors ?? first);
      }),
    };
  };
}

// `verbose` only adds the schema and the value to each error.
const options = { strict: true, strictTypes: false, allowUnionTypes: true, verbose: true, formats } as const;
const quick = new Ajv(options);
const thorough = new Ajv({ ...options, allErrors: true });

type PropertySchemas = { readonly [name: string]: { readonly type?: unknown; readonly default?: unknown } };

/** Makes integers, booleans and defaults of a query's texts, in place. Text that is neither stays for the validator to refuse. */
function queryReader(schema: object): (query: Record<string, unknown>) => void {
  const fields = Object.entries((schema as { properties?: PropertySchemas }).properties ?? {});
  return (query) => {
    for (const [name, { type, default: byDefault }] of fields) {
      const text = query[name];
      if (text === undefined) {
        if (byDefault !== undefined) query[name] = byDefault;
      } else if (type === 'integer' && typeof text === 'string' && INTEGER.test(text)) {
        query[name] = Number(text);
      } else if (type === 'boolean' && (text === 'true' || text === 'false')) {
        query[name] = text === 'true';
      }
    }
  };
}

const INTEGER = /^-?\d{1,16}$/;

function describe(errors: readonly ErrorObject[]): FieldError[] {
  const described = new Map<string, FieldError>();
  for (const error of errors) {
    const field = { pointer: pointerOf(error), detail: detailOf(error) };
    described.set(`${field.pointer} ${field.detail}`, field);
    if (described.size === errorsMax) break;
  }
  return [...described.values()];
}

/** A missing or unknown field is pointed at itself, not at what should or should not have it. */
function pointerOf({ keyword, instancePath, params }: ErrorObject): string {
  if (keyword === 'required') return `${instancePath}/${escapePointer(params['missingProperty'])}`;
  if (keyword === 'additionalProperties') return `${instancePath}/${escapePointer(params['additionalProperty'])}`;
  return instancePath;
}

/** A name as one step of a JSON pointer. */
export const escapePointer = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1');

function detailOf({ keyword, params, parentSchema, data, message }: ErrorObject): string {
  switch (keyword) {
    case 'required':
      return `is missing${typeWanted(parentSchema?.['properties']?.[params['missingProperty']]?.type)}`;
    case 'additionalProperties':
      return `is not known here; known are: ${Object.keys(parentSchema?.['properties'] ?? {}).join(', ') || 'none'}`;
    case 'type':
      return `is ${kindOf(data)}${typeWanted(params['type'])}`;
    case 'enum':
      return `has to be one of: ${(params['allowedValues'] as unknown[]).join(', ')}`;
    case 'const':
      return `has to be ${JSON.stringify(params['allowedValue'])}`;
    case 'not':
      return `must not be ${JSON.stringify(parentSchema?.['not']?.const) ?? 'as it is'}`;
    case 'format':
      return `has to be ${formatNames[String(params['format'])] ?? String(params['format'])}`;
    case 'pattern':
      return patternNames[String(params['pattern'])] ?? `has to match ${String(params['pattern'])}`;
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
    case 'exclusiveMaximum':
      return `is out of range: it has to be ${String(params['comparison'])} ${String(params['limit'])}`;
    default:
      return message ?? `does not fit: ${keyword}`;
  }
}

const typeWanted = (type: string | readonly string[] | undefined): string =>
  type === undefined ? '' : `; it has to be of type ${typeof type === 'string' ? type : type.join(' or ')}`;

const patternNames: { readonly [pattern: string]: string } = { [NOT_BLANK]: 'has to have more than blanks' };

const formatNames: { readonly [format: string]: string } = {
  'date-time': 'a time as in RFC 3339 with its zone, such as 2026-03-01T12:00:00Z (in a query, write + as %2B)',
  email: 'an e-mail address',
};

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'an integer' : 'a number';
  return { string: 'a string', boolean: 'a boolean', object: 'an object' }[typeof value as string] ?? typeof value;
}

/** Who is calling: `Authorization: Bearer <JWT>`, checked against a shared secret or published keys. */
import { createSecretKey } from 'node:crypto';
import { createRemoteJWKSet, errors, jwtVerify, type JWTPayload, type JWTVerifyGetKey } from 'jose';
import { LRUCache } from 'lru-cache';
import { ID_PATTERN } from '#contracts/values.ts';
import type { ProblemCode } from '#contracts/problems.ts';
import type { Caller } from '#contracts/routes.ts';
import { systemPorts } from '#platform/ports.ts';

export type AccessOptions = {
  readonly secret?: string | undefined;
  readonly jwksUrl?: string | undefined;
  readonly issuer: string;
  readonly audience: string;
};

/** `scope`: whose idempotency keys and limits these are. `actor`: as events record it. */
export type Identity = {
  readonly caller: Caller;
  readonly scope: string;
  readonly actor: string;
  /** When the token ends, for what lasts longer than one answer; in ms since the epoch. */
  readonly expiresAtMs?: number;
};

export type Denial = { readonly code: ProblemCode; readonly detail: string; readonly challenge: string | null };

export type Access = {
  /** Who calls, when that is known without a look at the token; undefined: ask `identify`. */
  known(authorization: string | undefined): Identity | undefined;
  /** Says who calls, or why that is not known. At once when the token was seen before. */
  identify(authorization: string | undefined): Identity | Denial | Promise<Identity | Denial>;
};

/** About 1 KB each: those of all who are there at once, or else each of their requests is verified anew. */
const verifiedTokensMax = 50_000;
/** How long a verified token is trusted without another look, so that a withdrawn key stops working. */
const verifiedMsMax = 5 * 60 * 1_000;
const keysTimeoutMs = 5_000;
const keysCooldownMs = 30_000;

const anyone: Identity = { caller: { role: 'operator' }, scope: 'operator', actor: 'operator' };

/** With neither secret nor key address every caller is operator, whatever it sends. */
export function openAccess(options: AccessOptions): Access {
  const verify = tokenVerifier(options);
  if (verify === null) return { known: () => anyone, identify: () => anyone };
  /** By header. */
  const verified = new LRUCache<string, { readonly identity: Identity; readonly untilMs: number }>({
    max: verifiedTokensMax,
  });

  async function verifyAndKeep(authorization: string, token: string): Promise<Identity | Denial> {
    let claims: JWTPayload;
    try {
      claims = await verify!(token);
    } catch (error) {
      return denialOf(error);
    }
    const identity = identityOf(claims);
    if (!('caller' in identity)) return identity;
    const expiresAtMs = claims.exp! * 1_000;
    const whole = { ...identity, expiresAtMs };
    verified.set(authorization, { identity: whole, untilMs: Math.min(expiresAtMs, systemPorts.now() + verifiedMsMax) });
    return whole;
  }

  function known(authorization: string | undefined): Identity | undefined {
    if (authorization === undefined) return undefined;
    const seen = verified.get(authorization);
    return seen !== undefined && systemPorts.now() < seen.untilMs ? seen.identity : undefined;
  }

  return {
    known,

    identify(authorization) {
      if (authorization === undefined) return missing;
      const seen = known(authorization);
      if (seen !== undefined) return seen;
      const token = BEARER.exec(authorization)?.[1];
      if (token === undefined) return invalid('The Authorization header is not `Bearer <JWT>`.');
      return verifyAndKeep(authorization, token);
    },
  };
}

const BEARER = /^bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i;

const sharedSecretAlgorithms = ['HS256'];
const publishedKeyAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];

/** A verifier that never tries a key with an algorithm of the other kind, or null without any key. */
function tokenVerifier({
  secret,
  jwksUrl,
  issuer,
  audience,
}: AccessOptions): ((token: string) => Promise<JWTPayload>) | null {
  // Made once: as bytes it would be imported for each token, which takes as long as the check.
  const shared = secret
    ? createSecretKey(secret, 'utf8').toCryptoKey({ name: 'HMAC', hash: 'SHA-256' }, false, ['verify'])
    : null;
  const published = jwksUrl
    ? createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: keysTimeoutMs, cooldownDuration: keysCooldownMs })
    : null;
  if (shared === null && published === null) return null;
  const algorithms = [...(shared ? sharedSecretAlgorithms : []), ...(published ? publishedKeyAlgorithms : [])];
  const keyFor: JWTVerifyGetKey = (header, token) =>
    shared !== null && sharedSecretAlgorithms.includes(header.alg) ? shared : published!(header, token);
  return async (token) =>
    (await jwtVerify(token, keyFor, { issuer, audience, algorithms, requiredClaims: ['exp'] })).payload;
}

const customerId = new RegExp(ID_PATTERN);
const subjectLengthMax = 255;

function identityOf({ role, sub }: JWTPayload): Identity | Denial {
  if (role === 'operator') {
    if (sub === undefined || sub === '') return anyone;
    // JSON may hold what it likes, and its owner becomes a part of keys.
    if (typeof sub !== 'string' || !sub.isWellFormed() || sub.includes('\0'))
      return invalid('Its claim `sub` is not a text that can be kept.');
    if (sub.length > subjectLengthMax)
      return invalid(`Its claim \`sub\` has more than ${subjectLengthMax} characters.`);
    return { ...anyone, scope: `operator:${sub}` };
  }
  if (role === 'customer') {
    if (typeof sub !== 'string' || !customerId.test(sub))
      return invalid('Its claim `sub` is not the id of a customer.');
    return { caller: { role: 'customer', customerId: sub }, scope: `customer:${sub}`, actor: `customer:${sub}` };
  }
  return {
    code: 'forbidden',
    detail: 'The claim `role` of the token is neither "customer" nor "operator".',
    challenge: null,
  };
}

const missing: Denial = {
  code: 'unauthenticated',
  detail: 'The request has no Authorization header.',
  challenge: 'Bearer realm="twofold"',
};

/** `why` goes into a quoted string of the header: it has no quotes of its own there. */
const invalid = (why: string): Denial => ({
  code: 'unauthenticated',
  detail: `The token is not valid. ${why}`,
  challenge: `Bearer realm="twofold", error="invalid_token", error_description="${why.replaceAll(/["\\]/g, "'")}"`,
});

function denialOf(error: unknown): Denial {
  if (error instanceof errors.JWTExpired)
    return { ...invalid('The token has expired.'), detail: 'The token has expired. Get a new one.' };
  if (error instanceof errors.JWTClaimValidationFailed) {
    return invalid(
      error.reason === 'missing'
        ? `Its claim \`${error.claim}\` is missing.`
        : `Its claim \`${error.claim}\` is not as required.`,
    );
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return invalid('Its algorithm is not one that is accepted.');
  if (error instanceof errors.JWKSNoMatchingKey) return invalid('Its key is not one of the published keys.');
  const isAboutToken =
    error instanceof errors.JOSEError &&
    !(error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid || error.code === 'ERR_JOSE_GENERIC');
  if (isAboutToken) return invalid('Its signature or form is wrong.');
  return { code: 'token-keys-unavailable', detail: 'The published keys could not be fetched.', challenge: null };
}

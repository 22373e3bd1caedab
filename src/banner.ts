/** What is shown once everything runs: where it is, who may call it, and something to paste. */
import { join, relative } from 'node:path';
import type { EmbeddedPostgres } from '#platform/embedded-postgres.ts';
import { databaseOwners, projectFolder, type Settings } from '#platform/settings.ts';
import type { DemoData } from './first-start.ts';

type BannerParts = {
  readonly settings: Settings;
  readonly postgres: EmbeddedPostgres | undefined;
  readonly address: string;
  readonly seconds: string;
  readonly warnings: readonly string[];
  readonly demo: DemoData;
};

export function banner({ settings, postgres, address, seconds, warnings, demo }: BannerParts): string {
  const { secret } = settings.jwt;
  const bearer = hasKey(settings) ? ' -H "Authorization: Bearer $TOKEN"' : '';
  const json = ` -H 'content-type: application/json'`;
  const order =
    '{"orderId":"first-order","customerId":"ada","lines":[{"sku":"TEA-EARL-GREY","quantity":2}],"payment":{"method":"pm_ok"}}';
  const product = '{"name":"Earl Grey, 100 g","price":{"amount":690,"currency":"EUR"}}';
  const lines = [
    `Twofold is ready, after ${seconds} s.`,
    '',
    `  API        ${address}`,
    `  Docs       ${address}/docs`,
    `  Callers    ${whoMayCall(settings)}`,
    `  Data       ${postgres === undefined ? 'in the databases of DATABASE_URL_…' : postgres.location}`,
    ...(postgres === undefined
      ? []
      : [
          `  psql       ${postgres.psql(databaseOwners.find((owner) => settings.databaseUrls[owner] === undefined && owner !== 'catalog') ?? 'catalog')}`,
        ]),
    ...[...(postgres?.notes ?? []), ...warnings].map((note) => `  Note       ${note}`),
    '',
    ...(secret === undefined
      ? []
      : ['  A token (with the same TWOFOLD_JWT_SECRET):', `    TOKEN=$(${tokenCommand()})`, '']),
    ...(demo.isThere
      ? [
          '  Place an order, and see what became of it:',
          `    curl -s -w '\\n'${bearer} ${address}/v1/orders${json} -d '${order}'`,
          `    sleep 1; curl -s -w '\\n'${bearer} ${address}/v1/orders/first-order`,
        ]
      : [
          '  Put in a product, and read it back:',
          `    curl -s -w '\\n'${bearer} -X PUT ${address}/v1/products/TEA-EARL-GREY${json} -d '${product}'`,
          `    sleep 1; curl -s -w '\\n'${bearer} ${address}/v1/products/TEA-EARL-GREY`,
        ]),
    '',
    '  Ctrl-C stops everything; the next start finds all data.',
  ];
  return `\n${lines.join('\n')}\n`;
}

const hasKey = ({ jwt: { secret, jwksUrl } }: Settings): boolean => secret !== undefined || jwksUrl !== undefined;

/** Every start says so. */
export const whoMayCall = (settings: Settings): string =>
  hasKey(settings)
    ? 'need a token: operators may do everything, customers see their own orders'
    : 'no key is configured: everyone on this machine is operator';

function tokenCommand(): string {
  const launcher = relative(process.cwd(), join(projectFolder, 'bin/twofold.js'));
  return `node '${launcher.replaceAll("'", `'\\''`)}' token --role operator --sub me`;
}

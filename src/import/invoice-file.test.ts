import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { ImportError } from './import-error.ts';
import { columns, readInvoiceFile } from './invoice-file.ts';

const header = `${columns.join(',')}\n`;
const line = '536365,85123A,"HOLDER, ""WHITE"" £",6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n';

/** The checksum of the content stands eight bytes before the end. */
const damaged = (zipped: Buffer): Buffer => zipped.fill(0xff, zipped.length - 8, zipped.length - 4);

suite('reading an invoice file', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'twofold-import-'));
  });
  after(() => rm(folder, { recursive: true }));

  const read = async (
    content: string | Buffer,
  ): Promise<{ rows: (readonly string[])[]; lines: number[]; sha256: string }> => {
    const path = join(folder, 'file');
    await writeFile(path, content);
    const rows: (readonly string[])[] = [];
    const lines: number[] = [];
    const sha256 = await readInvoiceFile(path, (fields, number) => {
      rows.push(fields);
      lines.push(number);
    });
    return { rows, lines, sha256 };
  };

  test('hands over the rows with their line numbers, quotes undone', async () => {
    const { rows, lines } = await read(header + line + line);
    const fields = [
      '536365',
      '85123A',
      'HOLDER, "WHITE" £',
      '6',
      '2010-12-01 08:26:00',
      '2.55',
      '17850.0',
      'United Kingdom',
    ];
    assert.deepEqual(rows, [fields, fields]);
    assert.deepEqual(lines, [2, 3]);
  });

  test('plain and gzip are the same file', async () => {
    const text = header + line.repeat(20_000);
    const plain = await read(text);
    const zipped = await read(gzipSync(text));
    assert.equal(plain.rows.length, 20_000);
    assert.deepEqual(zipped.rows.length, 20_000);
    assert.equal(zipped.sha256, plain.sha256);
  });

  test('a byte order mark, CRLF and empty lines do no harm', async () => {
    const { rows } = await read(`\uFEFF${header}\n${line}\n`.replaceAll('\n', '\r\n'));
    assert.equal(rows.length, 1);
  });

  test('a row with too few fields or a stray quote is handed over, not an end', async () => {
    const { rows } = await read(`${header}536365,85123A\n536366,1,5" CANDLE,1,2010-12-01 08:26:00,1.0,,France\n`);
    assert.deepEqual(
      rows.map((fields) => fields.length),
      [2, 8],
    );
  });

  const cases: readonly [what: string, content: string | Buffer, message: RegExp][] = [
    ['an empty file', '', / is empty$/],
    ['a gzip file of nothing', gzipSync(''), / is empty$/],
    ['a header alone', header, / has a header and no invoice lines$/],
    [
      'a truncated gzip file',
      gzipSync(header + line.repeat(5_000)).subarray(0, 90),
      / ends too early: it has been cut short$/,
    ],
    ['a damaged gzip file', damaged(gzipSync(header + line)), / is a damaged gzip file/],
    ['other columns', 'a,b,c\n1,2,3\n', / is not a CSV file with the columns .*; its first line is: a,b,c$/],
    ['one column too many', `${columns.join(',')},Extra\n${line}`, / is not a CSV file with the columns /],
    ['semicolons', `${columns.join(';')}\n`, / is not a CSV file with the columns /],
    ['an image', Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'), / is not (UTF-8 text|a CSV file)/],
    ['a JSON file', '{"orders": []}', / is not a CSV file with the columns .*first line is: \{\\"orders/],
    ['Latin-1', Buffer.from(header + line, 'latin1'), / is not UTF-8 text$/],
    [
      'UTF-8 that ends in mid-character',
      Buffer.concat([Buffer.from(header + line), Buffer.from([0xc3])]),
      / is not UTF-8 text$/,
    ],
    [
      'a quote that never closes',
      `${header}1,"open,1\n${line}`.replace('HOLDER, ""WHITE"" £', 'X').replaceAll('"X"', 'X'),
      / is not CSV: Quote Not Closed/,
    ],
    ['an endless record', `${header}"${'x'.repeat(200_000)}"\n`, / a record has more than 65536 characters/],
  ];
  for (const [what, content, message] of cases) {
    test(`${what} is refused in one line`, async () => {
      await assert.rejects(read(content), (error) => {
        assert.ok(error instanceof ImportError, String(error));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /\p{Cc}/u);
        return true;
      });
    });
  }

  test('a missing file and a folder are refused in one line', async () => {
    const onRow = (): void => undefined;
    await assert.rejects(readInvoiceFile(join(folder, 'none.csv'), onRow), { message: /none\.csv does not exist$/ });
    await assert.rejects(readInvoiceFile(folder, onRow), { message: / is a folder$/ });
  });
});

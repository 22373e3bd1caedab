/** An invoice file on disk: CSV, plain or gzip, with exactly the columns of *Online Retail*. */
import { parse } from 'csv-parse';
import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { ImportError } from './import-error.ts';

export const columns = [
  'InvoiceNo',
  'StockCode',
  'Description',
  'Quantity',
  'InvoiceDate',
  'UnitPrice',
  'CustomerID',
  'Country',
] as const;

/** A stray quote would otherwise gather the rest of the file into one record. */
const recordCharactersMax = 65_536;
const chunkBytes = 262_144;

/**
 * Hands over every row after the header, in the order of the file, with the number of the line on
 * which it ends. Rows may have too few or too many fields. Resolves to the SHA-256 of the CSV text,
 * the same for a file and its gzip. Rejects with an ImportError of one line where the file is missing,
 * empty, cut short, not UTF-8, not CSV, or has other columns.
 */
export async function readInvoiceFile(
  path: string,
  onRow: (fields: readonly string[], line: number) => void,
): Promise<string> {
  let file: FileHandle | undefined;
  const hash = createHash('sha256');
  let rows = -1;
  const parser = parse({
    bom: true,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: recordCharactersMax,
    // Three times as cheap as reading 300,000 records as stream chunks.
    on_record: (fields: string[], { lines }) => {
      if (rows++ === -1) assertHeader(path, fields);
      else onRow(fields, lines);
      return null;
    },
  });
  const sink = new Writable({ objectMode: true, write: (_record, _encoding, done) => done() });
  try {
    file = await open(path);
    const magic = Buffer.alloc(2);
    const { bytesRead } = await file.read(magic, 0, 2, 0);
    if (bytesRead === 0) throw new ImportError(`${path} is empty`);
    const source = file.createReadStream({ start: 0, highWaterMark: chunkBytes });
    const text = hashedText(hash);
    if (magic[0] === 0x1f && magic[1] === 0x8b) {
      await pipeline(source, createGunzip({ chunkSize: chunkBytes }), text, parser, sink);
    } else {
      await pipeline(source, text, parser, sink);
    }
  } catch (error) {
    throw readable(path, error);
  } finally {
    await file?.close();
  }
  if (rows === -1) throw new ImportError(`${path} is empty`);
  if (rows === 0) throw new ImportError(`${path} has a header and no invoice lines`);
  return hash.digest('hex');
}

/** Passes the bytes on, hashed, and fails where they are not UTF-8. */
function hashedText(hash: ReturnType<typeof createHash>): Transform {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        decoder.decode(chunk, { stream: true });
        hash.update(chunk);
        done(null, chunk);
      } catch (error) {
        done(error as Error);
      }
    },
    flush(done) {
      try {
        decoder.decode();
        done();
      } catch (error) {
        done(error as Error);
      }
    },
  });
}

function assertHeader(path: string, found: readonly string[]): void {
  if (found.length === columns.length && columns.every((column, at) => found[at] === column)) return;
  // JSON escapes what a binary file would send to the terminal.
  const shown = JSON.stringify(found.join(',').slice(0, 120))
    .slice(1, -1)
    .replace(/[^ -~]/g, '?');
  throw new ImportError(`${path} is not a CSV file with the columns ${columns.join(',')}; its first line is: ${shown}`);
}

function readable(path: string, error: unknown): ImportError {
  if (error instanceof ImportError) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  const because = (text: string): ImportError => new ImportError(`${path} ${text}`, { cause: error });
  if (code === 'ENOENT') return because('does not exist');
  if (code === 'EISDIR') return because('is a folder');
  if (code === 'Z_BUF_ERROR') return because('is a gzip file that ends too early: it has been cut short');
  if (code.startsWith('Z_')) return because(`is a damaged gzip file (${message})`);
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return because('is not UTF-8 text');
  if (code === 'CSV_MAX_RECORD_SIZE') {
    return because(`is not CSV: a record has more than ${recordCharactersMax} characters (is a quote missing?)`);
  }
  if (code.startsWith('CSV_')) return because(`is not CSV: ${message.replaceAll(/\s+/g, ' ').slice(0, 200)}`);
  return because(`cannot be read: ${message}`);
}

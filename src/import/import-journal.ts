/**
 * Which orders of a file a server has acknowledged, so that resuming need not send them again. Nothing
 * depends on it being complete: an order that was acknowledged and is not listed is sent again under
 * its old key, and answered as the first time.
 */
import { appendFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { ImportError } from './import-error.ts';
import { systemPorts } from '#platform/ports.ts';

const flushAfterMs = 250;
const linesPerFlushMax = 500;

export class ImportJournal {
  readonly path: string;
  readonly #head: string;
  readonly #acknowledged: Set<string>;
  #setUp: boolean;
  #unwritten = '';
  #unwrittenLines = 0;
  #cancelFlush: (() => void) | undefined;
  #failure: string | null = null;

  /**
   * Opens the journal at `path`, or begins it anew where it belongs to another file, address or stock.
   * Throws an ImportError where it cannot be written.
   */
  constructor(
    path: string,
    importOf: { readonly sha256: string; readonly url: string; readonly stock: number | null },
  ) {
    this.path = path;
    this.#head = JSON.stringify({ journal: 'twofold import', ...importOf });
    const whole = writtenToTheEnd(path);
    const [head, ...lines] = whole.split('\n');
    const mine = head === this.#head;
    this.#setUp = mine && lines.includes(SET_UP);
    this.#acknowledged = new Set(mine ? lines.filter((line) => line !== SET_UP && line !== '') : []);
    if (mine) this.#dropTornEnd(whole);
    else this.forget();
    if (this.#failure !== null) throw new ImportError(`the journal ${path} cannot be written: ${this.#failure}`);
  }

  get acknowledged(): ReadonlySet<string> {
    return this.#acknowledged;
  }

  /** Whether all customers, products and stock were acknowledged. */
  get setUp(): boolean {
    return this.#setUp;
  }

  /** Why it could not be written, if so: the import goes on, resuming it will take longer. */
  get failure(): string | null {
    return this.#failure;
  }

  markSetUp(): void {
    this.#setUp = true;
    this.#append(SET_UP);
  }

  acknowledge(orderId: string): void {
    this.#acknowledged.add(orderId);
    this.#append(orderId);
  }

  /** Begins anew: the server is not the one that acknowledged these orders, or has lost them. */
  forget(): void {
    this.#setUp = false;
    this.#acknowledged.clear();
    this.#unwritten = '';
    try {
      writeFileSync(this.path, `${this.#head}\n`);
    } catch (error) {
      this.#failure = (error as Error).message;
    }
  }

  flush(): void {
    this.#cancelFlush?.();
    this.#cancelFlush = undefined;
    const text = this.#unwritten;
    this.#unwritten = '';
    this.#unwrittenLines = 0;
    if (text !== '') this.#write(text);
  }

  #dropTornEnd(whole: string): void {
    try {
      truncateSync(this.path, Buffer.byteLength(whole));
    } catch (error) {
      this.#failure = (error as Error).message;
    }
  }

  #append(line: string): void {
    this.#unwritten += `${line}\n`;
    this.#unwrittenLines += 1;
    if (this.#unwrittenLines >= linesPerFlushMax) this.flush();
    else this.#cancelFlush ??= systemPorts.after(flushAfterMs, () => this.flush());
  }

  #write(text: string): void {
    try {
      appendFileSync(this.path, text);
    } catch (error) {
      this.#failure = (error as Error).message;
    }
  }
}

/** No invoice number has a blank in it. */
const SET_UP = 'set up';

/** Up to the last whole line: the first half of 536365, torn by a crash, would be another order. */
function writtenToTheEnd(path: string): string {
  try {
    const text = readFileSync(path, 'utf8');
    return text.slice(0, text.lastIndexOf('\n') + 1);
  } catch {
    // No journal yet; where it cannot be written either, the first write says why.
    return '';
  }
}

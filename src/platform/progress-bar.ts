/** Where a long piece of work stands: a bar that redraws itself on a terminal, a line now and then elsewhere. */
import { systemPorts } from './ports.ts';

const redrawMsMin = 100;
const plainLineMsMin = 5_000;
const barCharacters = 24;

export class Progress {
  readonly #out: NodeJS.WriteStream;
  #label = '';
  #total = 0;
  #done = 0;
  #sinceMs = 0;
  #shownMs = 0;
  #shown = '';
  #trouble: string | null = null;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  begin(label: string, total: number): void {
    this.#label = label;
    this.#total = total;
    this.#done = 0;
    this.#sinceMs = systemPorts.elapsed();
    this.#show(0);
  }

  advance(): void {
    this.reach(this.#done + 1);
  }

  reach(done: number): void {
    this.#done = Math.min(done, this.#total);
    this.#show(this.#out.isTTY ? redrawMsMin : plainLineMsMin);
  }

  /** Shown until it is told to be over with null. */
  trouble(text: string | null): void {
    const fresh = (this.#trouble === null) !== (text === null);
    this.#trouble = text;
    this.#show(fresh ? 0 : plainLineMsMin);
  }

  end(): void {
    this.#show(0);
    if (this.#out.isTTY) this.#out.write('\n');
  }

  /** A line of its own, above what is redrawn. */
  say(text: string): void {
    this.#out.write(this.#out.isTTY ? `\r\x1b[2K${text}\n` : `${text}\n`);
  }

  #show(waitMs: number): void {
    const nowMs = systemPorts.elapsed();
    if (nowMs - this.#shownMs < waitMs) return;
    this.#shownMs = nowMs;
    const text = this.#text(nowMs);
    if (text === this.#shown) return;
    this.#shown = text;
    if (this.#out.isTTY) this.#out.write(`\r\x1b[2K${text.slice(0, (this.#out.columns ?? 120) - 1)}`);
    else this.#out.write(`${text}\n`);
  }

  #text(nowMs: number): string {
    const share = this.#total === 0 ? 1 : this.#done / this.#total;
    const filled = Math.round(share * barCharacters);
    const bar = this.#out.isTTY ? `${'█'.repeat(filled)}${'░'.repeat(barCharacters - filled)} ` : '';
    const seconds = (nowMs - this.#sinceMs) / 1000;
    const rate = seconds > 0.5 ? this.#done / seconds : 0;
    const left = this.#total - this.#done;
    const parts = [
      `${this.#label.padEnd(9)} ${bar}${this.#done.toLocaleString('en')}/${this.#total.toLocaleString('en')}`,
    ];
    if (rate > 0) parts.push(`${rate >= 10 ? Math.round(rate).toLocaleString('en') : rate.toFixed(1)}/s`);
    if (left > 0 && rate > 0) parts.push(`${duration(left / rate)} left`);
    if (left === 0) parts.push(`in ${duration(seconds)}`);
    if (this.#trouble !== null) parts.push(this.#trouble);
    return parts.join('  ');
  }
}

/** `9 s`, `1 min 05 s`, `2 h 03 min` */
function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3_600)} h ${two(Math.floor((whole % 3_600) / 60))} min`;
}

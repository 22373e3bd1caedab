import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Progress } from './progress-bar.ts';

suite('the progress of an import', () => {
  /** A stream that keeps what is written to it. */
  const output = (isTTY: boolean): NodeJS.WriteStream & { text: string } => {
    const out = { isTTY, columns: 80, text: '', write: (part: string) => ((out.text += part), true) };
    return out as unknown as NodeJS.WriteStream & { text: string };
  };
  const shownOn = (isTTY: boolean, work: (progress: Progress) => void): string => {
    const out = output(isTTY);
    work(new Progress(out));
    return out.text;
  };

  test('is a line at the beginning and at the end where it is not a terminal', () => {
    const text = shownOn(false, (progress) => {
      progress.begin('orders', 2_000);
      for (let order = 0; order < 2_000; order++) progress.advance();
      progress.end();
    });
    assert.equal(text, 'orders    0/2,000\norders    2,000/2,000  in 0 s\n');
  });

  test('is one bar that redraws itself on a terminal', () => {
    const text = shownOn(true, (progress) => {
      progress.begin('orders', 2);
      progress.reach(1);
      progress.end();
    });
    const [first, second] = text.split('\r\x1b[2K').slice(1);
    assert.equal(first, `orders    ${'░'.repeat(24)} 0/2`);
    assert.equal(second, `orders    ${'█'.repeat(12)}${'░'.repeat(12)} 1/2\n`);
  });

  test('shows rate and time left', async () => {
    const beganMs = performance.now();
    const out = output(true);
    const progress = new Progress(out);
    progress.begin('orders', 1_000_000);
    while (performance.now() - beganMs < 600) await new Promise((resolve) => setImmediate(resolve));
    progress.reach(100);
    assert.match(out.text, / 100\/1,000,000  1\d\d\/s  1 h \d\d min left$/);
  });

  test('says what it waits for, until that has passed', () => {
    const text = shownOn(false, (progress) => {
      progress.begin('orders', 2);
      progress.trouble('waiting for the shop');
      progress.trouble(null);
    });
    assert.equal(text, 'orders    0/2\norders    0/2  waiting for the shop\norders    0/2\n');
  });
});

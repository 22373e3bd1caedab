/** Prices as decimal text, read without floating point: 1.005 pounds are 100.5 pence, and a float says otherwise. */

/** `exact` is false where the text was finer than a penny and had to be rounded. */
export type PriceInPence = { readonly pence: number; readonly negative: boolean; readonly exact: boolean };

const PRICE = /^(-?)(\d{1,14})(?:\.(\d{1,30}))?$/;

/** Pence of a price in pounds, rounded half to even; null where the text is no plain decimal number. */
export function penceOf(pounds: string): PriceInPence | null {
  const parts = PRICE.exec(pounds);
  if (parts === null) return null;
  const fraction = (parts[3] ?? '').padEnd(2, '0');
  const finer = fraction.slice(2).replace(/0+$/, '');
  const down = Number(parts[2]) * 100 + Number(fraction.slice(0, 2));
  // Without its trailing zeros, '5' alone is the exact half, and text compares as the digits do.
  const up = finer > '5' || (finer === '5' && down % 2 === 1);
  const pence = up ? down + 1 : down;
  return { pence, negative: parts[1] === '-' && /[1-9]/.test(pounds), exact: finer === '' };
}

/** Pence as pounds with two decimals: 123456 → `1234.56`. */
export function poundsOf(pence: number): string {
  const digits = String(pence).padStart(3, '0');
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`;
}
